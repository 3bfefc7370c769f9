"""Losses between two fields' levels, with 16 features, and the choice of what they see."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from neural_fields import _core, ops
from neural_fields.benchmarks.batch import stored_batch
from neural_fields.benchmarks.case import Arm, Bar, Case, Sizes
from neural_fields.ops import SampleLevels

_BAR: Bar = {"claim": "losses of levels 3 times as fast as autograd", "ratio_eager": 3.0}
_LOW, _HIGH = -2.0, 7.0
_FEATURES = 16
_NUMBERS = _FEATURES + 1 + 3


def cases(sizes: Sizes) -> Iterator[Case]:
    """Forward and backward, of all samples and of a third of them; then both selections."""
    bench = _Losses(sizes)
    both_sides = (*bench.student, *bench.teacher)
    compiled = torch.compile(norms, fullgraph=True)
    yield Case(
        "distill.forward.f32",
        bench.n,
        "M samples/s",
        ours=bench.forward,
        eager=lambda: norms(both_sides),
        compiled=lambda: compiled(both_sides),
        limit=sizes.streaming(bench.n, 4 * 2 * _NUMBERS),
    )
    third = torch.rand(bench.n) < 1 / 3
    for variant, keep in (("with-forward", None), ("with-forward-kept", third)):
        yield bench.written_out(variant, keep)
        yield bench.autograd(f"{variant}-autograd", keep)
    yield bench.public("with-forward-public")
    yield _visible(sizes)
    yield _hardest(sizes)


class _Losses:
    """The tensors that the cases of the losses share."""

    def __init__(self, sizes: Sizes) -> None:
        self.sizes, self.n = sizes, sizes.n_samples
        self.student, self.teacher = self._levels(), self._levels()
        self.gradients = [torch.empty_like(tensor) for tensor in self.student]
        self.losses, self.factors = torch.empty(3), torch.empty(3)
        self.grad = torch.rand(3)

    def _levels(self) -> tuple[Tensor, Tensor, Tensor]:
        features = torch.randn(self.n, _FEATURES)
        return features, torch.randn(self.n) * 4, torch.rand(self.n, 3)

    def forward(self, keep: Tensor | None = None) -> None:
        inputs = (*self.student, *self.teacher, keep, _LOW, _HIGH, False)
        _core.distill_forward(*inputs, self.losses, self.factors)

    def both(self, keep: Tensor | None) -> None:
        """Losses and gradients, in memory that is there."""
        self.forward(keep)
        inputs = (*self.student, *self.teacher, keep, _LOW, _HIGH, self.grad, self.factors)
        _core.distill_backward(*inputs, *self.gradients)

    def written_out(self, variant: str, keep: Tensor | None) -> Case:
        """Beside gradients that are written out, the fastest plain PyTorch."""
        tensors = (*self.student, *self.teacher)
        compiled = torch.compile(norms_and_gradients, fullgraph=True)
        return Case(
            f"distill.backward.f32:{variant}",
            self.n,
            "M samples/s",
            ours=lambda: self.both(keep),
            eager=lambda: norms_and_gradients(tensors, self.grad, keep),
            compiled=lambda: compiled(tensors, self.grad, keep),
            limit=self.sizes.streaming(self.n, 4 * 5 * _NUMBERS),
        )

    def autograd(self, variant: str, keep: Tensor | None) -> Case:
        """Beside autograd."""
        eager, compiled = self._autograd_arms(keep)
        return Case(
            f"distill.backward.f32:{variant}",
            self.n,
            "M samples/s",
            ours=lambda: self.both(keep),
            eager=eager,
            compiled=None if keep is not None else compiled,  # the number kept breaks the graph
            bar=_BAR,
        )

    def public(self, variant: str) -> Case:
        """Both by autograd, with new memory for all results."""
        leaves = [tensor.clone().requires_grad_() for tensor in self.student]
        student, teacher = SampleLevels(*leaves), SampleLevels(*self.teacher)

        def ours() -> object:
            losses = ops.level_losses(student, teacher, clip=(_LOW, _HIGH))
            return torch.autograd.grad(losses, leaves, self.grad)

        eager, compiled = self._autograd_arms(None)
        return Case(
            f"distill.backward.f32:{variant}",
            self.n,
            "M samples/s",
            ours=ours,
            eager=eager,
            compiled=compiled,
        )

    def _autograd_arms(self, keep: Tensor | None) -> tuple[Arm, Arm]:
        leaves = [tensor.clone().requires_grad_() for tensor in self.student]
        tensors = (*leaves, *self.teacher)

        def arm(function: Callable[..., Tensor]) -> Arm:
            return lambda: torch.autograd.grad(function(tensors, keep), leaves, self.grad)

        return arm(norms), arm(torch.compile(norms, fullgraph=True))


def differences(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Student's three levels minus the teacher's, clipped; overwriting one column beats a cat."""
    features, log_density, color, *others = tensors
    whole = features - others[0]
    whole[:, 0] = _clip(features[:, 0]) - _clip(others[0][:, 0])
    return [whole, _clip(log_density) - _clip(others[1]), color - others[2]]


def _clip(log_density: Tensor) -> Tensor:
    return log_density.clamp(_LOW, _HIGH)


def norms(tensors: Sequence[Tensor], keep: Tensor | None = None) -> Tensor:
    """For autograd. One list of indices for all levels beats masks, `where` and products."""
    if keep is not None:
        indices = keep.nonzero()[:, 0]
        tensors = [tensor.index_select(0, indices) for tensor in tensors]
    return torch.stack([torch.linalg.vector_norm(x) for x in differences(tensors)])


def norms_and_gradients(
    tensors: Sequence[Tensor], grad: Tensor, keep: Tensor | None = None
) -> tuple[Tensor, list[Tensor]]:
    """Without a graph, in place; here a product with the mask beats indices."""
    features, log_density, color = differences(tensors)
    if keep is not None:
        mask = keep.to(features.dtype)
        features.mul_(mask[:, None])
        log_density.mul_(mask)
        color.mul_(mask[:, None])
    levels = [features, log_density, color]
    losses = torch.stack([torch.linalg.vector_norm(x) for x in levels])
    factors = grad / losses
    for level, factor in zip(levels, factors, strict=True):
        level.mul_(factor)
    features[:, 0].mul_(_inside(tensors[0][:, 0]))
    log_density.mul_(_inside(tensors[1]))
    return losses, levels


def _inside(log_density: Tensor) -> Tensor:
    return (log_density >= _LOW) & (log_density <= _HIGH)


def _visible(sizes: Sizes) -> Case:
    batch = stored_batch(sizes.n_samples, sizes.image_size).batch
    offsets, weights = batch.offsets, torch.rand(batch.n_samples)
    output = torch.empty(batch.n_samples, dtype=torch.bool)
    return Case(
        "distill.forward.f32:visible",
        batch.n_samples,
        "M samples/s",
        ours=lambda: _core.distill_visible(offsets, weights, 0.3, 0.5, None, output),
        eager=lambda: visible(offsets, weights),
    )


def visible(offsets: Tensor, weights: Tensor) -> Tensor:
    """By one sort of all samples, whose key has the ray before the comma."""
    counts = offsets.diff()
    ray = torch.repeat_interleave(counts)
    sums = torch.zeros_like(counts, dtype=weights.dtype).index_add_(0, ray, weights)
    n_kept = torch.minimum(counts, (0.3 * counts).floor().long() + 1) * (sums >= 0.5)
    order = (ray.double() * 2 - weights).argsort()
    rank = torch.arange(len(weights)) - offsets[ray]
    return torch.zeros_like(weights, dtype=torch.bool).index_copy_(0, order, rank < n_kept[ray])


def _hardest(sizes: Sizes) -> Case:
    difficulty = torch.rand(sizes.n_samples)
    output = torch.empty(sizes.n_samples // 10, dtype=torch.int64)
    return Case(
        "distill.forward.f32:hardest",
        sizes.n_samples,
        "M numbers/s",
        ours=lambda: _core.distill_hardest(difficulty, output),
        eager=lambda: difficulty.topk(len(output), sorted=False).indices.sort().values,
    )
