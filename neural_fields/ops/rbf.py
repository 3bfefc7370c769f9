"""Gaussian neurons in feature space and their linear readout."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from neural_fields.ops._library import (
    Argument,
    Context,
    Gradients,
    check_tensor,
    define,
    native,
    no_third_order,
    not_native,
    save_nothing,
    with_reference,
)

MAX_FEATURES, MAX_KERNELS, MAX_OUTPUTS = 256, 1024, 256


@with_reference
def rbf(
    features: Tensor, centers: Tensor, log_precision: Tensor, weight: Tensor, bias: Tensor
) -> Tensor:
    """Send features through one layer of Gaussian neurons and read them out linearly.

    Args:
        features: [n, n_features] float32 or float64, at most 256 features, of any range.
        centers: [n_kernels, n_features], of the same type and device; at most 1024 kernels.
        log_precision: [n_kernels, n_features], logarithms of what squared differences are
            multiplied by, beyond +-80 counted as that; or [n_kernels], the same for all features.
        weight: [n_outputs, n_kernels], at most 256 outputs.
        bias: [n_outputs].

    Returns:
        [n, n_outputs]: sum_k weight[:, k] exp(-d_k / 2) + bias, where
        d_k = sum_j exp(log_precision[k, j]) (features[:, j] - centers[k, j])^2.

    Differentiable once in all arguments. The gradient of the features is differentiable again, in
    all arguments and the output's gradient, as eikonal losses need it. The gradients of the others
    are not: that raises, as does a third order. While gradients are recorded, one number per
    point and kernel is kept for them.

    Raises:
        TypeError: a tensor is neither float32 nor float64, or they differ.
        ValueError: a shape or a device is wrong.

    Source: Bouzidi et al., GNF: Gaussian Neural Fields, 2025, with its code's factor 1/2.
    Deviation: distances are sums of squares, not of the expanded square's three parts, which
    cancel where features are large.

    Example:
        >>> centers = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
        >>> zeros = torch.zeros(2, 2)
        >>> rbf(torch.tensor([[0.0, 1.0]]), centers, zeros, torch.ones(1, 2), torch.zeros(1))
        tensor([[0.6067]])
    """
    output: Tensor
    keep = torch.is_grad_enabled()
    output, _ = _forward(features, centers, log_precision, weight, bias, keep)
    return output


class _Neurons(NamedTuple):
    """The arguments that all three operations share."""

    features: Tensor
    centers: Tensor
    log_precision: Tensor
    weight: Tensor

    @property
    def n_kernels(self) -> int:
        return self.centers.shape[0]

    @property
    def n_outputs(self) -> int:
        return self.weight.shape[0]

    def check(self) -> None:
        like = self.features
        check_tensor("rbf", "features", like, (None, None), like)
        check_tensor("rbf", "centers", self.centers, (None, like.shape[1]), like)
        n_kernels, n_features = self.centers.shape
        shape = (n_kernels,) if self.log_precision.dim() == 1 else (n_kernels, n_features)
        check_tensor("rbf", "log_precision", self.log_precision, shape, like)
        check_tensor("rbf", "weight", self.weight, (None, n_kernels), like)
        for name, length, most in (
            ("features", n_features, MAX_FEATURES),
            ("kernels", n_kernels, MAX_KERNELS),
            ("outputs", self.n_outputs, MAX_OUTPUTS),
        ):
            if not 1 <= length <= most:
                raise ValueError(f"rbf: needs 1 to {most} {name}, got {length}.")

    def plain(self) -> list[Tensor]:
        return [tensor.contiguous() for tensor in self]


def _or_none(tensor: Tensor, needed: bool) -> Tensor | None:
    return tensor if needed else None


# ---- values --------------------------------------------------------------------------------------


def _forward_fake(*arguments: Argument) -> tuple[Tensor, Tensor]:
    neurons, bias, keep = _Neurons(*arguments[:4]), *arguments[4:]
    neurons.check()
    features = neurons.features
    check_tensor("rbf", "bias", bias, (neurons.n_outputs,), features)
    kept = (features.shape[0] if keep else 0, neurons.n_kernels)
    output = features.new_empty((features.shape[0], neurons.n_outputs))
    return output, features.new_empty(kept)


def _forward_kernel(*arguments: Argument) -> tuple[Tensor, Tensor]:
    neurons, bias, keep = _Neurons(*arguments[:4]), *arguments[4:]
    output, activations = _forward_fake(*arguments)
    module = native("rbf", neurons.features)
    kept = _or_none(activations, keep)
    module.rbf_forward(*neurons.plain(), bias.contiguous(), output, kept)
    return output, activations


def _forward_setup(
    ctx: Context, inputs: tuple[Argument, ...], output: tuple[Tensor, Tensor]
) -> None:
    ctx.save_for_backward(*inputs[:4], output[1])
    ctx.mark_non_differentiable(output[1])


def _forward_backward(ctx: Context, grad_output: Tensor, _: Tensor | None) -> Gradients:
    needs = ctx.needs_input_grad[:5]
    gradients = _backward(grad_output, *ctx.saved_tensors, needs[0], any(needs[1:]))
    needed = (_or_none(gradient, n) for gradient, n in zip(gradients, needs, strict=True))
    return *needed, None


# ---- gradients -----------------------------------------------------------------------------------
# `activations` are a function of the other arguments; the second derivative is that of the whole,
# so that they have none of their own.


class _Saved(NamedTuple):
    """The arguments of the first backward pass."""

    grad_output: Tensor
    neurons: _Neurons
    activations: Tensor
    of_features: bool
    of_neurons: bool

    @classmethod
    def of(cls, arguments: tuple[Argument, ...]) -> _Saved:
        return cls(arguments[0], _Neurons(*arguments[1:5]), *arguments[5:])

    def gradients(self) -> tuple[Tensor, ...]:
        """Room for those of features, centers, log_precision and weight where they are needed."""
        neurons = self.neurons
        neurons.check()
        n_points = neurons.features.shape[0]
        for name, tensor, width in (
            ("grad_output", self.grad_output, neurons.n_outputs),
            ("activations", self.activations, neurons.n_kernels),
        ):
            check_tensor("rbf", name, tensor, (n_points, width), neurons.features)
        needs = (self.of_features, *(self.of_neurons,) * 3)
        return tuple(
            tensor.new_empty(tensor.shape if needed else (0,))
            for tensor, needed in zip(neurons, needs, strict=True)
        )

    def plain(self) -> list[Tensor]:
        return [
            self.grad_output.contiguous(), *self.neurons.plain(), self.activations.contiguous()
        ]  # fmt: skip

    def wanted(self, gradients: tuple[Tensor, ...]) -> list[Tensor | None]:
        needs = (self.of_features, *(self.of_neurons,) * (len(gradients) - 1))
        return [_or_none(tensor, needed) for tensor, needed in zip(gradients, needs, strict=True)]


def _backward_fake(*arguments: Argument) -> tuple[Tensor, ...]:
    saved = _Saved.of(arguments)
    n_outputs = saved.neurons.n_outputs if saved.of_neurons else 0
    return *saved.gradients(), saved.grad_output.new_empty((n_outputs,))


def _backward_kernel(*arguments: Argument) -> tuple[Tensor, ...]:
    saved, gradients = _Saved.of(arguments), _backward_fake(*arguments)
    module = native("rbf", saved.neurons.features)
    module.rbf_backward(*saved.plain(), *saved.wanted(gradients))
    return gradients


def _backward_setup(ctx: Context, inputs: tuple[Argument, ...], output: Argument) -> None:
    ctx.set_materialize_grads(False)  # so that an unused gradient is None, not zeros
    ctx.save_for_backward(*inputs[:6])


def _backward_backward(ctx: Context, *all_tangents: Tensor | None) -> Gradients:
    tangents, *others = (None if t is None or t.numel() == 0 else t for t in all_tangents)
    if any(tensor is not None for tensor in others):
        raise not_native("rbf", "second derivatives of the gradients of the neurons")
    needs = ctx.needs_input_grad[:5]
    if tangents is None:
        return (None,) * 8
    gradients = _second(tangents, *ctx.saved_tensors, needs[1], any(needs[2:]))
    needed = (_or_none(gradient, n) for gradient, n in zip(gradients, needs, strict=True))
    return *needed, None, None, None


def _second_fake(*arguments: Argument) -> tuple[Tensor, ...]:
    tangents, saved = arguments[0], _Saved.of(arguments[1:])
    gradients = saved.gradients()
    features = saved.neurons.features
    check_tensor("rbf", "tangents", tangents, tuple(features.shape), features)
    return saved.grad_output.new_empty(saved.grad_output.shape), *gradients


def _second_kernel(*arguments: Argument) -> tuple[Tensor, ...]:
    tangents, saved = arguments[0], _Saved.of(arguments[1:])
    results = _second_fake(*arguments)
    module = native("rbf", saved.neurons.features)
    grad_grad_output, *gradients = results
    wanted = saved.wanted(tuple(gradients))
    module.rbf_second(tangents.contiguous(), *saved.plain(), grad_grad_output, *wanted)
    return results


_NEURONS = "Tensor features, Tensor centers, Tensor log_precision, Tensor weight"
_SAVED = f"Tensor grad_output, {_NEURONS}, Tensor activations, bool of_features, bool of_neurons"
_second = define(
    f"rbf_backward_backward(Tensor tangents, {_SAVED}) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    _second_kernel,
    _second_fake,
    save_nothing,
    no_third_order("rbf"),
)
_backward = define(
    f"rbf_backward({_SAVED}) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    _backward_kernel,
    _backward_fake,
    _backward_setup,
    _backward_backward,
)
_forward = define(
    f"rbf({_NEURONS}, Tensor bias, bool keep) -> (Tensor, Tensor)",
    _forward_kernel,
    _forward_fake,
    _forward_setup,
    _forward_backward,
)
