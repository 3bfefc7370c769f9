"""Multiresolution hash grid and a small network (Mueller et al. 2022)."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor

from neural_fields.architectures import (
    Architecture,
    FusedTrunk,
    Kind,
    NetworkOptions,
    Rates,
    Smoothness,
    Spectral,
    Target,
    Trunk,
    octave_candidates,
    register,
)
from neural_fields.architectures._network import N_TIME_WAVES, time_waves
from neural_fields.decoders import Head, Mlp
from neural_fields.encodings import HashEncoding
from neural_fields.ops import HashGridSpec, MlpSpec


@register
@dataclass(frozen=True)
class Hash(Architecture):
    """Sizes of the grid and of the network behind it; see `neural_fields.ops.HashGridSpec`.

    Attributes:
        n_levels: number of grids.
        n_features: per level; n_levels * n_features is a multiple of 16 on the fast path.
        log2_table_size: cap of a level's entries.
        base_resolution: vertices per axis of the coarsest level.
        finest_resolution: vertices per axis of the finest level; None: per_level_scale says it.
        per_level_scale: growth from level to level, where finest_resolution is None.
        grid_type: `hash`, `dense` or `tiled`.
        interpolation: `linear` or `smoothstep`.
        convention: of dense levels: `tiny-cuda-nn` or `torch-ngp`.
        hidden: widths of the network's hidden layers.
    """

    n_levels: int = 8
    n_features: int = 4
    log2_table_size: int = 19
    base_resolution: int = 16
    finest_resolution: int | None = 2048
    per_level_scale: float | None = None
    grid_type: Literal["hash", "dense", "tiled"] = "hash"
    interpolation: Literal["linear", "smoothstep"] = "linear"
    convention: Literal["tiny-cuda-nn", "torch-ngp"] = "tiny-cuda-nn"
    hidden: tuple[int, ...] = (64,)

    name = "hash"
    summary = "multiresolution hash grid and a small network: the fastest to fit"
    sees_time = True
    presets = MappingProxyType(
        {
            "ngp": "instant-ngp's sizes, 8 levels of 4 features",
            "ngp16": "those of its paper, 16 levels of 2 features",
            "pvd": "PVD's, 14 levels of 2 features as torch-ngp lays them out",
        }
    )

    def grid(self, n_dims: int) -> HashGridSpec:
        """The operation's description of the grid."""
        sizes = asdict(self)
        del sizes["hidden"]  # what else there is has the same names in both
        return HashGridSpec(n_dims=n_dims, **sizes)

    def trunk(self, n_dims: int, n_output: int, network: NetworkOptions) -> HashTrunk:
        """Grid and network, which sees waves of time beside the grid's features if there is one."""
        spec = self.grid(min(n_dims, 3))
        n_waves = N_TIME_WAVES if n_dims == 4 else 0
        widths = (spec.n_output + n_waves, *self.hidden, n_output)
        return HashTrunk(spec, MlpSpec(widths, **network._asdict()))

    @classmethod
    def sized(cls, target: Target, preset: str = "default") -> Hash:
        """The finest level has 2048 vertices, or as many as a larger picture.

        Default radiance fields have about two per pixel instead: 0.65 dB more on lego after a
        minute. What moves, one photograph per moment, has one vertex per pixel, levels that double
        and a second hidden layer: finer grids learn the photographs by heart. SDFs: 3.2 M
        parameters, whatever the mesh.
        """
        finest = 2048 * target.scale
        if target.kind == "image":
            return cls._for_image(target)
        if target.kind == "sdf" and preset == "default":
            return cls(log2_table_size=17, hidden=(64, 64))
        if preset == "ngp16":
            return cls(n_levels=16, n_features=2, finest_resolution=finest)
        if preset == "pvd":
            return cls(14, 2, finest_resolution=finest, convention="torch-ngp")
        if preset == "ngp":
            return cls(finest_resolution=finest)
        if target.n_dims == 4:
            octave = min(10, max(6, round(math.log2(max(target.finest, 1)))))
            return cls(
                octave - 2, log2_table_size=18, finest_resolution=1 << octave, hidden=(64, 64)
            )
        vertices = 2.5 * target.finest
        finest = 2 ** min(13, max(9, round(math.log2(max(vertices, 1.0)))))
        return cls(log2_table_size=18, finest_resolution=finest)

    @classmethod
    def color_head(cls, preset: str = "default") -> Head:
        """PVD's sees the 15 colour features alone."""
        return Head(sees_density=preset != "pvd")

    @classmethod
    def rates(cls, kind: Kind, preset: str = "default") -> Rates:
        """Instant-ngp's but for the default radiance field, whose runs are short."""
        if kind != "radiance":
            return Rates(network=1e-2, grid=1e-2, final=0.03)
        if preset == "default":
            return Rates(network=4e-2, grid=4e-2, final=0.03, matrices=8e-3)
        return Rates(network=1e-2, grid=1e-2, final=0.03, batch=1 << 18)

    @classmethod
    def _for_image(cls, target: Target) -> Hash:
        return cls(
            log2_table_size=min(22, max(14, math.ceil(2 * math.log2(target.finest)))),
            finest_resolution=max(2048, target.finest),
            hidden=(64, 64),
        )

    def spectral(self) -> tuple[Spectral, ...]:
        """The finest level's vertices; entries start at +-1e-4, too little to measure."""
        return grid_spectral("finest_resolution", self.finest_resolution, self.base_resolution)


def grid_spectral(path: str, finest: int | None, base: int) -> tuple[Spectral, ...]:
    """Of a hash grid whose finest level is given by its vertices."""
    if finest is None:
        return ()
    candidates = tuple(n for n in octave_candidates(32, 2048) if n > base)
    spectral = Spectral(
        path,
        finest,
        candidates,
        gain=100.0,
        lowest=base + 1,
        highest=1 << 16,
        whole=True,
        caution="grids learn any frequencies from any start, and fits of less than the default "
        "measured worse (docs/frequencies.md)",
    )
    return (spectral,)


class HashTrunk(Trunk):
    """See `Hash`."""

    grids = frozenset({"encoding.table"})

    def __init__(self, grid: HashGridSpec, network: MlpSpec) -> None:
        super().__init__()
        self.encoding = HashEncoding(grid)
        self.mlp = Mlp(network)
        self.n_modulated = len(network.widths) - 2

    @property
    def smoothness(self) -> Smoothness:
        """That of the grid's interpolation, and of the network."""
        interpolation = self.encoding.spec.interpolation
        grid = Smoothness.of_grid(interpolation, "fit it with interpolation smoothstep")
        return grid.through(self.mlp.spec)

    def reset(self, generator: torch.Generator) -> None:
        """Entries uniform in +-1e-4, matrices as in `Mlp`."""
        self.encoding.reset(generator)
        self.mlp.reset(generator)

    def forward(
        self, positions: Tensor, scale: Tensor | None = None, shift: Tensor | None = None
    ) -> Tensor:
        """Twice differentiable in positions as far as the grid's interpolation is."""
        features = self.encoding(positions[:, :3].contiguous())
        if positions.shape[1] == 4:
            features = torch.cat([features, time_waves(positions[:, 3:])], 1)
        return self.mlp.forward(features, scale, shift)

    def fused(self) -> FusedTrunk | None:
        """Where all widths are multiples of 16."""
        spec = self.mlp.spec
        if self.encoding.table.device.type != "cpu":
            return None
        if spec.normalize or spec.widths[0] != self.encoding.spec.n_output:
            return None
        if any(width % 16 for width in spec.widths):
            return None
        return FusedTrunk(self.encoding.spec, self.mlp.spec, self.encoding.table, self.mlp.params)
