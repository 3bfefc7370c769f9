"""Light and colour: sun with a traced shadow, sky, ambient occlusion, patterns, reflections."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from neural_fields.scenes.grid import Grid, pick
from neural_fields.scenes.model import PATTERNS, Light, Material
from neural_fields.scenes.trace import surface, trace, unit

_OFFSET = 2e-3  # lifts secondary rays off the surface they start from
_REACH = (0.03, 0.07, 0.14, 0.26)  # distances at which occlusion is felt


class Look(NamedTuple):
    """A scene's materials as tensors.

    Attributes:
        color: Linear base colours [3, m].
        accent: Linear second colours [3, m].
        numbers: Pattern number, scale, specular, gloss, mirror, tint [6, m].
        part_material: Material of each part [n_parts].
        light: Sun and sky.
    """

    color: Tensor
    accent: Tensor
    numbers: Tensor
    part_material: Tensor
    light: Light


class Surface(NamedTuple):
    """Shaded points: linear color [3, n], unit normal [3, n]."""

    color: Tensor
    normal: Tensor


def to_linear(srgb: Tensor) -> Tensor:
    """Linear light from sRGB values in [0, 1]."""
    return torch.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055).pow(2.4))


def to_srgb(linear: Tensor) -> Tensor:
    """Values in sRGB, in [0, 1], from linear light, clipped."""
    x = linear.clamp(0.0, 1.0)
    return torch.where(x <= 0.0031308, x * 12.92, 1.055 * x.clamp_min(1e-6).pow(1 / 2.4) - 0.055)


def make_look(materials: list[Material], material_ids: list[int], light: Light) -> Look:
    """Packs materials for shading."""
    numbers = [
        [PATTERNS.index(m.pattern), m.scale, m.specular, m.gloss, m.mirror, float(m.tint)]
        for m in materials
    ]
    return Look(
        to_linear(torch.tensor([m.color for m in materials])).t().contiguous(),
        to_linear(torch.tensor([m.accent for m in materials])).t().contiguous(),
        torch.tensor(numbers).t().contiguous(),
        torch.tensor(material_ids),
        light,
    )


def shade(
    grid: Grid, look: Look, points: Tensor, directions: Tensor, part: Tensor, *, bounce: bool = True
) -> Surface:
    """Colour seen along directions [3, n] at surface points [3, n] of parts [n]."""
    normal, local = surface(grid, points, part)
    # A ray that skims a thin part may stop just past the point of tangency.
    normal = unit(normal - (normal * directions).sum(0).clamp_min(0.0) * directions)
    material = pick(look.part_material, part)
    pattern, scale, specular, gloss, mirror, tint = pick(look.numbers, material)
    blend = _pattern(local, pattern, scale)
    albedo = torch.lerp(pick(look.color, material), pick(look.accent, material), blend)

    sun = unit(torch.tensor(look.light.sun_direction)[:, None])
    facing = (normal * sun).sum(0)
    lit = facing.clamp_min(0.0) * _sunlit(grid, points, normal, sun, facing)
    occlusion = _occlusion(grid, points, normal)
    up = 0.5 + 0.5 * normal[2]
    sky, ground = (torch.tensor(c)[:, None] for c in (look.light.sky, look.light.ground))
    light = lit * torch.tensor(look.light.sun)[:, None] + occlusion * torch.lerp(ground, sky, up)
    half = unit(sun - directions)
    highlight = specular * (normal * half).sum(0).clamp_min(1e-4).pow(gloss)
    color = albedo * light * 0.72 + highlight * (lit > 0) * torch.tensor(look.light.sun)[:, None]
    if bounce:
        mirrored = torch.nonzero(mirror > 0)[:, 0]
        if len(mirrored):
            p, d, n = (pick(x, mirrored) for x in (points, directions, normal))
            facing_eye = (-(d * n).sum(0)).clamp(0.0, 1.0)
            base = pick(mirror, mirrored)
            share = base + (1 - base) * 0.85 * (1 - facing_eye).pow(5)
            seen = _reflected(grid, look, p, d, n) * (0.5 + 0.5 * pick(occlusion, mirrored))
            tinted = torch.lerp(seen, seen * pick(albedo, mirrored) * 1.15, pick(tint, mirrored))
            color[:, mirrored] = pick(color, mirrored) * (1 - share) + tinted * share
    return Surface(color, normal)


def environment(directions: Tensor) -> Tensor:
    """Linear light [3, n] from unit directions [3, n]: sky, warm horizon, ground, soft boxes."""
    x, y, z = directions
    up = z.clamp(0.0, 1.0).sqrt()
    sky = torch.stack([0.80 - 0.62 * up, 0.84 - 0.50 * up, 0.90 - 0.25 * up])
    down = (-z).clamp(0.0, 1.0).sqrt()
    ground = torch.stack([0.42 - 0.30 * down, 0.36 - 0.27 * down, 0.31 - 0.24 * down])
    base = torch.lerp(ground, sky, torch.sigmoid(z * 24.0))
    azimuth = torch.atan2(y, x)
    panels = torch.sigmoid(16.0 * (torch.cos(3.0 * azimuth + 0.6) - 0.55))
    band = torch.sigmoid(28.0 * (z - 0.30)) * torch.sigmoid(28.0 * (0.72 - z))
    overhead = torch.sigmoid(40.0 * (z - 0.90))
    return base + (1.35 * panels * band + 0.9 * overhead)


def _reflected(
    grid: Grid, look: Look, points: Tensor, directions: Tensor, normal: Tensor
) -> Tensor:
    """Light [3, n] arriving along the mirror direction: the scene once, else the environment."""
    mirrored = directions - 2 * (directions * normal).sum(0) * normal
    origins = points + _OFFSET * normal
    hits = trace(grid, origins, mirrored)
    result = environment(mirrored)
    found = torch.nonzero(hits.part >= 0)[:, 0]
    if len(found):
        d = pick(mirrored, found)
        p = pick(origins, found) + pick(hits.distance, found) * d
        result[:, found] = shade(grid, look, p, d, pick(hits.part, found), bounce=False).color
    return result


def _sunlit(grid: Grid, points: Tensor, normal: Tensor, sun: Tensor, facing: Tensor) -> Tensor:
    """1 where the sun is seen from points [3, n], else 0."""
    lit = torch.zeros(points.shape[1])
    toward = torch.nonzero(facing > 0)[:, 0]
    start = pick(points, toward) + _OFFSET * pick(normal, toward)
    blocked = trace(grid, start, sun.expand(3, len(toward)).contiguous()).part >= 0
    lit[toward] = (~blocked).float()
    return lit


def _occlusion(grid: Grid, points: Tensor, normal: Tensor) -> Tensor:
    """Share [n] of the sky that is open, from distances felt along the normal."""
    closed = torch.zeros(points.shape[1])
    for weight, reach in zip((0.30, 0.28, 0.24, 0.20), _REACH, strict=True):
        distance = grid.smooth_distance(points + reach * normal)
        closed += weight * (1.0 - distance / reach).clamp(0.0, 1.0)
    return (1.0 - closed).clamp(0.12, 1.0)


def _pattern(local: Tensor, pattern: Tensor, scale: Tensor) -> Tensor:
    """Blend factor [n] between base and accent colour at local points [3, n]."""
    result = torch.zeros(local.shape[1])
    for number, name in enumerate(PATTERNS[1:], 1):
        chosen = torch.nonzero(pattern == number)[:, 0]
        if len(chosen):
            result[chosen] = _blend(name, pick(local, chosen) * pick(scale, chosen))
    return result


def _blend(name: str, place: Tensor) -> Tensor:
    x, y, z = place
    if name == "stripes":
        return (torch.floor(z + 0.25) % 2).float()
    if name == "checker":
        return (torch.floor(place + 0.25).sum(0) % 2).float()
    if name == "rings":
        return (torch.floor(torch.hypot(x, y)) % 2).float()
    if name == "panels":
        groove = (place - torch.round(place)).abs().amin(0)
        return (groove < 0.05).float()
    wave = torch.sin(3.1 * x + 1.7 * torch.sin(2.3 * y)) + torch.sin(
        2.9 * y + 1.9 * torch.sin(2.7 * z)
    )
    return (0.5 + 0.25 * (wave * torch.cos(3.7 * z + 1.3 * x))).clamp(0.0, 1.0)
