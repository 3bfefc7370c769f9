import pytest
import torch

from neural_fields.data.box import check_aabb, scene_box
from neural_fields.errors import InputError
from neural_fields.rendering.cameras import Cameras


def turned_around(cameras):
    matrix = cameras.camera_to_world.clone()
    matrix[:, :3, 0] *= -1
    matrix[:, :3, 2] *= -1
    return Cameras(
        matrix, cameras.focal, cameras.principal, cameras.width, cameras.height, cameras.distortion
    )


def test_focus_cube_covers_the_view_and_leaves_the_cameras_outside():
    center = torch.tensor([1.0, -2.0, 0.5])
    cameras = Cameras.orbit(center.tolist(), 4, 20, 12, focal=500)
    box = scene_box(cameras, None, {}, "x")
    assert box.rule == "focus"
    assert torch.allclose(box.aabb.mean(0), center, atol=1e-4)
    assert torch.allclose(box.aabb[1] - center, torch.full((3,), 4 * 200 / 500), atol=1e-3)
    wide = scene_box(Cameras.orbit(center.tolist(), 4, 20, 12, focal=100), None, {}, "x").aabb
    positions = cameras.camera_to_world[:, :3, 3]
    assert not ((positions > wide[0]) & (positions < wide[1])).all(1).any()


def test_cameras_without_a_common_point_fall_back_to_their_positions():
    orbit = Cameras.orbit((0, 0, 0), 2, 0, 8)
    outward = scene_box(turned_around(orbit), None, {}, "x")
    assert outward.rule == "positions"
    assert torch.allclose(outward.aabb[1], torch.full((3,), 16.0), atol=1e-4)
    parallel = orbit[torch.zeros(5, dtype=torch.int64)]
    parallel.camera_to_world[:, 0, 3] += torch.arange(5.0)
    assert scene_box(parallel, None, {}, "x").rule == "positions"
    single = scene_box(orbit[0], None, {}, "x")
    assert torch.allclose(single.aabb[1] - single.aabb[0], torch.full((3,), 2.0))


def silhouettes(cameras, low, high):
    """Alpha of an axis-aligned solid, by projecting a dense cloud of its points."""
    noise = torch.rand(60000, 3, generator=torch.Generator().manual_seed(0))
    points = torch.tensor(low) + noise * (torch.tensor(high) - torch.tensor(low))
    alpha = torch.zeros(len(cameras), cameras.height, cameras.width, dtype=torch.uint8)
    for i in range(len(cameras)):
        column, row = cameras.project(i, points)[0].long().unbind(1)
        alpha[i, row.clamp(0, cameras.height - 1), column.clamp(0, cameras.width - 1)] = 255
    return alpha


def test_silhouettes_tighten_the_box_around_the_object():
    ring = [Cameras.orbit((0, 0, 0), 4, e, 8, focal=110, width=80, height=100) for e in (-20, 50)]
    cameras = Cameras(
        torch.cat([c.camera_to_world for c in ring]),
        torch.cat([c.focal for c in ring]),
        torch.cat([c.principal for c in ring]),
        80,
        100,
        torch.zeros(16, 6),
    )
    low, high = [-0.3, -0.6, -0.2], [0.5, 0.4, 0.7]
    alpha = silhouettes(cameras, low, high)
    box = scene_box(cameras, alpha, {}, "x")
    assert box.rule == "silhouettes"
    assert (box.aabb[0] <= torch.tensor(low)).all()
    assert (box.aabb[1] >= torch.tensor(high)).all()
    # Not tight: seen from two heights only, the silhouettes' common volume is larger than it.
    assert (box.aabb[0] > torch.tensor(low) - 0.45).all()
    assert (box.aabb[1] < torch.tensor(high) + 0.45).all()
    assert scene_box(cameras, torch.zeros_like(alpha), {}, "x").rule == "focus"


def test_aabb_scale_is_instant_ngps():
    cameras = Cameras.orbit((0, 0, 0), 4, 20, 4)
    box = scene_box(cameras, None, {"aabb_scale": 4}, "x")
    assert (box.rule, box.aabb_scale) == ("aabb_scale", 4)
    assert torch.allclose(box.aabb[1], torch.full((3,), 2 / 0.33))
    assert torch.allclose(box.aabb[0], -box.aabb[1])
    moved = scene_box(cameras, None, {"aabb_scale": 1, "scale": 0.5, "offset": [0.5, 0, 1]}, "x")
    assert torch.allclose(moved.aabb, torch.tensor([[-1.0, 0, -2], [1, 2, 0]]))


@pytest.mark.parametrize(
    ("shared", "names"),
    [
        ({"aabb_scale": 3}, "power of two"),
        ({"aabb_scale": 256}, "aabb_scale"),
        ({"aabb_scale": "4"}, "aabb_scale"),
        ({"aabb_scale": 4, "scale": 0}, "scale"),
        ({"aabb_scale": 4, "offset": [1, 2]}, "offset"),
        ({"aabb_scale": 4, "offset": [1, 2, "x"]}, r"offset\[2\]"),
    ],
)
def test_bad_keys(shared, names):
    with pytest.raises(InputError, match=names):
        scene_box(Cameras.orbit((0, 0, 0), 4, 20, 4), None, shared, "x")


@pytest.mark.parametrize(
    "aabb",
    [3, "x", [[0, 0, 0]], [[0, 0, 0], [1, 1, 0]], [[0, 0, 0], [1, 1, float("inf")]], [[0], [1, 2]]],
)
def test_bad_aabb(aabb):
    with pytest.raises(InputError, match="aabb"):
        check_aabb(aabb)
