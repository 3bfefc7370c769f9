"""Fields of whole frames: the published sizes, modulation, and the blend with neighbours."""

import math

import pytest
import torch
from torch.nn import functional

from neural_fields import InputError
from neural_fields.decoders import Modulate
from neural_fields.decoders.frames import FrameDecoder, FrameNetwork, Raw, aggregated, between
from neural_fields.fields import FramesConfig, FramesField

SMALL = FrameNetwork((3, 4), (2, 4), 8, (2, 2, 2), narrowest=4)
TIME = Modulate("time", (3,))


def n_params(sizes, moments=0):
    with torch.device("meta"):
        return sum(p.numel() for p in FrameDecoder(sizes, moments).parameters())


def test_the_published_networks_have_their_parameters():
    for_pictures = FrameNetwork()
    assert n_params(for_pictures) == 12_408_800
    assert n_params(for_pictures, 60) == 12_408_800 + 64_800
    for_files = FrameNetwork(
        (9, 16), (300, 600), 48, (5, 3, 2, 2, 2), expansion=8, narrowest=24, compact=True
    )
    assert n_params(for_files) == 11_308_460
    assert n_params(for_files, 30) == 11_308_460 + 44_640


def test_grids_of_time():
    grid = torch.tensor([1.0, 3.0, 7.0])
    assert [float(between(grid, at)) for at in (0, 1, 2)] == [1, 3, 7]
    assert float(between(grid, 1.25)) == 4
    assert float(between(grid, 2.9)) == 7  # nothing is beyond the last
    weights = [float(between(torch.eye(3)[k], at)) for at in (0.3, 1.7) for k in range(3)]
    assert min(weights) >= 0
    assert sum(weights) == pytest.approx(2)


@torch.no_grad()
def test_a_block_is_normalised_per_channel_and_modulated_by_time():
    block = FrameDecoder(SMALL, 3).blocks[0]
    block.reset(torch.Generator().manual_seed(0))
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(functional, "gelu", lambda values: seen.append(values) or values)
        values = torch.randn(1, 8, 3, 4)
        block(values, 0.0)
        with torch.no_grad():
            block.modulation[1, 0, 2], block.modulation[1, 1, 2] = 5, 7
        block(values, 0.5)  # the vertex in the middle
        block(values * 3 + 0.0, 0.25)
    start, node, middle = (each[0] for each in seen)
    assert start.mean((1, 2)).abs().max() < 1e-5
    torch.testing.assert_close(start.var((1, 2), unbiased=False), torch.ones(8), atol=1e-2, rtol=0)
    torch.testing.assert_close(node[2], start[2] * 5 + 7)
    assert torch.equal(node[3], start[3])  # channels on their own
    assert middle[2].mean() == pytest.approx(3.5, abs=1e-4)


def test_neighbours_are_moved_and_weighed():
    neighbours = torch.rand(2, 3, 4, 6)
    lookups = torch.zeros(6, 2, 3)
    lookups[0] = 0.5  # the first, in x: half a coarse pixel is one of these
    lookups[5] = math.log(3)  # the second counts three times
    raw = Raw(torch.rand(3, 4, 6), lookups, torch.zeros(2, 4, 6))
    together, frame = aggregated(raw, neighbours, [True, True])
    moved = neighbours[0][..., [1, 2, 3, 4, 5, 5]]
    torch.testing.assert_close(together, moved / 4 + neighbours[1] * 3 / 4)
    torch.testing.assert_close(frame, (raw.independent + together) / 2)
    alone, _ = aggregated(raw, neighbours, [True, False])
    torch.testing.assert_close(alone, moved)


@torch.no_grad()
def test_a_frame_is_made_of_those_around_it():
    field = FramesField(FramesConfig(30, 23, 6, SMALL, TIME))
    first = field.picture(0.0)
    assert first.shape == (23, 30, 3)
    assert 0 <= float(first.min()) <= float(first.max()) <= 1
    raw = field.raw(3.0)
    asked = []
    field.blended(3.0, raw, lambda number: asked.append(number) or raw.independent)
    assert asked == [1, 2, 3, 4, 5]
    asked.clear()
    field.blended(0.0, raw, lambda number: asked.append(number) or raw.independent)
    assert asked == [0, 1, 2]


def test_what_is_remembered_is_forgotten_when_parameters_change():
    field = FramesField(FramesConfig(30, 23, 6, SMALL, TIME))
    with torch.no_grad():
        before = field.picture(0.4)
        assert torch.equal(field.picture(0.4), before)
        field.decoder.picture.bias += 0.5
        assert not torch.allclose(field.picture(0.4), before)
        for index in range(6):
            field.picture(field.time_of(index))
        assert len(field._seen) <= 10


def test_every_parameter_moves_a_frame():
    field = FramesField(FramesConfig(30, 23, 6, SMALL, TIME))
    field.picture(field.time_of(3)).square().sum().backward()
    for name, parameter in field.named_parameters():
        assert parameter.grad.abs().max() > 0, name


def test_values_between_pixels_and_frames():
    field = FramesField(FramesConfig(30, 23, 6, SMALL))
    picture = field.picture(0.5)
    centres = torch.tensor([[4.5, 9.5], [29.5, 22.5], [5.0, 9.5], [-3.0, 0.5]])
    values = field.at(0.5).value(centres)
    wanted = torch.stack(
        [picture[9, 4], picture[22, 29], (picture[9, 4] + picture[9, 5]) / 2, picture[0, 0]]
    )
    torch.testing.assert_close(values, wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"start": (3,)}, "height and a width"),
        ({"moments": ()}, "moments needs"),
        ({"channels": 7}, "multiple of the 2 grids"),
        ({"strides": (2, 0)}, "strides needs"),
        ({"neighbours": (1, 2)}, "needs 0"),
        ({"strides": (4096, 4096)}, "too large"),
        ({"expansion": 0.0}, "positive"),
    ],
)
def test_sizes_that_cannot_be(change, said):
    sizes = {**SMALL.to_dict(), **change}
    del sizes["name"]
    with pytest.raises(InputError, match=said):
        FrameNetwork(**sizes)


def test_configurations_that_cannot_be():
    with pytest.raises(InputError, match="32x24 pixels is too small for 33x24"):
        FramesConfig(33, 24, 2, SMALL)
    with pytest.raises(InputError, match="normalised"):
        FramesConfig(32, 24, 2, SMALL, Modulate("time", (3,), normalize=False))
    config = FramesConfig(30, 23, 6, SMALL, TIME, 8)
    data = config.to_dict()
    assert FramesConfig.from_dict(data) == config
    with pytest.raises(InputError, match="ffnerv"):
        FramesConfig.from_dict({**data, "architecture": {"name": "hash"}})
    field = FramesField(config)
    for time in (-0.1, 1.1, math.nan):
        with pytest.raises(InputError, match=r"\[0, 1\]"):
            field.at(time)
