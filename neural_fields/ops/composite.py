"""Emission and absorption along packed rays: samples to pixels."""

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
    not_native,
    save_nothing,
    with_reference,
)


class Composited(NamedTuple):
    """What a ray sees."""

    color: Tensor  # [n_rays, 3] without background
    opacity: Tensor  # [n_rays]
    depth: Tensor  # [n_rays] sum of weight * midpoint, not divided by opacity
    distortion: Tensor  # [n_rays]
    weights: Tensor  # [n]


@with_reference
def composite(
    offsets: Tensor,
    t_starts: Tensor,
    t_ends: Tensor,
    density: Tensor,
    color: Tensor,
    stop: float = 0.0,
) -> Composited:
    """Sum colours along rays, each weighted by the light that reaches the eye from it.

    Args:
        offsets: [n_rays + 1] int64, non-decreasing from 0 to at most n: ray r owns the samples
            offsets[r] ... offsets[r + 1] - 1. Rays may be empty; what lies behind the last one
            belongs to none, and gets no weight and no gradient. On a GPU nobody looks at them.
        t_starts: [n] float32 or float64, distance along the ray where a sample begins.
        t_ends: [n] where it ends, at least t_starts.
        density: [n] per length of t, at least 0 (not checked).
        color: [n, 3], any range.
        stop: in [0, 1]; a ray ends before the sample at which its transmittance is below this.
            What is left counts as not absorbed. 0 = never.

    Returns:
        With a_i = density_i * (t_end_i - t_start_i), T_i = exp(-sum_(j<i) a_j) and
        w_i = T_i (1 - exp(-a_i)): color = sum w_i c_i, opacity = sum w_i, depth = sum w_i t_i with
        t_i the midpoint, distortion = sum_ij w_i w_j |t_i - t_j| + sum w_i^2 (t_end - t_start) / 3
        in the units of t, and the weights. A background b is added as (1 - opacity) * b.

    Differentiable once in density and color, from all five results; t_starts and t_ends get no
    gradient, and the end of a ray counts as fixed. A second order raises.

    Raises:
        TypeError: a tensor is of the wrong type, or the floating types differ.
        ValueError: a shape, a device or the offsets are wrong.

    Source: Max, 1995; Mildenhall et al., NeRF, 2020, equation 3; the distortion is Barron et al.,
    Mip-NeRF 360, 2022, equation 15. Deviation: distances are not normalised.

    Example:
        >>> t = torch.tensor([0.0, 1.0, 2.0])
        >>> color = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
        >>> ray = composite(torch.tensor([0, 2]), t[:-1], t[1:], torch.tensor([0.5, 9.0]), color)
        >>> ray.color, ray.opacity
        (tensor([[0.3935, 0.6065, 0.0000]]), tensor([0.9999]))
    """
    return Composited(*_forward(offsets, t_starts, t_ends, density, color, float(stop)))


def _check(
    offsets: Tensor, t_starts: Tensor, t_ends: Tensor, density: Tensor, color: Tensor
) -> None:
    if offsets.dtype != torch.int64:
        raise TypeError(f"composite: offsets needs int64, got {offsets.dtype}.")
    if offsets.dim() != 1 or offsets.shape[0] < 1:
        raise ValueError(f"composite: offsets needs shape [n_rays + 1], got {list(offsets.shape)}.")
    check_tensor("composite", "t_starts", t_starts, (None,), t_starts)
    if offsets.device != t_starts.device:
        raise ValueError(
            f"composite: offsets needs to be on {t_starts.device} like t_starts, "
            f"got {offsets.device}."
        )
    n = t_starts.shape[0]
    check_tensor("composite", "t_ends", t_ends, (n,), t_starts)
    check_tensor("composite", "density", density, (n,), t_starts)
    check_tensor("composite", "color", color, (n, 3), t_starts)


def _forward_fake(
    offsets: Tensor, t_starts: Tensor, t_ends: Tensor, density: Tensor, color: Tensor, stop: float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    _check(offsets, t_starts, t_ends, density, color)
    n_rays = offsets.shape[0] - 1
    opacity, depth, distortion = (density.new_empty((n_rays,)) for _ in range(3))
    weights = density.new_empty((density.shape[0],))
    return density.new_empty((n_rays, 3)), opacity, depth, distortion, weights


def _forward_kernel(
    offsets: Tensor, t_starts: Tensor, t_ends: Tensor, density: Tensor, color: Tensor, stop: float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    inputs = (offsets, t_starts, t_ends, density, color)
    results = _forward_fake(*inputs, stop)
    contiguous = [tensor.contiguous() for tensor in inputs]
    native("composite", density).composite_forward(*contiguous, stop, *results)
    return results


def _forward_setup(ctx: Context, inputs: tuple[Argument, ...], output: Argument) -> None:
    *tensors, ctx.stop = inputs
    ctx.save_for_backward(*tensors)
    ctx.set_materialize_grads(False)  # results that a loss leaves out cost nothing


def _forward_backward(ctx: Context, *gradients: Tensor | None) -> Gradients:
    if all(gradient is None for gradient in gradients):
        return (None,) * 6
    grad_density, grad_color = _backward(*gradients, *ctx.saved_tensors, ctx.stop)
    return None, None, None, grad_density, grad_color, None


def _backward_fake(
    grad_color: Tensor | None,
    grad_opacity: Tensor | None,
    grad_depth: Tensor | None,
    grad_distortion: Tensor | None,
    grad_weights: Tensor | None,
    offsets: Tensor,
    t_starts: Tensor,
    t_ends: Tensor,
    density: Tensor,
    color: Tensor,
    stop: float,
) -> tuple[Tensor, Tensor]:
    _check(offsets, t_starts, t_ends, density, color)
    return density.new_empty((density.shape[0],)), color.new_empty((color.shape[0], 3))


def _backward_kernel(*arguments: Argument) -> tuple[Tensor, Tensor]:
    results = _backward_fake(*arguments)
    gradients, inputs, stop = arguments[:5], arguments[5:10], arguments[10]
    given = [None if gradient is None else gradient.contiguous() for gradient in gradients]
    contiguous = [tensor.contiguous() for tensor in inputs]
    native("composite", inputs[3]).composite_backward(*contiguous, stop, *given, *results)
    return results


def _no_second_order(ctx: Context, *grads: Tensor) -> Gradients:
    raise not_native("composite", "second-order derivatives")


_INPUTS = "Tensor offsets, Tensor t_starts, Tensor t_ends, Tensor density, Tensor color, float stop"
_backward = define(
    "composite_backward(Tensor? grad_color, Tensor? grad_opacity, Tensor? grad_depth, "
    f"Tensor? grad_distortion, Tensor? grad_weights, {_INPUTS}) -> (Tensor, Tensor)",
    _backward_kernel,
    _backward_fake,
    save_nothing,
    _no_second_order,
)
_forward = define(
    f"composite({_INPUTS}) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    _forward_kernel,
    _forward_fake,
    _forward_setup,
    _forward_backward,
)
