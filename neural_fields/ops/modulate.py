"""Coordinate-aware modulation: scales and shifts from small grids, and their application."""

from __future__ import annotations

import math
from dataclasses import dataclass

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
    not_native,
    save_nothing,
    with_reference,
)
from neural_fields.ops.voxels import lookup


@dataclass(frozen=True)
class ModulationSpec:
    """The shape of a grid of scales and shifts.

    Attributes:
        resolution: vertices per axis, 1 to 3 axes of at least 2 vertices each.
        n_layers: layers with a scale and a shift each, 1 to 128.
        wrap: per axis whether it is periodic with period 1 (vertex i of r at i / r); the others
            have vertices at both ends and clamp. Empty: none is.

    Example:
        >>> spec = ModulationSpec((32, 32), n_layers=3)
        >>> spec.n_vertices * spec.n_channels
        6144
    """

    resolution: tuple[int, ...]
    n_layers: int
    wrap: tuple[bool, ...] = ()

    def __post_init__(self) -> None:
        for resolution in self.resolution:
            check_integers("ModulationSpec", resolution=resolution)
        check_integers("ModulationSpec", n_layers=self.n_layers)
        if len(self.resolution) not in (1, 2, 3):
            raise ValueError(
                f"ModulationSpec: resolution needs 1, 2 or 3 axes, got {len(self.resolution)}."
            )
        if not all(2 <= resolution <= 1 << 22 for resolution in self.resolution):
            raise ValueError(
                f"ModulationSpec: resolution needs 2 to 2^22 vertices, got {self.resolution}."
            )
        if not 1 <= self.n_layers <= 128:
            raise ValueError(f"ModulationSpec: n_layers needs 1 to 128, got {self.n_layers}.")
        if self.wrap and len(self.wrap) != len(self.resolution):
            raise ValueError(f"ModulationSpec: wrap needs one value per axis, got {self.wrap}.")
        _core.VoxelsShape(*self.arguments)

    @property
    def arguments(self) -> tuple[tuple[int, ...], int, int, str, tuple[bool, ...]]:
        """The spec as the plain arguments of the lookup."""
        wrap = tuple(self.wrap) or (False,) * len(self.resolution)
        return tuple(self.resolution), self.n_channels, 0, "linear", wrap

    @property
    def n_dims(self) -> int:
        """Number of coordinates."""
        return len(self.resolution)

    @property
    def n_vertices(self) -> int:
        """Vertices of the grid, which is [n_vertices, n_channels] with axis 0 fastest."""
        return math.prod(self.resolution)

    @property
    def n_channels(self) -> int:
        """A scale and a shift per layer."""
        return 2 * self.n_layers

    def initial(self) -> Tensor:
        """The grid that changes nothing: scales of 1 and shifts of 0."""
        grid = torch.zeros(self.n_vertices, self.n_channels)
        grid[:, : self.n_layers] = 1
        return grid


@with_reference
def modulation(coordinates: Tensor, grid: Tensor, spec: ModulationSpec) -> tuple[Tensor, Tensor]:
    """Interpolate the scales and shifts of every layer.

    Args:
        coordinates: [n, n_dims] float32 or float64, in [0, 1]. Outside, wrapped axes repeat; the
            others are clamped, with zero gradient there. NaN reads as 0, with zero gradient.
        grid: [spec.n_vertices, 2 * n_layers], of the same type and device; axis 0 is the fastest.
            The first n_layers channels are scales, the others shifts.
        spec: the shape of the grid.

    Returns:
        scale [n, n_layers], shift [n, n_layers]: views of one tensor.

    Differentiable twice in coordinates and grid; a third order raises.

    Raises:
        TypeError: a tensor is neither float32 nor float64, or they differ.
        ValueError: a shape or a device is wrong.

    Source: Lee et al., Coordinate-Aware Modulation for Neural Fields, 2024, with linear
    interpolation and corners aligned. Deviation: clamping in all tasks, where some of the
    authors' code pads with zeros; wrapped axes.

    Example:
        >>> spec = ModulationSpec((10, 3), n_layers=8, wrap=(True, False))
        >>> scale, shift = modulation(torch.rand(5, 2), spec.initial(), spec)
        >>> scale.shape, float(scale.min()), float(shift.max())
        (torch.Size([5, 8]), 1.0, 0.0)
    """
    check_tensor("modulation", "coordinates", coordinates, (None, spec.n_dims), coordinates)
    shape = (spec.n_vertices, spec.n_channels)
    check_tensor("modulation", "grid", grid, shape, coordinates)
    values: Tensor = lookup(coordinates, grid, None, *spec.arguments)
    return values[:, : spec.n_layers], values[:, spec.n_layers :]


@with_reference
def modulate(features: Tensor, scale: Tensor, shift: Tensor, normalize: bool) -> Tensor:
    """Scale and shift the features of every sample, after normalising them where asked.

    Args:
        features: [n, n_channels] float32 or float64.
        scale: [n], of the same type and device.
        shift: [n], of the same type and device.
        normalize: first subtract each sample's mean over its channels and divide by its standard
            deviation (biased variance plus 1e-5).

    Returns:
        [n, n_channels]: scale * normalised + shift, or scale * features + shift. A sample never
        depends on another one.

    Differentiable once in features, scale and shift; a second order raises.

    Raises:
        TypeError: a tensor is neither float32 nor float64, or they differ.
        ValueError: a shape or a device is wrong.

    Source: Lee et al., Coordinate-Aware Modulation for Neural Fields, 2024: between a layer's
    product and its activation.

    Example:
        >>> features = torch.tensor([[1.0, 2.0, 3.0]])
        >>> modulate(features, torch.ones(1), torch.ones(1), normalize=False)
        tensor([[2., 3., 4.]])
    """
    values: Tensor = _forward(features, scale, shift, normalize)
    return values


def _check(features: Tensor, scale: Tensor, shift: Tensor | None = None) -> None:
    check_tensor("modulate", "features", features, (None, None), features)
    if features.shape[1] == 0:
        raise ValueError("modulate: features needs at least one channel, got none.")
    check_tensor("modulate", "scale", scale, (features.shape[0],), features)
    if shift is not None:
        check_tensor("modulate", "shift", shift, (features.shape[0],), features)


def _forward_fake(features: Tensor, scale: Tensor, shift: Tensor, normalize: bool) -> Tensor:
    _check(features, scale, shift)
    return torch.empty_like(features, memory_format=torch.contiguous_format)


def _forward_kernel(features: Tensor, scale: Tensor, shift: Tensor, normalize: bool) -> Tensor:
    output = _forward_fake(features, scale, shift, normalize)
    tensors = [tensor.contiguous() for tensor in (features, scale, shift)]
    native("modulate", features).modulate_forward(*tensors, normalize, output)
    return output


def _forward_setup(ctx: Context, inputs: tuple[Argument, ...], output: Tensor) -> None:
    features, scale, _, ctx.normalize = inputs
    ctx.save_for_backward(features, scale)


def _forward_backward(ctx: Context, grad_output: Tensor) -> Gradients:
    gradients = _backward(grad_output, *ctx.saved_tensors, ctx.normalize)
    needed = zip(gradients, ctx.needs_input_grad[:3], strict=True)
    return *(gradient if needs else None for gradient, needs in needed), None


def _backward_fake(
    grad_output: Tensor, features: Tensor, scale: Tensor, normalize: bool
) -> tuple[Tensor, Tensor, Tensor]:
    _check(features, scale)
    check_tensor("modulate", "grad_output", grad_output, tuple(features.shape), features)
    n_samples = features.shape[0]
    grad_features = torch.empty_like(features, memory_format=torch.contiguous_format)
    return grad_features, features.new_empty(n_samples), features.new_empty(n_samples)


def _backward_kernel(
    grad_output: Tensor, features: Tensor, scale: Tensor, normalize: bool
) -> tuple[Tensor, Tensor, Tensor]:
    results = _backward_fake(grad_output, features, scale, normalize)
    tensors = [tensor.contiguous() for tensor in (grad_output, features, scale)]
    native("modulate", features).modulate_backward(*tensors, normalize, *results)
    return results


def _no_second_order(ctx: Context, *grads: Tensor) -> Gradients:
    raise not_native("modulate", "second-order derivatives")


_backward = define(
    "modulate_backward(Tensor grad_output, Tensor features, Tensor scale, bool normalize) "
    "-> (Tensor, Tensor, Tensor)",
    _backward_kernel,
    _backward_fake,
    save_nothing,
    _no_second_order,
)
_forward = define(
    "modulate(Tensor features, Tensor scale, Tensor shift, bool normalize) -> Tensor",
    _forward_kernel,
    _forward_fake,
    _forward_setup,
    _forward_backward,
)
