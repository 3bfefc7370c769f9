"""Products of planes at several scales and a small network (K-planes, 2023)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from neural_fields.architectures import (
    Architecture,
    Kind,
    NetworkOptions,
    Rates,
    Smoothness,
    Target,
    Trunk,
    register,
)
from neural_fields.decoders import Mlp
from neural_fields.encodings import PlanesEncoding
from neural_fields.ops import MlpSpec


@register
@dataclass(frozen=True)
class Planes(Architecture):
    """Scales, channels and the network behind them.

    Attributes:
        resolutions: vertices per axis of each scale.
        rank: channels of every plane.
        hidden: widths of the network's hidden layers.
        moments: vertices of the axis of time, of fields that move.
    """

    resolutions: tuple[int, ...] = (64, 128, 256)
    rank: int = 16
    hidden: tuple[int, ...] = (64,)
    moments: int = 32

    name = "planes"
    sees_time = True
    summary = "products of planes at several scales and a small network"

    def trunk(self, n_dims: int, n_output: int, network: NetworkOptions) -> Trunk:
        """Planes of all pairs of axes per scale, and the network."""
        return PlanesTrunk(self, n_dims, n_output, network)

    @classmethod
    def sized(cls, target: Target, preset: str = "default") -> Planes:
        """The finest scale has about a vertex per pixel of images, others halve it thrice."""
        finest = min(4096, max(32, target.finest))
        if target.kind == "image":
            return cls(tuple(max(4, finest >> k) for k in (3, 2, 1, 0)), 8, (64, 64))
        finest = 2 ** min(9, max(6, round(math.log2(finest))))
        return cls((finest // 4, finest // 2, finest))

    @classmethod
    def rates(cls, kind: Kind, preset: str = "default") -> Rates:
        """K-planes' for grids and network alike, with orthogonal steps for scenes."""
        return Rates(1e-2, 1e-2, final=0.05, matrices=1e-2 if kind == "radiance" else 0.0)


class PlanesTrunk(Trunk):
    """See `Planes`."""

    def __init__(self, config: Planes, n_dims: int, n_output: int, network: NetworkOptions) -> None:
        super().__init__()
        self.tables = PlanesEncoding(n_dims, config.resolutions, config.rank, config.moments)
        self.grids = frozenset(f"tables.{name}" for name, _ in self.tables.named_parameters())
        widths = (self.tables.n_output, *config.hidden, n_output)
        self.mlp = Mlp(MlpSpec(widths, **network._asdict()))
        self.n_modulated = len(config.hidden)

    @property
    def smoothness(self) -> Smoothness:
        """That of linear interpolation, and of the network."""
        return Smoothness.of_grid().through(self.mlp.spec)

    def reset(self, generator: torch.Generator) -> None:
        """Tables as in `PlanesEncoding`, matrices as in `Mlp`."""
        self.tables.reset(generator)
        self.mlp.reset(generator)

    def forward(
        self, positions: Tensor, scale: Tensor | None = None, shift: Tensor | None = None
    ) -> Tensor:
        """Twice differentiable in positions as far as linear interpolation is."""
        return self.mlp.forward(self.tables.forward(positions), scale, shift)
