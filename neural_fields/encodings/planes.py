"""Products of planes at several scales as a module that owns their tables."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from neural_fields.ops import TensorPlanesSpec, huge_pages_empty, tensor_planes


class PlanesEncoding(nn.ParameterList):
    """Positions in [0, 1]^d to the products of all planes, scale by scale (K-planes, 2023).

    Its entries are the tables, one per scale. The fourth of four axes is time, which has as many
    vertices at every scale.

    Example:
        >>> encoding = PlanesEncoding(3, resolutions=(8, 16), rank=4)
        >>> encoding.reset(torch.Generator().manual_seed(1))
        >>> encoding.forward(torch.rand(5, 3)).shape
        torch.Size([5, 8])
    """

    def __init__(
        self, n_dims: int, resolutions: Sequence[int], rank: int, moments: int = 32
    ) -> None:
        """Tables without values, of `rank` channels per plane and `moments` vertices of time."""
        sides = [((side,) * n_dims)[:3] + (moments,) * (n_dims - 3) for side in resolutions]
        scales = [TensorPlanesSpec.planes(each, rank) for each in sides]
        super().__init__(huge_pages_empty((scale.n_params,)) for scale in scales)
        self._scales = scales

    @torch.no_grad()
    def reset(self, generator: torch.Generator) -> None:
        """Entries uniform in [0.1, 0.5], and 1 in planes of time: all rests at first (K-planes)."""
        for table, scale in zip(self, self._scales, strict=True):
            table.uniform_(0.1, 0.5, generator=generator)
            for factor, plane in zip(scale.terms[0], scale.views(table)[0], strict=True):
                if 3 in factor:
                    plane.fill_(1)

    @property
    def n_output(self) -> int:
        """Features per position."""
        return sum(scale.n_output for scale in self._scales)

    def forward(self, positions: Tensor) -> Tensor:
        """Features [n, n_output]; twice differentiable as far as linear interpolation is."""
        pairs = zip(self, self._scales, strict=True)
        return torch.cat([tensor_planes(positions, table, scale) for table, scale in pairs], 1)
