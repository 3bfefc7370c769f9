"""A dense grid of values, with harmonics for the colours of radiance fields (PVD's "tensors")."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor, nn

from neural_fields.architectures import (
    Architecture,
    Ask,
    Kind,
    NetworkOptions,
    Rates,
    Smoothness,
    Target,
    Trunk,
    lattice,
    register,
)
from neural_fields.ops import VoxelsSpec, huge_pages_empty, voxels


@register
@dataclass(frozen=True)
class Voxels(Architecture):
    """Vertices and harmonics.

    Attributes:
        resolution: vertices per axis.
        n_harmonics: coefficients per colour of radiance fields: 1, 4, 9 or 16.
    """

    resolution: int = 96
    n_harmonics: int = 4

    name = "voxels"
    summary = "a dense grid without any network: the fastest to look up, large"
    presets = MappingProxyType({"pvd": "PVD's, 128 vertices with 9 harmonics"})

    @property
    def has_color(self) -> bool:
        """Its harmonics are colours."""
        return True

    def trunk(self, n_dims: int, n_output: int, network: NetworkOptions) -> VoxelsTrunk:
        """The grid; of a radiance field (n_output 0) density and harmonics."""
        harmonics = 0 if n_output else self.n_harmonics
        channels = n_output or 1 + 3 * harmonics
        return VoxelsTrunk(VoxelsSpec((self.resolution,) * n_dims, channels, harmonics))

    @classmethod
    def sized(cls, target: Target, preset: str = "default") -> Voxels:
        """One vertex per pixel of images; up to 96 in radiance fields."""
        if preset == "pvd":
            return cls(128, 9)
        if target.kind == "image":
            return cls(min(8192, max(16, target.finest)), 0)
        return cls(min(96, max(32, target.finest)))

    @classmethod
    def rates(cls, kind: Kind, preset: str = "default") -> Rates:
        """Every vertex learns alone, from the few samples around it."""
        if kind == "image":
            return Rates(5e-2, 5e-2, final=0.1)
        return Rates(5e-2, 5e-2, final=0.1)


class VoxelsTrunk(Trunk):
    """See `Voxels`."""

    grids = frozenset({"grid"})

    def __init__(self, spec: VoxelsSpec) -> None:
        super().__init__()
        self.spec, self.n_harmonics = spec, spec.n_harmonics
        self.grid = nn.Parameter(huge_pages_empty((spec.n_vertices, spec.n_channels)))

    @property
    def smoothness(self) -> Smoothness:
        """That of the grid's interpolation."""
        return Smoothness.of_grid(self.spec.interpolation)

    @torch.no_grad()
    def reset(self, generator: torch.Generator) -> None:
        """Normal, deviation 0.02 as PVD's."""
        self.grid.normal_(0, 0.02, generator=generator)

    @torch.no_grad()
    def start_as(self, ask: Ask, generator: torch.Generator) -> frozenset[str]:
        """Every vertex takes what the other field says there."""
        found = ask(lattice(self.spec.resolution))
        self.grid[:, : found.values.shape[1]] = found.values
        return self.grids

    def forward(
        self, positions: Tensor, scale: Tensor | None = None, shift: Tensor | None = None
    ) -> Tensor:
        """All channels; twice differentiable as far as linear interpolation is."""
        return self.density_and_color(positions, None)

    def density_and_color(self, positions: Tensor, directions: Tensor | None) -> Tensor:
        """[n, 4]: density and colours before their activations."""
        return voxels(positions, self.grid, self.spec, directions)
