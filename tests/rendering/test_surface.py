"""Pictures of signed distance fields, against spheres whose answers are known."""

import pytest
import torch

import neural_fields as nf
from neural_fields.fields import SdfConfig, SdfField
from neural_fields.rendering.cameras import Cameras
from neural_fields.rendering.orbits import around
from neural_fields.rendering.surface import render_surface, trace_rays


class Ball(torch.nn.Module):
    """Slopes as wrong as those of fitted fields: distances are up to `slope` times too long."""

    def __init__(self, radius, slope=1.0):
        super().__init__()
        self.radius, self.slope = radius, slope

    def forward(self, cube):
        return self.slope * (((cube - 0.5) * 2).norm(dim=1, keepdim=True) - self.radius)


def ball(radius=1.0, half=1.25, slope=1.0, center=0.0):
    low, high = (center - half,) * 3, (center + half,) * 3
    field = SdfField(SdfConfig((low, high)))
    field.trunk = Ball(radius / half, slope)
    return field


@pytest.mark.parametrize("slope", [0.3, 1.0, 1.2])
@pytest.mark.parametrize("center", [0.0, 40.0])
def test_rays_end_on_the_sphere(slope, center):
    field = ball(slope=slope, center=center)
    offsets = torch.linspace(-1.6, 1.6, 201)
    origins = torch.stack([torch.full_like(offsets, 5.0), offsets, 0 * offsets], 1) + center
    directions = torch.tensor([[-1.0, 0.0, 0.0]]).expand_as(origins)
    depth, hit = trace_rays(field, origins, directions)
    clear = (offsets.abs() - 1).abs() > 0.01
    assert torch.equal(hit[clear], (offsets.abs() < 1)[clear])
    seen = hit & (offsets.abs() < 0.95)
    expected = 5 - (1 - offsets[seen] ** 2).sqrt()
    torch.testing.assert_close(depth[seen], expected, rtol=0, atol=5e-3)


def test_rays_that_start_inside_or_look_away():
    field = ball()
    origins = torch.tensor([[0.0, 0, 0], [3.0, 0, 0], [0.0, 0, 9.0], [5.0, 0, 0]])
    directions = torch.tensor([[1.0, 0, 0], [1.0, 0, 0], [1.0, 0, 0], [-1.0, 0, 0]])
    depth, hit = trace_rays(field, origins, directions)
    assert hit.tolist() == [True, False, False, True]
    assert depth[0] == 0
    assert trace_rays(field, origins[:0], directions[:0])[1].shape == (0,)


def test_the_border_of_the_box_cuts_the_shape():
    field = ball(radius=2.0)  # all of the box is inside
    depth, hit = trace_rays(field, torch.tensor([[5.0, 0, 0]]), torch.tensor([[-1.0, 0, 0]]))
    assert hit.tolist() == [True]
    assert float(depth) == pytest.approx(5 - 1.25, abs=1e-4)


def test_normals_shades_and_depth_of_a_picture():
    field = ball()
    cameras = Cameras.orbit((0, 0, 0), 4, 0, 1, width=65, height=65)
    rendered, normal = render_surface(field, cameras)
    towards = cameras.camera_to_world[0, :3, 2]
    torch.testing.assert_close(normal[32, 32], towards, rtol=0, atol=0.02)
    assert float(rendered.color[32, 32, 0]) == pytest.approx(0.85, abs=0.01)
    assert float(rendered.depth[32, 32]) == pytest.approx(3, abs=5e-3)
    assert rendered.opacity[0, 0] == 0
    assert (rendered.color[0, 0] == 0).all()
    on = rendered.opacity == 1
    assert (normal[on].norm(dim=1) - 1).abs().max() < 1e-4
    shares = rendered.color[..., 0][on]
    assert shares.min() < 0.5 < shares.max()
    shown = nf.render(field, cameras, mode="normal")
    torch.testing.assert_close(shown[32, 32], towards / 2 + 0.5, rtol=0, atol=0.02)
    assert (nf.render(field, cameras)[0, 0] == 1).all()


def test_turntables_hold_the_whole_box():
    field = ball(center=7.0)
    cameras = around(field, 3, size=40)
    corners = torch.cartesian_prod(*[torch.tensor([5.75, 8.25])] * 3)
    for index in range(3):
        pixels, depth = cameras.project(index, corners)
        assert (depth > 0).all()
        assert ((pixels > 0) & (pixels < 40)).all()
