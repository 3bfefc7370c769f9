"""Vector-matrix factors (TensoRF, Chen et al. 2022)."""

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
from neural_fields.decoders import Head
from neural_fields.ops import TensorPlanesSpec


@register
@dataclass(frozen=True)
class Vm(Architecture):
    """Resolution and ranks.

    Attributes:
        resolution: vertices per axis.
        first_rank: products per term that sum to the first output (density); 0 = no such group.
        rank: products per term of the other outputs.
    """

    resolution: int = 200
    first_rank: int = 8
    rank: int = 24

    name = "vm"
    summary = "products of planes and lines: fast to fit, mid-sized"
    presets = MappingProxyType({"pvd": "PVD's, 300 vertices with ranks 16 and 48"})

    def trunk(self, n_dims: int, n_output: int, network: NetworkOptions) -> Trunk:
        """Factors and the matrix behind them."""
        sides = (self.resolution,) * n_dims
        first = TensorPlanesSpec.vm(sides, self.first_rank) if self.first_rank else None
        rest = TensorPlanesSpec.vm(sides, self.rank)
        return FactorsTrunk(first, rest, n_output, 0.1, network)

    @classmethod
    def sized(cls, target: Target, preset: str = "default") -> Vm:
        """One vertex per pixel of images; up to 200 in radiance fields."""
        if preset == "pvd":
            return cls(300, 16, 48)
        if target.kind == "image":
            return cls(min(4096, max(16, target.finest)), 0, 64)
        return cls(min(200, max(48, target.finest)))

    @classmethod
    def color_head(cls, preset: str = "default") -> Head:
        """PVD's sees the 15 colour features alone."""
        return Head(sees_density=preset != "pvd")

    @classmethod
    def rates(cls, kind: Kind, preset: str = "default") -> Rates:
        """TensoRF's, with orthogonal steps for default scenes."""
        batch = 1 << (14 if kind == "image" else 16)
        orthogonal = kind == "radiance" and preset == "default"
        return Rates(1e-3, 2e-2, final=0.1, batch=batch, matrices=1e-2 if orthogonal else 0.0)
