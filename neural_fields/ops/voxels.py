"""Dense voxels: interpolated channels, or density and colours from spherical harmonics."""

from __future__ import annotations

import functools
import math
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


@dataclass(frozen=True)
class VoxelsSpec:
    """The shape of a dense grid.

    Attributes:
        resolution: vertices per axis, 2 to 4 axes of at least 2 vertices each.
        n_channels: per vertex, 1 to 256; with harmonics 1 + 3 n_harmonics.
        n_harmonics: 0, or coefficients per colour: 1, 4, 9 or 16.
        interpolation: `linear`, or `smoothstep` for a continuous gradient.

    Example:
        >>> spec = VoxelsSpec((128, 128, 128), n_channels=28, n_harmonics=9)
        >>> spec.n_vertices * spec.n_channels, spec.n_output
        (58720256, 4)
    """

    resolution: tuple[int, ...]
    n_channels: int
    n_harmonics: int = 0
    interpolation: Literal["linear", "smoothstep"] = "linear"

    def __post_init__(self) -> None:
        for resolution in self.resolution:
            check_integers("VoxelsSpec", resolution=resolution)
        check_integers("VoxelsSpec", n_channels=self.n_channels, n_harmonics=self.n_harmonics)
        if len(self.resolution) not in (2, 3, 4):
            raise ValueError(
                f"VoxelsSpec: resolution needs 2, 3 or 4 axes, got {len(self.resolution)}."
            )
        _shape_of(_core, *self.arguments)

    @property
    def arguments(self) -> tuple[tuple[int, ...], int, int, str, tuple[bool, ...]]:
        """The spec as the plain arguments that follow the tensors of every operation."""
        wrap = (False,) * len(self.resolution)
        sizes = tuple(self.resolution)
        return sizes, self.n_channels, self.n_harmonics, self.interpolation, wrap

    @property
    def n_dims(self) -> int:
        """Number of axes."""
        return len(self.resolution)

    @property
    def n_vertices(self) -> int:
        """Vertices of the grid, which is [n_vertices, n_channels] with x fastest."""
        return math.prod(self.resolution)

    @property
    def n_output(self) -> int:
        """Numbers per point: the channels, or density and three colours."""
        return 4 if self.n_harmonics else self.n_channels


def _shape_of(
    module: ModuleType,
    resolution: Sequence[int],
    n_channels: int,
    n_harmonics: int,
    interpolation: str,
    wrap: Sequence[bool],
) -> _core.VoxelsShape:
    sizes, wraps = tuple(resolution), tuple(wrap)
    return _cached_shape(module, sizes, n_channels, n_harmonics, interpolation, wraps)


@functools.lru_cache(maxsize=256)
def _cached_shape(module: ModuleType, *arguments: Argument) -> _core.VoxelsShape:
    shape: _core.VoxelsShape = module.VoxelsShape(*arguments)
    return shape


@with_reference
def voxels(
    positions: Tensor, grid: Tensor, spec: VoxelsSpec, directions: Tensor | None = None
) -> Tensor:
    """Interpolate a dense grid at every position.

    Args:
        positions: [n, n_dims] float32 or float64, in [0, 1]. Positions outside are clamped, with
            zero gradient there; NaN reads as 0, with zero gradient.
        grid: [spec.n_vertices, n_channels], of the same type and device; x is the fastest axis.
        spec: the shape of the grid.
        directions: [n, 3] unit vectors for the harmonics; without them the colours are 0.

    Returns:
        [n, n_channels], or with n_harmonics = k > 0 [n, 4]: channel 0 as it is, and for each colour
        c the sum over j of channel 1 + c k + j times the harmonic j of the direction, before any
        activation.

    Differentiable twice in positions and grid. Directions get no gradient. With linear
    interpolation the first derivative in positions jumps at cell borders; `smoothstep` has a
    continuous first and a piecewise continuous second derivative. A third order raises.

    Raises:
        TypeError: a tensor is neither float32 nor float64, or they differ.
        ValueError: a shape or a device is wrong.

    Source: the dense tensor of PVD (Fang et al. 2023), after Plenoxels (Fridovich-Keil et al.
    2022). Deviation: clamping.

    Example:
        >>> spec = VoxelsSpec((8, 8, 8), n_channels=13, n_harmonics=4)
        >>> directions = torch.tensor([[0.0, 0.0, 1.0]]).expand(5, 3)
        >>> voxels(torch.rand(5, 3), torch.ones(spec.n_vertices, 13), spec, directions).shape
        torch.Size([5, 4])
    """
    values: Tensor = lookup(positions, grid, directions, *spec.arguments)
    return values


_SPEC = "int[] resolution, int n_channels, int n_harmonics, str interpolation, bool[] wrap"
_N_SPEC = 5


def _check(
    positions: Tensor,
    directions: Tensor | None,
    spec: tuple[Argument, ...],
    grid: Tensor | None = None,
    grad_output: Tensor | None = None,
) -> None:
    check_tensor("voxels", "positions", positions, (None, len(spec[0])), positions)
    n_points, shape = positions.shape[0], _shape_of(_core, *spec)
    if grid is not None:
        check_tensor("voxels", "grid", grid, (shape.n_vertices, spec[1]), positions)
    if directions is not None:
        check_tensor("voxels", "directions", directions, (n_points, 3), positions)
    if grad_output is not None:
        wanted = (n_points, shape.n_output)
        check_tensor("voxels", "grad_output", grad_output, wanted, positions)


def _contiguous(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.contiguous()


# ---- values --------------------------------------------------------------------------------------


def _forward_fake(
    positions: Tensor, grid: Tensor, directions: Tensor | None, *spec: Argument
) -> Tensor:
    _check(positions, directions, spec, grid)
    return positions.new_empty((positions.shape[0], _shape_of(_core, *spec).n_output))


def _forward_kernel(
    positions: Tensor, grid: Tensor, directions: Tensor | None, *spec: Argument
) -> Tensor:
    output = _forward_fake(positions, grid, directions, *spec)
    tensors = [_contiguous(tensor) for tensor in (positions, grid, directions)]
    module = native("voxels", positions)
    module.voxels_forward(_shape_of(module, *spec), *tensors, output)
    return output


def _setup(ctx: Context, inputs: tuple[Argument, ...], output: Tensor) -> None:
    ctx.spec = inputs[-_N_SPEC:]
    ctx.save_for_backward(*inputs[:-_N_SPEC])


def _forward_backward(ctx: Context, grad_output: Tensor) -> Gradients:
    positions, grid, directions = ctx.saved_tensors
    needs_positions, needs_grid = ctx.needs_input_grad[:2]
    grad_positions = grad_grid = None
    if needs_positions:
        grad_positions = _backward_positions(grad_output, positions, grid, directions, *ctx.spec)
    if needs_grid:
        grad_grid = _backward_grid(grad_output, positions, directions, *ctx.spec)
    return grad_positions, grad_grid, None, *(None,) * _N_SPEC


# ---- gradient of the grid ------------------------------------------------------------------------
# Linear in grad_output, with the weights of the forward pass: its transpose is the forward pass.


def _backward_grid_fake(
    grad_output: Tensor, positions: Tensor, directions: Tensor | None, *spec: Argument
) -> Tensor:
    _check(positions, directions, spec, None, grad_output)
    return positions.new_empty((_shape_of(_core, *spec).n_vertices, spec[1]))


def _backward_grid_kernel(
    grad_output: Tensor, positions: Tensor, directions: Tensor | None, *spec: Argument
) -> Tensor:
    grad_grid = _backward_grid_fake(grad_output, positions, directions, *spec).zero_()
    tensors = [_contiguous(tensor) for tensor in (grad_output, positions, directions)]
    module = native("voxels", positions)
    module.voxels_backward_grid(_shape_of(module, *spec), *tensors, grad_grid)
    return grad_grid


def _backward_grid_backward(ctx: Context, tangent: Tensor) -> Gradients:
    grad_output, positions, directions = ctx.saved_tensors
    grad_grad_output = grad_positions = None
    if ctx.needs_input_grad[0]:
        grad_grad_output = lookup(positions, tangent, directions, *ctx.spec)
    if ctx.needs_input_grad[1]:
        grad_positions = _backward_positions(grad_output, positions, tangent, directions, *ctx.spec)
    return grad_grad_output, grad_positions, None, *(None,) * _N_SPEC


# ---- gradient of the positions, and its own gradients --------------------------------------------


def _backward_positions_fake(
    grad_output: Tensor,
    positions: Tensor,
    grid: Tensor,
    directions: Tensor | None,
    *spec: Argument,
) -> Tensor:
    _check(positions, directions, spec, grid, grad_output)
    return torch.empty_like(positions, memory_format=torch.contiguous_format)


def _backward_positions_kernel(
    grad_output: Tensor,
    positions: Tensor,
    grid: Tensor,
    directions: Tensor | None,
    *spec: Argument,
) -> Tensor:
    grad_positions = _backward_positions_fake(grad_output, positions, grid, directions, *spec)
    tensors = [_contiguous(tensor) for tensor in (grad_output, positions, grid, directions)]
    module = native("voxels", positions)
    module.voxels_backward_positions(_shape_of(module, *spec), *tensors, grad_positions)
    return grad_positions


def _backward_positions_backward(ctx: Context, tangents: Tensor) -> Gradients:
    gradients = _second(tangents, *ctx.saved_tensors, ctx.needs_input_grad[2], *ctx.spec)
    needed = zip(gradients, ctx.needs_input_grad[:3], strict=True)
    kept = [gradient if needs else None for gradient, needs in needed]
    return *kept, None, *(None,) * _N_SPEC


def _second_fake(
    tangents: Tensor,
    grad_output: Tensor,
    positions: Tensor,
    grid: Tensor,
    directions: Tensor | None,
    needs_grid: bool,
    *spec: Argument,
) -> tuple[Tensor, Tensor, Tensor]:
    grad_positions = _backward_positions_fake(grad_output, positions, grid, directions, *spec)
    check_tensor("voxels", "tangents", tangents, tuple(positions.shape), positions)
    grad_grad_output = torch.empty_like(grad_output, memory_format=torch.contiguous_format)
    grad_grid = positions.new_empty(tuple(grid.shape) if needs_grid else (0,))
    return grad_grad_output, grad_positions, grad_grid


def _second_kernel(
    tangents: Tensor,
    grad_output: Tensor,
    positions: Tensor,
    grid: Tensor,
    directions: Tensor | None,
    needs_grid: bool,
    *spec: Argument,
) -> tuple[Tensor, Tensor, Tensor]:
    tensors = (tangents, grad_output, positions, grid, directions)
    results = _second_fake(*tensors, needs_grid, *spec)
    grad_grad_output, grad_positions, grad_grid = results
    grad_grid.zero_()
    module = native("voxels", positions)
    module.voxels_second(
        _shape_of(module, *spec),
        *(_contiguous(tensor) for tensor in tensors),
        grad_grad_output,
        grad_positions,
        grad_grid if needs_grid else None,
    )
    return results


_second = define(
    "voxels_backward_backward(Tensor tangents, Tensor grad_output, Tensor positions, Tensor grid, "
    f"Tensor? directions, bool needs_grid, {_SPEC}) -> (Tensor, Tensor, Tensor)",
    _second_kernel,
    _second_fake,
    save_nothing,
    no_third_order("voxels"),
)
_backward_positions = define(
    "voxels_backward_positions(Tensor grad_output, Tensor positions, Tensor grid, "
    f"Tensor? directions, {_SPEC}) -> Tensor",
    _backward_positions_kernel,
    _backward_positions_fake,
    _setup,
    _backward_positions_backward,
)
_backward_grid = define(
    "voxels_backward_grid(Tensor grad_output, Tensor positions, Tensor? directions, "
    f"{_SPEC}) -> Tensor",
    _backward_grid_kernel,
    _backward_grid_fake,
    _setup,
    _backward_grid_backward,
)
# Also what `modulation` is made of.
lookup = define(
    f"voxels(Tensor positions, Tensor grid, Tensor? directions, {_SPEC}) -> Tensor",
    _forward_kernel,
    _forward_fake,
    _setup,
    _forward_backward,
)
