"""Real spherical harmonics of directions."""

from __future__ import annotations

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
    no_third_order,
    save_nothing,
    with_reference,
)


@with_reference
def spherical_harmonics(directions: Tensor, degree: int = 4) -> Tensor:
    """Evaluate the first `degree` bands of real spherical harmonics.

    Args:
        directions: [n, 3] float32 or float64, unit vectors as they are (not mapped to [0, 1]).
            The length is not checked; off the sphere the values are those of the polynomials.
        degree: 1 to 4.

    Returns:
        [n, degree**2]: band by band, with the Condon-Shortley sign.

    Differentiable twice; the gradient is that of the polynomials in x, y and z. A third order
    raises.

    Raises:
        TypeError: directions are neither float32 nor float64.
        ValueError: the shape or the degree is wrong.

    Source: the table of tiny-cuda-nn (Mueller et al. 2022), which Plenoxels share. Deviation:
    tiny-cuda-nn takes directions mapped to [0, 1] and undoes that first.

    Example:
        >>> spherical_harmonics(torch.tensor([[1.0, 2.0, 2.0]]) / 3, degree=2)
        tensor([[ 0.2821, -0.3257,  0.3257, -0.1629]])
    """
    check_integers("spherical_harmonics", degree=degree)
    if not 1 <= degree <= 4:
        raise ValueError(f"spherical_harmonics: degree needs 1 to 4, got {degree}.")
    values: Tensor = _forward(directions, degree)
    return values


def _check(directions: Tensor, degree: int, grad_output: Tensor | None = None) -> None:
    check_tensor("spherical_harmonics", "directions", directions, (None, 3), directions)
    if grad_output is not None:
        shape = (directions.shape[0], degree**2)
        check_tensor("spherical_harmonics", "grad_output", grad_output, shape, directions)


def _forward_fake(directions: Tensor, degree: int) -> Tensor:
    _check(directions, degree)
    return directions.new_empty((directions.shape[0], degree**2))


def _forward_kernel(directions: Tensor, degree: int) -> Tensor:
    output = _forward_fake(directions, degree)
    module = native("spherical_harmonics", directions)
    module.spherical_harmonics_forward(degree, directions.contiguous(), output)
    return output


def _forward_setup(ctx: Context, inputs: tuple[Argument, ...], output: Tensor) -> None:
    directions, ctx.degree = inputs
    ctx.save_for_backward(directions)


def _forward_backward(ctx: Context, grad_output: Tensor) -> Gradients:
    return _backward(grad_output, *ctx.saved_tensors, ctx.degree), None


def _backward_fake(grad_output: Tensor, directions: Tensor, degree: int) -> Tensor:
    _check(directions, degree, grad_output)
    return torch.empty_like(directions, memory_format=torch.contiguous_format)


def _backward_kernel(grad_output: Tensor, directions: Tensor, degree: int) -> Tensor:
    grad_directions = _backward_fake(grad_output, directions, degree)
    module = native("spherical_harmonics", directions)
    module.spherical_harmonics_backward(
        degree, grad_output.contiguous(), directions.contiguous(), grad_directions
    )
    return grad_directions


def _backward_setup(ctx: Context, inputs: tuple[Argument, ...], output: Tensor) -> None:
    grad_output, directions, ctx.degree = inputs
    ctx.save_for_backward(grad_output, directions)


def _backward_backward(ctx: Context, tangents: Tensor) -> Gradients:
    return *_second(tangents, *ctx.saved_tensors, ctx.degree), None


def _second_fake(
    tangents: Tensor, grad_output: Tensor, directions: Tensor, degree: int
) -> tuple[Tensor, Tensor]:
    grad_directions = _backward_fake(grad_output, directions, degree)
    shape = tuple(directions.shape)
    check_tensor("spherical_harmonics", "tangents", tangents, shape, directions)
    return directions.new_empty((directions.shape[0], degree**2)), grad_directions


def _second_kernel(
    tangents: Tensor, grad_output: Tensor, directions: Tensor, degree: int
) -> tuple[Tensor, Tensor]:
    results = _second_fake(tangents, grad_output, directions, degree)
    module = native("spherical_harmonics", directions)
    module.spherical_harmonics_second(
        degree,
        tangents.contiguous(),
        grad_output.contiguous(),
        directions.contiguous(),
        *results,
    )
    return results


_second = define(
    "spherical_harmonics_backward_backward(Tensor tangents, Tensor grad_output, "
    "Tensor directions, int degree) -> (Tensor, Tensor)",
    _second_kernel,
    _second_fake,
    save_nothing,
    no_third_order("spherical_harmonics"),
)
_backward = define(
    "spherical_harmonics_backward(Tensor grad_output, Tensor directions, int degree) -> Tensor",
    _backward_kernel,
    _backward_fake,
    _backward_setup,
    _backward_backward,
)
_forward = define(
    "spherical_harmonics(Tensor directions, int degree) -> Tensor",
    _forward_kernel,
    _forward_fake,
    _forward_setup,
    _forward_backward,
)
