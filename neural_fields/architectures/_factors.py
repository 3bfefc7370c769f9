"""What VM and CP share: sums of products for density, and a matrix behind them for the rest."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from neural_fields.architectures._base import NetworkOptions, Smoothness, Trunk
from neural_fields.decoders import Mlp
from neural_fields.ops import MlpSpec, TensorPlanesSpec, huge_pages_empty, tensor_planes


class FactorsTrunk(Trunk):
    """The first output is the sum of the products of `first`, the others are linear in `rest`'s.

    Without `first`, or where there is one output alone, all are linear in the products of `rest`.
    """

    def __init__(
        self,
        first: TensorPlanesSpec | None,
        rest: TensorPlanesSpec,
        n_output: int,
        deviation: float,
        network: NetworkOptions,
    ) -> None:
        super().__init__()
        first = None if n_output == 1 else first
        self._first, self._rest, self._deviation = first, rest, deviation
        grids = ["rest"]
        if first is not None:
            self.first = nn.Parameter(huge_pages_empty((first.n_params,)))
            grids.append("first")
        self.grids = frozenset(grids)
        n_linear = n_output - (first is not None)
        self.rest = nn.Parameter(huge_pages_empty((rest.n_params,)))
        self.basis = Mlp(MlpSpec((rest.n_output, n_linear), precision=network.precision))

    @property
    def smoothness(self) -> Smoothness:
        """That of the factors' interpolation."""
        return Smoothness.of_grid(self._rest.interpolation)

    @torch.no_grad()
    def reset(self, generator: torch.Generator) -> None:
        """Factors normal, the matrix as in `Mlp`."""
        for name in sorted(self.grids):
            self.get_parameter(name).normal_(0, self._deviation, generator=generator)
        self.basis.reset(generator)

    def forward(
        self, positions: Tensor, scale: Tensor | None = None, shift: Tensor | None = None
    ) -> Tensor:
        """Twice differentiable in positions as far as linear interpolation is."""
        rest: Tensor = self.basis(tensor_planes(positions, self.rest, self._rest))
        if self._first is None:
            return rest
        products = tensor_planes(positions, self.first, self._first)
        return torch.cat([products.sum(1, keepdim=True), rest], 1)
