"""Dense grids that repeat: the basis of DiF-Grid (Chen et al., Factor Fields, 2023)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from neural_fields.errors import InputError
from neural_fields.ops import VoxelsSpec, huge_pages_empty, voxels


class DifEncoding(nn.Module):
    """Positions in [0, 1]^d to the values of several grids, each repeated over the cube.

    Deviation from Factor Fields, as GNF has it: no coefficient grid multiplies them. Features jump
    where a grid begins anew.

    Example:
        >>> encoding = DifEncoding(3, sides=(8, 16), channels=(4, 2), periods=(2.0, 3.2))
        >>> encoding.reset(torch.Generator().manual_seed(1))
        >>> encoding(torch.rand(5, 3)).shape
        torch.Size([5, 6])
    """

    def __init__(
        self,
        n_dims: int,
        sides: Sequence[int],
        channels: Sequence[int],
        periods: Sequence[float],
        deviation: float = 1.0,
    ) -> None:
        """Grids without values.

        Args:
            n_dims: of positions, 2 or 3.
            sides: vertices per axis of each grid.
            channels: of each grid.
            periods: how often each repeats along an axis; any number from 1.
            deviation: of the values at the start.
        """
        super().__init__()
        if not len(sides) == len(channels) == len(periods) > 0:
            raise InputError(
                "config: dif needs as many sides as channels and periods, got "
                f"{len(sides)}, {len(channels)} and {len(periods)}."
            )
        if min(periods) < 1:
            raise InputError(f"config: dif needs periods of at least 1, got {min(periods)}.")
        pairs = zip(sides, channels, strict=True)
        self._specs = [VoxelsSpec((side,) * n_dims, n_channels) for side, n_channels in pairs]
        self._periods, self._deviation = [*periods], deviation
        self.tables = nn.ParameterList(
            huge_pages_empty((spec.n_vertices, spec.n_channels)) for spec in self._specs
        )

    @torch.no_grad()
    def reset(self, generator: torch.Generator) -> None:
        """Normal; GNF's deviation is 1."""
        for table in self.tables:
            table.normal_(0, self._deviation, generator=generator)

    @property
    def n_output(self) -> int:
        """Features per position."""
        return sum(spec.n_channels for spec in self._specs)

    def forward(self, positions: Tensor) -> Tensor:
        """Features [n, n_output] of positions [n, n_dims]; as differentiable as `voxels`."""
        inside = positions.clamp(0, 1)
        features = []
        for table, spec, period in zip(self.tables, self._specs, self._periods, strict=True):
            # A sawtooth; vertices are the centres of cells, positions beyond them take the last.
            tile = inside * period
            tile = tile - tile.detach().floor()
            side = spec.resolution[0]
            between = (tile * side - 0.5).clamp(0, side - 1) / (side - 1)
            features.append(voxels(between, table, spec))
        return torch.cat(features, 1)
