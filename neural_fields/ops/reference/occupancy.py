"""Occupancy grid in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

from neural_fields.ops.occupancy import OccupancySpec


def half_side(spec: OccupancySpec, cascade: Tensor | int) -> Tensor:
    """Half the side of a cascade's cube."""
    return 0.5 ** (spec.n_cascades - 1 - torch.as_tensor(cascade)).double()


def cell_index(spec: OccupancySpec, cascade: Tensor, cell: Tensor) -> Tensor:
    """The number of a cell from its cascade [n] and its coordinates [n, 3], all int64."""
    n_blocks = spec.resolution // 4
    block, inside = cell // 4, cell % 4
    index = ((cascade * n_blocks + block[:, 2]) * n_blocks + block[:, 1]) * n_blocks + block[:, 0]
    return index * 64 + inside[:, 2] * 16 + inside[:, 1] * 4 + inside[:, 0]


def smallest_cascade(spec: OccupancySpec, positions: Tensor) -> Tensor:
    """The smallest cascade that holds each position [n, 3] in unit coordinates."""
    largest = positions.abs().amax(1)
    cascade = torch.zeros_like(largest, dtype=torch.int64)
    for k in range(spec.n_cascades - 1):
        cascade = torch.where(largest >= half_side(spec, k), k + 1, cascade)
    return cascade


def cell_of(spec: OccupancySpec, cascade: Tensor, positions: Tensor) -> Tensor:
    """The cell of a cascade [n] that holds each position [n, 3]."""
    scaled = (positions / half_side(spec, cascade)[:, None] + 1) / 2 * spec.resolution
    return cell_index(spec, cascade, scaled.floor().long().clamp(0, spec.resolution - 1))


def occupancy_update(
    values: Tensor, cells: Tensor, fresh: Tensor, spec: OccupancySpec, *, decay: float = 0.95
) -> None:
    """The update of `neural_fields.ops.occupancy_update`, cell by cell.

    Example:
        >>> values = torch.full((64,), 0.02)
        >>> occupancy_update(values, torch.tensor([1]), torch.zeros(1), OccupancySpec(4))
        >>> values[:2]
        tensor([0.0200, 0.0190])
    """
    for cell, new in zip(cells.tolist(), fresh.tolist(), strict=True):
        old = float(values[cell])
        if old >= 0:
            values[cell] = max(decay * old, new)


def occupancy_words(values: Tensor, spec: OccupancySpec, *, threshold: float = 0.01) -> Tensor:
    """The bits of `neural_fields.ops.occupancy_words`: coarse cells look at their finer ones.

    Example:
        >>> occupancy_words(torch.arange(64.0), OccupancySpec(4), threshold=1.0)
        tensor([-4])
    """
    innermost = values[: spec.resolution**3].double()
    limit = min(threshold, float(innermost.clamp(min=0).mean()))
    occupied = values.double() > limit
    n = spec.resolution
    axis = torch.arange(n)
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    fine = torch.stack([x, y, z], dim=-1).reshape(-1, 3)
    coarse = fine // 2 + n // 4
    for cascade in range(1, spec.n_cascades):
        below = cell_index(spec, torch.full((n**3,), cascade - 1), fine)
        here = cell_index(spec, torch.full((n**3,), cascade), coarse)
        occupied[here[occupied[below]]] = True
    bits = occupied.view(-1, 64).long() << torch.arange(64)
    return bits.sum(1)
