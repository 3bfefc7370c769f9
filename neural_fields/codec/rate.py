"""How many bits a grid's whole numbers will take, as training sees it: see `ops.rate`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from neural_fields.ops import rate


class RateModel(nn.Module):
    """The weights of `ops.rate` for one grid, which are learnt beside it.

    It stands for the tables that are fitted to the numbers themselves in the end (`entropy`).

    Example:
        >>> model = RateModel()
        >>> bool(model(torch.zeros(1, 6, 8, 2)) < model(torch.full((1, 6, 8, 2), 3.0)))
        True
    """

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.tensor([0.0, 0.5, 0.5]))

    def forward(self, numbers: Tensor, before: Tensor | None = None) -> Tensor:
        """Bits of [moments, height, width, channels]; `before` as in `ops.rate`."""
        return rate(numbers, self.weights, before)
