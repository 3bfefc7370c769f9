"""Smooth camera paths through a few views."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from neural_fields.errors import InputError
from neural_fields.rendering.cameras import Cameras


def smooth_path(keys: Cameras, n: int, *, closed: bool = False) -> Cameras:
    """A path of cameras that passes through given ones, in order.

    Places follow a Catmull-Rom spline, rotations the shortest way between neighbours at constant
    speed, lenses and times a straight line.

    Args:
        keys: at least 2 cameras.
        n: cameras of the path, at least as many as `keys`; evenly spread between the keys.
        closed: whether the path returns to the first key; it then ends one step before it.

    Returns:
        n cameras; the first is the first key, and the last the last one unless closed.

    Raises:
        InputError: there are too few keys, or `n` is below their number.

    Example:
        >>> keys = Cameras.orbit((0, 0, 0), 4, elevation_deg=20, n=3)
        >>> path = smooth_path(keys, 31)
        >>> bool(torch.allclose(path.camera_to_world[15], keys.camera_to_world[1], atol=1e-5))
        True
    """
    if len(keys) < 2 or n < len(keys):
        raise InputError(
            f"path: needs 2 views or more and as many frames, got {len(keys)} and {n}."
        )
    n_legs = len(keys) if closed else len(keys) - 1
    at = torch.arange(n, dtype=torch.float64) * (n_legs / (n if closed else n - 1))
    leg = at.long().clamp(max=n_legs - 1)
    share = (at - leg)[:, None]
    before, begin, end, after = (_key(leg + offset, len(keys), closed) for offset in (-1, 0, 1, 2))
    poses = keys.camera_to_world.double()
    places = poses[:, :3, 3]
    matrix = torch.eye(4, dtype=torch.float64).repeat(n, 1, 1)
    matrix[:, :3, 3] = _spline(places[before], places[begin], places[end], places[after], share)
    matrix[:, :3, :3] = _turned(poses[begin, :3, :3], poses[end, :3, :3], share)

    def line(values: Tensor) -> Tensor:
        weight = share.to(values.dtype).view(-1, *(1,) * (values.dim() - 1))
        return torch.lerp(values[begin], values[end], weight)

    return replace(
        keys,
        camera_to_world=matrix.float(),
        focal=line(keys.focal),
        principal=line(keys.principal),
        distortion=line(keys.distortion),
        times=None if keys.times is None else line(keys.times),
    )


def _key(index: Tensor, n: int, closed: bool) -> Tensor:
    return index % n if closed else index.clamp(0, n - 1)


def _spline(a: Tensor, b: Tensor, c: Tensor, d: Tensor, t: Tensor) -> Tensor:
    """Catmull-Rom from b to c, t in [0, 1]."""
    linear, square = c - a, 2 * a - 5 * b + 4 * c - d
    cube = 3 * (b - c) + d - a
    return b + t / 2 * (linear + t * (square + t * cube))


def _turned(begin: Tensor, end: Tensor, share: Tensor) -> Tensor:
    """Rotations [n, 3, 3] a share of the way from begin to end (Rodrigues' formula)."""
    relative = begin.transpose(1, 2) @ end
    cosine = ((relative.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2).clamp(-1, 1)
    angle = cosine.acos()
    axis = _axis(relative, angle)
    turn = (angle * share[:, 0])[:, None, None]
    cross = torch.zeros_like(relative)
    x, y, z = axis.unbind(1)
    cross[:, 0, 1], cross[:, 0, 2], cross[:, 1, 2] = -z, y, -x
    cross = cross - cross.transpose(1, 2)
    identity = torch.eye(3, dtype=begin.dtype)
    return begin @ (identity + turn.sin() * cross + (1 - turn.cos()) * (cross @ cross))


def _axis(rotation: Tensor, angle: Tensor) -> Tensor:
    """Unit axes [n, 3]; at half a turn from the matrix's symmetric part, any for no turn at all."""
    skew = rotation - rotation.transpose(1, 2)
    axis = torch.stack([skew[:, 2, 1], skew[:, 0, 2], skew[:, 1, 0]], 1)
    half = (rotation + torch.eye(3, dtype=rotation.dtype)) / 2
    longest = half.diagonal(dim1=1, dim2=2).argmax(1)
    of_half = half[torch.arange(len(half)), :, longest]
    is_half = angle > torch.pi - 1e-4
    return torch.nn.functional.normalize(torch.where(is_half[:, None], of_half, axis), dim=1)
