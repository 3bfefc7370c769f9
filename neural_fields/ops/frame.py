"""One moment of a video: positions through a displacement, a stack of 2-D grids and a network.

The hot path of fitting and decoding videos: what `frame` computes is what `voxels` of every level,
a concatenation and `mlp` compute one after the other; a test holds them equal. On the CPU, in
float32.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from neural_fields import _core
from neural_fields.ops._library import native
from neural_fields.ops.mlp import MlpSpec

Place = tuple[float, float, float, float]


@dataclass(frozen=True)
class FrameSpec:
    """The shape of a moment: values(p) = network(levels(scale p + offset + motion(p))).

    Attributes:
        levels: (width, height, channels) of each grid: 1 to 32 grids of at least 2 vertices per
            axis and 1, 2, 4 or 8 channels.
        network: from all channels, in their order, to the values; hidden layers none, relu,
            softplus or sigmoid without normalize, float32.
        motion: (width, height) of the displacement's grid, of 2 channels; None: nothing moves.

    Raises:
        ValueError: the parts do not fit.

    Example:
        >>> FrameSpec(((64, 36, 2), (16, 9, 2)), MlpSpec((4, 16, 3)), motion=(8, 6)).n_grids
        4896
    """

    levels: tuple[tuple[int, int, int], ...]
    network: MlpSpec
    motion: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        _shape_of(self)

    @property
    def n_grids(self) -> int:
        """Numbers of all levels: one after the other, each [height, width, channels]."""
        return _shape_of(self).n_grids


@functools.lru_cache(maxsize=64)
def _shape_of(spec: FrameSpec) -> _core.FrameShape:
    network = _core.MlpShape(*spec.network.arguments)
    return _core.FrameShape(spec.levels, *(spec.motion or (0, 0)), network)


def frame(
    positions: Tensor,
    grids: Tensor,
    params: Tensor,
    spec: FrameSpec,
    motion: Tensor | None = None,
    place: Place = (1.0, 1.0, 0.0, 0.0),
) -> Tensor:
    """Values at positions of a picture.

    Args:
        positions: [n, 2] in [0, 1], x and y; get no gradient.
        grids: [spec.n_grids]; corners are aligned to the ends of [0, 1], lookups clamped to it.
        params: [spec.network.n_params].
        spec: the shape.
        motion: [height, width, 2], what is added to the place of a lookup; None where
            `spec.motion` is None.
        place: scale x, scale y, offset x, offset y from positions to places in the grids.

    Returns:
        [n, spec.network.n_output], once differentiable in grids, params and motion, whose gradient
        is 0 where a lookup is clamped; a second time raises.

    Raises:
        TypeError: a tensor is not float32.
        ValueError: a shape is wrong.

    Example:
        >>> spec = FrameSpec(((8, 6, 2),), MlpSpec((2, 16, 3)))
        >>> grids, params = torch.rand(spec.n_grids), torch.rand(spec.network.n_params)
        >>> frame(torch.rand(5, 2), grids, params, spec).shape
        torch.Size([5, 3])
    """
    result: Tensor = _Frame.apply(positions, grids, params, motion, spec, place)  # type: ignore[no-untyped-call]
    return result


class Slice(NamedTuple):
    """A grid between moments [1 or 2, height, width, channels], by the share of the second."""

    moments: Tensor
    share: float

    @property
    def between(self) -> Tensor:
        """[height, width, channels]."""
        if len(self.moments) == 1:
            return self.moments[0]
        return torch.lerp(self.moments[0], self.moments[1], self.share)


def frame_lattice(
    x: Tensor,
    y: Tensor,
    levels: Sequence[Slice],
    params: Tensor,
    spec: FrameSpec,
    motion: Slice | None = None,
    place: Place = (1.0, 1.0, 0.0, 0.0),
    unit: tuple[float, float] = (1.0, 1.0),
) -> Tensor:
    """Values at all crossings of columns and rows of a picture: `frame` for showing videos.

    Args:
        x: [width] in [0, 1].
        y: [height] in [0, 1].
        levels: of each grid the moments around the one that is shown.
        params: as for `frame`, as are the next.
        spec: the shape.
        motion: of displacements; None where `spec.motion` is None.
        place: as for `frame`.
        unit: by which x and y of displacements are multiplied.

    Returns:
        [height, width, spec.network.n_output], not differentiable.

    Raises:
        TypeError: a tensor is not float32.
        ValueError: a shape is wrong.

    Example:
        >>> spec = FrameSpec(((8, 6, 2),), MlpSpec((2, 16, 3)))
        >>> level = Slice(torch.rand(2, 6, 8, 2), 0.5)
        >>> x, y = torch.linspace(0, 1, 16), torch.linspace(0, 1, 12)
        >>> frame_lattice(x, y, [level], torch.rand(spec.network.n_params), spec).shape
        torch.Size([12, 16, 3])
    """
    output = torch.empty(len(y), len(x), spec.network.n_output)
    native("frame", x).frame_lattice(
        _shape_of(spec),
        place,
        x,
        y,
        [(level.moments.detach(), level.share) for level in levels],
        None if motion is None else (motion.moments.detach(), motion.share),
        unit,
        params.detach(),
        output,
    )
    return output


class _Frame(torch.autograd.Function):
    """See `frame`."""

    @staticmethod
    def forward(
        ctx: Any,
        positions: Tensor,
        grids: Tensor,
        params: Tensor,
        motion: Tensor | None,
        spec: FrameSpec,
        place: Place,
    ) -> Tensor:
        output = torch.empty(positions.shape[0], spec.network.n_output)
        native("frame", positions).frame_forward(
            _shape_of(spec), place, positions, grids, motion, params, output
        )
        ctx.spec, ctx.place = spec, place
        ctx.save_for_backward(positions, grids, params, motion)
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        positions, grids, params, motion = ctx.saved_tensors
        grad_grids, grad_params = torch.empty_like(grids), torch.empty_like(params)
        grad_motion = None if motion is None else torch.empty_like(motion)
        native("frame", positions).frame_backward(
            _shape_of(ctx.spec),
            ctx.place,
            positions,
            grids,
            motion,
            params,
            grad_output.contiguous(),
            grad_grids,
            grad_motion,
            grad_params,
        )
        return None, grad_grids, grad_params, grad_motion, None, None
