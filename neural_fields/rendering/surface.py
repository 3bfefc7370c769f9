"""Images of signed distance fields."""

from __future__ import annotations

import torch
from torch import Tensor

from neural_fields.fields import Samples, SdfField
from neural_fields.ops import device_of, vector
from neural_fields.rendering.cameras import Cameras
from neural_fields.rendering.volume import Box, Rendered

STEPS = 256  # most that a ray makes
CAREFUL = 0.8  # share of the distance that a step goes: fitted slopes are not 1 everywhere
NEAR = 2e-4  # units from the surface that count as on it
NORMAL_STEP = 1 / 256  # units
GREY, AMBIENT = 0.85, 0.25  # of the shaded surface, lit from where it is seen
_CHUNK = 1 << 17


@torch.no_grad()
def trace_rays(
    field: SdfField, origins: Tensor, directions: Tensor, box: Box | None = None
) -> tuple[Tensor, Tensor]:
    """Find where rays enter a surface (sphere tracing, Hart 1996).

    Args:
        field: the shape; what lies outside of its box is not seen.
        origins: float32 [n, 3], world.
        directions: float32 [n, 3], unit length.
        box: lowest and highest corner, world, of the part that is seen; None: the field's box.

    Returns:
        Depths [n], world units, and whether rays meet the surface, bool [n]. Steps are `CAREFUL`
        shares of the distance; a ray that is not there after `STEPS` sees nothing.
    """
    low, high = (vector(corner, origins) for corner in field.config.box)
    if box is not None:
        low = torch.maximum(low, vector(box[0], low))
        high = torch.minimum(high, vector(box[1], high))
    inverse = 1 / torch.where(directions.abs() < 1e-12, 1e-12, directions)
    to_low, to_high = (low - origins) * inverse, (high - origins) * inverse
    depth = torch.minimum(to_low, to_high).amax(1).clamp(min=0)
    far = torch.maximum(to_low, to_high).amin(1)
    hit = torch.zeros_like(depth, dtype=torch.bool)
    active = (depth < far).nonzero()[:, 0]
    for _ in range(STEPS):
        if active.numel() == 0:
            break
        positions = origins[active] + depth[active, None] * directions[active]
        distance = _distances(field, positions)
        near = distance < NEAR * field.unit
        hit[active[near]] = True
        depth[active] += torch.where(near, 0.0, CAREFUL * distance)
        active = active[~near & (depth[active] < far[active])]
    return depth, hit


def _distances(field: SdfField, positions: Tensor) -> Tensor:
    parts = [field.distance(Samples(part)) for part in torch.split(positions, _CHUNK)]
    return torch.cat(parts) if len(positions) else positions[:, 0]


def render_surface(field: SdfField, cameras: Cameras, index: int = 0) -> tuple[Rendered, Tensor]:
    """One camera's picture of a shape, lit from the camera.

    Returns:
        Colour [h, w, 3], opacity and depth [h, w] as of a radiance field, and world normals
        [h, w, 3], zero where nothing is seen.
    """
    rendered, normal = surface_rays(field, *cameras.image_rays(index))
    size = (cameras.height, cameras.width)
    color, opacity, depth = rendered
    flat = Rendered(color.view(*size, 3), opacity.view(size), depth.view(size))
    return flat, normal.view(*size, 3)


def surface_rays(
    field: SdfField, origins: Tensor, directions: Tensor, box: Box | None = None
) -> tuple[Rendered, Tensor]:
    """The same of rays, on their device: colour [n, 3], opacity and depth [n], normals [n, 3]."""
    back, device = origins.device, device_of(field)
    origins, directions = origins.to(device), directions.to(device)
    depth, hit = trace_rays(field, origins, directions, box)
    normal = torch.zeros_like(origins)
    normal[hit] = _slopes(field, origins[hit] + depth[hit, None] * directions[hit])
    facing = -(normal * directions).sum(1).clamp(max=0)
    shade = GREY * (AMBIENT + (1 - AMBIENT) * facing) * hit
    rendered = Rendered(shade[:, None].expand(-1, 3), hit.float(), depth * hit)
    return Rendered(*(part.to(back) for part in rendered)), normal.to(back)


@torch.no_grad()
def _slopes(field: SdfField, positions: Tensor) -> Tensor:
    """Unit normals [n, 3] by central differences: gradients follow a grid's finest cells."""
    step = NORMAL_STEP * field.unit * torch.eye(3, device=positions.device)
    low, high = (vector(corner, positions) for corner in field.config.box)
    inside = torch.minimum(torch.maximum(positions, low + step.sum(0)), high - step.sum(0))
    rises = []
    for offset in step:
        rises.append(_distances(field, inside + offset) - _distances(field, inside - offset))
    return torch.nn.functional.normalize(torch.stack(rises, 1), dim=1)
