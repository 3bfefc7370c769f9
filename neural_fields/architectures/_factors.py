"""What VM and CP share: sums of products for density, and a matrix behind them for the rest."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional

from neural_fields.architectures._base import Ask, NetworkOptions, Smoothness, Trunk, lattice
from neural_fields.architectures._factorise import factorised, product
from neural_fields.decoders import Mlp
from neural_fields.ops import MlpSpec, TensorPlanesSpec, huge_pages_empty, tensor_planes

_COARSE = 64  # vertices a side that factors are found on
_SWEEPS = 2  # over the terms, each of which takes what the others leave


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

    @torch.no_grad()
    def start_as(self, ask: Ask, generator: torch.Generator) -> frozenset[str]:
        """Factors of what the other field says at `_COARSE` vertices a side.

        The matrix starts over where the other outputs are known too.
        """
        side = min(_COARSE, *self._rest.resolution)
        n_dims = self._rest.n_dims
        found = ask(lattice((side,) * n_dims))
        # Last axis first, as the lattice has it; then first axis first.
        shape = (side,) * n_dims
        values = found.values.T.reshape(-1, *shape).permute(0, *range(n_dims, 0, -1))
        known = found.known.view(shape).permute(*range(n_dims - 1, -1, -1))
        started = set[str]()
        if self._first is not None:
            _start(self._first, self.first, values[:1], known, generator)
            started.add("first")
            values = values[1:]
        [(matrix, bias)] = self.basis.layers()
        if len(values) == len(matrix):
            middle = values[:, known].mean(1)
            values = torch.where(known, values - middle.view(-1, *(1,) * n_dims), 0.0)
            matrix.copy_(_start(self._rest, self.rest, values, known, generator))
            if bias is not None:
                bias.copy_(middle)
            started |= {"rest", "basis.params"}
        return frozenset(started)

    def forward(
        self, positions: Tensor, scale: Tensor | None = None, shift: Tensor | None = None
    ) -> Tensor:
        """Twice differentiable in positions as far as linear interpolation is."""
        rest: Tensor = self.basis(tensor_planes(positions, self.rest, self._rest))
        if self._first is None:
            return rest
        products = tensor_planes(positions, self.first, self._first)
        return torch.cat([products.sum(1, keepdim=True), rest], 1)


def _start(
    spec: TensorPlanesSpec,
    table: Tensor,
    target: Tensor,
    known: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """Set a table so that its products come near a tensor [c, side, ...]; their matrix [c, n].

    Where c is 1 the matrix is of ones, as the first group has it.
    """
    n_channels, side = target.shape[0], target.shape[1]
    views, n_terms = spec.views(table.detach()), len(spec.terms)
    found: list[list[Tensor]] = [[] for _ in range(n_terms)]
    parts = [torch.zeros_like(target) for _ in range(n_terms)]
    for _, at in itertools.product(range(_SWEEPS), range(n_terms)):
        rest = target - sum(parts[:at] + parts[at + 1 :], torch.zeros_like(target))
        axes = [axis for factor in spec.terms[at] for axis in factor]
        sides = [side ** len(factor) for factor in spec.terms[at]]
        own, mask = rest.permute(0, *(a + 1 for a in axes)), known.permute(axes).reshape(sides)
        if n_channels == 1:
            found[at] = factorised(own.reshape(sides), mask, spec.rank, generator)
        else:
            channels = own.reshape(n_channels, *sides)
            found[at] = factorised(channels, mask[None], spec.rank, generator)
        back = [axes.index(a) + 1 for a in range(len(axes))]
        parts[at] = product(found[at]).view(own.shape).permute(0, *back)
    columns = []
    for at in range(n_terms):
        factors = found[at] if n_channels == 1 else found[at][1:]
        columns.append(torch.ones(1, spec.rank) if n_channels == 1 else found[at][0])
        for view, factor, axes_of in zip(views[at], factors, spec.terms[at], strict=True):
            view.copy_(_resized(factor, side, len(axes_of), view))
    return torch.cat(columns, 1)


def _resized(factor: Tensor, side: int, n_axes: int, like: Tensor) -> Tensor:
    """A factor [side^n_axes, rank], first axis slowest, on the vertices of another grid."""
    grid = factor.T.reshape(1, -1, *(side,) * n_axes)
    if n_axes == 2:
        grid = grid.transpose(2, 3)  # grids have the higher axis first
    mode = "linear" if n_axes == 1 else "bilinear"
    grid = functional.interpolate(grid, like.shape[:-1], mode=mode, align_corners=True)
    return grid[0].movedim(0, -1)
