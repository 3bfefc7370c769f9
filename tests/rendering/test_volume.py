import math

import pytest
import torch

import neural_fields as nf
from neural_fields import ops
from neural_fields.architectures.hash import Hash
from neural_fields.fields import RadianceConfig, RadianceField, Samples, Sampling
from neural_fields.rendering.cameras import Cameras
from neural_fields.rendering.volume import normals, over, render_rays, render_view

BOX = ((-1.0, -2.0, 0.0), (1.0, 0.0, 2.0))
CENTER = torch.tensor([0.0, -1.0, 1.0])
SAMPLING = Sampling(step=0.01, max_step=0.01, resolution=16, stop=0.0)


def make_field(scale=1.0, hidden=(64,), sampling=SAMPLING):
    box = tuple(tuple(scale * x for x in corner) for corner in BOX)
    architecture = Hash(log2_table_size=12, base_resolution=16, finest_resolution=32, hidden=hidden)
    config = RadianceConfig(box, architecture=architecture, sampling=sampling)
    return RadianceField(config, seed=4)


@torch.no_grad()
def set_density(field, log_density, slope=None):
    """log-density = constant + slope . x in the cube; all encodings but the coarsest are one."""
    hidden = field.config.architecture.hidden[0]
    field.trunk.encoding.table.fill_(1)
    first = torch.zeros(hidden, 32)
    last = torch.zeros(16, hidden)
    first[0, 31] = 1  # a one
    last[0, 0] = log_density
    if slope is not None:
        # The coarsest level holds its vertices' positions: linear functions come out exactly.
        vertex = torch.arange(16**3)
        axes = torch.stack([vertex % 16, vertex // 16 % 16, vertex // 256], 1)
        field.trunk.encoding.table[: 16**3, :3] = (axes - 0.5) / 15
        for axis in range(3):
            # relu loses negative numbers, the vertices below zero among them
            first[1 + axis, axis], first[1 + axis, 31] = 1, 1
            last[0, 1 + axis] = slope[axis]
        last[0, 0] = log_density - sum(slope)
    field.trunk.mlp.params.copy_(torch.cat([first.flatten(), last.flatten()]))
    return field


def make_rays(n=300, scale=1.0):
    generator = torch.Generator().manual_seed(2)
    origins = torch.nn.functional.normalize(torch.randn(n, 3, generator=generator), dim=1) * 4
    targets = (torch.rand(n, 3, generator=generator) - 0.5) * 2.4
    directions = torch.nn.functional.normalize(targets - origins, dim=1)
    return (origins + CENTER) * scale, directions


def chords(origins, directions, scale=1.0):
    low, high = torch.tensor(BOX) * scale
    a, b = (low - origins) / directions, (high - origins) / directions
    near, far = torch.minimum(a, b).amax(1).clamp(min=0), torch.maximum(a, b).amin(1)
    return near, (far - near).clamp(min=0)


@pytest.mark.parametrize("hidden", [(64,), (24,)], ids=["fused", "operations"])
@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_opacity_of_a_homogeneous_box(hidden, scale):
    field = set_density(make_field(scale, hidden), math.log(0.7))
    assert (field.fused_spec() is None) == (hidden == (24,))
    origins, directions = make_rays(scale=scale)
    near, length = chords(origins, directions, scale)
    sigma = 0.7 / scale
    assert field.density(CENTER[None] * scale).item() == pytest.approx(sigma, rel=1e-4)
    out = render_rays(field, origins, directions)
    expected = 1 - torch.exp(-sigma * length)
    torch.testing.assert_close(out.opacity, expected, rtol=0, atol=0.007 * 1.01)  # a step's worth
    # sum w t = integral of sigma exp(-sigma s) (near + s)
    depth = near * expected + (expected - sigma * length * (1 - expected)) / sigma
    torch.testing.assert_close(out.depth, depth, rtol=0.01, atol=0.03 * scale)
    assert (out.opacity[length == 0] == 0).all()
    assert (length == 0).any()


def test_rays_equal_the_brute_force():
    field = make_field()
    with torch.no_grad():
        field.trunk.encoding.table.mul_(1e4)
        field.trunk.mlp.params.mul_(2)
    field.occupancy.copy_(torch.randint(-(2**62), 2**62, field.occupancy.shape))
    origins, directions = make_rays()
    samples = ops.march(field.march_scene(), field.occupancy, origins, directions)
    expected = torch.zeros(300, 5)
    for ray in range(300):
        part = slice(int(samples.offsets[ray]), int(samples.offsets[ray + 1]))
        starts, ends = samples.t_starts[part], samples.t_ends[part]
        middle = (starts + ends) / 2
        positions = origins[ray] + middle[:, None] * directions[ray]
        thickness = field.density(positions) * (ends - starts)
        transmittance = torch.exp(-(thickness.cumsum(0) - thickness))
        weights = transmittance * (1 - torch.exp(-thickness))
        color = field.color(positions, directions[ray].expand(len(middle), 3))
        expected[ray, :3] = (weights[:, None] * color).sum(0)
        expected[ray, 3], expected[ray, 4] = weights.sum(), (weights * middle).sum()
    out = render_rays(field, origins, directions)
    assert out.opacity.max() > 0.2
    # samples of little weight get no colour
    torch.testing.assert_close(out.color, expected[:, :3].detach(), rtol=0, atol=0.02)
    torch.testing.assert_close(out.opacity, expected[:, 3].detach(), rtol=0, atol=1e-4)
    torch.testing.assert_close(out.depth, expected[:, 4].detach(), rtol=1e-3, atol=1e-3)


def test_fused_and_operations_agree(monkeypatch):
    field = make_field()
    with torch.no_grad():
        field.trunk.encoding.table.mul_(1e4)
    origins, directions = make_rays()
    fused = render_rays(field, origins, directions)
    monkeypatch.setattr(RadianceField, "fused_spec", lambda _: None)
    by_ops = render_rays(field, origins, directions)
    torch.testing.assert_close(fused.opacity, by_ops.opacity, rtol=0, atol=1e-4)
    torch.testing.assert_close(fused.depth, by_ops.depth, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(fused.color, by_ops.color, rtol=0, atol=0.02)


def test_no_rays():
    for hidden in ((64,), (24,)):
        out = render_rays(make_field(hidden=hidden), torch.zeros(0, 3), torch.zeros(0, 3))
        assert [tuple(part.shape) for part in out] == [(0, 3), (0,), (0,)]


def test_empty_cells_are_not_rendered():
    field = set_density(make_field(), math.log(50.0))
    field.occupancy.zero_()
    out = render_rays(field, *make_rays())
    assert (out.opacity == 0).all()


def test_normals_of_a_linear_density():
    slope = (-3.0, 1.0, 2.0)
    field = set_density(make_field(), 4.0, slope)
    x = torch.tensor([[0.1, -1.2, 0.7], [-0.5, -0.5, 1.5]])
    cube = (x - CENTER) / 2 + 0.5
    log_density = field.evaluate(Samples(x)).log_density
    torch.testing.assert_close(log_density, 4 + cube @ torch.tensor(slope), rtol=1e-4, atol=1e-4)
    origins, directions = make_rays()
    out = render_rays(field, origins, directions)
    found = normals(field, origins, directions, out)
    expected = -torch.nn.functional.normalize(torch.tensor(slope), dim=0)
    seen = out.opacity > 0.5
    assert 0 < seen.sum() < len(seen)
    assert (found[~seen] == 0).all()
    torch.testing.assert_close(found[seen].norm(dim=1), torch.ones(int(seen.sum())))
    # As in tiny-cuda-nn, the last half cell of a level runs into the opposite side.
    points = origins + out.depth[:, None] * directions
    seen &= ((points - CENTER) / 2 < 0.44).all(1)
    assert seen.sum() > 50
    torch.testing.assert_close(found[seen], expected.expand(int(seen.sum()), 3), rtol=0, atol=1e-3)


def test_modes_of_render():
    field = set_density(make_field(), math.log(100.0), (0.0, 0.0, -0.5))
    cameras = Cameras.orbit(CENTER.tolist(), 4, 20, 3, width=20, height=14)
    rendered = render_view(field, cameras, 1)
    assert rendered.color.shape == (14, 20, 3)
    red = (1.0, 0.0, 0.0)
    picture = nf.render(field, cameras, 1, background=red)
    torch.testing.assert_close(picture, over(rendered, torch.tensor(red)))
    assert picture[0, 0].tolist() == [1, 0, 0]
    opacity = nf.render(field, cameras, 1, mode="opacity")
    assert torch.equal(opacity, rendered.opacity)
    assert opacity[7, 10] > 0.99
    depth = nf.render(field, cameras, 1, mode="depth")
    origins, directions = cameras.image_rays(1)
    near, length = chords(origins, directions)
    solid = (length > 0.5).view(14, 20)
    torch.testing.assert_close(depth[solid], near.view(14, 20)[solid], rtol=0.01, atol=0.03)
    assert (depth[opacity == 0] == 0).all()
    normal = nf.render(field, cameras, 1, mode="normal")
    assert normal.shape == (14, 20, 3)
    points = origins + depth.view(-1, 1) * directions
    solid &= ((points - CENTER) / 2 < 0.46).all(1).view(14, 20)
    assert solid.sum() > 10
    expected = torch.tensor([0.5, 0.5, 1.0]).expand(int(solid.sum()), 3)
    torch.testing.assert_close(normal[solid], expected, rtol=0, atol=1e-2)
    assert (normal[opacity == 0] == 1).all()
    with pytest.raises(nf.InputError, match="mode: needs rgb"):
        nf.render(field, cameras, mode="dpeth")
