"""Occupancy grid: an update of all cells of one cascade, and the bits made from it."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from neural_fields import _core
from neural_fields.benchmarks.batch import RESOLUTION
from neural_fields.benchmarks.case import Case, Sizes


def cases(sizes: Sizes) -> Iterator[Case]:
    """Decay, maximum and threshold; PyTorch stops at a boolean per cell."""
    n = RESOLUTION**3
    values, fresh = torch.rand(n), torch.rand(n)
    cells, words = torch.arange(n), torch.empty(n // 64, dtype=torch.int64)
    torch_values = values.clone()

    def ours() -> None:
        _core.occupancy_update(RESOLUTION, 1, values, cells, fresh, 0.95)
        _core.occupancy_words(RESOLUTION, 1, values, 0.01, words)

    def update(values: Tensor, fresh: Tensor) -> tuple[Tensor, Tensor]:
        decayed = torch.maximum(values * 0.95, fresh)
        updated = torch.where(values < 0, values, decayed)
        return updated, updated > updated.clamp(min=0).mean().clamp(max=0.01)

    compiled = torch.compile(update, fullgraph=True)
    yield Case(
        "occupancy.forward.f32",
        n,
        "M cells/s",
        ours=ours,
        eager=lambda: update(torch_values, fresh),
        compiled=lambda: compiled(torch_values, fresh),
        # The list of cells, old and fresh values, new ones, and twice more for mean and bits.
        limit=sizes.streaming(n, 8 + 4 * 5),
    )
