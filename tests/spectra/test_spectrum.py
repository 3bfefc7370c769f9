"""Spectra and their distance: the invariants that the paper's definitions have."""

import math

import pytest
import torch

from neural_fields import InputError
from neural_fields.spectra.spectrum import centroid, largest_bin, spectrum, wasserstein


def tone(a, b, side=64):
    x = torch.arange(side, dtype=torch.float64) * (2 * math.pi / side)
    return torch.cos(a * x[:, None] + b * x[None])[None]


def noise(side=128, channels=3, seed=1):
    return torch.rand(channels, side, side, generator=torch.Generator().manual_seed(seed)).double()


@pytest.mark.parametrize(("a", "b"), [(3, 4), (0, 5), (7, 0), (10, 6)])
def test_a_tone_lies_in_the_bin_of_its_sum(a, b):
    p = spectrum(tone(a, b), 16)
    assert p[a + b - 1] == pytest.approx(1)


def test_opposite_signs_are_seen_only_with_both_quadrants():
    mixed = tone(3, -4) + 1e-6 * noise(64, 1)
    assert spectrum(mixed, 16)[6] < 0.5
    assert spectrum(mixed, 16, both_quadrants=True)[6] > 0.99
    assert spectrum(tone(3, 4), 16, both_quadrants=True)[6] == pytest.approx(1)


def test_what_does_not_matter():
    signal = noise()
    p = spectrum(signal, 63)
    assert float(p.sum()) == pytest.approx(1)
    for same in (
        signal + 5,
        signal * -3,
        signal[[2, 0, 1]],
        signal.transpose(1, 2),
        signal.roll((5, 17), (1, 2)),
    ):
        torch.testing.assert_close(spectrum(same, 63), p, rtol=0, atol=4e-8)
    turned = spectrum(signal.rot90(1, (1, 2)), 63)
    assert (turned - p).abs().max() > 1e-4  # the quadrant rule


def test_white_noise_has_its_centre_at_two_thirds():
    signal = torch.randn(1, 256, 256, generator=torch.Generator().manual_seed(1))
    assert centroid(spectrum(signal, 64)) == pytest.approx(2 * 64 / 3, rel=0.03)


@pytest.mark.parametrize("n_axes", [1, 3])
def test_lines_and_volumes(n_axes):
    side = 32
    x = torch.arange(side, dtype=torch.float64) * (2 * math.pi / side)
    axes = torch.meshgrid(*[x] * n_axes, indexing="ij")
    wave = torch.cos(sum((k + 1) * axis for k, axis in enumerate(axes)))
    p = spectrum(wave[None], 8)
    assert p[sum(range(1, n_axes + 1)) - 1] == pytest.approx(1)


def test_distances():
    spikes = torch.eye(64, dtype=torch.float64)
    assert wasserstein(spikes[3], spikes[3]) == 0
    assert wasserstein(spikes[3], spikes[40]) == pytest.approx(37)
    generator = torch.Generator().manual_seed(1)
    p, q, r = torch.rand(3, 64, generator=generator, dtype=torch.float64)
    p, q, r = p / p.sum(), q / q.sum(), r / r.sum()
    assert wasserstein(p, q) == pytest.approx(wasserstein(q, p))
    assert wasserstein(p, r) <= wasserstein(p, q) + wasserstein(q, r)
    scipy_stats = pytest.importorskip("scipy.stats")
    bins = torch.arange(64)
    expected = scipy_stats.wasserstein_distance(bins, bins, p.numpy(), q.numpy())
    assert wasserstein(p, q) == pytest.approx(expected, abs=1e-12)


def test_bins_are_fewer_than_half_the_side():
    assert largest_bin(64, 129) == 64
    assert largest_bin(64, 128) == 63
    with pytest.raises(InputError, match="fewer than 64 bins"):
        spectrum(noise(100), 64)


def test_signals_without_waves_are_refused():
    for flat in (torch.ones(3, 64, 64), torch.zeros(1, 64, 64), torch.full((1, 64, 64), math.nan)):
        with pytest.raises(InputError, match="not constant"):
            spectrum(flat, 16)


def test_other_shapes_become_squares():
    wide = torch.nn.functional.interpolate(tone(2, 3)[None].float(), (96, 160), mode="bicubic")[0]
    assert int(spectrum(wide, 16).argmax()) + 1 == 5
