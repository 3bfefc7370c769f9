"""Surfaces that are seen: a signed distance field, and the density and colour around its zero."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from neural_fields.errors import InputError, unknown_value
from neural_fields.fields.radiance import (
    LOG_DENSITY_MIN,
    Level,
    Levels,
    RadianceConfig,
    RadianceField,
    Samples,
)
from neural_fields.ops import SlopeSpec, trunk_features, vector

Density = Literal["volsdf", "neus"]
ColorDirection = Literal["reflected", "ray"]
_ROUND = 0.1  # share of the first sphere's radius within which its distance has no kink
_THIN = 1e-3  # widths that distances along a step differ by, where it is taken as one point


@dataclass(frozen=True)
class SurfaceConfig(RadianceConfig):
    """A radiance field's configuration, and how its surface becomes a density.

    Attributes:
        density: `volsdf` or `neus`, see `SurfaceField`.
        radius: of the sphere that the surface is before anything is learned, units.
        color_direction: what a colour head sees: the ray's direction as the surface reflects it, or
            the ray's own.
    """

    density: Density = "volsdf"
    radius: float = 0.5
    color_direction: ColorDirection = "reflected"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.density not in get_args(Density):
            raise InputError(unknown_value("config: density", str(self.density), get_args(Density)))
        if self.color_direction not in get_args(ColorDirection):
            choices = get_args(ColorDirection)
            raise InputError(
                unknown_value("config: color_direction", str(self.color_direction), choices)
            )
        if not 0 < self.radius < math.inf:
            raise InputError(f"config: radius needs a positive number, got {self.radius}.")


class SurfaceField(RadianceField):
    """A signed distance, and density and view-dependent colour made of it, inside a box.

    As `RadianceField`, with `distance`. The trunk's first feature, and the distance to a sphere
    (which a trunk that knows nothing yet leaves alone), add up to a distance d, in units, negative
    inside. Its density per unit, of the width b around the surface:

    - `volsdf`: 1/b (1 - exp(d/b)/2) inside, 1/b exp(-d/b)/2 outside;
    - `neus`: 1/b sigmoid(-d/b) |cos|, of the angle between ray and normal, where the ray comes
      nearer; without a direction cos is 1.

    A colour head sees rays as the surface reflects them: a gloss is the same function of that
    wherever the surface is, so that it tells how the surface lies instead of denting it.

    Attributes:
        width: b, float32 [], units. Training lets it fall; it is not learned.

    Source: VolSDF, Yariv et al. 2021, equations 2 and 3; NeuS, Wang et al. 2021, equation 10 with
    the logistic function's width 1/s. Deviations: b is not learned but falls with training, as in
    BakedSDF (Yariv et al. 2023); the network starts beside a sphere, not as one. Reflected
    directions: Ref-NeRF, Verbin et al. 2022, equation 4, without its encoding of roughness.

    Example:
        >>> from neural_fields.architectures.hash import Hash
        >>> field = SurfaceField(SurfaceConfig(architecture=Hash(log2_table_size=12)), seed=1)
        >>> field.distance(Samples(torch.zeros(4, 3))).shape
        torch.Size([4])
    """

    kind = "surface"
    levels = ("log_density", "color")  # its features are no radiance field's
    config: SurfaceConfig
    width: Tensor

    def __init__(self, config: SurfaceConfig, seed: int | None = 0) -> None:
        """See `RadianceField`."""
        super().__init__(config, seed)
        self.register_buffer("width", torch.tensor(0.1))

    @property
    def view_dependent_density(self) -> bool:
        """Whether density depends on where it is seen from: `neus`, or as a radiance field's."""
        return self.config.density == "neus" or super().view_dependent_density

    def distance(self, samples: Samples) -> Tensor:
        """Distances [n] at samples.positions [n, 3], world units, negative inside.

        Positions outside the box take the nearest place of it. Twice differentiable in positions
        as far as the trunk is.
        """
        low, high = (vector(corner, samples.positions) for corner in self.config.box)
        inside = torch.minimum(torch.maximum(samples.positions, low), high)
        cube = samples._replace(positions=self.to_cube(inside))
        return self.encoded(cube)[0] * self.unit

    def encoded(self, cube: Samples) -> tuple[Tensor, Tensor]:
        """Distances [n] in units, and features [n, n_features] whose first they are, in the cube.

        Where the trunk makes colours itself these stand where features would.
        """
        positions = cube.positions
        if self.color_head is None:
            values = self.trunk.density_and_color(positions, cube.directions)
        else:
            seen = (cube.variances,) if self.trunk.sees_variances else ()
            values = self.trunk(positions, *self._scale_and_shift(cube, "trunk"), *seen)
        distance = values[:, 0] + self.sphere(positions)[0]
        return distance, torch.cat([distance[:, None], values[:, 1:]], 1)

    def sphere(self, cube: Tensor) -> tuple[Tensor, Tensor]:
        """Distances [n] to the first sphere, and their slopes [n, 3], at positions in the cube.

        In units; smooth at the centre, too.
        """
        offset, kink = 2 * cube - 1, _ROUND * self.config.radius
        root = ((offset * offset).sum(1) + kink * kink).sqrt()
        return root - math.hypot(self.config.radius, kink), offset / root[:, None]

    def evaluate_cube(self, samples: Samples, levels: Sequence[Level]) -> Levels:
        """See `RadianceField.evaluate_cube`.

        Where it depends on slopes these are taken as constants.
        """
        facing = self.config.density == "neus" and "log_density" in levels
        reflected = self.color_head is not None and "color" in levels and self._reflects
        if samples.directions is None or not (facing or reflected):
            (distance, features), slope = self.encoded(samples), None
        else:
            distance, features, slope = self.sloped(samples)
        log_density: Tensor | None = None
        if "log_density" in levels:
            log_density = log_density_of(self.config.density, distance, self.width)
            if facing and slope is not None and samples.directions is not None:
                normal = torch.nn.functional.normalize(slope, dim=1)
                toward = -(normal * samples.directions).sum(1)
                log_density = log_density + toward.clamp(min=1e-6).log()
            log_density = log_density.clamp(min=LOG_DENSITY_MIN)
        color = self.colors(features, samples, slope) if "color" in levels else None
        asked = "features" in levels and self.color_head is not None
        return Levels(features if asked else None, log_density, color)

    def sloped(self, samples: Samples) -> tuple[Tensor, Tensor, Tensor]:
        """What `encoded` gives, and the slopes [n, 3] of the distances, without a gradient."""
        cube, spec = samples.positions, self.slope_spec()
        if spec is None or torch.is_grad_enabled():
            distance, features = self.encoded(samples)
            with torch.enable_grad():
                at = cube.detach().requires_grad_()
                beside = self.encoded(samples._replace(positions=at))[0]
                (slope,) = torch.autograd.grad(beside.sum(), at)
            return distance, features, slope / 2
        fused, slope = self.trunk.fused(), torch.empty_like(cube)
        assert fused is not None
        features = trunk_features(cube.contiguous(), fused.table, fused.params, spec, slope=slope)
        first, outward = self.sphere(cube)
        features[:, 0] += first
        return features[:, 0], features, slope / 2 + outward

    def slope_spec(self) -> SlopeSpec | None:
        """How the native core has the trunk and its slopes in one pass; None: not."""
        fused = None if self.modulation is not None else self.trunk.fused()
        if fused is None or self.color_head is None:
            return None
        try:
            return SlopeSpec(fused.grid, fused.network)
        except ValueError:  # bf16, or widths
            return None

    @property
    def _reflects(self) -> bool:
        return self.config.color_direction == "reflected"

    def colors(self, features: Tensor, cube: Samples, slope: Tensor | None = None) -> Tensor:
        """Colours [n, 3] of what `encoded` gave, where distances have a slope [n, 3]."""
        if self.color_head is None:
            return features[:, 1:].sigmoid()
        modulated = self._scale_and_shift(cube, "head")
        directions = cube.directions
        if directions is not None and slope is not None and self._reflects:
            normal = torch.nn.functional.normalize(slope, dim=1)
            directions = directions - 2 * (normal * directions).sum(1, keepdim=True) * normal
        return self.color_head.forward(features, directions, *modulated)

    def fused_spec(self) -> None:
        """None: there is no fused form."""
        return None


def log_density_of(density: Density, distance: Tensor, width: Tensor) -> Tensor:
    """Log of the density per unit [n] at distances [n], in units; of `neus` seen from ahead."""
    scaled = distance / width
    if density == "neus":
        return torch.nn.functional.logsigmoid(-scaled) - width.log()
    outside = -scaled.clamp(min=0) - math.log(2)
    inside = torch.log1p(-0.5 * scaled.clamp(max=0).exp())
    return torch.where(scaled > 0, outside, inside) - width.log()


def thickness_of(
    density: Density, distance: Tensor, approach: Tensor, step: Tensor, width: Tensor
) -> Tensor:
    """Optical thickness of steps along which distances change at a steady rate.

    Args:
        density: `volsdf` or `neus`.
        distance: [n], in the middle of the step, units.
        approach: [n], change of the distance per length along the ray, negative where it comes
            nearer.
        step: [n], length, units.
        width: of the density, [] units.

    Returns:
        [n], at least 0: the density's integral along the step. Once differentiable.

    Source: NeuS, Wang et al. 2021, equation 13; of VolSDF's density, with the same steady rate.

    Example:
        >>> ahead = torch.tensor([-1.0]), torch.tensor([0.2]), torch.tensor(0.01)
        >>> round(float(thickness_of("volsdf", torch.tensor([0.0]), *ahead)), 3)
        10.0
    """
    half = approach * step / 2
    before, after = (distance - half) / width, (distance + half) / width
    if density == "neus":
        log_sigmoid = torch.nn.functional.logsigmoid
        return (log_sigmoid(before) - log_sigmoid(after)).clamp(min=0)
    rise = after - before
    steady = rise.abs() < _THIN
    mean = (_integral(after) - _integral(before)) / torch.where(steady, 1.0, rise)
    middle = log_density_of("volsdf", distance, width).exp() * width
    return torch.where(steady, middle, mean) * step / width


def _integral(scaled: Tensor) -> Tensor:
    """Of VolSDF's density times its width, over distances in widths."""
    outside = -0.5 * (-scaled.clamp(min=0)).exp()
    inside = scaled - 0.5 * scaled.clamp(max=0).exp()
    return torch.where(scaled > 0, outside, inside)
