"""The multiresolution hash grid as a module that owns its table."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from neural_fields.ops import (
    HashGridSpec,
    SparseGradient,
    hash_grid,
    hash_grid_sparse,
    huge_pages_empty,
)


class HashEncoding(nn.Module):
    """Positions in [0, 1]^d to n_levels * n_features features.

    A trainer that sets `sparse_gradient` finds the table's gradient there instead of in autograd.

    Example:
        >>> encoding = HashEncoding(HashGridSpec(log2_table_size=12))
        >>> encoding.reset(torch.Generator().manual_seed(1))
        >>> encoding(torch.rand(5, 3)).shape
        torch.Size([5, 32])
    """

    def __init__(self, spec: HashGridSpec) -> None:
        super().__init__()
        self.spec = spec
        self.sparse_gradient: SparseGradient | None = None
        self.n_levels: int | None = None  # that are in use, from the coarsest; the others give 0
        self.table = nn.Parameter(huge_pages_empty((spec.n_entries, spec.n_features)))

    @torch.no_grad()
    def reset(self, generator: torch.Generator) -> None:
        """Entries uniform in [-1e-4, 1e-4] (Mueller et al. 2022, section 4)."""
        self.table.uniform_(-1e-4, 1e-4, generator=generator)

    @property
    def n_output(self) -> int:
        """Features per position."""
        return self.spec.n_output

    def forward(self, positions: Tensor) -> Tensor:
        """Features [n, n_output] of positions [n, d] in [0, 1]; twice differentiable."""
        if self.sparse_gradient is None:
            features = hash_grid(positions, self.table, self.spec)
        else:
            features = hash_grid_sparse(positions, self.table, self.spec, self.sparse_gradient)
        if self.n_levels is None:
            return features
        level = torch.arange(self.n_output, device=features.device) // self.spec.n_features
        return features * (level < self.n_levels)
