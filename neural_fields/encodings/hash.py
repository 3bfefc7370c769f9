"""The multiresolution hash grid as a module that owns its table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from neural_fields.ops import HashGridSpec, hash_grid, huge_pages_empty


@dataclass(frozen=True)
class HashConfig:
    """A hash encoding in three dimensions; see `neural_fields.ops.HashGridSpec`.

    Attributes:
        n_levels: number of grids.
        n_features: per level; n_levels * n_features is a multiple of 16 on the fast path.
        log2_table_size: cap of a level's entries.
        base_resolution: vertices per axis of the coarsest level.
        finest_resolution: vertices per axis of the finest level.
        interpolation: `linear` or `smoothstep`.
    """

    n_levels: int = 8
    n_features: int = 4
    log2_table_size: int = 19
    base_resolution: int = 16
    finest_resolution: int = 2048
    interpolation: Literal["linear", "smoothstep"] = "linear"

    @property
    def spec(self) -> HashGridSpec:
        """The operation's own description."""
        return HashGridSpec(
            n_dims=3,
            n_levels=self.n_levels,
            n_features=self.n_features,
            log2_table_size=self.log2_table_size,
            base_resolution=self.base_resolution,
            finest_resolution=self.finest_resolution,
            interpolation=self.interpolation,
        )


class HashEncoding(nn.Module):
    """Positions in [0, 1]^3 to n_levels * n_features features.

    Entries start uniform in [-1e-4, 1e-4] (Mueller et al. 2022, section 4).

    Example:
        >>> encoding = HashEncoding(HashConfig(log2_table_size=12))
        >>> encoding(torch.rand(5, 3)).shape
        torch.Size([5, 32])
    """

    def __init__(self, config: HashConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.spec = config.spec
        table = huge_pages_empty((self.spec.n_entries, self.spec.n_features))
        self.table = nn.Parameter(table.uniform_(-1e-4, 1e-4, generator=generator))

    @property
    def n_output(self) -> int:
        """Features per position."""
        return self.spec.n_output

    def forward(self, positions: Tensor) -> Tensor:
        """Features [n, n_output] of positions [n, 3] in [0, 1]; twice differentiable."""
        return hash_grid(positions, self.table, self.spec)
