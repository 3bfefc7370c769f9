"""Planes through a shape that show its distances, with isolines."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from neural_fields.errors import InputError
from neural_fields.fields import Samples, SdfField
from neural_fields.ops import device_of
from neural_fields.rendering.surface import surface_rays
from neural_fields.rendering.volume import Box, over

_LINES = 24  # isolines per unit
_LINE_PX, _ZERO_PX = 0.7, 1.6  # half widths
_OUTSIDE, _INSIDE = (0.35, 0.55, 0.80), (0.90, 0.60, 0.30)
_THICK = 0.7  # opacity of the plane outside of the shape


@dataclass(frozen=True)
class Slice:
    """A plane across an axis.

    Attributes:
        axis: 0, 1 or 2 for x, y or z.
        at: where, world.

    Raises:
        InputError: there is no such axis.
    """

    axis: int
    at: float

    def __post_init__(self) -> None:
        if self.axis not in (0, 1, 2):
            raise InputError(f"slice: needs axis 0, 1 or 2, got {self.axis}.")


@torch.no_grad()
def slice_rays(
    field: SdfField,
    origins: Tensor,
    directions: Tensor,
    pixel_widths: Tensor,
    plane: Slice,
    background: Tensor,
    box: Box | None = None,
) -> Tensor:
    """What rays see of a shape that is cut open by a plane.

    The part on the rays' side of the plane is taken away. On the plane colours tell inside
    (orange) from outside (blue, a little transparent); thin lines are at every 1/24 unit of
    distance, the thick one is the surface.

    Args:
        field: the shape.
        origins: float32 [n, 3], world.
        directions: float32 [n, 3], unit length.
        pixel_widths: float32 [n], of the rays' pixels at unit distance.
        plane: where it is cut.
        background: sRGB in [0, 1], [3].
        box: lowest and highest corner, world, of the part that is seen; None: the field's box.

    Returns:
        sRGB [n, 3]; not differentiable.
    """
    low, high = (list(corner) for corner in (field.config.box if box is None else box))
    a, at = plane.axis, min(max(plane.at, low[plane.axis]), high[plane.axis])
    behind = _Cut(low, high, a, at)
    above = origins[:, a] > at
    color = torch.empty(len(origins), 3)
    for side in (True, False):
        rays = above == side
        rendered, _ = surface_rays(field, origins[rays], directions[rays], behind.box(above=side))
        color[rays] = over(rendered, background)
    depth, hit = behind.meet(origins, directions)
    positions = origins[hit] + depth[hit, None] * directions[hit]
    width = depth[hit] * pixel_widths[hit]
    plane_color, opacity = _painted(field, positions, width)
    color[hit] = torch.lerp(color[hit], plane_color, opacity[:, None])
    return color


class _Cut:
    """A box and a plane across one of its axes."""

    def __init__(self, low: list[float], high: list[float], axis: int, at: float) -> None:
        self._low, self._high, self._axis, self._at = low, high, axis, at

    def box(self, *, above: bool) -> Box:
        """What is left for rays that come from above, or below."""
        low, high = [*self._low], [*self._high]
        (high if above else low)[self._axis] = self._at
        return (low[0], low[1], low[2]), (high[0], high[1], high[2])

    def meet(self, origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Depths [n] of the plane, and whether rays meet it within the box."""
        toward = directions[:, self._axis]
        toward = torch.where(toward.abs() < 1e-9, 1e-9, toward)
        depth = (self._at - origins[:, self._axis]) / toward
        at = origins + depth[:, None] * directions
        low, high = origins.new_tensor(self._low), origins.new_tensor(self._high)
        within = (at >= low) & (at <= high)
        within[:, self._axis] = True
        return depth, within.all(1) & (depth > 0)


def _painted(field: SdfField, positions: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
    """Colours [n, 3] and opacities [n] of places on the plane, pixels there being `width` wide."""
    if not len(positions):
        return positions, positions[:, 0]
    distance = field.distance(Samples(positions.to(device_of(field)))).to(width.device) / field.unit
    width = width / field.unit
    inside = distance < 0
    fill = torch.where(
        inside[:, None], positions.new_tensor(_INSIDE), positions.new_tensor(_OUTSIDE)
    )
    fill = fill * (1 - 0.35 * distance.abs().clamp(max=1))[:, None]
    from_line = (distance * _LINES - (distance * _LINES).round()).abs() / _LINES
    thin = (1 - from_line / (_LINE_PX * width)).clamp(0, 0.6)
    # Where lines would be closer than four pixels they would be a grey.
    thin = thin * ((1 / _LINES) / (4 * width)).clamp(max=1)
    thick = (1 - distance.abs() / (_ZERO_PX * width)).clamp(0, 1)
    line = torch.maximum(thin, (2 * thick).clamp(max=1))
    opacity = torch.where(inside, 1.0, _THICK)
    return fill * (1 - line)[:, None], torch.maximum(opacity, line)
