"""Losses between two fields' levels, and the choice of what they see, in plain torch."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from neural_fields.ops.distill import DistanceForm, SampleLevels


def level_losses(
    student: SampleLevels,
    teacher: SampleLevels,
    keep: Tensor | None = None,
    *,
    clip: tuple[float, float] = (-2.0, 7.0),
    form: DistanceForm = "norm",
) -> Tensor:
    """The losses of `neural_fields.ops.level_losses`.

    Example:
        >>> student, teacher = (SampleLevels(color=torch.full((4, 3), x)) for x in (0.0, 1.0))
        >>> level_losses(student, teacher)
        tensor([0.0000, 0.0000, 3.4641])
    """
    like = next(tensor for tensor in student if tensor is not None)
    losses = []
    for level, ours, theirs in zip(SampleLevels._fields, student, teacher, strict=True):
        if ours is None or theirs is None:
            losses.append(like.new_zeros(()))
            continue
        difference = _clipped(level, ours, clip) - _clipped(level, theirs.detach(), clip)
        if keep is not None:
            difference = difference[keep]
        total = difference.square().sum()
        losses.append(_root(total) if form == "norm" else total / max(difference.numel(), 1))
    return torch.stack(losses)


def _clipped(level: str, values: Tensor, clip: tuple[float, float]) -> Tensor:
    if level == "color":
        return values
    if level == "log_density":
        return values.clamp(*clip)
    return torch.cat((values[:, :1].clamp(*clip), values[:, 1:]), 1)


def _root(total: Tensor) -> Tensor:
    """The square root, with a slope of 0 at 0."""
    nothing = total == 0
    return torch.where(nothing, 0 * total, torch.where(nothing, 1.0, total).sqrt())


def visible_samples(
    offsets: Tensor,
    weights: Tensor,
    *,
    share: float = 0.3,
    opacity: float = 0.5,
    keep: Tensor | None = None,
) -> Tensor:
    """The samples of `neural_fields.ops.visible_samples`, ray by ray, by sorting.

    Example:
        >>> visible_samples(torch.tensor([0, 3]), torch.tensor([0.1, 0.5, 0.2]))
        tensor([False,  True, False])
    """
    result = torch.zeros_like(weights, dtype=torch.bool) if keep is None else keep.clone()
    for begin, end in itertools.pairwise(offsets.tolist()):
        ray = weights[begin:end]
        if ray.double().sum() >= opacity:
            n_kept = min(len(ray), math.floor(share * len(ray)) + 1)
            order = torch.sort(ray, descending=True, stable=True).indices
            result[begin + order[:n_kept]] = True
    return result


def hardest(difficulty: Tensor, k: int) -> Tensor:
    """The indices of `neural_fields.ops.hardest`, by sorting.

    Example:
        >>> hardest(torch.tensor([0.3, 0.9, 0.3, 0.5]), 3)
        tensor([0, 1, 3])
    """
    return torch.sort(difficulty, descending=True, stable=True).indices[:k].sort().values
