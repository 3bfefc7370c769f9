"""Camera poses on paths."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from neural_fields.errors import InputError


def orbit_poses(
    center: Sequence[float], radius: float, elevation_deg: float, n: int, up: Sequence[float]
) -> Tensor:
    """Poses on a circle around the up axis that look at the centre, with up upward in the image.

    Args:
        center: 3 numbers, world space.
        radius: distance from the centre, positive.
        elevation_deg: angle above the plane through the centre, in (-90, 90).
        n: number of poses, at least 1, evenly spaced over the full turn, anticlockwise seen from
            above.
        up: 3 numbers, not all zero; any length.

    Returns:
        float64 [n, 4, 4], camera to world, OpenGL axes.

    Raises:
        InputError: a number is out of range.

    Example:
        >>> orbit_poses((0, 0, 0), 4, 0, 1, (0, 0, 1))[0, :3, 3].norm()
        tensor(4., dtype=torch.float64)
    """
    if len(center) != 3 or len(up) != 3:
        raise InputError(
            f"orbit: center and up need 3 numbers each, got {list(center)} and {list(up)}."
        )
    axis = torch.tensor(list(up), dtype=torch.float64)
    length = float(axis.norm())
    if not 0 < length < math.inf:
        raise InputError(f"orbit: up needs 3 numbers that are not all zero, got {list(up)}.")
    if not (0 < radius < math.inf and abs(elevation_deg) < 90 and n >= 1):
        raise InputError(
            "orbit: needs a radius > 0, an elevation in (-90, 90) degrees and n >= 1, got "
            f"{radius:g}, {elevation_deg:g} and {n}."
        )
    axis = axis / length
    turn = torch.arange(n, dtype=torch.float64) * (2 * math.pi / n)
    elevation = torch.full_like(turn, math.radians(elevation_deg))
    middle = torch.tensor(list(center), dtype=torch.float64)
    return looking_at(middle, middle + radius * on_sphere(turn, elevation, axis), axis)


def on_sphere(azimuth: Tensor, elevation: Tensor, axis: Tensor) -> Tensor:
    """Unit vectors [n, 3] at angles [n] in radians around and above the plane of an axis [3].

    The turn starts at the world axis least along the unit vector `axis`, made perpendicular to it.
    """
    start = torch.zeros_like(axis)
    start[int(axis.abs().argmin())] = 1.0
    start = start - axis * (start @ axis)
    start = start / start.norm()
    side = torch.linalg.cross(axis, start)
    flat = azimuth.cos()[:, None] * start + azimuth.sin()[:, None] * side
    above: Tensor = elevation.cos()[:, None] * flat + elevation.sin()[:, None] * axis
    return above


def looking_at(center: Tensor, places: Tensor, up: Tensor) -> Tensor:
    """Poses [n, 4, 4] at places [n, 3] that look at a point [3], with up [3] upward in the image.

    Example:
        >>> up = torch.tensor([0.0, 0.0, 1.0])
        >>> looking_at(torch.zeros(3), torch.tensor([[0.0, -2.0, 0.0]]), up)[0, :3, 2].tolist()
        [0.0, -1.0, 0.0]
    """
    backward = torch.nn.functional.normalize(places - center, dim=1)
    right = torch.linalg.cross(up.expand_as(backward), backward)
    right = torch.nn.functional.normalize(right, dim=1)
    poses = torch.eye(4, dtype=places.dtype).repeat(len(places), 1, 1)
    poses[:, :3, 0], poses[:, :3, 1] = right, torch.linalg.cross(backward, right)
    poses[:, :3, 2], poses[:, :3, 3] = backward, places
    return poses
