"""Cameras that a teacher is looked at from: drawn like the scene's own, or as PVD's code does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from neural_fields.rendering.cameras import Cameras
from neural_fields.rendering.poses import looking_at, on_sphere

NEIGHBOURS = 6  # a new camera lies between a camera and one of so many nearest
BEYOND = 0.25  # of the way to the neighbour, that it may lie outside of it
JITTER = math.radians(5)  # of where it looks


def like(cameras: Cameras, center: Sequence[float], n: int, generator: torch.Generator) -> Cameras:
    """Draw cameras between those of a scene.

    A camera lies on the way from one of them to a near one, at a distance from the centre between
    theirs, looks between where they look, and shakes by up to `JITTER`. That follows cameras on a
    sphere, in a room or along a walk alike.

    Args:
        cameras: the scene's.
        center: of the box, 3 numbers.
        n: how many.
        generator: of all draws.

    Returns:
        n cameras with the lenses of those they were drawn from.

    Example:
        >>> ring = Cameras.orbit((0, 0, 0), radius=4, elevation_deg=30, n=8)
        >>> drawn = like(ring, (0, 0, 0), 5, torch.Generator().manual_seed(1))
        >>> drawn.camera_to_world[:, :3, 3].norm(dim=1)
        tensor([4., 4., 4., 4., 4.])
    """
    poses = cameras.camera_to_world.double()
    positions, middle = poses[:, :3, 3], torch.tensor(list(center), dtype=torch.float64)
    n_near = min(NEIGHBOURS, len(cameras) - 1)
    first = torch.randint(len(cameras), (n,), generator=generator)
    second = first
    if n_near:
        near = torch.cdist(positions, positions).topk(n_near + 1, largest=False).indices[:, 1:]
        second = near[first, torch.randint(n_near, (n,), generator=generator)]
    share = torch.rand(n, 1, generator=generator, dtype=torch.float64) * (1 + 2 * BEYOND) - BEYOND
    offset = torch.lerp(positions[first], positions[second], share) - middle
    lengths = (positions - middle).norm(dim=1, keepdim=True)
    wanted = torch.lerp(lengths[first], lengths[second], share.clamp(0, 1))
    offset = offset * wanted / offset.norm(dim=1, keepdim=True).clamp(min=1e-12)
    turned = torch.lerp(poses[first, :3, :3], poses[second, :3, :3], share[..., None])
    new = poses[first].clone()
    new[:, :3, :3] = _rotation(turned)
    new[:, :3, 3] = middle + offset
    drawn = cameras[first]
    return with_poses(drawn, shaken(new, JITTER, generator))


def shell(
    cameras: Cameras,
    center: Sequence[float],
    generator: torch.Generator,
    *,
    elevations: tuple[int, int] = (0, 79),
    radius: tuple[float, float] | None = None,
) -> Cameras:
    """PVD's cameras of an epoch: bands of elevation around the centre, fewer near the pole.

    Args:
        cameras: the scene's, whose first lens is used, and whose distances from the centre.
        center: what all look at.
        generator: of azimuth, elevation and radius.
        elevations: first and last band in degrees; 0 to 79 of objects, 5 to 19 of PVD's tanks.
        radius: from and to; None: between the nearest and the farthest of the scene's.

    Returns:
        int((90 - a) / 15) + 1 cameras for every band a, and one more: 312 or 87. The up axis is the
        mean of the scene's cameras'.

    Source: the published code of PVD; radius and frame as PVD-AL's.

    Example:
        >>> ring = Cameras.orbit((0, 0, 0), radius=4, elevation_deg=30, n=8)
        >>> len(shell(ring, (0, 0, 0), torch.Generator().manual_seed(1)))
        312
    """
    bands = range(elevations[0], elevations[1] + 1)
    counts = torch.tensor([int((90 - band) / 15) + 1 for band in bands])
    counts[0] += 1  # of the published number per epoch, which is one more than its rule gives
    base = torch.tensor([*bands], dtype=torch.float64).repeat_interleave(counts)
    n = len(base)
    noise = torch.rand(3, n, generator=generator, dtype=torch.float64)
    elevation = torch.deg2rad((base + noise[0] * 5).clamp(max=89.9))
    azimuth = noise[1] * 2 * math.pi
    middle = torch.tensor(list(center), dtype=torch.float64)
    poses = cameras.camera_to_world.double()
    distances = (poses[:, :3, 3] - middle).norm(dim=1)
    low, high = radius or (float(distances.min()), float(distances.max()))
    up = torch.nn.functional.normalize(poses[:, :3, 1].mean(0), dim=0)
    away = (low + noise[2] * (high - low))[:, None] * on_sphere(azimuth, elevation, up)
    lens = cameras[torch.zeros(n, dtype=torch.long)]
    return with_poses(lens, looking_at(middle, middle + away, up))


def boxed(cameras: Cameras, center: Sequence[float], n: int, generator: torch.Generator) -> Cameras:
    """PVD's cameras of scenes seen from the front: in the bounding box of the scene's own."""
    positions = cameras.camera_to_world[:, :3, 3].double()
    low, high = positions.amin(0) - 1e-6, positions.amax(0) + 1e-6
    place = low + torch.rand(n, 3, generator=generator, dtype=torch.float64) * (high - low)
    middle = torch.tensor(list(center), dtype=torch.float64)
    up = cameras.camera_to_world[:, :3, 1].double().mean(0)
    lens = cameras[torch.zeros(n, dtype=torch.long)]
    return with_poses(lens, looking_at(middle, place, up))


def shaken(poses: Tensor, angle: float, generator: torch.Generator) -> Tensor:
    """Poses [n, 4, 4] turned by up to `angle` radians about each of their axes, places kept."""
    roll, pitch, yaw = (
        (torch.rand(len(poses), 3, generator=generator, dtype=poses.dtype) * 2 - 1) * angle
    ).unbind(1)
    new = poses.clone()
    turn = torch.eye(3, dtype=poses.dtype).repeat(len(poses), 1, 1)
    for axis, by in ((2, roll), (0, pitch), (1, yaw)):
        first, second = (axis + 1) % 3, (axis + 2) % 3
        about = torch.eye(3, dtype=poses.dtype).repeat(len(poses), 1, 1)
        about[:, first, first] = about[:, second, second] = by.cos()
        about[:, second, first], about[:, first, second] = by.sin(), -by.sin()
        turn = turn @ about
    new[:, :3, :3] = new[:, :3, :3] @ turn
    return new


def with_poses(cameras: Cameras, poses: Tensor) -> Cameras:
    """The same lenses elsewhere."""
    return replace(cameras, camera_to_world=poses.float(), times=None)


def _rotation(matrices: Tensor) -> Tensor:
    """The rotations [n, 3, 3] nearest to matrices."""
    u, _, vh = torch.linalg.svd(matrices)
    sign = torch.linalg.det(u @ vh)
    u = torch.cat([u[..., :2], u[..., 2:] * sign[:, None, None]], 2)
    rotations: Tensor = u @ vh
    return rotations
