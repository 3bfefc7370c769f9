"""Factors of tensors by alternating least squares."""

from __future__ import annotations

import torch
from torch import Tensor

_RIDGE = 1e-6  # of the mean square of a column


def factorised(
    target: Tensor, known: Tensor | None, rank: int, generator: torch.Generator, rounds: int = 20
) -> list[Tensor]:
    """Factors [n_i, rank] whose products sum to a tensor (Carroll and Chang 1970).

    Args:
        target: float32 [n_1, ..., n_k], two axes or more.
        known: bool, broadcast to it: entries that count; the others take what the factors say
            (expectation maximisation). None: all.
        rank: products that are summed.
        generator: of the first factors.
        rounds: times that every factor is solved for.

    Returns:
        k factors; sum_r prod_i factor_i[:, r] comes near the target.

    Example:
        >>> rows, columns = torch.rand(5, 2), torch.rand(6, 2)
        >>> a, b = factorised(rows @ columns.T, None, 2, torch.Generator().manual_seed(1))
        >>> bool(((a @ b.T) - rows @ columns.T).abs().max() < 1e-3)
        True
    """
    sides = target.shape
    factors = [torch.randn(side, rank, generator=generator) for side in sides]
    filled = target if known is None else torch.where(known, target, 0.0)
    for turn in range(rounds):
        for axis in range(len(sides)):
            others = [factor for i, factor in enumerate(factors) if i != axis]
            gram = torch.ones(rank, rank)
            for factor in others:
                gram = gram * (factor.T @ factor)
            unfolded = filled.movedim(axis, 0).reshape(sides[axis], -1)
            right = unfolded @ _columns(others)
            gram = gram + _RIDGE * gram.diagonal().mean() * torch.eye(rank)
            factors[axis] = torch.linalg.solve(gram, right.T).T
        if known is not None and turn + 1 < rounds:
            filled = torch.where(known, target, product(factors).view(sides))
    return _balanced(factors)


def product(factors: list[Tensor]) -> Tensor:
    """The tensor of some factors, flat."""
    first, *rest = factors
    return (first @ _columns(rest).T).reshape(-1)


def _columns(factors: list[Tensor]) -> Tensor:
    """Column-wise Kronecker products [prod n_i, rank], the last axis fastest."""
    columns = factors[0]
    for factor in factors[1:]:
        columns = (columns[:, None] * factor[None]).reshape(-1, columns.shape[1])
    return columns


def _balanced(factors: list[Tensor]) -> list[Tensor]:
    """The same product, its scale spread evenly, so that one learning rate suits all."""
    norms = torch.stack([factor.norm(dim=0).clamp(min=1e-20) for factor in factors])
    mean = norms.log().mean(0).exp()
    return [factor / norm * mean for factor, norm in zip(factors, norms, strict=True)]
