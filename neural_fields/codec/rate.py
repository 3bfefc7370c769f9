"""How many bits a grid's whole numbers will take, as training sees it: see `ops.rate`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from neural_fields.ops import rate

_RATE = 1e-2  # learning rate


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


class RateModels:
    """One model for each grid, learnt by how many bits they say."""

    def __init__(self, n: int) -> None:
        self._models = [RateModel() for _ in range(n)]
        self.weights: list[Tensor] = [model.weights for model in self._models]
        self._optimiser = torch.optim.Adam(self.weights, lr=_RATE)

    def __getitem__(self, number: int) -> RateModel:
        return self._models[number]

    def learn(self, gradients: Sequence[Tensor | None]) -> None:
        """One step towards fewer bits, by those of `weights`."""
        for weight, gradient in zip(self.weights, gradients, strict=True):
            weight.grad = gradient
        self._optimiser.step()
