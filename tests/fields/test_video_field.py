"""Video fields: moments, motion, modulation by channel."""

import dataclasses

import pytest
import torch

from neural_fields import InputError
from neural_fields.architectures.hash import Hash
from neural_fields.architectures.planes import Planes
from neural_fields.architectures.pyramid import Pyramid
from neural_fields.architectures.siren import Siren
from neural_fields.decoders import Modulate
from neural_fields.fields import Samples, VideoConfig, VideoField
from neural_fields.fields.video import modulated_params
from neural_fields.ops import MlpSpec, mlp

PYRAMID = Pyramid(((40, 24, 1), (20, 12, 4), (10, 6, 8)), (2, 2, 4), (16, 16))
CAM = Modulate("time", (5,), normalize=False)


def _field(**changes):
    config = VideoConfig(40, 24, 9, PYRAMID, (5, 4, 3), margin=(6, 4), modulate=CAM)
    field = VideoField(dataclasses.replace(config, **changes), seed=3)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        if field.motion is not None:
            field.motion.copy_(2 * torch.randn(field.motion.shape, generator=generator))
        if field.modulation is not None:
            noise = torch.randn(field.modulation.grid.shape, generator=generator)
            field.modulation.grid.add_(0.3 * noise)
    return field


def _asked(n=200):
    generator = torch.Generator().manual_seed(5)
    positions = torch.rand(n, 2, generator=generator) * torch.tensor([40.0, 24.0])
    return Samples(positions, times=torch.randint(9, (n,), generator=generator) / 8)


OTHERS = {
    "hash": Hash(n_levels=4, log2_table_size=10, finest_resolution=64),
    "planes": Planes((8, 16), 4),
    "siren": Siren(),
}


@pytest.mark.parametrize("name", ["pyramid", *OTHERS])
def test_values_are_of_position_and_time_alone(name):
    architecture = OTHERS.get(name, PYRAMID)
    modulate = CAM if name in ("pyramid", "hash") else None
    field = _field(architecture=architecture, modulate=modulate)
    asked = _asked()
    values = field.value(asked)
    assert values.shape == (200, 3)
    one = Samples(asked.positions[17:18], times=asked.times[17:18])
    torch.testing.assert_close(field.value(one), values[17:18])
    other = Samples(asked.positions, times=(asked.times + 0.5) % 1)
    assert not torch.allclose(field.value(other), values)
    torch.testing.assert_close(
        field.at(0.25).value(asked.positions[:5]),
        field.value(Samples(asked.positions[:5], times=torch.full((5,), 0.25))),
    )


def test_the_fused_form_is_the_trunks_own():
    fused = _field(modulate=None)
    plain = _field(modulate=None)
    plain.trunk.frame = lambda time: None
    asked = _asked()
    torch.testing.assert_close(fused.value(asked), plain.value(asked), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("modulate", [None, CAM])
def test_gradients_reach_every_parameter(modulate):
    field = _field(modulate=modulate)
    field.value(_asked(2000)).square().sum().backward()
    for name, parameter in field.named_parameters():
        assert float(parameter.grad.abs().max()) > 0, name


def test_what_moves_is_found_where_it_went():
    """A field whose motion is a shift shows its picture shifted by it."""
    still = _field(motion=None, modulate=None)
    moving = _field(modulate=None)
    moving.load_state_dict(still.state_dict(), strict=False)
    with torch.no_grad():
        moving.motion.copy_(torch.tensor([3.0, -2.0]).expand_as(moving.motion))
    inside = torch.rand(50, 2) * torch.tensor([30.0, 14.0]) + 5
    shifted = inside + torch.tensor([3.0, -2.0])
    torch.testing.assert_close(
        moving.at(0.3).value(inside), still.at(0.3).value(shifted), rtol=1e-4, atol=1e-5
    )


def test_channels_are_modulated_one_by_one():
    """act(scale (W x + b) + shift), channel by channel."""
    network = MlpSpec((4, 8, 6, 3), biases=True)
    generator = torch.Generator().manual_seed(1)
    params = torch.randn(network.n_params, generator=generator)
    scale, shift = torch.randn(14, generator=generator), torch.randn(14, generator=generator)
    x = torch.randn(9, 4, generator=generator)
    first, second, last = params[:40], params[40:94], params[94:]
    hidden = torch.relu((x @ first[:32].view(8, 4).T + first[32:]) * scale[:8] + shift[:8])
    hidden = torch.relu((hidden @ second[:48].view(6, 8).T + second[48:]) * scale[8:] + shift[8:])
    expected = hidden @ last[:18].view(3, 6).T + last[18:]
    found = mlp(x, modulated_params(params, network, scale, shift), network)
    torch.testing.assert_close(found, expected)


def test_modulation_of_one_vertex_of_time_is_that_of_its_moments():
    field = _field()
    with torch.no_grad():
        field.modulation.reset()
    asked = _asked()
    before = field.value(asked)
    with torch.no_grad():
        field.modulation.grid[2] += 0.7  # the vertex at half time
    changed = (field.value(asked) - before).detach().abs().amax(1)
    near = (asked.times - 0.5).abs() < 0.25
    assert float(changed[~near].max()) == 0
    assert float(changed[near].min()) > 0


def test_what_is_outside_takes_the_edge_and_no_other_time_is_there():
    field = _field()
    edge = torch.tensor([[0.0, 24.0]])
    torch.testing.assert_close(
        field.at(0.5).value(torch.tensor([[-9.0, 99.0]])), field.at(0.5).value(edge)
    )
    with pytest.raises(InputError, match=r"time: needs a number in \[0, 1\]"):
        field.at(1.5)
    with pytest.raises(InputError, match="needs times"):
        field.value(Samples(edge))


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"width": 0}, "width needs 1"),
        ({"n_frames": 1 << 21}, "n_frames needs 1"),
        ({"motion": (5, 1, 3)}, "motion needs three sides"),
        ({"margin": (-1, 0)}, "margin needs"),
        ({"modulate": Modulate("xy", (4, 4))}, "needs time, got xy"),
        ({"architecture": Pyramid(((4, 4),), (2,))}, "needs 3 sides"),
        ({"architecture": Pyramid(((4, 1, 4),), (2,))}, "first two have 2 vertices"),
        ({"architecture": Pyramid(((4, 4, 4),), (2, 2))}, "as many channels as levels"),
    ],
)
def test_wrong_configurations_are_refused(changes, word):
    with pytest.raises(InputError, match=word):
        _field(**changes)


def test_configurations_survive_json():
    config = _field().config
    assert VideoConfig.from_dict(config.to_dict()) == config
    with pytest.raises(InputError, match="VideoConfig needs the keys"):
        VideoConfig.from_dict(config.to_dict() | {"more": 1})
