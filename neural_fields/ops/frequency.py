"""Frequency encoding: coordinates to sines and cosines of their octaves."""

from __future__ import annotations

import functools
from types import ModuleType

import torch
from torch import Tensor

from neural_fields import _core
from neural_fields.ops._library import (
    Argument,
    Context,
    Gradients,
    check_integers,
    check_tensor,
    define,
    native,
    no_third_order,
    save_nothing,
    with_reference,
)


@with_reference
def frequency(
    positions: Tensor, n_octaves: int, *, identity: bool = True, include_pi: bool = False
) -> Tensor:
    """Encode every coordinate x as sin(2^k x) and cos(2^k x) for k = 0 ... n_octaves - 1.

    Args:
        positions: [n, n_dims] float32 or float64, with 1 to 64 dimensions and any range. Phases up
            to 1e4 are as accurate as float32 can be (2e-7); beyond that the error grows with them.
        n_octaves: 0 to 24.
        identity: whether the coordinates themselves come first.
        include_pi: sin(2^k pi x) and cos(2^k pi x) instead. Whole turns are then taken off
            exactly, and every octave of positions in [-1, 1] is accurate to 5e-7.

    Returns:
        [n, n_dims * (2 * n_octaves + identity)]: `[x, sin(x), cos(x), sin(2x), cos(2x), ...]`,
        where each entry stands for all n_dims coordinates.

    Differentiable twice. A third order raises.

    Raises:
        TypeError: positions are neither float32 nor float64.
        ValueError: the shape or the number of octaves is out of range.

    Source: Mildenhall et al., NeRF, 2020, equation 4. Deviation from the text: no factor pi unless
    asked for, and the coordinates are included; both as in its code, whose order this is.

    Example:
        >>> frequency(torch.tensor([[0.0, 1.0]]), n_octaves=1)
        tensor([[0.0000, 1.0000, 0.0000, 0.8415, 1.0000, 0.5403]])
    """
    check_integers("frequency", n_octaves=n_octaves)
    if not 0 <= n_octaves <= 24:
        raise ValueError(f"frequency: n_octaves needs 0 to 24, got {n_octaves}.")
    encoded: Tensor = _forward(positions, n_octaves, identity, include_pi)
    return encoded


Spec = tuple[int, bool, bool]  # n_octaves, identity, include_pi


@functools.lru_cache(maxsize=256)
def _shape(module: ModuleType, *arguments: Argument) -> _core.FrequencyShape:
    shape: _core.FrequencyShape = module.FrequencyShape(*arguments)
    return shape


def _n_output(positions: Tensor, spec: Spec) -> int:
    return positions.shape[1] * (2 * spec[0] + int(spec[1]))


def _check(positions: Tensor, spec: Spec, grad_output: Tensor | None = None) -> None:
    check_tensor("frequency", "positions", positions, (None, None), positions)
    if not 1 <= positions.shape[1] <= 64:
        raise ValueError(
            f"frequency: positions needs 1 to 64 dimensions, got shape {list(positions.shape)}."
        )
    if grad_output is not None:
        shape = (positions.shape[0], _n_output(positions, spec))
        check_tensor("frequency", "grad_output", grad_output, shape, positions)


def _forward_fake(positions: Tensor, *spec: Argument) -> Tensor:
    _check(positions, spec)
    return positions.new_empty((positions.shape[0], _n_output(positions, spec)))


def _forward_kernel(positions: Tensor, *spec: Argument) -> Tensor:
    output = _forward_fake(positions, *spec)
    module = native("frequency", positions)
    shape = _shape(module, positions.shape[1], *spec)
    module.frequency_forward(shape, positions.contiguous(), output)
    return output


def _forward_setup(ctx: Context, inputs: tuple[Argument, ...], output: Tensor) -> None:
    positions, *ctx.spec = inputs
    ctx.save_for_backward(positions)


def _forward_backward(ctx: Context, grad_output: Tensor) -> Gradients:
    return _backward(grad_output, *ctx.saved_tensors, *ctx.spec), None, None, None


def _backward_fake(grad_output: Tensor, positions: Tensor, *spec: Argument) -> Tensor:
    _check(positions, spec, grad_output)
    return torch.empty_like(positions, memory_format=torch.contiguous_format)


def _backward_kernel(grad_output: Tensor, positions: Tensor, *spec: Argument) -> Tensor:
    grad_positions = _backward_fake(grad_output, positions, *spec)
    module = native("frequency", positions)
    shape = _shape(module, positions.shape[1], *spec)
    module.frequency_backward(
        shape, grad_output.contiguous(), positions.contiguous(), grad_positions
    )
    return grad_positions


def _backward_setup(ctx: Context, inputs: tuple[Argument, ...], output: Tensor) -> None:
    grad_output, positions, *ctx.spec = inputs
    ctx.save_for_backward(grad_output, positions)


def _backward_backward(ctx: Context, tangents: Tensor) -> Gradients:
    return *_second(tangents, *ctx.saved_tensors, *ctx.spec), None, None, None


def _second_fake(
    tangents: Tensor, grad_output: Tensor, positions: Tensor, *spec: Argument
) -> tuple[Tensor, Tensor]:
    grad_positions = _backward_fake(grad_output, positions, *spec)
    check_tensor("frequency", "tangents", tangents, tuple(positions.shape), positions)
    return positions.new_empty((positions.shape[0], _n_output(positions, spec))), grad_positions


def _second_kernel(
    tangents: Tensor, grad_output: Tensor, positions: Tensor, *spec: Argument
) -> tuple[Tensor, Tensor]:
    results = _second_fake(tangents, grad_output, positions, *spec)
    module = native("frequency", positions)
    module.frequency_second(
        _shape(module, positions.shape[1], *spec),
        tangents.contiguous(),
        grad_output.contiguous(),
        positions.contiguous(),
        *results,
    )
    return results


_SPEC = "int n_octaves, bool identity, bool include_pi"
_second = define(
    "frequency_backward_backward(Tensor tangents, Tensor grad_output, Tensor positions, "
    f"{_SPEC}) -> (Tensor, Tensor)",
    _second_kernel,
    _second_fake,
    save_nothing,
    no_third_order("frequency"),
)
_backward = define(
    f"frequency_backward(Tensor grad_output, Tensor positions, {_SPEC}) -> Tensor",
    _backward_kernel,
    _backward_fake,
    _backward_setup,
    _backward_backward,
)
_forward = define(
    f"frequency(Tensor positions, {_SPEC}) -> Tensor",
    _forward_kernel,
    _forward_fake,
    _forward_setup,
    _forward_backward,
)
