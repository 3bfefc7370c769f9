"""Estimated bits of whole numbers on grids, and their gradients, in one pass.

The hot path of fitting videos for a bitstream. On the CPU, in float32; the reference is
`neural_fields.ops.reference.rate`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from neural_fields.ops._library import native, with_reference


@with_reference
def rate(numbers: Tensor, weights: Tensor, before: Tensor | None = None) -> Tensor:
    """Bits of numbers that are Laplace distributed about zero, as wide as what is near them.

    The width is exp(w0 + w1 log(near + 0.1) + w2 log(before + 0.1)) + 0.002, where near is the mean
    magnitude of the four neighbours (zeros lie outside) and before that of the same place in the
    moment before; a number y takes -log2 of the probability of [y - 1/2, y + 1/2].

    Args:
        numbers: [moments, height, width, channels], whole or with noise in whole numbers' place.
        weights: [3], w0 to w2.
        before: [height, width, channels], the moment before the first; None: nothing depends on
            moments before.

    Returns:
        Their sum, a scalar: once differentiable in numbers, whose neighbourhoods count as
        constants, and in weights.

    Raises:
        TypeError: a tensor is not float32.
        ValueError: a shape is wrong.

    Example:
        >>> weights = torch.zeros(3)
        >>> zeros, threes = torch.zeros(1, 4, 5, 2), torch.full((1, 4, 5, 2), 3.0)
        >>> bool(rate(zeros, weights) < rate(threes, weights))
        True
    """
    bits: Tensor = _Rate.apply(numbers, weights, before)  # type: ignore[no-untyped-call]
    return bits


class _Rate(torch.autograd.Function):
    """See `rate`."""

    @staticmethod
    def forward(ctx: Any, numbers: Tensor, weights: Tensor, before: Tensor | None) -> Tensor:
        if weights.shape != (3,):
            raise ValueError(f"rate: weights needs shape [3], got {list(weights.shape)}.")
        numbers = numbers.contiguous()
        gradient = torch.empty_like(numbers)
        before = None if before is None else before.contiguous()
        total, of_weights = native("rate", numbers).rate_bits(
            numbers, before, weights.tolist(), gradient
        )
        ctx.save_for_backward(gradient, weights.new_tensor(of_weights))
        return numbers.new_tensor(total)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        of_numbers, of_weights = ctx.saved_tensors
        return of_numbers * grad_output, of_weights * grad_output, None
