"""What training does to the entries of grids so that whole numbers stand for them."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from neural_fields.errors import InputError, unknown_value

Rule = Literal["step", "tanh"]


class _Rounded(torch.autograd.Function):
    """Rounding whose gradient is that of doing nothing."""

    @staticmethod
    def forward(ctx: object, values: Tensor) -> Tensor:
        return values.round()

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return gradient


class _Floored(torch.autograd.Function):
    """Rounding towards zero, with the gradient of doing nothing."""

    @staticmethod
    def forward(ctx: object, values: Tensor) -> Tensor:
        return values.trunc()

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return gradient


def rounded(values: Tensor) -> Tensor:
    """The nearest whole numbers, with the gradient of `values` (straight through).

    Example:
        >>> rounded(torch.tensor([0.4, -1.6]))
        tensor([ 0., -2.])
    """
    result: Tensor = _Rounded.apply(values)  # type: ignore[no-untyped-call]
    return result


class Quantiser:
    """Entries of a grid to whole numbers of at most 2^(bits - 1) - 1, and those to features.

    `step`: entries are lengths of a step that is learnt: a channel's step is the factor that the
    network's first matrix gives it. Training sees entries with uniform noise of one step first,
    which stands for what rounding will do, and rounded entries later.

    `tanh`, the rule of the published video networks (Lee et al. 2024, section 3.4, by its code):
    n tanh(w) rounded towards zero, over n = 2^(bits - 1) - 1; features lie in [-1, 1].

    Both pass gradients straight through.

    Example:
        >>> Quantiser("step", bits=4).numbers(torch.tensor([0.4, 2.6, 99.0]))
        tensor([0., 3., 7.])
    """

    def __init__(self, rule: str = "step", bits: int = 8) -> None:
        """Raises InputError where the rule is unknown or bits are not 4 to 8."""
        if rule not in get_args(Rule):
            raise InputError(unknown_value("--quantiser", rule, get_args(Rule)))
        if not isinstance(bits, int) or not 4 <= bits <= 8:
            raise InputError(f"--bits: needs 4 to 8, got {bits!r}.")
        self.rule, self.bits, self.n = rule, bits, 2 ** (bits - 1) - 1

    def numbers(self, entries: Tensor) -> Tensor:
        """The whole numbers, as floats; gradients pass straight through."""
        if self.rule == "tanh":
            result: Tensor = _Floored.apply(torch.tanh(entries) * self.n)  # type: ignore[no-untyped-call]
            return result
        return rounded(entries).clamp(-self.n, self.n)

    def noisy(self, entries: Tensor, generator: torch.Generator) -> Tensor:
        """What stands for `numbers` while training is young."""
        if self.rule == "tanh":
            return self.numbers(entries)
        noise = torch.rand(entries.shape, generator=generator) - 0.5
        return (entries + noise).clamp(-self.n - 0.5, self.n + 0.5)

    def features(self, numbers: Tensor) -> Tensor:
        """What the field's grids hold for these whole numbers."""
        return numbers / self.n if self.rule == "tanh" else numbers
