"""A hash trunk's features and the slope of their first, with the gradients of both in one pass.

The hot path of surfaces: what `trunk_slope` computes is what `hash_grid`, `mlp` and a derivative
through both compute one after the other, forth and, for losses on slopes, back through the second
derivatives; a test holds them equal. On the CPU, in float32.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neural_fields import _core
from neural_fields.ops._library import native
from neural_fields.ops.hash_grid import HashGridSpec, SparseGradient
from neural_fields.ops.mlp import MlpSpec


@dataclass(frozen=True)
class SlopeSpec:
    """The shape of a trunk: features = network(hash grid(positions)).

    Attributes:
        grid: of 3 dimensions.
        network: from the grid's outputs to features; all widths are multiples of 16, hidden layers
            none, relu, softplus or sigmoid without normalize, no output activation, float32.

    Raises:
        ValueError: the two do not fit.

    Example:
        >>> SlopeSpec(HashGridSpec(), MlpSpec((32, 64, 16))).grid.n_levels
        8
    """

    grid: HashGridSpec
    network: MlpSpec

    def __post_init__(self) -> None:
        _core.check_slope_trunk(*_shapes_of(self))


@functools.lru_cache(maxsize=64)
def _shapes_of(spec: SlopeSpec) -> tuple[_core.HashGridShape, _core.MlpShape]:
    return _core.HashGridShape(*spec.grid.arguments), _core.MlpShape(*spec.network.arguments)


def trunk_slope(
    positions: Tensor,
    table: Tensor,
    params: Tensor,
    spec: SlopeSpec,
    sparse: SparseGradient,
    n_levels: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Features, and the gradient of the first of them in the positions.

    Args:
        positions: [n, 3] in [0, 1]; get no gradient.
        table: [spec.grid.n_entries, spec.grid.n_features].
        params: [spec.network.n_params].
        spec: the shape.
        sparse: where the table's gradient is added to, while autograd sees none.
        n_levels: that are used, the coarsest first; features of the others are 0. None: all.

    Returns:
        features [n, spec.network.n_output] and slope [n, 3], per length of the positions. Both are
        differentiable once in params and, by `sparse`, in the table; a second time raises.

    Raises:
        TypeError: a tensor is not float32.
        ValueError: a shape or `n_levels` is wrong.

    Example:
        >>> spec = SlopeSpec(HashGridSpec(log2_table_size=8), MlpSpec((32, 64, 16)))
        >>> table = torch.rand(spec.grid.n_entries, 4, requires_grad=True)
        >>> blocks = torch.zeros((table.numel() + 15) // 16, dtype=torch.uint8)
        >>> sparse = SparseGradient(torch.zeros(table.numel()), blocks)
        >>> params = torch.rand(spec.network.n_params, requires_grad=True)
        >>> features, slope = trunk_slope(torch.rand(5, 3), table, params, spec, sparse)
        >>> (slope.norm(dim=1) - 1).square().mean().backward()
        >>> features.shape, slope.shape, table.grad is None, params.grad.shape
        (torch.Size([5, 16]), torch.Size([5, 3]), True, torch.Size([3072]))
    """
    levels = spec.grid.n_levels if n_levels is None else n_levels
    features, slope = _TrunkSlope.apply(positions, table, params, spec, sparse, levels)  # type: ignore[no-untyped-call]
    return features, slope


@torch.no_grad()
def trunk_features(
    positions: Tensor,
    table: Tensor,
    params: Tensor,
    spec: SlopeSpec,
    n_levels: int | None = None,
    slope: Tensor | None = None,
) -> Tensor:
    """The features without gradients; arguments and errors as of `trunk_slope`.

    `slope`, [n, 3], is filled with the slopes; None: they are not computed.

    Example:
        >>> spec = SlopeSpec(HashGridSpec(log2_table_size=8), MlpSpec((32, 64, 16)))
        >>> table, params = torch.rand(spec.grid.n_entries, 4), torch.rand(spec.network.n_params)
        >>> trunk_features(torch.rand(5, 3), table, params, spec).shape
        torch.Size([5, 16])
    """
    levels = spec.grid.n_levels if n_levels is None else n_levels
    n, module = positions.shape[0], native("trunk_features", positions)
    encoded = torch.empty(n, spec.grid.n_output)
    features = torch.empty(n, spec.network.n_output)
    trunk = (*_shapes_of(spec), table.detach(), params.detach(), levels)
    wanted = () if slope is None else (slope,)
    module.slope_forward(*trunk, positions, encoded, features, *wanted)
    return features


class _TrunkSlope(torch.autograd.Function):
    """See `trunk_slope`."""

    @staticmethod
    def forward(
        ctx: Any,
        positions: Tensor,
        table: Tensor,
        params: Tensor,
        spec: SlopeSpec,
        sparse: SparseGradient,
        n_levels: int,
    ) -> tuple[Tensor, Tensor]:
        n, module = positions.shape[0], native("trunk_slope", positions)
        encoded = torch.empty(n, spec.grid.n_output)
        features, slope = torch.empty(n, spec.network.n_output), torch.empty(n, 3)
        trunk = (*_shapes_of(spec), table, params, n_levels)
        module.slope_forward(*trunk, positions, encoded, features, slope)
        ctx.spec, ctx.sparse, ctx.n_levels = spec, sparse, n_levels
        ctx.save_for_backward(positions, table, params, encoded)
        return features, slope

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_features: Tensor, grad_slope: Tensor) -> tuple[Tensor | None, ...]:
        positions, table, params, encoded = ctx.saved_tensors
        grad_params = torch.empty_like(params)
        native("trunk_slope", positions).slope_backward(
            *_shapes_of(ctx.spec),
            table,
            params,
            ctx.n_levels,
            positions,
            encoded,
            grad_features.contiguous(),
            grad_slope.contiguous(),
            ctx.sparse.values.view(table.shape),
            ctx.sparse.touched,
            grad_params,
        )
        return None, None, grad_params, None, None, None
