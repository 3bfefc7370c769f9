"""Images of radiance fields."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from neural_fields.fields import RadianceField, Samples
from neural_fields.ops import composite, march, radiance_render
from neural_fields.rendering.cameras import Cameras
from neural_fields.rendering.footprint import cone_variances

CULL = 1e-4  # a sample of less weight gets no colour: below a third of an 8-bit step per ray
NORMAL_STEP = 1 / 64  # units: a cell of the occupancy grid
Mode = Literal["rgb", "depth", "normal", "opacity"]


class Rendered(NamedTuple):
    """What rays see.

    color [n, 3] premultiplied, without background; opacity [n] in [0, 1]; depth [n], the sum of
    weight times distance along the ray, world units.
    """

    color: Tensor
    opacity: Tensor
    depth: Tensor


@torch.no_grad()
def render_rays(
    field: RadianceField, origins: Tensor, directions: Tensor, pixel_widths: Tensor | None = None
) -> Rendered:
    """Render rays through a field's occupied cells.

    Args:
        field: a radiance field.
        origins: float32 [n, 3], world.
        directions: float32 [n, 3], unit length.
        pixel_widths: float32 [n], of the rays' pixels at unit distance, for fields that see cones;
            None: those of no width.

    Returns:
        Colour, opacity and depth; not differentiable (training has its own path).
    """
    origins, directions = origins.contiguous(), directions.contiguous()
    spec = field.fused_spec()
    if spec is None:
        if pixel_widths is None:
            pixel_widths = origins.new_zeros(origins.shape[0])
        return _render_by_ops(field, origins, directions, pixel_widths)
    n = origins.shape[0]
    rendered = Rendered(torch.empty(n, 3), torch.empty(n), torch.empty(n))
    radiance_render(
        spec,
        field.fused_params(),
        field.march_scene(),
        field.occupancy,
        origins,
        directions,
        *rendered,
        stop=field.config.sampling.stop,
        cull=CULL,
    )
    return rendered


def _render_by_ops(
    field: RadianceField, origins: Tensor, directions: Tensor, pixel_widths: Tensor
) -> Rendered:
    parts = []
    for begin in range(0, max(origins.shape[0], 1), 8192):  # once for no rays at all
        o, d = origins[begin : begin + 8192], directions[begin : begin + 8192]
        samples = march(field.march_scene(), field.occupancy, o, d)
        counts = samples.offsets.diff()
        ray = torch.repeat_interleave(torch.arange(o.shape[0]), counts)
        middle = (samples.t_starts + samples.t_ends) / 2
        positions = o[ray] + middle[:, None] * d[ray]
        variances = None
        if field.trunk.sees_variances:
            widths = pixel_widths[begin : begin + 8192][ray]
            variances = cone_variances(samples.t_starts, samples.t_ends, d[ray], widths)
        levels = field.evaluate(Samples(positions, d[ray], variances))
        assert levels.log_density is not None
        assert levels.color is not None
        density = levels.log_density.exp() / field.unit
        out = composite(
            samples.offsets,
            samples.t_starts,
            samples.t_ends,
            density,
            levels.color,
            stop=field.config.sampling.stop,
        )
        parts.append(Rendered(out.color, out.opacity, out.depth))
    return Rendered(*(torch.cat(column) for column in zip(*parts, strict=True)))


def render_view(field: RadianceField, cameras: Cameras, index: int = 0) -> Rendered:
    """One camera's picture: like `render_rays` with shapes [h, w, 3] and [h, w]."""
    origins, directions = cameras.image_rays(index)
    widths = cameras.pixel_widths(torch.full((origins.shape[0],), index))
    out = render_rays(field, origins, directions, widths)
    size = (cameras.height, cameras.width)
    return Rendered(out.color.view(*size, 3), out.opacity.view(size), out.depth.view(size))


def over(rendered: Rendered, background: Tensor) -> Tensor:
    """The picture [..., 3] in [0, 1] over a background colour [3]."""
    return (rendered.color + (1 - rendered.opacity)[..., None] * background).clamp(0, 1)


@torch.no_grad()
def normals(field: RadianceField, origins: Tensor, directions: Tensor, out: Rendered) -> Tensor:
    """World normals [n, 3] where rays meet the surface, zero where they see nothing.

    The direction in which density falls at the mean depth, by central differences over
    `NORMAL_STEP` units: the gradient itself follows the finest cells of the grid, not the surface.
    """
    seen = out.opacity > 0.5
    depth = out.depth[seen] / out.opacity[seen]
    points = origins[seen] + depth[:, None] * directions[seen]
    low, high = torch.tensor(field.config.box)  # nothing is known beyond the box
    points = points.clamp(low, high)
    gradient = torch.empty_like(points)
    for axis in range(3):
        offset = torch.zeros(3)
        offset[axis] = NORMAL_STEP * field.unit
        after, before = torch.minimum(points + offset, high), torch.maximum(points - offset, low)
        rise = _log_density(field, after) - _log_density(field, before)
        gradient[:, axis] = rise / (after - before)[:, axis]
    result = torch.zeros_like(origins)
    result[seen] = torch.nn.functional.normalize(-gradient, dim=1)
    return result


def _log_density(field: RadianceField, points: Tensor) -> Tensor:
    log_density = field.evaluate(Samples(points), ("log_density",)).log_density
    assert log_density is not None
    return log_density
