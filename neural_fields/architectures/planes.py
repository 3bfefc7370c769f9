"""Products of planes at several scales and a small network (K-planes, 2023)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from neural_fields.architectures import (
    Architecture,
    Kind,
    NetworkOptions,
    Rates,
    Target,
    Trunk,
    register,
)
from neural_fields.decoders import Mlp
from neural_fields.ops import MlpSpec, TensorPlanesSpec, huge_pages_empty, tensor_planes


@register
@dataclass(frozen=True)
class Planes(Architecture):
    """Scales, channels and the network behind them.

    Attributes:
        resolutions: vertices per axis of each scale.
        rank: channels of every plane.
        hidden: widths of the network's hidden layers.
    """

    resolutions: tuple[int, ...] = (64, 128, 256)
    rank: int = 16
    hidden: tuple[int, ...] = (64,)

    name = "planes"
    summary = "products of planes at several scales and a small network"

    def trunk(self, n_dims: int, n_output: int, network: NetworkOptions) -> Trunk:
        """Planes of all pairs of axes per scale, and the network."""
        scales = [TensorPlanesSpec.planes((r,) * n_dims, self.rank) for r in self.resolutions]
        widths = (self.rank * len(scales), *self.hidden, n_output)
        return PlanesTrunk(scales, MlpSpec(widths, **network._asdict()))

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
        """K-planes' for grids and network alike."""
        return Rates(1e-2, 1e-2, final=0.05)


class PlanesTrunk(Trunk):
    """See `Planes`."""

    def __init__(self, scales: list[TensorPlanesSpec], network: MlpSpec) -> None:
        super().__init__()
        self._scales = scales
        self.tables = nn.ParameterList(huge_pages_empty((scale.n_params,)) for scale in scales)
        self.grids = frozenset(f"tables.{index}" for index in range(len(scales)))
        self.mlp = Mlp(network)
        self.n_modulated = network.n_hidden_layers

    @torch.no_grad()
    def reset(self, generator: torch.Generator) -> None:
        """Entries uniform in [0.1, 0.5], as K-planes' of space: products of ones do train."""
        for table in self.tables:
            table.uniform_(0.1, 0.5, generator=generator)
        self.mlp.reset(generator)

    def forward(
        self, positions: Tensor, scale: Tensor | None = None, shift: Tensor | None = None
    ) -> Tensor:
        """Twice differentiable in positions as far as linear interpolation is."""
        pairs = zip(self.tables, self._scales, strict=True)
        features = [tensor_planes(positions, table, scale) for table, scale in pairs]
        return self.mlp.forward(torch.cat(features, 1), scale, shift)
