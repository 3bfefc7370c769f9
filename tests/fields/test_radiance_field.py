import dataclasses
import math

import pytest
import torch

from neural_fields import InputError, ops
from neural_fields.architectures.hash import Hash
from neural_fields.decoders import Head
from neural_fields.fields import RadianceConfig, RadianceField, Samples, Sampling

SMALL = Hash(log2_table_size=8, base_resolution=4, finest_resolution=32)
BOX = ((-1.0, -2.0, 0.0), (1.0, 0.0, 3.0))


def make_field(box=BOX, seed=3, **changes):
    config = RadianceConfig(box=box, architecture=SMALL, **changes)
    field = RadianceField(config, seed)
    with torch.no_grad():
        field.trunk.encoding.table.mul_(1e4)  # the start is too flat to tell anything
    return field


def points(n=50, spread=2.0):
    generator = torch.Generator().manual_seed(1)
    positions = (torch.rand(n, 3, generator=generator) - 0.5) * 2 * spread
    directions = torch.nn.functional.normalize(torch.randn(n, 3, generator=generator), dim=1)
    return positions + torch.tensor([0.0, -1.0, 1.5]), directions


def test_levels_equal_the_composition_of_operations():
    field = make_field()
    positions, directions = points()
    cube = (positions - torch.tensor([0.0, -1.0, 1.5])) / 3.0 + 0.5
    features = ops.mlp(
        ops.hash_grid(cube, field.trunk.encoding.table, field.trunk.encoding.spec),
        field.trunk.mlp.params,
        ops.MlpSpec((32, 64, 16)),
    )
    head = torch.cat([features, ops.spherical_harmonics(directions)], 1)
    color = ops.mlp(
        head, field.color_head.mlp.params, ops.MlpSpec((32, 64, 64, 3), output="sigmoid")
    )
    levels = field.evaluate(Samples(positions, directions), ("features", "log_density", "color"))
    torch.testing.assert_close(levels.features, features)
    torch.testing.assert_close(levels.log_density, features[:, 0])
    torch.testing.assert_close(levels.color, color)
    torch.testing.assert_close(field.color(positions, directions), color)
    blind = torch.cat([features, torch.zeros(len(features), 16)], 1)
    expected = ops.mlp(
        blind, field.color_head.mlp.params, ops.MlpSpec((32, 64, 64, 3), output="sigmoid")
    )
    torch.testing.assert_close(field.color(positions), expected)


def test_only_the_levels_that_were_asked_for():
    levels = make_field().evaluate(Samples(points()[0]), ("log_density",))
    assert levels.features is None
    assert levels.color is None
    assert levels.log_density.shape == (50,)


def test_log_density_has_a_floor():
    field = make_field()
    with torch.no_grad():
        field.trunk.encoding.table.fill_(1)
        field.trunk.mlp.params.fill_(1)
        field.trunk.mlp.params[-16 * 64 :] = -1
    assert field.evaluate(Samples(points()[0])).log_density.unique().item() == pytest.approx(
        math.log(1e-9)
    )


def test_density_is_zero_outside_the_box_even_where_it_overflows():
    field = make_field()
    positions, _ = points(400)
    low, high = torch.tensor(BOX)
    inside = ((positions >= low) & (positions <= high)).all(1)
    assert 0.1 < inside.float().mean() < 0.9
    assert torch.equal(field.inside(positions), inside)
    assert torch.equal(field.density(positions) > 0, inside)
    with torch.no_grad():
        field.trunk.encoding.table.fill_(10)
        field.trunk.mlp.params.fill_(1)
    assert (field.density(positions)[~inside] == 0).all()


def test_density_is_per_world_length():
    field = make_field()
    ten = make_field(tuple(tuple(10 * x for x in corner) for corner in BOX))
    assert ten.unit == 10 * field.unit
    positions, _ = points()
    torch.testing.assert_close(
        ten.density(10 * positions), field.density(positions) / 10, rtol=1e-3, atol=1e-6
    )
    torch.testing.assert_close(ten.color(10 * positions), field.color(positions), rtol=1e-3, atol=0)


def test_gradients_reach_all_parameters_and_positions():
    field = make_field()
    positions, directions = points()
    positions.requires_grad_()
    (field.density(positions).sum() + field.color(positions, directions).sum()).backward()
    for name, parameter in field.named_parameters():
        assert parameter.grad.abs().sum() > 0, name
    assert positions.grad.abs().sum() > 0


@pytest.mark.parametrize(
    "config",
    [
        RadianceConfig(),
        RadianceConfig(
            box=BOX,
            architecture=Hash(
                n_levels=16, n_features=2, interpolation="smoothstep", hidden=(32, 48)
            ),
            head=Head(32, (), False, "frequency", True),
            sampling=Sampling(step=0.01, cone=0.01, max_step=0.5, n_cascades=3, resolution=32),
        ),
    ],
)
def test_configurations_survive_json(config):
    import json

    data = json.loads(json.dumps(config.to_dict()))
    assert RadianceConfig.from_dict(data) == config


def test_shapes_are_known_without_memory():
    field = make_field(head=Head(5, (16,)))
    with torch.device("meta"):
        shapes = RadianceField(field.config, seed=None).state_dict()
    for name, value in field.state_dict().items():
        assert shapes[name].is_meta
        assert shapes[name].shape == value.shape


def changed(**changes):
    data = RadianceConfig().to_dict()
    for path, value in changes.items():
        *parents, key = path.split("__")
        owner = data
        for parent in parents:
            owner = owner[parent]
        if value is None:
            del owner[key]
        else:
            owner[key] = value
    return data


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"colour": 1}, "RadianceConfig needs the keys"),
        ({"architecture__levels": 8}, "Hash needs the keys"),
        ({"sampling__step": None}, "Sampling needs the keys"),
        ({"sampling": [1]}, "Sampling needs the keys"),
        ({"architecture": "vm"}, "architecture needs a name"),
        ({"architecture__name": "grid"}, "needs one of .*hash.*, got 'grid'"),
        ({"sampling__stop": 2.0}, "stop needs"),
        ({"sampling__step": -1.0}, "step"),
        ({"sampling__max_step": 1e-9}, "step"),
        ({"sampling__near_world": math.nan}, "near"),
        ({"sampling__max_samples": 0}, "max_samples"),
        ({"sampling__resolution": 10**9}, "resolution"),
        ({"sampling__resolution": 30}, "resolution"),
        ({"sampling__n_cascades": 9}, "n_cascades"),
        ({"architecture__n_levels": "8"}, "n_levels"),
        ({"architecture__n_features": 3}, "n_features|features"),
    ],
)
def test_unusable_configurations_are_refused(changes, message):
    with pytest.raises((ValueError, TypeError), match=message):
        RadianceField(RadianceConfig.from_dict(changed(**changes)), seed=None)


@pytest.mark.parametrize(
    "box",
    [((0, 0, 0), (1, 0, 1)), ((0, 0, 0), (1, math.inf, 1)), ((0, math.nan, 0), (1, 1, 1))],
)
def test_boxes_without_volume_are_refused(box):
    with pytest.raises(InputError, match="box: needs two finite corners"):
        RadianceField(RadianceConfig(box=box, architecture=SMALL))


def test_the_seed_decides_the_start():
    first, same, other = (RadianceField(RadianceConfig(architecture=SMALL), s) for s in (1, 1, 2))
    for name, value in first.state_dict().items():
        assert torch.equal(value, same.state_dict()[name])
        assert not torch.equal(value, other.state_dict()[name])
    assert dataclasses.asdict(first.config) == dataclasses.asdict(other.config)
