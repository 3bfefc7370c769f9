"""Images of radiance fields."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from neural_fields.fields import RadianceField, Samples, SurfaceField
from neural_fields.fields.radiance import Corner
from neural_fields.ops import MarchScene, composite, march, radiance_render
from neural_fields.ops.threads import one_torch_thread
from neural_fields.rendering.cameras import Cameras
from neural_fields.rendering.footprint import cone_variances
from neural_fields.rendering.moments import seen_from

CULL = 1e-4  # a sample of less weight gets no colour: below a third of an 8-bit step per ray
_RAYS = 8192  # at once, where there is no fused path
_FIRST_WAVE = 16  # samples of a ray, twice as many in every next wave
NORMAL_STEP = 1 / 64  # units: a cell of the occupancy grid
Mode = Literal["rgb", "depth", "normal", "opacity"]
Box = tuple[Corner, Corner]


class Rendered(NamedTuple):
    """What rays see.

    color [n, 3] premultiplied, without background; opacity [n] in [0, 1]; depth [n], the sum of
    weight times distance along the ray, world units.
    """

    color: Tensor
    opacity: Tensor
    depth: Tensor


@torch.no_grad()
@one_torch_thread()
def render_rays(
    field: RadianceField,
    origins: Tensor,
    directions: Tensor,
    pixel_widths: Tensor | None = None,
    box: Box | None = None,
) -> Rendered:
    """Render rays through a field's occupied cells.

    Args:
        field: a radiance field.
        origins: float32 [n, 3], world.
        directions: float32 [n, 3], unit length.
        pixel_widths: float32 [n], of the rays' pixels at unit distance, for fields that see cones;
            None: those of no width.
        box: lowest and highest corner, world, of the part of the field's box that is seen; None:
            all of it.

    Returns:
        Colour, opacity and depth; not differentiable (training has its own path).
    """
    origins, directions = origins.contiguous(), directions.contiguous()
    n = origins.shape[0]
    scene, spec = _cropped(field, box), field.fused_spec()
    if scene is None:
        return Rendered(torch.zeros(n, 3), torch.zeros(n), torch.zeros(n))
    if spec is None:
        if pixel_widths is None:
            pixel_widths = origins.new_zeros(n)
        return _render_by_ops(field, scene, origins, directions, pixel_widths)
    rendered = Rendered(torch.empty(n, 3), torch.empty(n), torch.empty(n))
    radiance_render(
        spec,
        field.fused_params(),
        scene,
        field.occupancy,
        origins,
        directions,
        *rendered,
        stop=field.config.sampling.stop,
        cull=CULL,
    )
    return rendered


def _cropped(field: RadianceField, box: Box | None) -> MarchScene | None:
    """What rays are marched through; None where that is nothing."""
    scene = field.march_scene()
    if box is None:
        return scene
    (x0, y0, z0), (x1, y1, z1) = (
        [limit(pair) for pair in zip(ours, theirs, strict=True)]
        for limit, ours, theirs in ((max, scene.box_min, box[0]), (min, scene.box_max, box[1]))
    )
    if not (x0 < x1 and y0 < y1 and z0 < z1):
        return None
    return replace(scene, box_min=(x0, y0, z0), box_max=(x1, y1, z1))


def _render_by_ops(
    field: RadianceField,
    scene: MarchScene,
    origins: Tensor,
    directions: Tensor,
    pixel_widths: Tensor,
) -> Rendered:
    parts = []
    for begin in range(0, max(origins.shape[0], 1), _RAYS):  # once for no rays at all
        rays = slice(begin, begin + _RAYS)
        chunk = (origins[rays], directions[rays], pixel_widths[rays])
        parts.append(_render_in_waves(field, scene, *chunk))
    return Rendered(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _render_in_waves(
    field: RadianceField,
    scene: MarchScene,
    origins: Tensor,
    directions: Tensor,
    pixel_widths: Tensor,
) -> Rendered:
    """The next samples of all rays, then of those that are not opaque yet, and so on."""
    n, stop = origins.shape[0], field.config.sampling.stop
    samples = march(scene, field.occupancy, origins, directions)
    color, depth, passed = torch.zeros(n, 3), torch.zeros(n), torch.ones(n)
    active, first, end = torch.arange(n), samples.offsets[:-1], samples.offsets[1:]
    wave = _FIRST_WAVE
    while active.numel():
        counts = (end - first).clamp(max=wave)
        offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        ray = torch.repeat_interleave(active, counts)
        within = torch.arange(int(offsets[-1])) - torch.repeat_interleave(offsets[:-1], counts)
        index = torch.repeat_interleave(first, counts) + within
        t_starts, t_ends = samples.t_starts[index], samples.t_ends[index]
        positions = origins[ray] + ((t_starts + t_ends) / 2)[:, None] * directions[ray]
        variances = None
        if field.trunk.sees_variances:
            variances = cone_variances(t_starts, t_ends, directions[ray], pixel_widths[ray])
        levels = field.evaluate(Samples(positions, directions[ray], variances))
        assert levels.log_density is not None
        assert levels.color is not None
        density = levels.log_density.exp() / field.unit
        out = composite(offsets, t_starts, t_ends, density, levels.color, stop=stop)
        before = passed[active]
        color[active] += before[:, None] * out.color
        depth[active] += before * out.depth
        passed[active] = before * (1 - out.opacity)
        first = first + counts
        goes_on = (first < end) & (passed[active] >= stop)
        active, first, end = active[goes_on], first[goes_on], end[goes_on]
        wave *= 2
    return Rendered(color, 1 - passed, depth)


def render_view(field: RadianceField, cameras: Cameras, index: int = 0) -> Rendered:
    """One camera's picture: like `render_rays` with shapes [h, w, 3] and [h, w]."""
    field = seen_from(field, cameras, index)
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

    The direction in which density falls, or the distance of a surface grows, at the mean depth, by
    central differences over `NORMAL_STEP` units, of a surface a quarter of it: the gradient itself
    follows the finest cells of the grid, not the surface.
    """
    seen = out.opacity > 0.5
    depth = out.depth[seen] / out.opacity[seen]
    points = origins[seen] + depth[:, None] * directions[seen]
    low, high = torch.tensor(field.config.box)  # nothing is known beyond the box
    points = points.clamp(low, high)
    gradient = torch.empty_like(points)
    for axis in range(3):
        offset = torch.zeros(3)
        offset[axis] = normal_step(field) * field.unit
        after, before = torch.minimum(points + offset, high), torch.maximum(points - offset, low)
        rise = _log_density(field, after) - _log_density(field, before)
        gradient[:, axis] = rise / (after - before)[:, axis]
    result = torch.zeros_like(origins)
    result[seen] = torch.nn.functional.normalize(-gradient, dim=1)
    return result


def normal_step(field: RadianceField) -> float:
    """Units over which normals are differences."""
    return NORMAL_STEP / 4 if isinstance(field, SurfaceField) else NORMAL_STEP


def _log_density(field: RadianceField, points: Tensor) -> Tensor:
    """Or what falls like it, of a surface."""
    if isinstance(field, SurfaceField):
        return -field.distance(Samples(points))
    log_density = field.evaluate(Samples(points), ("log_density",)).log_density
    assert log_density is not None
    return log_density
