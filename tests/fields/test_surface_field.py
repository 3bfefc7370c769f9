"""Surface fields: distances, and what density is made of them."""

import dataclasses
import math

import pytest
import torch
from bad_files import edited

import neural_fields as nf
from neural_fields import InputError
from neural_fields.architectures.hash import Hash
from neural_fields.fields import Samples, SurfaceConfig, SurfaceField
from neural_fields.fields.load import save
from neural_fields.fields.surface import log_density_of, thickness_of

BOX = ((-1.0, -2.0, 0.0), (3.0, 2.0, 3.0))  # a unit is 2
CONFIG = SurfaceConfig(box=BOX, architecture=Hash(log2_table_size=10, finest_resolution=64))


@pytest.fixture
def field():
    return SurfaceField(CONFIG, seed=1)


def points(n=50):
    low, high = torch.tensor(BOX)
    return low + torch.rand(n, 3, generator=torch.Generator().manual_seed(2)) * (high - low)


def test_it_begins_as_a_sphere(field):
    center = torch.tensor([1.0, 0.0, 1.5])
    along = torch.nn.functional.normalize(torch.randn(40, 3), dim=1)
    at = field.distance(Samples(center + field.unit * 0.5 * along)).detach()
    assert float(at.abs().max()) < 1e-3
    assert float(field.distance(Samples(center[None])).detach()) < -0.7  # of a radius of 1
    outside = field.distance(Samples(center + 1.2 * along)).detach()
    assert float((outside - 0.2).abs().max()) < 0.01


def test_the_slope_of_the_first_sphere_is_its_derivative(field):
    cube = torch.rand(30, 3).double().requires_grad_()
    value, slope = field.sphere(cube)
    (expected,) = torch.autograd.grad(value.sum(), cube)
    torch.testing.assert_close(slope, expected / 2)  # the cube's side is 2 units


def test_distances_are_in_world_units_and_clamped_to_the_box(field):
    at = points()
    cube = Samples(field.to_cube(at))
    torch.testing.assert_close(field.distance(Samples(at)), field.encoded(cube)[0] * 2.0)
    far = torch.tensor([[9.0, 0.0, 1.0]])
    edge = torch.tensor([[3.0, 0.0, 1.0]])
    torch.testing.assert_close(field.distance(Samples(far)), field.distance(Samples(edge)))
    assert float(field.density(far).detach()) == 0


@pytest.mark.parametrize("density", ["volsdf", "neus"])
def test_density_is_what_the_formula_says(density):
    field = SurfaceField(dataclasses.replace(CONFIG, density=density), seed=1)
    field.width.fill_(0.07)
    at = points()
    d = (field.distance(Samples(at)) / 2.0).double()
    if density == "neus":
        expected = torch.sigmoid(-d / 0.07) / 0.07
    else:
        inside, outside = 1 - 0.5 * (d / 0.07).exp(), 0.5 * (-d / 0.07).exp()
        expected = torch.where(d > 0, outside, inside) / 0.07
    torch.testing.assert_close(field.density(at).double(), expected / 2.0, rtol=1e-4, atol=1e-9)


def test_neus_depends_on_where_it_is_seen_from():
    field = SurfaceField(dataclasses.replace(CONFIG, density="neus"), seed=1)
    at = torch.tensor([[2.0, 0.0, 1.5]]).expand(3, 3)
    along = torch.tensor([[-1.0, 0.0, 0.0], [-math.sqrt(0.75), 0.5, 0.0], [1.0, 0.0, 0.0]])
    ahead, aslant, away = field.evaluate(Samples(at, along)).log_density.detach().exp()
    straight = field.density(at)[0].detach() * field.unit
    assert float(ahead / straight) == pytest.approx(1, abs=0.02)
    assert float(aslant / straight) == pytest.approx(math.sqrt(0.75), abs=0.03)
    assert float(away / straight) < 1e-5
    assert field.view_dependent_density


@pytest.mark.parametrize("density", ["volsdf", "neus"])
@pytest.mark.parametrize("approach", [-1.0, -0.3, -1e-5])
def test_thickness_is_the_integral_of_density(density, approach):
    width, step = torch.tensor(0.02, dtype=torch.float64), 0.05
    middle = torch.linspace(-0.1, 0.1, 41, dtype=torch.float64)
    share = (torch.arange(20000, dtype=torch.float64) + 0.5) / 20000 - 0.5
    along = middle[:, None] + approach * step * share
    rate = abs(approach) if density == "neus" else 1.0
    expected = log_density_of(density, along, width).exp().mean(1) * step * rate
    rates = torch.full_like(middle, approach)
    steps = torch.full_like(middle, step)
    found = thickness_of(density, middle, rates, steps, width)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-9)


def test_neus_has_no_thickness_on_the_way_out():
    middle = torch.linspace(-0.1, 0.1, 11)
    away, steps = torch.ones(11), torch.full((11,), 0.01)
    assert float(thickness_of("neus", middle, away, steps, torch.tensor(0.01)).max()) == 0


def test_colours_are_seen_along_the_reflected_ray(field):
    """The same parameters as a field that sees rays themselves, asked along the reflection."""
    plain = SurfaceField(dataclasses.replace(CONFIG, color_direction="ray"), seed=1)
    field.trunk.encoding.table.data.normal_(std=0.1)
    plain.load_state_dict(field.state_dict())
    at = points()
    ray = torch.nn.functional.normalize(torch.randn(len(at), 3), dim=1)
    where = at.clone().requires_grad_()
    (slope,) = torch.autograd.grad(field.distance(Samples(where)).sum(), where)
    normal = torch.nn.functional.normalize(slope, dim=1)
    mirrored = ray - 2 * (ray * normal).sum(1, keepdim=True) * normal
    seen = field.color(at, ray)
    torch.testing.assert_close(seen, plain.color(at, mirrored), atol=1e-5, rtol=1e-4)
    assert float((seen - plain.color(at, ray)).detach().abs().max()) > 1e-3
    with torch.no_grad():  # by the native core
        torch.testing.assert_close(field.color(at, ray), seen.detach(), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(field.color(at), plain.color(at))  # no direction, no reflection


def test_files_of_format_4_saw_rays_themselves(field, tmp_path):
    save(field, tmp_path / "a.nf")

    def older(header):
        header["format_version"] = 4
        del header["config"]["color_direction"]

    (tmp_path / "b.nf").write_bytes(edited((tmp_path / "a.nf").read_bytes(), header=older))
    assert nf.load(tmp_path / "a.nf").config.color_direction == "reflected"
    assert nf.load(tmp_path / "b.nf").config.color_direction == "ray"


def test_files_keep_the_width(field, tmp_path):
    field.width.fill_(0.0123)
    save(field, tmp_path / "a.nf")
    again = nf.load(tmp_path / "a.nf")
    assert isinstance(again, SurfaceField)
    assert again.config == field.config
    assert float(again.width) == pytest.approx(0.0123)
    at = points()
    assert torch.equal(again.distance(Samples(at)), field.distance(Samples(at)))


def test_bad_configurations():
    with pytest.raises(InputError, match="density"):
        dataclasses.replace(CONFIG, density="solid")
    with pytest.raises(InputError, match="color_direction"):
        dataclasses.replace(CONFIG, color_direction="mirror")
    with pytest.raises(InputError, match="radius"):
        dataclasses.replace(CONFIG, radius=-1.0)


def test_its_derivative_is_that_of_its_distance(field):
    at = points().requires_grad_()
    (expected,) = torch.autograd.grad(field.distance(Samples(at)).sum(), at)
    torch.testing.assert_close(nf.derivatives.gradient(field, at.detach()), expected)
