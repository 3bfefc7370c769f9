"""Coordinate-aware modulation (CAM, Lee et al. 2024): grids that scale and shift hidden layers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from neural_fields.errors import InputError
from neural_fields.ops import ModulationSpec, modulation

Coordinates = Literal["xy", "xyz", "direction"]
_DIMS = {"xy": 2, "xyz": 3, "direction": 2}


@dataclass(frozen=True)
class Modulate:
    """What scales and shifts depend on.

    Attributes:
        coordinates: `xy` of an image, `xyz` of a radiance field's positions (both act on the
            trunk's hidden layers), or `direction`, azimuth and elevation (on the colour head's).
        resolution: vertices per axis.
        normalize: the layers' rows to mean 0 and variance 1 first, per sample.
    """

    coordinates: Coordinates
    resolution: tuple[int, ...]
    normalize: bool = True

    def __post_init__(self) -> None:
        if self.coordinates not in _DIMS:
            known = ", ".join(_DIMS)
            raise InputError(f"--modulate: needs one of {known}, got {self.coordinates!r}.")
        if len(self.resolution) != _DIMS[self.coordinates]:
            raise InputError(
                f"config: modulate by {self.coordinates} needs {_DIMS[self.coordinates]} "
                f"resolutions, got {self.resolution}."
            )


class Modulation(nn.Module):
    """One grid with a scale and a shift per hidden layer.

    Example:
        >>> cam = Modulation(Modulate("xy", (32, 32)), n_layers=3)
        >>> cam.reset()
        >>> scale, shift = cam(torch.rand(5, 2))
        >>> scale.shape, scale.min().item(), shift.abs().max().item()
        (torch.Size([5, 3]), 1.0, 0.0)
    """

    def __init__(self, config: Modulate, n_layers: int) -> None:
        super().__init__()
        wrap = (True, False) if config.coordinates == "direction" else ()
        self.spec = ModulationSpec(config.resolution, n_layers, wrap)
        self.grid = nn.Parameter(torch.empty(self.spec.n_vertices, 2 * n_layers))

    @torch.no_grad()
    def reset(self) -> None:
        """Scales 1, shifts 0."""
        n_layers = self.spec.n_layers
        self.grid[:, :n_layers] = 1
        self.grid[:, n_layers:] = 0

    def forward(self, coordinates: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and shift [n, n_layers] at coordinates [n, d] in [0, 1]."""
        return modulation(coordinates, self.grid, self.spec)


def direction_coordinates(directions: Tensor) -> Tensor:
    """Unit directions [n, 3] as azimuth (periodic) and elevation [n, 2] in [0, 1], z up.

    Deviation from the paper, whose elevation covers downward rays alone and whose azimuth does
    not wrap.
    """
    x, y, z = directions.unbind(1)
    azimuth = torch.atan2(y, x) / (2 * math.pi) + 0.5
    elevation = torch.asin(z.clamp(-1, 1)) / math.pi + 0.5
    return torch.stack([azimuth, elevation], 1)
