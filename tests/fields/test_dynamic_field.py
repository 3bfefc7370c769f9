"""Fields that move: their moments, their parameters, their files."""

import pytest
import torch

from neural_fields.architectures.hash import Hash
from neural_fields.architectures.mlp import Mlp
from neural_fields.architectures.voxels import Voxels
from neural_fields.decoders import Head, Modulate
from neural_fields.errors import InputError
from neural_fields.fields import (
    DynamicConfig,
    DynamicField,
    RadianceConfig,
    RadianceField,
    Samples,
)
from neural_fields.fields.load import load, save

SMALL = Hash(n_levels=2, log2_table_size=10, base_resolution=4, finest_resolution=8)
CAM = Modulate("time", (5,), normalize=False)
LEVELS = ("features", "log_density", "color")


def moving(seed=1, **changes):
    """A field with a motion that is worth the name."""
    field = DynamicField(DynamicConfig(architecture=SMALL, **changes), seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        if field.motion is not None:
            for parameter in field.motion.parameters():
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
        if field.modulation is not None:
            field.modulation.grid.add_(0.3 * torch.randn(field.modulation.grid.shape))
    return field


def samples(n=40, times=None):
    generator = torch.Generator().manual_seed(3)
    positions = torch.rand(n, 3, generator=generator) * 1.6 - 0.8
    directions = torch.nn.functional.normalize(torch.randn(n, 3, generator=generator), dim=1)
    return Samples(positions, directions, times=times)


def test_a_moment_is_the_field_at_that_time():
    field = moving(modulate=CAM)
    times = torch.full((40,), 0.3)
    whole, moment = (
        field.evaluate(samples(times=times), LEVELS),
        field.at(0.3).evaluate(samples(), LEVELS),
    )
    for ours, theirs in zip(whole, moment, strict=True):
        assert torch.equal(ours, theirs)
    other = field.at(0.8).evaluate(samples(), LEVELS)
    assert (other.color - moment.color).abs().max() > 1e-3
    assert isinstance(field.at(0.3), RadianceField)
    assert field.at(0.3).density(samples().positions).shape == (40,)


def test_it_is_a_field_at_rest_at_moved_positions():
    field = moving()
    rests = RadianceField(RadianceConfig(architecture=SMALL), seed=1)
    assert torch.equal(rests.trunk.encoding.table, field.trunk.encoding.table)
    at, times = samples(), torch.rand(40)
    cube = field.to_cube(at.positions)
    moved = cube + field.motion(torch.cat([cube, times[:, None]], 1))
    expected = rests.evaluate_cube(at._replace(positions=moved), LEVELS)
    for ours, theirs in zip(
        field.evaluate(at._replace(times=times), LEVELS), expected, strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_all_rests_at_first():
    field = DynamicField(DynamicConfig(architecture=SMALL, modulate=CAM), seed=1)
    rests = RadianceField(RadianceConfig(architecture=SMALL), seed=1)
    still = rests.evaluate(samples(), LEVELS)
    for time in (0.0, 0.5, 1.0):
        for ours, theirs in zip(field.at(time).evaluate(samples(), LEVELS), still, strict=True):
            torch.testing.assert_close(ours, theirs, atol=2e-2, rtol=0)


@pytest.mark.parametrize("architecture", [SMALL, Mlp(4, (32, 32)), Mlp(4, (32,), integrated=64)])
def test_without_a_motion_the_trunk_sees_time(architecture):
    field = DynamicField(DynamicConfig(architecture=architecture, motion=None), seed=1)
    assert field.motion is None
    with torch.no_grad():
        for parameter in field.trunk.parameters():
            parameter.mul_(3)
    first, last = (field.at(time).evaluate(samples()).log_density for time in (0.0, 1.0))
    assert (first - last).abs().max() > 1e-5
    times = torch.rand(40)
    by_times = field.evaluate(samples(times=times)).log_density
    one = field.at(float(times[7])).evaluate(samples()).log_density
    torch.testing.assert_close(one[7], by_times[7])


def test_architectures_that_do_not_see_time_need_a_motion():
    with pytest.raises(InputError, match="does not see time"):
        DynamicField(DynamicConfig(architecture=Voxels(8), motion=None))


def test_a_moment_has_the_cells_of_its_span():
    field = DynamicField(DynamicConfig(architecture=SMALL, n_spans=4))
    assert field.occupancy.shape == (4, field.config.sampling.grid.n_words)
    field.occupancy[2] = 5
    for time, word in ((0.0, -1), (0.49, -1), (0.5, 5), (0.74, 5), (0.75, -1), (1.0, -1)):
        assert (field.at(time).occupancy == word).all(), time
    field.at(0.6).occupancy.fill_(7)  # the field's own
    assert (field.occupancy[2] == 7).all()
    assert torch.equal(field.at(0.1).at(0.6).occupancy, field.occupancy[2])


def test_gradients_reach_everything_and_agree_with_differences():
    field = moving(modulate=CAM).double()
    times = torch.rand(12, dtype=torch.float64, requires_grad=True)
    at = samples(12)
    at = Samples(at.positions.double(), at.directions.double())

    def value(times):
        levels = field.evaluate(at._replace(times=times))
        return levels.log_density.sum() + levels.color.sum()

    result = value(times)
    gradients = torch.autograd.grad(result, [times, *field.parameters()])
    for gradient in gradients:
        assert gradient.abs().max() > 0
    step = 1e-6
    ahead, behind = value(times.detach() + step), value(times.detach() - step)
    torch.testing.assert_close(
        (ahead - behind) / (2 * step), gradients[0].sum(), rtol=1e-3, atol=1e-6
    )


def test_t_nerf_has_the_published_parameters():
    """613,191, and 80 for modulation by time (the paper's release)."""
    trunk = Mlp(10, (256,) * 8, skip=5)
    head = Head(257, (128,), sees_density=False, directions="frequency", biases=True)
    config = DynamicConfig(architecture=trunk, head=head, motion=Mlp(4, (64,) * 4, skip=2))
    field = DynamicField(config)
    assert field.n_params == 613_191
    assert DynamicField(DynamicConfig(**{**vars(config), "modulate": CAM})).n_params == 613_271


@pytest.mark.parametrize("bits", [32, 8])
def test_files(tmp_path, bits):
    field = moving(modulate=CAM, weight_bits=bits)
    save(field, tmp_path / "a.nf")
    again = load(tmp_path / "a.nf")
    assert again.kind == "dynamic"
    assert again.config == field.config
    ours, theirs = (f.at(0.4).evaluate(samples()).color for f in (field, again))
    torch.testing.assert_close(ours, theirs, atol=1e-7 if bits == 32 else 0.1, rtol=0)
    still = DynamicField(DynamicConfig(architecture=SMALL, motion=None))
    save(still, tmp_path / "b.nf")
    assert load(tmp_path / "b.nf").config.motion is None


def test_refusals():
    field = moving()
    with pytest.raises(InputError, match=r"needs times, or one moment of it: at\(0.5\)"):
        field.evaluate(samples())
    for time in (-0.1, 1.5, float("nan")):
        with pytest.raises(InputError, match=r"needs a number in \[0, 1\]"):
            field.at(time)
    with pytest.raises(InputError, match="got time"):
        RadianceConfig(modulate=CAM)
    with pytest.raises(InputError, match="no hidden layers"):
        DynamicField(DynamicConfig(architecture=Voxels(8), modulate=CAM))
    data = DynamicConfig(architecture=SMALL).to_dict()
    with pytest.raises(InputError, match="motion needs the architecture mlp"):
        DynamicConfig.from_dict({**data, "motion": SMALL.to_dict()})
    with pytest.raises(InputError, match="needs the keys"):
        DynamicConfig.from_dict({key: data[key] for key in data if key != "motion"})
