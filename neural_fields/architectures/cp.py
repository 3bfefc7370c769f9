"""Products of lines (CP decomposition; TensoRF, Chen et al. 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

from neural_fields.architectures import (
    Architecture,
    Kind,
    NetworkOptions,
    Rates,
    Target,
    Trunk,
    register,
)
from neural_fields.architectures._factors import FactorsTrunk
from neural_fields.ops import TensorPlanesSpec


@register
@dataclass(frozen=True)
class Cp(Architecture):
    """Resolution and ranks.

    Attributes:
        resolution: vertices per axis.
        first_rank: products that sum to the first output (density); 0 = no such group.
        rank: products of the other outputs.
    """

    resolution: int = 300
    first_rank: int = 96
    rank: int = 192

    name = "cp"
    summary = "products of lines: the smallest of the grids"
    presets = MappingProxyType({"paper": "TensoRF's CP-384, 500 vertices with ranks 96 and 288"})

    def trunk(self, n_dims: int, n_output: int, network: NetworkOptions) -> Trunk:
        """Lines and the matrix behind them."""
        sides = (self.resolution,) * n_dims
        first = TensorPlanesSpec.cp(sides, self.first_rank) if self.first_rank else None
        rest = TensorPlanesSpec.cp(sides, self.rank)
        return FactorsTrunk(first, rest, n_output, 0.2, network)

    @classmethod
    def sized(cls, target: Target, preset: str = "default") -> Cp:
        """One vertex per pixel of images; up to 300 in radiance fields."""
        if preset == "paper":
            return cls(500, 96, 288)
        if target.kind == "image":
            return cls(min(4096, max(16, target.finest)), 0, 128)
        return cls(min(300, max(48, target.finest)))

    @classmethod
    def rates(cls, kind: Kind, preset: str = "default") -> Rates:
        """TensoRF's, with orthogonal steps for default scenes."""
        batch = 1 << (14 if kind == "image" else 16)
        orthogonal = kind == "radiance" and preset == "default"
        return Rates(1e-3, 2e-2, final=0.1, batch=batch, matrices=1e-2 if orthogonal else 0.0)
