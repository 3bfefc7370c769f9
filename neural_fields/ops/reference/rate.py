"""Estimated bits of whole numbers on grids: see `neural_fields.ops.rate`."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as functional
from torch import Tensor

_FLOOR = 0.1  # of a neighbourhood's mean magnitude
_NARROWEST = 2e-3  # of a distribution


def rate(numbers: Tensor, weights: Tensor, before: Tensor | None = None) -> Tensor:
    """The sum of `laplace_bits` with the widths of the operation."""
    size = numbers.detach().abs()
    padded = functional.pad(size, (0, 0, 1, 1, 1, 1))
    near = (
        padded[:, :-2, 1:-1] + padded[:, 2:, 1:-1] + padded[:, 1:-1, :-2] + padded[:, 1:-1, 2:]
    ) / 4
    width = weights[0] + weights[1] * torch.log(near + _FLOOR)
    if before is not None:
        earlier = torch.cat([before.detach().abs()[None], size[:-1]])
        width = width + weights[2] * torch.log(earlier + _FLOOR)
    return laplace_bits(numbers, width.exp() + _NARROWEST).sum()


def laplace_bits(numbers: Tensor, width: Tensor) -> Tensor:
    """-log2 of the probability of the interval of length 1 about each number.

    Example:
        >>> round(float(laplace_bits(torch.tensor(0.0), torch.tensor(1.0))), 3)
        1.346
    """
    size = numbers.abs()
    inner = 1 - 0.5 * (
        torch.exp(-(0.5 - size).clamp(min=0) / width) + torch.exp(-(0.5 + size) / width)
    )
    past = (size - 0.5).clamp(min=0)
    outer = past / width / math.log(2) + 1 - torch.log2(-torch.expm1(-1 / width))
    return torch.where(size < 0.5, -torch.log2(inner.clamp(min=1e-12)), outer)
