"""Multiresolution hash grid: positions to concatenated features of all levels."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from types import ModuleType
from typing import Literal, NamedTuple

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


class HashGridLevel(NamedTuple):
    """Geometry of one level."""

    scale: float  # cells per unit length
    resolution: int  # vertices per axis
    n_entries: int
    offset: int  # its first entry in the table
    indexing: str  # dense, hash or tiled


@dataclass(frozen=True)
class HashGridSpec:
    """The shape of a hash grid.

    Level l has `base_resolution * per_level_scale**l - 1` cells per unit length. The growth is
    given either directly or by the finest resolution; with neither it is 2.

    Attributes:
        n_dims: 2, 3 or 4.
        n_levels: 1 to 32.
        n_features: per level, 1, 2, 4 or 8.
        log2_table_size: 3 to 28; a hashed level has at most 2**log2_table_size entries.
        base_resolution: vertices per axis of the coarsest level.
        per_level_scale: growth from level to level, at least 1.
        finest_resolution: of the last level, instead of `per_level_scale`.
        grid_type: `hash`; `dense` (every vertex has an entry of its own) or `tiled` (levels repeat
            a tile of base_resolution**n_dims entries).
        interpolation: `linear`, or `smoothstep` for a continuous gradient.
        convention: `tiny-cuda-nn`, where a dense level has resolution**n_dims entries and wraps at
            the upper edge; or `torch-ngp` (and PVD), where it has (resolution + 1)**n_dims and
            does not; with grid_type `hash` only.

    Example:
        >>> spec = HashGridSpec(n_levels=16, n_features=2, finest_resolution=2048)
        >>> spec.n_entries, spec.n_output, spec.levels[4].resolution
        (6098120, 32, 59)
    """

    n_dims: int = 3
    n_levels: int = 8
    n_features: int = 4
    log2_table_size: int = 19
    base_resolution: int = 16
    per_level_scale: float | None = None
    finest_resolution: int | None = None
    grid_type: Literal["hash", "dense", "tiled"] = "hash"
    interpolation: Literal["linear", "smoothstep"] = "linear"
    convention: Literal["tiny-cuda-nn", "torch-ngp"] = "tiny-cuda-nn"

    def __post_init__(self) -> None:
        names = ("n_dims", "n_levels", "n_features", "log2_table_size", "base_resolution")
        check_integers("HashGridSpec", **{name: getattr(self, name) for name in names})
        if self.finest_resolution is not None:
            check_integers("HashGridSpec", finest_resolution=self.finest_resolution)
            if self.per_level_scale is not None:
                raise ValueError(
                    "HashGridSpec: needs per_level_scale or finest_resolution, got both."
                )
            if self.finest_resolution < self.base_resolution:
                raise ValueError(
                    "HashGridSpec: finest_resolution needs to be at least base_resolution "
                    f"{self.base_resolution}, got {self.finest_resolution}."
                )
            if self.n_levels == 1 and self.finest_resolution != self.base_resolution:
                raise ValueError(
                    "HashGridSpec: finest_resolution of a single level needs to be its "
                    f"base_resolution {self.base_resolution}, got {self.finest_resolution}."
                )
        _shape_of(_core, *self.arguments)

    @property
    def growth(self) -> float:
        """The factor between the resolutions of neighbouring levels."""
        if self.per_level_scale is not None:
            return float(self.per_level_scale)
        if self.finest_resolution is None:
            return 2.0
        ratio = self.finest_resolution / self.base_resolution
        return math.exp(math.log(ratio) / max(self.n_levels - 1, 1))

    @property
    def arguments(self) -> tuple[int, int, int, int, int, float, str, str, str]:
        """The spec as the plain arguments that follow the tensors of every operation."""
        return (
            self.n_dims,
            self.n_levels,
            self.n_features,
            self.log2_table_size,
            self.base_resolution,
            self.growth,
            self.grid_type,
            self.interpolation,
            self.convention,
        )

    @property
    def n_entries(self) -> int:
        """Entries of all levels: the table is [n_entries, n_features]."""
        return _shape_of(_core, *self.arguments).n_entries

    @property
    def n_output(self) -> int:
        """Features of a point, all levels together."""
        return self.n_levels * self.n_features

    @property
    def levels(self) -> tuple[HashGridLevel, ...]:
        """Geometry of the levels, coarsest first."""
        return tuple(HashGridLevel(*level) for level in _shape_of(_core, *self.arguments).levels)


@functools.lru_cache(maxsize=256)
def _shape_of(module: ModuleType, *arguments: Argument) -> _core.HashGridShape:
    shape: _core.HashGridShape = module.HashGridShape(*arguments)
    return shape


class SparseGradient(NamedTuple):
    """Where gradients of a table are added up between steps of `adam_step`, which clears both.

    values float32 [n_entries * n_features]; touched uint8, one per 16 of them, 1 where some were
    added to.
    """

    values: Tensor
    touched: Tensor


@with_reference
def hash_grid(positions: Tensor, table: Tensor, spec: HashGridSpec) -> Tensor:
    """Look up the features of every level at every position.

    Args:
        positions: [n, n_dims] float32 or float64, in [0, 1]. Positions outside are clamped, with
            zero gradient there; NaN reads as 0, with zero gradient.
        table: [spec.n_entries, n_features], of the same type and device.
        spec: the shape of the grid.

    Returns:
        [n, n_levels * n_features]: the features of the coarsest level first.

    Differentiable twice in positions and table. With linear interpolation the first derivative
    in positions jumps at cell borders and the second has mixed terms only; `smoothstep` has a
    continuous first and a piecewise continuous second derivative. A third order raises.

    Raises:
        TypeError: a tensor is neither float32 nor float64, or they differ.
        ValueError: a shape or a device is wrong.

    Source: Mueller et al., Instant Neural Graphics Primitives, 2022, equations 1 to 4, in the
    convention of tiny-cuda-nn: scale N_min b^l - 1, half a cell of offset, dense levels that wrap
    at the upper edge; or of torch-ngp, with a row of entries past that edge. Deviation: clamping
    (torch-ngp answers zeros outside).

    Example:
        >>> spec = HashGridSpec(n_dims=2, n_levels=4, n_features=2, log2_table_size=12)
        >>> table = torch.ones(spec.n_entries, spec.n_features)
        >>> hash_grid(torch.rand(5, 2), table, spec).shape
        torch.Size([5, 8])
    """
    features: Tensor = _forward(positions, table, *spec.arguments)
    return features


def hash_grid_sparse(
    positions: Tensor, table: Tensor, spec: HashGridSpec, sparse: SparseGradient
) -> Tensor:
    """`hash_grid` whose table's gradient is added to `sparse`, while autograd sees none.

    Autograd would fill a tensor as large as the table in every step. On the CPU, in float32; once
    differentiable.

    Raises:
        TypeError: as `hash_grid`; in the backward pass, `sparse` is of another type.
        ValueError: as `hash_grid`; in the backward pass, `sparse` is of another shape.

    Example:
        >>> spec = HashGridSpec(n_dims=2, n_levels=4, n_features=2, log2_table_size=12)
        >>> table = torch.ones(spec.n_entries, 2, requires_grad=True)
        >>> blocks = torch.zeros((table.numel() + 15) // 16, dtype=torch.uint8)
        >>> sparse = SparseGradient(torch.zeros(table.numel()), blocks)
        >>> hash_grid_sparse(torch.rand(5, 2), table, spec, sparse).sum().backward()
        >>> table.grad is None, round(sparse.values.sum().item())
        (True, 40)
    """
    features: Tensor = _IntoSparse.apply(positions, table, spec, sparse)  # type: ignore[no-untyped-call]
    return features


class _IntoSparse(torch.autograd.Function):
    """Autograd sees no gradient of the table: it is added to what `sparse` holds."""

    @staticmethod
    def forward(
        ctx: Context, positions: Tensor, table: Tensor, spec: HashGridSpec, sparse: SparseGradient
    ) -> Tensor:
        ctx.spec, ctx.sparse = spec, sparse
        ctx.save_for_backward(positions, table)
        return _forward_kernel(positions, table, *spec.arguments)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Context, grad_output: Tensor) -> Gradients:
        positions, table = ctx.saved_tensors
        grad_positions = None
        if ctx.needs_input_grad[0]:
            grad_positions = _backward_positions(grad_output, positions, table, *ctx.spec.arguments)
        if ctx.needs_input_grad[1]:
            module = native("hash_grid", positions)
            module.hash_grid_backward_table(
                _shape_of(module, *ctx.spec.arguments),
                grad_output.contiguous(),
                positions.contiguous(),
                ctx.sparse.values.view(table.shape),
                ctx.sparse.touched,
            )
        return grad_positions, None, None, None


_SPEC = (
    "int n_dims, int n_levels, int n_features, int log2_table_size, int base_resolution, "
    "float per_level_scale, str grid_type, str interpolation, str convention"
)
_NO_GRADIENT = (None,) * len(_SPEC.split(", "))


def _n_output(spec: tuple[Argument, ...]) -> int:
    return int(spec[1] * spec[2])


def _check_positions(positions: Tensor, spec: tuple[Argument, ...]) -> None:
    check_tensor("hash_grid", "positions", positions, (None, spec[0]), positions)


def _check_table(table: Tensor, positions: Tensor, spec: tuple[Argument, ...]) -> None:
    shape = (_shape_of(_core, *spec).n_entries, spec[2])
    check_tensor("hash_grid", "table", table, shape, positions)


def _check_grad(grad_output: Tensor, positions: Tensor, spec: tuple[Argument, ...]) -> None:
    shape = (positions.shape[0], _n_output(spec))
    check_tensor("hash_grid", "grad_output", grad_output, shape, positions)


# ---- features ----------------------------------------------------------------------------------


def _forward_fake(positions: Tensor, table: Tensor, *spec: Argument) -> Tensor:
    _check_positions(positions, spec)
    _check_table(table, positions, spec)
    return positions.new_empty((positions.shape[0], _n_output(spec)))


def _forward_kernel(positions: Tensor, table: Tensor, *spec: Argument) -> Tensor:
    output = _forward_fake(positions, table, *spec)
    module = native("hash_grid", positions)
    module.hash_grid_forward(
        _shape_of(module, *spec), positions.contiguous(), table.contiguous(), output
    )
    return output


def _forward_setup(ctx: Context, inputs: tuple[Argument, ...], output: Tensor) -> None:
    positions, table, *ctx.spec = inputs
    ctx.save_for_backward(positions, table)


def _forward_backward(ctx: Context, grad_output: Tensor) -> Gradients:
    positions, table = ctx.saved_tensors
    needs_positions, needs_table = ctx.needs_input_grad[:2]
    grad_positions = grad_table = None
    if needs_positions:
        grad_positions = _backward_positions(grad_output, positions, table, *ctx.spec)
    if needs_table:
        grad_table = _backward_table(grad_output, positions, *ctx.spec)
    return grad_positions, grad_table, *_NO_GRADIENT


# ---- gradient of the table -----------------------------------------------------------------------
# Linear in grad_output, with the weights of the forward pass: its transpose is the forward pass.


def _backward_table_fake(grad_output: Tensor, positions: Tensor, *spec: Argument) -> Tensor:
    _check_positions(positions, spec)
    _check_grad(grad_output, positions, spec)
    return positions.new_empty((_shape_of(_core, *spec).n_entries, spec[2]))


def _backward_table_kernel(grad_output: Tensor, positions: Tensor, *spec: Argument) -> Tensor:
    grad_table = _backward_table_fake(grad_output, positions, *spec).zero_()
    module = native("hash_grid", positions)
    module.hash_grid_backward_table(
        _shape_of(module, *spec), grad_output.contiguous(), positions.contiguous(), grad_table
    )
    return grad_table


def _backward_setup(ctx: Context, inputs: tuple[Argument, ...], output: Tensor) -> None:
    n_tensors = len(inputs) - len(_NO_GRADIENT)
    ctx.spec = inputs[n_tensors:]
    ctx.save_for_backward(*inputs[:n_tensors])


def _backward_table_backward(ctx: Context, tangent: Tensor) -> Gradients:
    grad_output, positions = ctx.saved_tensors
    grad_grad_output = grad_positions = None
    if ctx.needs_input_grad[0]:
        grad_grad_output = _forward(positions, tangent, *ctx.spec)
    if ctx.needs_input_grad[1]:
        grad_positions = _backward_positions(grad_output, positions, tangent, *ctx.spec)
    return grad_grad_output, grad_positions, *_NO_GRADIENT


# ---- gradient of the positions, and its own gradients --------------------------------------------


def _backward_positions_fake(
    grad_output: Tensor, positions: Tensor, table: Tensor, *spec: Argument
) -> Tensor:
    _check_positions(positions, spec)
    _check_table(table, positions, spec)
    _check_grad(grad_output, positions, spec)
    return torch.empty_like(positions, memory_format=torch.contiguous_format)


def _backward_positions_kernel(
    grad_output: Tensor, positions: Tensor, table: Tensor, *spec: Argument
) -> Tensor:
    grad_positions = _backward_positions_fake(grad_output, positions, table, *spec)
    module = native("hash_grid", positions)
    module.hash_grid_backward_positions(
        _shape_of(module, *spec),
        grad_output.contiguous(),
        positions.contiguous(),
        table.contiguous(),
        grad_positions,
    )
    return grad_positions


def _backward_positions_backward(ctx: Context, tangents: Tensor) -> Gradients:
    grad_output, positions, table = ctx.saved_tensors
    gradients = _second(tangents, grad_output, positions, table, ctx.needs_input_grad[2], *ctx.spec)
    needed = zip(gradients, ctx.needs_input_grad[:3], strict=True)
    return *(gradient if needs else None for gradient, needs in needed), *_NO_GRADIENT


def _second_fake(
    tangents: Tensor,
    grad_output: Tensor,
    positions: Tensor,
    table: Tensor,
    needs_table: bool,
    *spec: Argument,
) -> tuple[Tensor, Tensor, Tensor]:
    grad_positions = _backward_positions_fake(grad_output, positions, table, *spec)
    check_tensor("hash_grid", "tangents", tangents, tuple(positions.shape), positions)
    grad_grad_output = positions.new_empty((positions.shape[0], _n_output(spec)))
    grad_table = positions.new_empty(tuple(table.shape) if needs_table else (0,))
    return grad_grad_output, grad_positions, grad_table


def _second_kernel(
    tangents: Tensor,
    grad_output: Tensor,
    positions: Tensor,
    table: Tensor,
    needs_table: bool,
    *spec: Argument,
) -> tuple[Tensor, Tensor, Tensor]:
    results = _second_fake(tangents, grad_output, positions, table, needs_table, *spec)
    grad_grad_output, grad_positions, grad_table = results
    grad_table.zero_()
    module = native("hash_grid", positions)
    module.hash_grid_second(
        _shape_of(module, *spec),
        tangents.contiguous(),
        grad_output.contiguous(),
        positions.contiguous(),
        table.contiguous(),
        grad_grad_output,
        grad_positions,
        grad_table if needs_table else None,
    )
    return results


_second = define(
    "hash_grid_backward_backward(Tensor tangents, Tensor grad_output, Tensor positions, "
    f"Tensor table, bool needs_table, {_SPEC}) -> (Tensor, Tensor, Tensor)",
    _second_kernel,
    _second_fake,
    save_nothing,
    no_third_order("hash_grid"),
)
_backward_positions = define(
    "hash_grid_backward_positions(Tensor grad_output, Tensor positions, Tensor table, "
    f"{_SPEC}) -> Tensor",
    _backward_positions_kernel,
    _backward_positions_fake,
    _backward_setup,
    _backward_positions_backward,
)
_backward_table = define(
    f"hash_grid_backward_table(Tensor grad_output, Tensor positions, {_SPEC}) -> Tensor",
    _backward_table_kernel,
    _backward_table_fake,
    _backward_setup,
    _backward_table_backward,
)
_forward = define(
    f"hash_grid(Tensor positions, Tensor table, {_SPEC}) -> Tensor",
    _forward_kernel,
    _forward_fake,
    _forward_setup,
    _forward_backward,
)
