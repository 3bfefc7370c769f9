"""The optimiser state of one parameter tensor on the hot path."""

from __future__ import annotations

import torch
from torch import Tensor

from neural_fields.ops import adam_step, huge_pages_empty


class AdamState:
    """Gradient buffer and moments of a parameter; `sparse` keeps a map of touched blocks.

    With `sparse`, numbers whose gradient is exactly zero are left alone, and the gradient is
    cleared as it is read. See docs/ops/adam.md.
    """

    def __init__(self, parameter: Tensor, sparse: bool, l2: float = 0.0) -> None:
        self.parameter = parameter.detach().view(-1)
        self.grad, self.first, self.second = (_zeros_like(self.parameter) for _ in range(3))
        self.sparse = sparse
        self.l2 = l2
        blocks = (parameter.numel() + 15) // 16
        self.touched: Tensor | None = None
        if sparse:
            self.touched = self.parameter.new_zeros(blocks, dtype=torch.uint8)

    def step(self, rate: float, number: int) -> None:
        """One update with the gradients in `grad`; `number` counts from 1."""
        adam_step(
            self.parameter,
            self.grad,
            self.first,
            self.second,
            step=number,
            rate=rate,
            l2=self.l2,
            skip_zero=self.sparse,
            clear=self.sparse,
            touched=self.touched,
        )

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint keeps."""
        return {"raw": self.parameter, "first": self.first, "second": self.second}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """The inverse of `tensors`."""
        for name, target in self.tensors().items():
            target.copy_(tensors[name])


def _zeros_like(numbers: Tensor) -> Tensor:
    if numbers.device.type == "cpu":
        return huge_pages_empty((numbers.numel(),)).zero_()
    return torch.zeros_like(numbers)
