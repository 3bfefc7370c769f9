"""Images of radiance fields."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from neural_fields.fields import RadianceField, Samples, SurfaceField
from neural_fields.fields.radiance import Corner
from neural_fields.ops import MarchScene, composite, march, radiance_render, vector
from neural_fields.ops.threads import one_torch_thread
from neural_fields.rendering.cameras import Cameras
from neural_fields.rendering.footprint import cone_variances
from neural_fields.rendering.moments import seen_from

CULL = 1e-4  # a sample of less weight gets no colour: below a third of an 8-bit step per ray
_RAYS = 8192  # at once, where there is no fused path
_RAYS_OF_GPU = 1 << 17  # each wave of them waits once for the GPU
_SAMPLES = 1 << 21  # of a wave, evaluated at once
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
        field: a radiance field, on whose device it is computed.
        origins: float32 [n, 3], world.
        directions: float32 [n, 3], unit length.
        pixel_widths: float32 [n], of the rays' pixels at unit distance, for fields that see cones;
            None: those of no width.
        box: lowest and highest corner, world, of the part of the field's box that is seen; None:
            all of it.

    Returns:
        Colour, opacity and depth, on the rays' device; not differentiable (training has its own
        path).
    """
    back, device = origins.device, field.occupancy.device
    origins, directions = (rays.to(device).contiguous() for rays in (origins, directions))
    n = origins.shape[0]
    scene, spec = _cropped(field, box), field.fused_spec()
    if scene is None:
        nothing = torch.zeros(n, device=back)
        return Rendered(torch.zeros(n, 3, device=back), nothing, nothing.clone())
    if spec is None:
        if pixel_widths is None:
            pixel_widths = origins.new_zeros(n)
        pixel_widths = pixel_widths.to(device)
        found = _render_by_ops(field, scene, origins, directions, pixel_widths)
        return Rendered(*(part.to(back) for part in found))
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
    parts, n = [], _RAYS if origins.device.type == "cpu" else _RAYS_OF_GPU
    for begin in range(0, max(origins.shape[0], 1), n):  # once for no rays at all
        rays = slice(begin, begin + n)
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
    color, depth, passed = origins.new_zeros(n, 3), origins.new_zeros(n), origins.new_ones(n)
    active = torch.arange(n, device=origins.device)
    first, end = samples.offsets[:-1], samples.offsets[1:]
    wave = _FIRST_WAVE
    while active.numel():
        counts = (end - first).clamp(max=wave)
        offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        n_samples = int(offsets[-1])
        place = torch.repeat_interleave(counts, output_size=n_samples)
        ray = active[place]
        within = torch.arange(n_samples, device=ray.device) - offsets[place]
        index = first[place] + within
        t_starts, t_ends = samples.t_starts[index], samples.t_ends[index]
        positions = origins[ray] + ((t_starts + t_ends) / 2)[:, None] * directions[ray]
        variances = None
        if field.trunk.sees_variances:
            variances = cone_variances(t_starts, t_ends, directions[ray], pixel_widths[ray])
        density, seen = _evaluated(field, Samples(positions, directions[ray], variances))
        out = composite(offsets, t_starts, t_ends, density, seen, stop=stop)
        before = passed[active]
        color[active] += before[:, None] * out.color
        depth[active] += before * out.depth
        passed[active] = before * (1 - out.opacity)
        first = first + counts
        goes_on = (first < end) & (passed[active] >= stop)
        active, first, end = active[goes_on], first[goes_on], end[goes_on]
        wave *= 2
    return Rendered(color, 1 - passed, depth)


def _evaluated(field: RadianceField, samples: Samples) -> tuple[Tensor, Tensor]:
    """Density per world length [n] and colour [n, 3], in parts that memory holds."""
    densities, colors = [], []
    for begin in range(0, max(len(samples.positions), 1), _SAMPLES):
        rows = slice(begin, begin + _SAMPLES)
        parts: Any = (x if x is None else x[rows] for x in samples)
        levels = field.evaluate(Samples(*parts))
        assert levels.log_density is not None
        assert levels.color is not None
        densities.append(levels.log_density.exp() / field.unit)
        colors.append(levels.color)
    return torch.cat(densities), torch.cat(colors)


def render_view(field: RadianceField, cameras: Cameras, index: int = 0) -> Rendered:
    """One camera's picture: like `render_rays`, [h, w, 3] and [h, w] on the cameras' device."""
    field, back = seen_from(field, cameras, index), cameras.focal.device
    cameras = cameras.to(field.occupancy.device)
    origins, directions = cameras.image_rays(index)
    widths = cameras.pixel_widths(torch.full((origins.shape[0],), index, device=origins.device))
    out = render_rays(field, origins, directions, widths)
    size = (cameras.height, cameras.width)
    color, opacity, depth = (part.to(back) for part in out)
    return Rendered(color.view(*size, 3), opacity.view(size), depth.view(size))


def over(rendered: Rendered, background: Tensor) -> Tensor:
    """The picture [..., 3] in [0, 1] over a background colour [3]."""
    return (rendered.color + (1 - rendered.opacity)[..., None] * background).clamp(0, 1)


@torch.no_grad()
def normals(field: RadianceField, origins: Tensor, directions: Tensor, out: Rendered) -> Tensor:
    """World normals [n, 3] where rays meet the surface, zero where they see nothing.

    On the device of the rays. The direction in which density falls, or the distance of a surface
    grows, at the mean depth, by central differences over `NORMAL_STEP` units, of a surface a
    quarter of it: the gradient itself follows the finest cells of the grid, not the surface.
    """
    back, device = origins.device, field.occupancy.device
    origins, directions = origins.to(device), directions.to(device)
    out = Rendered(*(part.to(device) for part in out))
    seen = out.opacity > 0.5
    depth = out.depth[seen] / out.opacity[seen]
    points = origins[seen] + depth[:, None] * directions[seen]
    # Nothing is known beyond the box.
    low, high = (vector(corner, points) for corner in field.config.box)
    points = points.clamp(low, high)
    gradient = torch.empty_like(points)
    for axis in range(3):
        offset = points.new_zeros(3)
        offset[axis] = normal_step(field) * field.unit
        after, before = torch.minimum(points + offset, high), torch.maximum(points - offset, low)
        rise = _log_density(field, after) - _log_density(field, before)
        gradient[:, axis] = rise / (after - before)[:, axis]
    result = torch.zeros_like(origins)
    result[seen] = torch.nn.functional.normalize(-gradient, dim=1)
    return result.to(back)


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
