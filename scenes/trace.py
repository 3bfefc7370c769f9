"""Sphere tracing of a scene through its grid."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from neural_fields.scenes.grid import Grid, pick
from neural_fields.scenes.model import Vector, local_distance, to_local

_ARRIVED = 5e-5
_ARRIVED_LATE = 2e-4  # the same for the few rays that creep along a surface
_PATIENCE = 40
_MAX_STEPS = 160


@dataclass(frozen=True)
class Hits:
    """First surfaces along n rays.

    Attributes:
        distance: [n] along the ray; 0 where nothing was hit.
        part: [n] part number, -1 where nothing was hit.
        grazed: [n] whether the ray passed a surface by less than its footprint.
    """

    distance: Tensor
    part: Tensor
    grazed: Tensor


def trace(
    grid: Grid,
    origins: Tensor,
    directions: Tensor,
    *,
    footprint: float = 0.0,
    near: float = 0.0,
    box: tuple[Vector, Vector] | None = None,
    arrived: float = _ARRIVED,
) -> Hits:
    """Follows rays (origins [3, n] or [3, 1], unit directions [3, n]) to their first surface.

    A ray passes a surface "grazing" when its distance to it, at its smallest, is below
    ``footprint`` times the length of the ray: the sign of a thin part that pixel centres miss.
    What lies outside of the lowest and highest corner of ``box`` is cut off. A ray that is as
    close to a surface as ``arrived`` has hit it.
    """
    n = directions.shape[1]
    result = Hits(torch.zeros(n), torch.full((n,), -1), torch.zeros(n, dtype=torch.bool))
    low, high = grid.low, [corner + grid.side for corner in grid.low]
    enter, leave = _span(low, high, origins, directions)
    if box is not None:
        cut = _span(*box, origins, directions)
        enter, leave = torch.maximum(enter, cut[0]), torch.minimum(leave, cut[1])
    enter = enter.clamp_min(near)
    ray = torch.nonzero(leave > enter)[:, 0]
    t, leave, last = pick(enter, ray), pick(leave, ray), torch.full((len(ray),), 1e9)
    direction = pick(directions, ray)
    origin = origins if origins.shape[1] == 1 else pick(origins, ray)
    for count in range(_MAX_STEPS):
        if len(ray) == 0:
            break
        position = origin + t * direction
        step = grid.lookup(position)
        close = torch.nonzero(step < 0)[:, 0]
        done = torch.zeros(len(ray), dtype=torch.bool)
        if len(close):
            cell = (-1.0 - pick(step, close)).long()
            within = arrived if count < _PATIENCE else max(arrived, _ARRIVED_LATE)
            exact, there, part = grid.nearest(pick(position, close), cell, within)
            step[close] = exact
            at = pick(close, there)
            done[at] = True
            hit = pick(ray, at)
            result.part[hit] = part
            # One more step of the remaining distance leaves only rounding error; but a ray that
            # begins inside of a part stays where it is.
            result.distance[hit] = pick(t, at) + pick(exact, there).clamp_min(-within)
        if footprint:
            passed = torch.nonzero((step > last) & (last < footprint * t))[:, 0]
            result.grazed[pick(ray, passed)] = True
        last = step
        t = t + step
        alive = torch.nonzero(~done & (t < leave))[:, 0]
        if len(alive) < len(ray):
            ray, t, leave, last = (pick(x, alive) for x in (ray, t, leave, last))
            direction = pick(direction, alive)
            origin = origin if origin.shape[1] == 1 else pick(origin, alive)
    return result


def surface(grid: Grid, points: Tensor, part: Tensor) -> tuple[Tensor, Tensor]:
    """World normals [3, n] and local positions [3, n] of points [3, n] on parts [n].

    The normal is the exact gradient of the part's distance.
    """
    rows = pick(grid.table, part)
    local = to_local(points, rows).requires_grad_()
    with torch.enable_grad():
        distance = local_distance(local, rows)
        (gradient,) = torch.autograd.grad(distance.sum(), local)
    return unit((rows[:9].reshape(3, 3, -1) * gradient[:, None]).sum(0)), local.detach()


def unit(vectors: Tensor) -> Tensor:
    """Vectors [3, n] at length one."""
    return vectors / vectors.square().sum(0).clamp_min(1e-20).sqrt()


def _span(low: Vector, high: Vector, origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """Where rays enter and leave a box, each [n]."""
    inverse = 1.0 / torch.where(
        directions.abs() < 1e-9, torch.full_like(directions, 1e-9), directions
    )
    a, b = ((torch.tensor(corner)[:, None] - origins) * inverse for corner in (low, high))
    enter = torch.minimum(a, b).amax(0) + 1e-4
    return enter, torch.maximum(a, b).amin(0) - 1e-4
