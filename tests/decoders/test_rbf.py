"""Gaussian neurons as a module: sizes, starts, and what they learn."""

import math

import pytest
import torch

from neural_fields.decoders import Rbf
from neural_fields.decoders.rbf import k_means, ridge


def generator(seed=1):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("n_input", "n_kernels", "n_output", "count"),
    [(18, 64, 1, 2369), (18, 64, 3, 2499), (32, 64, 1, 4161), (18, 32, 49, 2769)],
)
def test_published_numbers_of_parameters(n_input, n_kernels, n_output, count):
    layer = Rbf(n_input, n_kernels, n_output)
    assert sum(p.numel() for p in layer.parameters()) == count


def test_clusters_are_found_and_none_is_empty():
    middles = torch.tensor([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0], [5.0, 5.0]])
    points = (middles[:, None] + 0.1 * torch.randn(4, 100, 2, generator=generator())).view(-1, 2)
    centers, owner = k_means(points, 4, generator())
    nearest = torch.cdist(middles, centers).min(1)
    assert nearest.values.max() < 0.1
    assert sorted(nearest.indices.tolist()) == [0, 1, 2, 3]
    assert torch.equal(owner.bincount(), torch.full((4,), 100))
    # More clusters than places: some must share, and nothing is NaN.
    centers, _ = k_means(middles.repeat(3, 1), 8, generator())
    assert centers.isfinite().all()
    with pytest.raises(ValueError, match="at least 8 points, got 4"):
        k_means(middles, 8, generator())


def test_ridge_is_the_least_squares():
    columns, true = torch.randn(200, 5, generator=generator()), torch.randn(2, 5)
    weight, bias = ridge(columns, columns @ true.T + torch.tensor([1.0, -2.0]))
    torch.testing.assert_close(weight, true, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(bias, torch.tensor([1.0, -2.0]), rtol=1e-3, atol=1e-3)


def waves(features):
    return torch.stack([torch.sin(3 * features[:, 0]), features[:, 1] * features[:, 2]], 1)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e3])
@pytest.mark.parametrize("options", [{}, {"isotropic": True}, {"affine": True}])
def test_the_start_from_data_fits_features_of_any_scale(scale, options):
    features = torch.rand(5000, 3, generator=generator()) * 2 - 1
    layer = Rbf(3, 64, 2, reach=40.0, **options)
    layer.reset(generator())
    before = (layer(features * scale) - waves(features)).square().mean()
    layer.start_from(features * scale, waves(features), generator())
    after = (layer(features * scale) - waves(features)).square().mean()
    assert after < 0.008
    assert after < before / 50


def test_features_without_any_spread_are_no_accident():
    layer = Rbf(3, 8, 1)
    layer.reset(generator())
    layer.start_from(torch.ones(100, 3), torch.ones(100, 1), generator())
    torch.testing.assert_close(layer(torch.ones(5, 3)), torch.ones(5, 1))
    assert all(p.isfinite().all() for p in layer.parameters())


def test_widths_are_kept_within_reach():
    layer = Rbf(2, 4, 1)
    layer.reset(generator())
    features = torch.randn(50, 2, generator=generator())
    with torch.no_grad():
        layer.log_precision.fill_(30.0)
    far = layer(features)
    with torch.no_grad():
        layer.log_precision.fill_(8.0)
    torch.testing.assert_close(layer(features), far)


def test_sixteen_neurons_learn_a_sine():
    """The spec's toy: a mean squared error under 1e-4."""
    x = torch.linspace(0, 1, 256)[:, None]
    target = torch.sin(2 * math.pi * x)
    layer = Rbf(1, 16, 1)
    layer.reset(generator())
    layer.start_from(x, target, generator())
    adam = torch.optim.Adam(layer.parameters(), lr=1e-2)
    for _ in range(200):
        adam.zero_grad()
        loss = (layer(x) - target).square().mean()
        loss.backward()
        adam.step()
    assert float(loss.detach()) < 1e-4
