"""Coordinate-aware modulation (CAM, Lee et al. 2024): grids that scale and shift hidden layers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from neural_fields.errors import InputError
from neural_fields.ops import ModulationSpec, modulation

Coordinates = Literal["xy", "xyz", "direction", "direction-trunk", "camera", "time"]
_DIMS = {"xy": 2, "xyz": 3, "direction": 2, "direction-trunk": 2, "camera": 1, "time": 1}


@dataclass(frozen=True)
class Modulate:
    """What scales and shifts depend on.

    Attributes:
        coordinates: `xy` of an image, `xyz` of a radiance field's positions (both act on the
            trunk's hidden layers), the viewing direction's azimuth and elevation (`direction`
            acts on the colour head's layers, `direction-trunk` on the trunk's, whose density then
            depends on where it is seen from), or the number of the `camera`, on the colour head's:
            how each photograph was exposed and lit; or the `time` of a field that moves, on the
            trunk's layers.
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

    @property
    def of_view(self) -> bool:
        """Whether it depends on who looks; where that is not known, the mean of all counts."""
        return self.coordinates not in ("xy", "xyz", "time")

    @property
    def of_head(self) -> bool:
        """Whether it acts on the colour head, and the trunk stays a function of position."""
        return self.coordinates in ("direction", "camera")


class Modulation(nn.Module):
    """One grid with a scale and a shift per hidden layer.

    Example:
        >>> cam = Modulation(Modulate("xy", (32, 32)), n_layers=3)
        >>> cam.reset()
        >>> scale, shift = cam(torch.rand(5, 2))
        >>> [round(s, 4) for s in scale[0].tolist()], shift.abs().max().item()
        ([1.0, 1.0, 0.25], 0.0)
    """

    mean_weights: Tensor

    def __init__(self, config: Modulate, n_layers: int) -> None:
        super().__init__()
        self._bare = config.normalize and not config.of_head  # no sigmoid behind it
        wrap = (True, False) if config.coordinates.startswith("direction") else ()
        self.spec = ModulationSpec(config.resolution, n_layers, wrap)
        self.grid = nn.Parameter(torch.empty(self.spec.n_vertices, 2 * n_layers))
        if config.of_view:
            self.register_buffer("mean_weights", torch.empty(self.spec.n_vertices))

    @torch.no_grad()
    def reset(self) -> None:
        """Scales 1, shifts 0; in a trunk whose rows are normalised, the last layer's scale 1/4.

        Deviation from the paper, whose networks end in a sigmoid: without one, a normalised last
        layer makes values as large as the picture's own, and cost it 0.8 dB.
        """
        self.grid.copy_(self.spec.initial())
        if self._bare:
            self.grid[:, self.spec.n_layers - 1] = 0.25
        if "mean_weights" in self._buffers:
            self.mean_weights.fill_(1 / self.spec.n_vertices)

    def forward(self, coordinates: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and shift [n, n_layers] at coordinates [n, d] in [0, 1]."""
        return modulation(coordinates, self.grid, self.spec)

    def set_mean(self, coordinates: Tensor) -> None:
        """What `mean` is the mean over."""
        grid = torch.zeros_like(self.grid, requires_grad=True)
        scale, _ = modulation(coordinates, grid, self.spec)
        (weights,) = torch.autograd.grad(scale[:, 0].mean(), grid)
        self.mean_weights.copy_(weights[:, 0])

    def mean(self, n: int) -> tuple[Tensor, Tensor]:
        """The mean scale and shift, n times: [n, n_layers], for samples without coordinates."""
        values = (self.mean_weights @ self.grid).expand(n, -1)
        scale, shift = values.chunk(2, dim=1)
        return scale.contiguous(), shift.contiguous()

    def split(self, grid: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Views of every layer's scales and shifts in a tensor like `grid`; nothing else."""
        return list(grid.unbind(1)), []


def camera_coordinates(camera_ids: Tensor, n_cameras: int) -> Tensor:
    """Numbers of cameras, int64 [n], as coordinates [n, 1] in [0, 1]: each is a vertex."""
    return (camera_ids.float() / max(1, n_cameras - 1))[:, None]


def direction_coordinates(directions: Tensor) -> Tensor:
    """Unit directions [n, 3] as azimuth (periodic) and elevation [n, 2] in [0, 1], z up.

    Deviation from the paper, whose elevation covers downward rays alone and whose azimuth does
    not wrap.
    """
    x, y, z = directions.unbind(1)
    azimuth = torch.atan2(y, x) / (2 * math.pi) + 0.5
    elevation = torch.asin(z.clamp(-1, 1)) / math.pi + 0.5
    return torch.stack([azimuth, elevation], 1)
