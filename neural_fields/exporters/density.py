"""Where a radiance field has its surface."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from neural_fields.fields import RadianceField, Samples, SurfaceField
from neural_fields.ops import march, radiance_density
from neural_fields.rendering.cameras import Cameras
from neural_fields.rendering.volume import normal_step

N_VIEWS = 8  # training cameras that are looked through
SIDE_PX = 64  # their longer side
HALF_LENGTH = 0.01  # units behind which half of the light is gone, where no camera is known
_CHUNK = 1 << 18


def into_box(field: RadianceField, positions: Tensor) -> Tensor:
    """The nearest places [n, 3] of the field's box: nothing is known beyond it."""
    low, high = positions.new_tensor(field.config.box)
    return torch.minimum(torch.maximum(positions, low), high)


@torch.no_grad()
def log_density(field: RadianceField, positions: Tensor) -> Tensor:
    """Log of the density per unit [n] at world positions [n, 3] of the box, by the fast path."""
    spec = field.fused_spec()
    if spec is None:
        answer = field.evaluate(Samples(positions), ("log_density",)).log_density
        assert answer is not None
        return answer
    out = torch.empty(positions.shape[0])
    radiance_density(spec, field.fused_params(), field.to_cube(positions).clamp_(0, 1), out)
    return out


def falling(field: RadianceField, positions: Tensor) -> Tensor:
    """Where density falls, or a surface's distance grows, at positions [n, 3]; of any length.

    By central differences over `normal_step` units, as `nf render --mode normal` has them: the
    gradient itself follows the finest cells of a grid, not the surface.
    """
    result = torch.empty_like(positions)
    for axis, step in enumerate(torch.eye(3) * (normal_step(field) * field.unit)):
        after, before = (into_box(field, positions + side) for side in (step, -step))
        result[:, axis] = _falls(field, before) - _falls(field, after)
    return result


@torch.no_grad()
def _falls(field: RadianceField, positions: Tensor) -> Tensor:
    if isinstance(field, SurfaceField):
        return -field.distance(Samples(positions))
    return log_density(field, positions)


def surface_level(field: RadianceField, scene: Mapping[str, Any]) -> tuple[float, str]:
    """The density per world length at which a mesh is taken, and how it was found, in words.

    Half of the median density where rays of training cameras have lost half of their light; where
    no camera is stored, or none of them sees anything, the density that takes half of the light
    within `HALF_LENGTH` units.

    Raises:
        InputError: the scene's cameras are broken.
    """
    stored = scene.get("cameras")
    if stored is None:
        found, why = None, "the file lists no training cameras"
    else:
        cameras = Cameras.from_json(stored, "the field's own cameras")
        found, why = _half_way(field, cameras), "no training camera sees a surface"
    if found is not None:
        return (
            found / 2,
            "half of the median density where training rays have lost half of it",
        )
    thin = f"{HALF_LENGTH:.0%} of half the box's longest side"
    return (
        math.log(2) / (HALF_LENGTH * field.unit),
        f"the density that takes half of the light within {thin} ({why})",
    )


def _half_way(field: RadianceField, cameras: Cameras) -> float | None:
    """Median density where rays through small pictures have lost half of their light."""
    factor = max(1, -(-max(cameras.width, cameras.height) // SIDE_PX))
    small = cameras.downscaled(min(factor, cameras.width, cameras.height))
    views = torch.linspace(0, len(small) - 1, min(N_VIEWS, len(small))).round().long()
    found = torch.cat([_half_way_densities(field, *small.image_rays(int(i))) for i in views])
    return float(found.median()) if len(found) else None


def _half_way_densities(field: RadianceField, origins: Tensor, directions: Tensor) -> Tensor:
    """Density per world length [m] where rays [n, 3] pass half transmittance, of those that do."""
    samples = march(field.march_scene(), field.occupancy, origins, directions)
    ray = torch.repeat_interleave(torch.arange(len(origins)), samples.offsets.diff())
    middle = (samples.t_starts + samples.t_ends)[:, None] / 2
    parts = torch.split(origins[ray] + middle * directions[ray], _CHUNK)
    density = torch.cat([log_density(field, into_box(field, part)) for part in parts])
    density = density.exp_().div_(field.unit)
    lost = (density.double() * (samples.t_ends - samples.t_starts)).cumsum(0)
    begins, ends = samples.offsets[:-1], samples.offsets[1:]
    before = torch.cat([lost.new_zeros(1), lost])[begins]
    first = torch.searchsorted(lost, before + math.log(2))
    return density[first[first < ends]]
