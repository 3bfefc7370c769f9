"""A coarse grid that tells a ray how far it may jump, and which parts are near.

A part's distance changes by at most the length of a move. So with ``h`` half a cell's diagonal
and ``d`` the distance at the cell's centre, any point of the cell is at least ``d - h`` from the
scene, and only parts with a distance of at most ``d + 2 h`` at the centre can be nearest to it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from neural_fields.scenes.model import Scene, local_distance, to_local

_BASE = 8  # cells per side where the descent starts
_DENSE = 64  # most cells per side of the smooth distance field
FINE = 256  # cells per side where the descent ends by default
_CHUNK = 1 << 19


@dataclass(frozen=True)
class Grid:
    """Distances and candidates of a scene over a cube.

    Attributes:
        table: Parts [N_ROWS, n_parts].
        low: Lower corner [3] of the cube.
        side: Length of the cube's sides.
        cells: [n^3] a safe step from anywhere in the cell, or -(k + 1) for near cell number k.
        starts: [n_near + 1] where each near cell's candidates begin.
        candidates: Part numbers.
        smooth: [1, 1, m, m, m] distances at the centres of a coarser grid, (z, y, x) order.
        n: Cells per side.
    """

    table: Tensor
    low: tuple[float, float, float]
    side: float
    cells: Tensor
    starts: Tensor
    candidates: Tensor
    smooth: Tensor
    n: int

    def lookup(self, points: Tensor) -> Tensor:
        """Entries of ``cells`` [n] for points [3, n]; points outside take the nearest cell."""
        scale = self.n / self.side
        x, y, z = (
            ((points[i] - self.low[i]) * scale).int().clamp_(0, self.n - 1) for i in range(3)
        )
        return pick(self.cells, ((z * self.n + y) * self.n + x).long())

    def nearest(self, points: Tensor, near: Tensor, within: float) -> tuple[Tensor, Tensor, Tensor]:
        """Exact distance [n] of points [3, n] in near cells [n], and the points that arrived.

        Returns:
            The distances, which points [k] are closer than ``within``, and their parts [k].
        """
        start = pick(self.starts, near)
        count = pick(self.starts, near + 1) - start
        end = count.cumsum(0)
        mark = torch.zeros(int(end[-1]), dtype=torch.int64)
        mark[end[:-1]] = 1
        owner = mark.cumsum(0)
        part = pick(self.candidates, torch.arange(len(owner)) + pick(start - end + count, owner))
        distance = pair_distance(self.table, pick(points, owner), part)
        best = torch.segment_reduce(distance, "min", lengths=count, unsafe=True)
        pair = torch.nonzero(distance < within)[:, 0]
        pair = pick(
            pair, torch.nonzero(pick(distance, pair) == pick(best, pick(owner, pair)))[:, 0]
        )
        arrived, first = pick(owner, pair), torch.ones(len(pair), dtype=torch.bool)
        first[1:] = arrived[1:] != arrived[:-1]  # of parts that tie, the first
        return best, arrived[first], pick(part, pair)[first]

    def smooth_distance(self, points: Tensor) -> Tensor:
        """Interpolated distance [n] of points [3, n]: smooth, and good to about half a cell."""
        low = torch.tensor(self.low, dtype=points.dtype)[:, None]
        place = ((points - low) * (2.0 / self.side) - 1.0).t().reshape(1, 1, 1, -1, 3)
        return F.grid_sample(
            self.smooth, place, mode="bilinear", padding_mode="border", align_corners=False
        ).reshape(-1)


def build_grid(scene: Scene, n_cells: int = FINE) -> Grid:
    """Descends from 8^3 cells to the finest, keeping each cell's candidate parts.

    ``n_cells`` per side, a power of two from 16: fewer are sooner built and slower to trace.
    """
    dense = min(_DENSE, n_cells)
    table = scene.table()
    lows, highs = scene.bounds()
    side = float((highs - lows).max()) * 1.02 + 0.02
    low = (lows + highs) / 2 - side / 2
    corner = torch.tensor(low, dtype=torch.float32)[:, None]
    cells = torch.zeros(1, 1, 1)
    smooth = torch.empty(0)
    n, n_parts = _BASE, table.shape[1]
    where = torch.arange(n**3)
    owner = torch.arange(n**3).repeat_interleave(n_parts)
    part = torch.arange(n_parts).repeat(n**3)
    while True:
        half_diagonal = side / n * math.sqrt(3.0) / 2
        place = torch.stack([where % n, where // n % n, where // (n * n)])
        centers = corner + (place + 0.5) * (side / n)
        distance = torch.cat(
            [
                pair_distance(table, pick(centers, o), p)
                for o, p in zip(torch.split(owner, _CHUNK), torch.split(part, _CHUNK), strict=True)
            ]
        )
        nearest = torch.full((len(where),), math.inf)
        nearest.scatter_reduce_(0, owner, distance, "amin")
        keep = distance <= (nearest + 2 * half_diagonal)[owner]
        owner, part = owner[keep], part[keep]
        cells = cells.repeat_interleave(n // cells.shape[0], 0)
        cells = cells.repeat_interleave(n // cells.shape[1], 1)
        cells = cells.repeat_interleave(n // cells.shape[2], 2)
        flat = cells.reshape(-1)
        flat[where] = nearest - half_diagonal
        if n == dense:
            smooth = nearest[torch.argsort(where)].reshape(1, 1, n, n, n)
        # Away from surfaces a jump of half a diagonal is good enough; the smooth field needs all.
        limit = 1.2 if n == n_cells else 2.0
        refine = nearest < limit * half_diagonal if n >= dense else torch.ones_like(nearest) > 0
        where, owner, part = _restrict(where, owner, part, refine)
        if n == n_cells:
            break
        where, owner, part = _split(where, owner, part, n)
        n *= 2
    flat[where] = -(torch.arange(len(where)) + 1.0)
    starts = torch.zeros(len(where) + 1, dtype=torch.int64)
    starts[1:] = torch.bincount(owner, minlength=len(where)).cumsum(0)
    order = torch.argsort(owner, stable=True)
    place3 = (float(low[0]), float(low[1]), float(low[2]))
    return Grid(table, place3, side, flat, starts, part[order], smooth, n)


def pick(values: Tensor, index: Tensor) -> Tensor:
    """Columns ``index`` [k] of values [..., n]; gather is many times faster than indexing here."""
    return values.gather(-1, index.expand(*values.shape[:-1], index.shape[-1]))


def pair_distance(table: Tensor, points: Tensor, part: Tensor) -> Tensor:
    """Distances [n] of points [3, n], each to the part [n] paired with it."""
    rows = pick(table, part)
    return local_distance(to_local(points, rows), rows)


def _restrict(
    where: Tensor, owner: Tensor, part: Tensor, chosen: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Keeps the chosen cells and their pairs, with owners renumbered."""
    number = chosen.cumsum(0) - 1
    keep = chosen[owner]
    return where[chosen], number[owner[keep]], part[keep]


def _split(where: Tensor, owner: Tensor, part: Tensor, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Each cell's eight children; a child starts with its parent's candidates."""
    x, y, z = where % n, where // n % n, where // (n * n)
    eight = torch.arange(8)
    children = [
        (2 * axis[:, None] + (eight >> bit & 1)).reshape(-1) for bit, axis in enumerate((x, y, z))
    ]
    child = (children[2] * (2 * n) + children[1]) * (2 * n) + children[0]
    owners = (8 * owner[:, None] + eight).reshape(-1)
    return child, owners, part[:, None].expand(-1, 8).reshape(-1)
