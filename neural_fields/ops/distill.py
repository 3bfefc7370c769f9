"""What one field learns from another: losses between their levels, and which samples count."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from neural_fields.ops._library import (
    Argument,
    Context,
    Gradients,
    check_integers,
    check_tensor,
    define,
    native,
    not_native,
    save_nothing,
    with_reference,
)

MAX_FEATURES = 64

DistanceForm: TypeAlias = Literal["norm", "mean"]


class SampleLevels(NamedTuple):
    """What a field has at n samples, from its inner values to its outer ones; None: not that."""

    features: Tensor | None = None  # [n, k]; the first is a log-density
    log_density: Tensor | None = None  # [n]
    color: Tensor | None = None  # [n, 3]


@with_reference
def level_losses(
    student: SampleLevels,
    teacher: SampleLevels,
    keep: Tensor | None = None,
    *,
    clip: tuple[float, float] = (-2.0, 7.0),
    form: DistanceForm = "norm",
) -> Tensor:
    """How far two fields are from each other at the same samples, level by level.

    Args:
        student: float32 or float64, with 1 to 64 features; at least one level.
        teacher: of the same type, device, n and number of features. A level counts where both
            have it.
        keep: [n] bool, the samples that count. None = all.
        clip: lowest and highest log-density: those of both sides, and the first feature, are
            clamped to it first.
        form: `norm`, the root of the sum of squared differences; `mean`, the mean of the squares.

    Returns:
        [3]: the losses of features, log-density and colour; 0 for a level that does not count.

    Differentiable once in the student's tensors, with zero gradient where a log-density lies
    outside of `clip`, and where a norm is 0; a second order raises. The teacher and levels that do
    not count get no gradient.

    Raises:
        TypeError: a tensor is of the wrong type, or the types differ.
        ValueError: a shape, a device, `clip` or `form` is wrong, or there is no level.

    Source: Fang et al., Progressive Volume Distillation (One is All), 2023, and its active form,
    PVD-AL; written from a description of the authors' code. Deviation: a norm of 0 has a gradient.

    Example:
        >>> student = SampleLevels(log_density=torch.tensor([1.0, 9.0]), color=torch.zeros(2, 3))
        >>> teacher = SampleLevels(log_density=torch.tensor([-3.0, 3.0]), color=torch.zeros(2, 3))
        >>> level_losses(student, teacher)  # of 1 and 7 to -2 and 3
        tensor([0., 5., 0.])
    """
    low, high = (float(bound) for bound in clip)
    if not low <= high:
        raise ValueError(f"level_losses: clip needs the lower bound first, got {tuple(clip)}.")
    if form not in ("norm", "mean"):
        raise ValueError(f"level_losses: form needs 'norm' or 'mean', got {form!r}.")
    losses: Tensor = _forward(*student, *teacher, keep, low, high, form == "mean")[0]
    return losses


def _plain(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.contiguous()


class _Levels(NamedTuple):
    """The tensors of both sides."""

    student: SampleLevels
    teacher: SampleLevels
    keep: Tensor | None

    @classmethod
    def of(cls, arguments: tuple[Argument, ...]) -> _Levels:
        return cls(SampleLevels(*arguments[:3]), SampleLevels(*arguments[3:6]), arguments[6])

    @property
    def given(self) -> dict[str, Tensor]:
        """By the names that messages use."""
        sides = (("student", self.student), ("teacher", self.teacher))
        named = ((f"{n}.{f}", t) for n, side in sides for f, t in side._asdict().items())
        return {name: tensor for name, tensor in named if tensor is not None}

    @property
    def like(self) -> Tensor:
        return next(iter(self.given.values()))

    @property
    def counting(self) -> tuple[bool, ...]:
        pairs = zip(self.student, self.teacher, strict=True)
        return tuple(ours is not None and theirs is not None for ours, theirs in pairs)

    def plain(self) -> tuple[Tensor | None, ...]:
        """Both sides' levels that count, and what is kept, in contiguous memory."""
        sides = zip((*self.student, *self.teacher), self.counting * 2, strict=True)
        return *(_plain(t) if counts else None for t, counts in sides), _plain(self.keep)

    def check(self) -> None:
        given = self.given
        if not given:
            raise ValueError("level_losses: needs at least one level of student and teacher.")
        n, n_features = None, None
        for name, tensor in given.items():
            level = name.partition(".")[2]
            shapes = {"features": (n, n_features), "log_density": (n,), "color": (n, 3)}
            check_tensor("level_losses", name, tensor, shapes[level], self.like)
            n = tensor.shape[0]
            if level == "features":
                n_features = tensor.shape[1]
                if not 1 <= n_features <= MAX_FEATURES:
                    raise ValueError(
                        f"level_losses: {name} needs 1 to {MAX_FEATURES} features, "
                        f"got {n_features}."
                    )
        _check_mask("level_losses", self.keep, self.like)


def _check_mask(name: str, keep: Tensor | None, like: Tensor) -> None:
    if keep is None:
        return
    if keep.dtype != torch.bool:
        raise TypeError(f"{name}: keep needs bool, got {keep.dtype}.")
    if keep.shape != like.shape[:1]:
        raise ValueError(f"{name}: keep needs shape [{len(like)}], got {list(keep.shape)}.")
    if keep.device != like.device:
        raise ValueError(f"{name}: keep needs to be on {like.device}, got {keep.device}.")


def _forward_fake(*arguments: Argument) -> tuple[Tensor, Tensor]:
    levels = _Levels.of(arguments)
    levels.check()
    return levels.like.new_empty((3,)), levels.like.new_empty((3,))


def _forward_kernel(*arguments: Argument) -> tuple[Tensor, Tensor]:
    levels, (low, high, mean) = _Levels.of(arguments), arguments[7:]
    losses, factors = _forward_fake(*arguments)
    if any(levels.counting):
        module = native("level_losses", levels.like)
        module.distill_forward(*levels.plain(), low, high, mean, losses, factors)
        return losses, factors
    return losses.zero_(), factors.zero_()


def _forward_setup(ctx: Context, inputs: tuple[Argument, ...], output: tuple[Tensor, ...]) -> None:
    ctx.counting, ctx.clip = _Levels.of(inputs).counting, inputs[7:9]
    ctx.save_for_backward(*inputs[:7], output[1])
    ctx.set_materialize_grads(False)


def _forward_backward(ctx: Context, grad_losses: Tensor | None, *_: Tensor | None) -> Gradients:
    if grad_losses is None:
        return (None,) * 10
    *tensors, factors = ctx.saved_tensors
    pairs = zip(ctx.needs_input_grad[:3], ctx.counting, strict=True)
    needs = [needed and counts for needed, counts in pairs]
    if not any(needs):
        return (None,) * 10
    wanted = [t if needed else None for t, needed in zip(tensors, needs * 2, strict=False)]
    gradients = _backward(*wanted, tensors[6], *ctx.clip, grad_losses, factors)
    needed = (g if needed else None for g, needed in zip(gradients, needs, strict=True))
    return *needed, *(None,) * 7


def _backward_fake(*arguments: Argument) -> tuple[Tensor, ...]:
    levels, (grad_losses, factors) = _Levels.of(arguments), arguments[9:]
    check_tensor("level_losses", "grad_losses", grad_losses, (3,), factors)
    shapes = [(0,) if student is None else student.shape for student in levels.student]
    return tuple(factors.new_empty(shape) for shape in shapes)


def _backward_kernel(*arguments: Argument) -> tuple[Tensor, ...]:
    levels, (low, high, grad_losses, factors) = _Levels.of(arguments), arguments[7:]
    gradients = _backward_fake(*arguments)
    pairs = zip(gradients, levels.student, strict=True)
    wanted = [None if student is None else gradient for gradient, student in pairs]
    inputs = (*levels.plain(), low, high, grad_losses.contiguous(), factors.contiguous())
    native("level_losses", factors).distill_backward(*inputs, *wanted)
    return gradients


def _no_second_order(ctx: Context, *grads: Tensor) -> Gradients:
    raise not_native("level_losses", "second-order derivatives")


_SIDES = (
    "Tensor? student_features, Tensor? student_log_density, Tensor? student_color, "
    "Tensor? teacher_features, Tensor? teacher_log_density, Tensor? teacher_color, Tensor? keep, "
    "float low, float high"
)
_backward = define(
    f"distill_backward({_SIDES}, Tensor grad_losses, Tensor factors) -> (Tensor, Tensor, Tensor)",
    _backward_kernel,
    _backward_fake,
    save_nothing,
    _no_second_order,
)
_forward = define(
    f"distill({_SIDES}, bool mean) -> (Tensor, Tensor)",
    _forward_kernel,
    _forward_fake,
    _forward_setup,
    _forward_backward,
)


# ---- selections ----------------------------------------------------------------------------------


def visible_samples(
    offsets: Tensor,
    weights: Tensor,
    *,
    share: float = 0.3,
    opacity: float = 0.5,
    keep: Tensor | None = None,
) -> Tensor:
    """Mark the samples that make up what an opaque ray sees.

    Args:
        offsets: [n_rays + 1] int64, non-decreasing from 0 to at most n: ray r owns the samples
            offsets[r] ... offsets[r + 1] - 1. Rays may be empty; what lies behind the last one
            belongs to none and is not kept. On a GPU nobody looks at them.
        weights: [n] float32 or float64, of compositing: at least 0 (less counts as 0).
        share: of a ray's samples, in [0, 1].
        opacity: in [0, 1]; a ray whose weights sum to less, or to NaN, has none.
        keep: [n] bool, what is marked besides. None = nothing.

    Returns:
        [n] bool, a new tensor: of a ray with m samples the min(m, floor(share * m) + 1) of largest
        weight, of equal weights the first ones.

    Not differentiable.

    Raises:
        TypeError: a tensor is of the wrong type.
        ValueError: a shape, a device, the offsets, `share` or `opacity` are wrong.

    Source: PVD-AL, the active form of Fang et al., Progressive Volume Distillation, 2023: the mask
    of points; written from a description of the authors' code.

    Example:
        >>> offsets, weights = torch.tensor([0, 4, 6]), torch.tensor([0.1, 0.4, 0.3, 0, 0.2, 0.2])
        >>> visible_samples(offsets, weights)  # floor(0.3 * 4) + 1 of the first ray
        tensor([False,  True,  True, False, False, False])
    """
    name = "visible_samples"
    if offsets.dtype != torch.int64:
        raise TypeError(f"{name}: offsets needs int64, got {offsets.dtype}.")
    if offsets.dim() != 1 or offsets.shape[0] < 1:
        raise ValueError(f"{name}: offsets needs shape [n_rays + 1], got {list(offsets.shape)}.")
    check_tensor(name, "weights", weights, (None,), weights)
    if offsets.device != weights.device:
        raise ValueError(
            f"{name}: offsets needs to be on {weights.device} like weights, got {offsets.device}."
        )
    _check_mask(name, keep, weights)
    for argument, value in (("share", share), ("opacity", opacity)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name}: {argument} needs a number from 0 to 1, got {value}.")
    result = torch.empty_like(weights, dtype=torch.bool, memory_format=torch.contiguous_format)
    inputs = (offsets.contiguous(), weights.detach().contiguous())
    options = (float(share), float(opacity), _plain(keep))
    native(name, weights).distill_visible(*inputs, *options, result)
    return result


def hardest(difficulty: Tensor, k: int) -> Tensor:
    """List the k largest numbers.

    Args:
        difficulty: [n] float32, at least 0 (less counts as 0). NaN counts as the largest.
        k: how many, 0 to n.

    Returns:
        [k] int64, their indices, ascending; of equal numbers the first ones.

    Not differentiable.

    Raises:
        TypeError: difficulty is not float32, or k no integer.
        ValueError: the shape is wrong, or k is below 0 or above n.

    Source: PVD-AL, as above: the rays that are shown again.

    Example:
        >>> hardest(torch.tensor([0.3, 0.9, 0.3, 0.5]), 3)
        tensor([0, 1, 3])
    """
    check_integers("hardest", k=k)
    if difficulty.dtype != torch.float32:
        raise TypeError(f"hardest: difficulty needs float32, got {difficulty.dtype}.")
    check_tensor("hardest", "difficulty", difficulty, (None,), difficulty)
    if not 0 <= k <= difficulty.shape[0]:
        raise ValueError(f"hardest: k needs 0 to {difficulty.shape[0]}, got {k}.")
    indices = torch.empty((k,), dtype=torch.int64, device=difficulty.device)
    native("hardest", difficulty).distill_hardest(difficulty.detach().contiguous(), indices)
    return indices
