"""The renderer's depth and normals against the scene's own distance function."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from neural_fields.scenes.cameras import focal_length, look_at_origin
from neural_fields.scenes.catalog import build, names
from neural_fields.scenes.model import Material, Scene, turn
from neural_fields.scenes.render import Renderer
from neural_fields.scenes.trace import trace

SIZE = 32
POSE = look_at_origin(np.array([2.4, -2.6, 1.9]))
OTHER = look_at_origin(np.array([2.9, -2.0, 2.0]))
GREY = Material((0.5, 0.5, 0.5))


def pixel_rays(pose, size, focal):
    """Float64 unit directions [h, w, 3] through pixel centres, written out on their own."""
    x = (np.arange(size) + 0.5 - size / 2) / focal
    grid = np.stack([*np.meshgrid(x, -x), -np.ones((size, size))], axis=-1)
    rays = grid @ pose[:3, :3].T
    return rays / np.linalg.norm(rays, axis=-1, keepdims=True)


@pytest.fixture(scope="module", params=names())
def seen(request):
    """A scene with a view of it: hit points [n, 3], rays, normals in float64."""
    focal = focal_length(SIZE)
    renderer = Renderer(build(request.param))
    view = renderer.view(POSE, focal, SIZE, SIZE)
    rays = pixel_rays(POSE, SIZE, focal)
    depth = view.depth.double().numpy()
    hit = depth > 0
    points = POSE[:3, 3] + depth[hit][:, None] * rays[hit]
    assert hit.sum() > 100
    return renderer, renderer.scene, view, points, rays[hit], hit


def test_depth_lies_on_the_surface(seen):
    _, scene, view, points, rays, hit = seen
    distance = scene.distance(torch.from_numpy(points))
    assert distance.abs().max() < 1e-3
    before = scene.distance(torch.from_numpy(points - 2e-3 * rays))
    assert (before > -1e-4).all()
    assert np.array_equal(hit, view.ids.numpy() >= 0)
    assert (view.depth.numpy()[~hit] == 0).all()


def test_nothing_lies_before_the_depth(seen):
    _, scene, _, points, _, _ = seen
    origin = torch.from_numpy(POSE[:3, 3])
    ends = torch.from_numpy(points[:: max(1, len(points) // 60)])
    share = torch.linspace(0.6, 0.9995, 40, dtype=torch.float64)[:, None, None]
    between = (origin + share * (ends - origin)).reshape(-1, 3)
    assert scene.distance(between).min() > -1e-4


def test_normals_are_the_gradient(seen):
    _, scene, view, points, rays, hit = seen
    normal = view.normal.double().numpy()[hit]
    np.testing.assert_allclose(np.linalg.norm(normal, axis=-1), 1.0, atol=1e-5)
    assert ((normal * rays).sum(-1) < 1e-2).all()
    x = torch.from_numpy(points).requires_grad_()
    (gradient,) = torch.autograd.grad(scene.distance(x).sum(), x)
    cosine = (gradient.numpy() * normal).sum(-1) / np.linalg.norm(gradient.numpy(), axis=-1)
    # On an edge, rounding decides which of two faces a point belongs to.
    assert np.mean(cosine > 0.999) > 0.97


def test_two_views_agree(seen):
    renderer, _, _, points, _, _ = seen
    size = 100
    focal = focal_length(size)
    view = renderer.view(OTHER, focal, size, size)
    local = (points - OTHER[:3, 3]) @ OTHER[:3, :3]
    u = np.floor(size / 2 + focal * local[:, 0] / -local[:, 2]).astype(int)
    v = np.floor(size / 2 - focal * local[:, 1] / -local[:, 2]).astype(int)
    inside = (u >= 0) & (u < size) & (v >= 0) & (v < size)
    away = np.linalg.norm(local, axis=-1)[inside]
    around = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    padded = np.pad(view.depth.numpy(), 1)
    depth = np.stack([padded[v[inside] + 1 + i, u[inside] + 1 + j] for i, j in around])
    toward = OTHER[:3, 3] - points[inside]
    toward /= np.linalg.norm(toward, axis=-1, keepdims=True)
    start = torch.from_numpy(points[inside] + 5e-3 * toward).float().t().contiguous()
    rays = torch.from_numpy(toward).float().t().contiguous()
    free = trace(renderer.grid, start, rays).part.numpy() < 0
    # A pixel is not a point: its centre, or that of a neighbour, sees the point's surface.
    agree = (np.abs(depth - away) < 0.03).any(0)
    assert agree[free].mean() > 0.95
    hidden = ((depth > 0) & (depth < away)).any(0)
    assert hidden[~free].mean() > 0.95


def test_distances_are_lipschitz(seen):
    _, scene, _, _, _, _ = seen
    draw = torch.Generator().manual_seed(1)
    a = torch.rand(1500, 3, generator=draw, dtype=torch.float64) * 2.4 - 1.2
    for spread in (0.01, 0.3):
        b = a + spread * torch.randn(a.shape, generator=draw, dtype=torch.float64)
        change = (scene.distance(a) - scene.distance(b)).abs()
        assert (change <= (a - b).norm(dim=1) + 1e-6).all()


def test_grid_is_conservative_and_exact_when_near(seen):
    renderer, scene, _, points, _, _ = seen
    grid = renderer.grid
    draw = torch.Generator().manual_seed(2)
    on = torch.from_numpy(points).float()
    x = torch.cat([torch.rand(2000, 3, generator=draw) * 1.8 - 0.9, on + 0.002])
    true, entry = scene.distance(x), grid.lookup(x.t())
    far = entry >= 0
    assert (entry[far] <= true[far] + 1e-5).all()
    near = torch.nonzero(~far)[:, 0]
    exact, _, _ = grid.nearest(x[near].t().contiguous(), (-1 - entry[near]).long(), 1e-4)
    torch.testing.assert_close(exact, true[near], atol=2e-6, rtol=0)


def test_primitives_have_known_distances():
    scene = Scene()
    with scene.moved((1, 0, 0), turn("z", 90.0)):
        scene.box((0.5, 0, 0), (0.2, 0.1, 0.1), GREY, rounding=0.05)
    scene.torus((0, 0, -1), 0.4, 0.1, GREY, "x")
    scene.sphere((0, 0, 1), 0.25, GREY)
    scene.cylinder((-2, 0, 0), 0.2, 0.3, GREY, axis="y", taper=0.5)
    x = torch.tensor(
        [[1, 1.0, 0], [1.4, 0.5, 0], [0, 0.6, -1], [0, 0, 2], [0, 0, 0.9], [-2, -1, 0]],
        dtype=torch.float64,
    )
    expected = torch.tensor([0.3, 0.3, 0.1, 0.75, -0.15, 0.7], dtype=torch.float64)
    torch.testing.assert_close(scene.distance(x), expected, atol=1e-6, rtol=0)
    on_cone = scene.distance(torch.tensor([[-2.2, 0.0, 0.0]], dtype=torch.float64))
    assert abs(float(on_cone)) < 1e-6


def test_thin_wire_is_not_missed():
    scene = Scene()
    scene.rod((-0.8, 0, -0.013), (0.8, 0, 0.6), 0.002, GREY)
    pose, size = look_at_origin(np.array([0.0, -4.0, 0.3])), 64
    with_wire = Renderer(scene).view(pose, focal_length(size), size, size)
    columns = with_wire.rgba[..., 3].sum(0)[20:44]
    width_px = 0.004 * focal_length(size) / 4.0 / math.cos(math.atan(0.613 / 1.6))
    assert (columns > 0).all()
    assert columns.mean() == pytest.approx(width_px, rel=0.4)
