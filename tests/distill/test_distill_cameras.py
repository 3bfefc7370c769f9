"""Cameras that students are shown, and the pools of hard ones."""

import math

import pytest
import torch

from neural_fields.distill.cameras import boxed, like, shaken, shell
from neural_fields.distill.pools import CameraPool, RayPool
from neural_fields.rendering.cameras import Cameras


def generator(seed=1):
    return torch.Generator().manual_seed(seed)


def ring(n=12, radius=4.0, elevation=30.0, center=(0.0, 0.0, 0.0)):
    return Cameras.orbit(center, radius, elevation, n, width=20, height=16)


def misses(cameras, center):
    """Distances from the axes of cameras to a point."""
    away = torch.tensor(center) - cameras.camera_to_world[:, :3, 3]
    axis = -cameras.camera_to_world[:, :3, 2]
    return torch.linalg.cross(away, axis).norm(dim=1)


def rotations_are_rigid(cameras):
    turn = cameras.camera_to_world[:, :3, :3]
    identity = torch.eye(3).expand_as(turn)
    torch.testing.assert_close(turn @ turn.mT, identity, atol=1e-5, rtol=0)
    assert (torch.linalg.det(turn) > 0).all()


@pytest.mark.parametrize(("elevations", "n"), [((0, 79), 312), ((5, 19), 87)])
def test_published_shells(elevations, n):
    center = (0.5, -0.25, 0.125)
    cameras = ring(center=center)
    drawn = shell(cameras, center, generator(), elevations=elevations, radius=(3.0, 4.0))
    assert len(drawn) == n
    assert misses(drawn, center).max() < 1e-5
    away = drawn.camera_to_world[:, :3, 3] - torch.tensor(center)
    radius = away.norm(dim=1)
    assert radius.min() > 3 - 1e-5
    assert radius.max() < 4 + 1e-5
    elevation = torch.rad2deg((away[:, 2] / radius).asin())
    assert elevation.min() > elevations[0] - 0.01
    assert elevation.max() < elevations[1] + 5.01
    rotations_are_rigid(drawn)


def test_published_fronts():
    cameras = ring()
    drawn = boxed(cameras, (0.0, 0.0, 0.0), 30, generator())
    assert len(drawn) == 30
    assert misses(drawn, (0.0, 0.0, 0.0)).max() < 1e-5
    places, own = drawn.camera_to_world[:, :3, 3], cameras.camera_to_world[:, :3, 3]
    assert (places >= own.amin(0) - 1e-4).all()
    assert (places <= own.amax(0) + 1e-4).all()
    rotations_are_rigid(drawn)


def test_drawn_cameras_are_like_the_scene_s():
    center = (1.0, 2.0, 3.0)
    cameras = ring(n=40, center=center)
    drawn = like(cameras, center, 200, generator())
    rotations_are_rigid(drawn)
    away = drawn.camera_to_world[:, :3, 3] - torch.tensor(center)
    torch.testing.assert_close(away.norm(dim=1), torch.full((200,), 4.0))
    axis = -drawn.camera_to_world[:, :3, 2]
    angle = torch.rad2deg((-away / 4 * axis).sum(1).clamp(-1, 1).acos())
    assert angle.max() < 12  # shaken by 5 degrees about each axis
    azimuth = torch.atan2(away[:, 1], away[:, 0])
    assert torch.histc(azimuth, 8, -math.pi, math.pi).min() > 5
    spread = torch.cdist(away, cameras.camera_to_world[:, :3, 3] - torch.tensor(center))
    assert spread.min(1).values.max() < 1.0  # 0.54 between neighbours
    assert spread.min(1).values.max() > 0.1


def test_drawing_from_one_camera_keeps_its_place():
    drawn = like(ring(1), (0.0, 0.0, 0.0), 5, generator())
    places = drawn.camera_to_world[:, :3, 3]
    torch.testing.assert_close(places, ring(1).camera_to_world[:, :3, 3].expand(5, 3))
    assert drawn.camera_to_world[:, :3, :3].std(0).max() > 1e-3


def test_shaking_keeps_places_and_angles():
    poses = ring(1).camera_to_world.double().expand(300, 4, 4)
    new = shaken(poses, 0.1, generator())
    assert torch.equal(new[:, :3, 3], poses[:, :3, 3])
    turn = new[:, :3, :3] @ poses[:, :3, :3].mT
    angle = ((turn.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2).clamp(-1, 1).acos()
    assert 0.1 < angle.max() < 0.1 * math.sqrt(3) + 0.02


def rays(n, tag=0.0):
    found = torch.rand(n, 7, generator=generator(3))
    found[:, 0] = torch.arange(n) + tag
    return found


def test_the_published_ray_pool_fills_in_1503_steps():
    pool = RayPool()
    steps = 0
    while not pool.is_full:
        again, slots = pool.draw(409, generator(steps))
        assert len(again) == len(slots) == 0
        pool.put(rays(4096), torch.rand(4096, generator=generator(steps)), slots)
        steps += 1
    assert steps == math.ceil(614400 / 409) == 1503
    again, slots = pool.draw(409, generator(steps))
    assert len(torch.cat([rays(4096), again])) == 4505
    assert len(slots.unique()) == 409


def test_drawn_slots_are_filled_with_the_hardest():
    pool = RayPool(capacity=4)
    pool.put(rays(40), torch.arange(40.0), torch.empty(0, dtype=torch.long))
    assert pool.rays[:, 0].tolist() == [36, 37, 38, 39]
    again, slots = pool.draw(2, generator())
    assert torch.equal(again, pool.rays[slots])
    kept = [i for i in range(4) if i not in slots.tolist()]
    before = pool.rays[kept].clone()
    batch = torch.cat([rays(20, tag=100), again])
    difficulty = torch.zeros(22)
    difficulty[5], difficulty[21] = 3.0, 2.0  # a new ray, and one that is still hard
    pool.put(batch, difficulty, slots)
    assert torch.equal(pool.rays[kept], before)
    assert sorted(pool.rays[slots, 0].tolist()) == sorted([105.0, float(again[1, 0])])
    assert len(pool.rays[:, 0].unique()) == 4  # none is there twice


def test_old_rays_are_not_put_back():
    pool = RayPool(capacity=2)
    pool.put(rays(20), torch.arange(20.0), torch.empty(0, dtype=torch.long))
    for _ in range(25):
        again, slots = pool.draw(2, generator())
        batch = torch.cat([rays(20, tag=100), again])
        difficulty = torch.cat([torch.full((20,), 0.5), torch.ones(2)])
        pool.put(batch, difficulty, slots)
    assert (pool.rays[:, 0] >= 100).all()


def test_hard_cameras_come_again():
    pool, last = CameraPool(30, capacity=4), ring(30)
    errors = torch.zeros(30)
    errors[[3, 8, 21]] = 1.0
    fresh = ring(30, radius=6.0)
    for _ in range(2):
        assert pool.renewed(last, errors, fresh, generator()) is fresh
    assert pool.is_full
    renewed = pool.renewed(last, errors, fresh, generator())
    moved = (renewed.camera_to_world != fresh.camera_to_world).flatten(1).any(1)
    assert int(moved.sum()) == 3
    places = renewed.camera_to_world[moved][:, :3, 3]
    hard = last.camera_to_world[[3, 8, 21], :3, 3]
    assert torch.cdist(places, hard).min(1).values.max() < 1e-5
    rotations_are_rigid(renewed)
