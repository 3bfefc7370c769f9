"""Low-rank tensors: products of interpolated planes and lines (VM, CP, K-planes)."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Literal

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

Factor = tuple[int, ...]
Term = tuple[Factor, ...]


@dataclass(frozen=True)
class TensorPlanesSpec:
    """The shape of a low-rank tensor; `vm`, `cp` and `planes` make the published ones.

    Attributes:
        resolution: vertices per axis, 2 to 4 axes of at least 2 vertices each.
        rank: channels of every factor, 1 to 512.
        terms: each term is a product of 1 to 6 factors; a factor is the axes of its grid, one (a
            line) or two (a plane), the lower first. At most 8 terms.
        interpolation: `linear`, or `smoothstep` for a continuous gradient.

    Example:
        >>> spec = TensorPlanesSpec.vm((300, 300, 300), rank=48)
        >>> spec.terms
        (((0, 1), (2,)), ((0, 2), (1,)), ((1, 2), (0,)))
        >>> spec.n_params, spec.n_output
        (13003200, 144)
    """

    resolution: tuple[int, ...]
    rank: int
    terms: tuple[Term, ...]
    interpolation: Literal["linear", "smoothstep"] = "linear"

    def __post_init__(self) -> None:
        for resolution in self.resolution:
            check_integers("TensorPlanesSpec", resolution=resolution)
        check_integers("TensorPlanesSpec", rank=self.rank)
        for axis in itertools.chain.from_iterable(itertools.chain.from_iterable(self.terms)):
            check_integers("TensorPlanesSpec", terms=axis)
        if not self.terms or not all(self.terms):
            raise ValueError(
                f"TensorPlanesSpec: terms needs products of factors, got {self.terms}."
            )
        _shape_of(_core, *self.arguments)

    @classmethod
    def vm(
        cls,
        resolution: Sequence[int],
        rank: int,
        interpolation: Literal["linear", "smoothstep"] = "linear",
    ) -> TensorPlanesSpec:
        """Vector-matrix terms (TensoRF): each axis's line times the plane of the other axes.

        In three dimensions the planes are (0, 1), (0, 2), (1, 2) with the lines 2, 1, 0.
        """
        axes = range(len(resolution))
        if len(axes) not in (2, 3):
            raise ValueError(f"TensorPlanesSpec: vm needs 2 or 3 axes, got {len(axes)}.")
        others = [tuple(other for other in axes if other != axis) for axis in axes]
        terms = tuple((others[axis], (axis,)) for axis in reversed(axes))
        return cls(tuple(resolution), rank, terms, interpolation)

    @classmethod
    def cp(
        cls,
        resolution: Sequence[int],
        rank: int,
        interpolation: Literal["linear", "smoothstep"] = "linear",
    ) -> TensorPlanesSpec:
        """One term: the product of all axes' lines (CANDECOMP/PARAFAC)."""
        lines = tuple((axis,) for axis in range(len(resolution)))
        return cls(tuple(resolution), rank, (lines,), interpolation)

    @classmethod
    def planes(
        cls,
        resolution: Sequence[int],
        rank: int,
        interpolation: Literal["linear", "smoothstep"] = "linear",
    ) -> TensorPlanesSpec:
        """One term: the product of the planes of all pairs of axes (K-planes)."""
        pairs = tuple(itertools.combinations(range(len(resolution)), 2))
        return cls(tuple(resolution), rank, (pairs,), interpolation)

    @property
    def arguments(self) -> tuple[tuple[int, ...], int, str, str]:
        """The spec as the plain arguments that follow the tensors of every operation."""
        products = ["*".join("".join(map(str, factor)) for factor in term) for term in self.terms]
        return tuple(self.resolution), self.rank, "+".join(products), self.interpolation

    @property
    def n_dims(self) -> int:
        """Number of axes."""
        return len(self.resolution)

    @property
    def n_params(self) -> int:
        """Numbers of all factors: the length of the table."""
        return _shape_of(_core, *self.arguments).n_params

    @property
    def n_output(self) -> int:
        """Features of a point, all terms together."""
        return len(self.terms) * self.rank

    @property
    def factor_shapes(self) -> tuple[tuple[tuple[int, ...], ...], ...]:
        """Per term and factor: [vertices of the higher axis, of the lower axis, rank]."""
        return tuple(
            tuple(
                (*(self.resolution[axis] for axis in reversed(factor)), self.rank) for factor in t
            )
            for t in self.terms
        )

    def views(self, table: Tensor) -> tuple[tuple[Tensor, ...], ...]:
        """The factors of a table as views of it, per term, in the shapes of `factor_shapes`."""
        check_tensor("tensor_planes", "table", table, (self.n_params,), table)
        shapes = list(itertools.chain.from_iterable(self.factor_shapes))
        parts = iter(torch.split(table, [torch.Size(shape).numel() for shape in shapes]))
        return tuple(
            tuple(next(parts).view(shape) for shape in term) for term in self.factor_shapes
        )


def _shape_of(
    module: ModuleType, resolution: Sequence[int], *rest: Argument
) -> _core.TensorPlanesShape:
    return _cached_shape(module, tuple(resolution), *rest)


@functools.lru_cache(maxsize=256)
def _cached_shape(module: ModuleType, *arguments: Argument) -> _core.TensorPlanesShape:
    shape: _core.TensorPlanesShape = module.TensorPlanesShape(*arguments)
    return shape


@with_reference
def tensor_planes(positions: Tensor, table: Tensor, spec: TensorPlanesSpec) -> Tensor:
    """Multiply interpolated planes and lines at every position.

    Args:
        positions: [n, n_dims] float32 or float64, in [0, 1]. Positions outside are clamped, with
            zero gradient there; NaN reads as 0, with zero gradient.
        table: [spec.n_params], of the same type and device: the factors one behind the other, each
            [vertices of its higher axis, of its lower axis, rank]. `spec.views` gives them.
        spec: the factors.

    Returns:
        [n, n_terms * rank]: the channel-wise product of each term's factors, first term first.

    Differentiable twice in positions and table. With linear interpolation the first derivative in
    positions jumps at cell borders; `smoothstep` has a continuous first and a piecewise continuous
    second derivative. A third order raises. Where two factors of a product are zero, the gradient
    of all of its factors is zero: initialise products of several planes with ones.

    Raises:
        TypeError: a tensor is neither float32 nor float64, or they differ.
        ValueError: a shape or a device is wrong.

    Source: Chen et al., TensoRF, 2022, equations 4 and 5 with linear interpolation and corners
    aligned; Fridovich-Keil et al., K-Planes, 2023. Deviation: clamping instead of zero padding.

    Example:
        >>> spec = TensorPlanesSpec.vm((8, 8, 8), rank=4)
        >>> tensor_planes(torch.rand(5, 3), torch.ones(spec.n_params), spec).shape
        torch.Size([5, 12])
    """
    features: Tensor = _forward(positions, table, *spec.arguments)
    return features


_SPEC = "int[] resolution, int rank, str terms, str interpolation"
_NO_GRADIENT = (None,) * 4  # of the spec's arguments


def _n_output(spec: tuple[Argument, ...]) -> int:
    return _shape_of(_core, *spec).n_output


def _check(
    positions: Tensor, table: Tensor, spec: tuple[Argument, ...], grad_output: Tensor | None = None
) -> None:
    name = "tensor_planes"
    check_tensor(name, "positions", positions, (None, len(spec[0])), positions)
    check_tensor(name, "table", table, (_shape_of(_core, *spec).n_params,), positions)
    if grad_output is not None:
        shape = (positions.shape[0], _n_output(spec))
        check_tensor(name, "grad_output", grad_output, shape, positions)


# ---- features ----------------------------------------------------------------------------------


def _forward_fake(positions: Tensor, table: Tensor, *spec: Argument) -> Tensor:
    _check(positions, table, spec)
    return positions.new_empty((positions.shape[0], _n_output(spec)))


def _forward_kernel(positions: Tensor, table: Tensor, *spec: Argument) -> Tensor:
    output = _forward_fake(positions, table, *spec)
    module = native("tensor_planes", positions)
    module.tensor_planes_forward(
        _shape_of(module, *spec), positions.contiguous(), table.contiguous(), output
    )
    return output


def _setup(ctx: Context, inputs: tuple[Argument, ...], output: Tensor) -> None:
    n_tensors = len(inputs) - len(_NO_GRADIENT)
    ctx.spec = inputs[n_tensors:]
    ctx.save_for_backward(*inputs[:n_tensors])


def _forward_backward(ctx: Context, grad_output: Tensor) -> Gradients:
    positions, table = ctx.saved_tensors
    needs_positions, needs_table = ctx.needs_input_grad[:2]
    arguments = (grad_output, positions, table, *ctx.spec)
    grad_positions = _backward_positions(*arguments) if needs_positions else None
    grad_table = _backward_table(*arguments) if needs_table else None
    return grad_positions, grad_table, *_NO_GRADIENT


# ---- first derivatives ---------------------------------------------------------------------------


def _backward_positions_fake(
    grad_output: Tensor, positions: Tensor, table: Tensor, *spec: Argument
) -> Tensor:
    _check(positions, table, spec, grad_output)
    return torch.empty_like(positions, memory_format=torch.contiguous_format)


def _backward_positions_kernel(
    grad_output: Tensor, positions: Tensor, table: Tensor, *spec: Argument
) -> Tensor:
    grad_positions = _backward_positions_fake(grad_output, positions, table, *spec)
    tensors = [tensor.contiguous() for tensor in (grad_output, positions, table)]
    module = native("tensor_planes", positions)
    module.tensor_planes_backward_positions(_shape_of(module, *spec), *tensors, grad_positions)
    return grad_positions


def _backward_table_fake(
    grad_output: Tensor, positions: Tensor, table: Tensor, *spec: Argument
) -> Tensor:
    _check(positions, table, spec, grad_output)
    return torch.empty_like(table, memory_format=torch.contiguous_format)


def _backward_table_kernel(
    grad_output: Tensor, positions: Tensor, table: Tensor, *spec: Argument
) -> Tensor:
    grad_table = _backward_table_fake(grad_output, positions, table, *spec).zero_()
    tensors = [tensor.contiguous() for tensor in (grad_output, positions, table)]
    module = native("tensor_planes", positions)
    module.tensor_planes_backward_table(_shape_of(module, *spec), *tensors, grad_table)
    return grad_table


# ---- second derivatives --------------------------------------------------------------------------
# The gradients' products with their cotangents are derivatives of <grad_output, output> along
# them, so one operation serves both.


def _backward_positions_backward(ctx: Context, tangents: Tensor) -> Gradients:
    return _second_of(ctx, tangents, None)


def _backward_table_backward(ctx: Context, table_tangents: Tensor) -> Gradients:
    return _second_of(ctx, None, table_tangents)


def _second_of(ctx: Context, tangents: Tensor | None, table_tangents: Tensor | None) -> Gradients:
    needs_table = ctx.needs_input_grad[2]
    gradients = _second(tangents, table_tangents, *ctx.saved_tensors, needs_table, *ctx.spec)
    needed = zip(gradients, ctx.needs_input_grad[:3], strict=True)
    return *(gradient if needs else None for gradient, needs in needed), *_NO_GRADIENT


def _second_fake(
    tangents: Tensor | None,
    table_tangents: Tensor | None,
    grad_output: Tensor,
    positions: Tensor,
    table: Tensor,
    needs_table: bool,
    *spec: Argument,
) -> tuple[Tensor, Tensor, Tensor]:
    grad_positions = _backward_positions_fake(grad_output, positions, table, *spec)
    for name, tensor, like in (
        ("tangents", tangents, positions),
        ("table_tangents", table_tangents, table),
    ):
        if tensor is not None:
            check_tensor("tensor_planes", name, tensor, tuple(like.shape), positions)
    grad_grad_output = torch.empty_like(grad_output, memory_format=torch.contiguous_format)
    grad_table = positions.new_empty(tuple(table.shape) if needs_table else (0,))
    return grad_grad_output, grad_positions, grad_table


def _second_kernel(
    tangents: Tensor | None,
    table_tangents: Tensor | None,
    grad_output: Tensor,
    positions: Tensor,
    table: Tensor,
    needs_table: bool,
    *spec: Argument,
) -> tuple[Tensor, Tensor, Tensor]:
    results = _second_fake(
        tangents, table_tangents, grad_output, positions, table, needs_table, *spec
    )
    grad_grad_output, grad_positions, grad_table = results
    grad_table.zero_()
    module = native("tensor_planes", positions)
    module.tensor_planes_second(
        _shape_of(module, *spec),
        None if tangents is None else tangents.contiguous(),
        None if table_tangents is None else table_tangents.contiguous(),
        grad_output.contiguous(),
        positions.contiguous(),
        table.contiguous(),
        grad_grad_output,
        grad_positions,
        grad_table if needs_table else None,
    )
    return results


_second = define(
    "tensor_planes_backward_backward(Tensor? tangents, Tensor? table_tangents, "
    f"Tensor grad_output, Tensor positions, Tensor table, bool needs_table, {_SPEC}) "
    "-> (Tensor, Tensor, Tensor)",
    _second_kernel,
    _second_fake,
    save_nothing,
    no_third_order("tensor_planes"),
)
_backward_positions = define(
    "tensor_planes_backward_positions(Tensor grad_output, Tensor positions, Tensor table, "
    f"{_SPEC}) -> Tensor",
    _backward_positions_kernel,
    _backward_positions_fake,
    _setup,
    _backward_positions_backward,
)
_backward_table = define(
    "tensor_planes_backward_table(Tensor grad_output, Tensor positions, Tensor table, "
    f"{_SPEC}) -> Tensor",
    _backward_table_kernel,
    _backward_table_fake,
    _setup,
    _backward_table_backward,
)
_forward = define(
    f"tensor_planes(Tensor positions, Tensor table, {_SPEC}) -> Tensor",
    _forward_kernel,
    _forward_fake,
    _setup,
    _forward_backward,
)
