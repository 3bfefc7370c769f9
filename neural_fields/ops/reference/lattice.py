"""Dense grids in plain torch: interpolation with corners aligned to the ends of [0, 1]."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor


def interpolate(
    positions: Tensor,
    grid: Tensor,
    interpolation: str = "linear",
    wrap: Sequence[bool] | None = None,
) -> Tensor:
    """The numbers of a grid [r_last, ..., r_0, channels] at positions [n, n_dims], x first.

    A wrapped axis has period 1 and vertices at i / r; the others have them at i / (r - 1).
    """
    sizes = list(reversed(grid.shape[:-1]))  # of axis 0 first
    wrap = wrap or [False] * len(sizes)
    sides: list[list[tuple[Tensor, Tensor]]] = []  # per axis: (vertex, weight) of both sides
    for axis, (size, wraps) in enumerate(zip(sizes, wrap, strict=True)):
        x = torch.where(positions[:, axis].isnan(), 0.0, positions[:, axis])
        place = (x - x.detach().floor()) * size if wraps else x.clamp(0, 1) * (size - 1)
        lower = place.detach().floor().clamp(max=size - 1 if wraps else size - 2)
        t = place - lower
        upper_weight = t**2 * (3 - 2 * t) if interpolation == "smoothstep" else t
        upper = (lower + 1) % size
        sides.append([(lower.long(), 1 - upper_weight), (upper.long(), upper_weight)])
    total = torch.zeros_like(grid[(0,) * len(sizes)]).expand(len(positions), -1)
    for corner in itertools.product((0, 1), repeat=len(sizes)):
        chosen = [side[bit] for side, bit in zip(sides, corner, strict=True)]
        weight = torch.ones_like(positions[:, 0])
        for _, factor in chosen:
            weight = weight * factor
        total = total + weight[:, None] * grid[tuple(vertex for vertex, _ in reversed(chosen))]
    return total
