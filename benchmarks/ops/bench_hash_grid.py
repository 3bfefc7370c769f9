"""Hash grid: features, the table's gradient, and second derivatives."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from neural_fields import _core
from neural_fields.benchmarks.batch import fresh_field, stored_batch
from neural_fields.benchmarks.case import Bar, Case, Sizes
from neural_fields.benchmarks.peers import drjit_hash_grid
from neural_fields.benchmarks.torch_baseline import PIECE_SAMPLES, Grid
from neural_fields.ops import HashGridSpec, huge_pages_empty

LINE_BYTES = 64
_SHARE: Bar = {
    "claim": "random 64-byte lines at three quarters of the machine's rate",
    "share_of_limit": 0.75,
}


def cases(sizes: Sizes) -> Iterator[Case]:
    """Random positions and positions along rays, 8 x 4 and 16 x 2 levels and features."""
    generator = torch.Generator().manual_seed(2)
    random = torch.rand(sizes.n_samples, 3, generator=generator)
    along_rays = stored_batch(sizes.n_samples, sizes.image_size).batch.positions
    for n_levels, n_features in ((8, 4), (16, 2)):
        spec = HashGridSpec(
            n_levels=n_levels,
            n_features=n_features,
            log2_table_size=sizes.log2_table_size,
            finest_resolution=2048,
        )
        bench = _Bench(spec)
        shape = "" if n_levels == 8 else "16x2"
        for order, positions in (("", random), ("rays", along_rays)):
            variant = "-".join(filter(None, (shape, order)))
            yield bench.forward(variant, positions, sizes)
            yield bench.backward(variant, positions)
        yield bench.forward_backward("-".join(filter(None, (shape, "with-forward"))), random)
        if n_levels == 8:
            yield bench.second(random)


def lines_per_point(grid: Grid, positions: Tensor, n_features: int) -> float:
    """How many different 64-byte lines of the table a point touches, counted."""
    index, _ = grid.corners(positions)
    by_point = index.view(grid.spec.n_levels, len(positions), 8).transpose(0, 1).flatten(1)
    lines = (by_point.long() * n_features * 4 // LINE_BYTES).sort(1)[0]
    return float((lines.diff(dim=1) != 0).sum() / len(positions)) + 1


def _name(kind: str, variant: str) -> str:
    return f"hash_grid.{kind}.f32" + (f":{variant}" if variant else "")


class _Bench:
    """The tensors that the cases of one grid share."""

    def __init__(self, spec: HashGridSpec) -> None:
        self.spec, self.grid = spec, Grid(spec)
        self.shape = _core.HashGridShape(*spec.arguments)
        self.table = fresh_field(spec).table
        self.grad = huge_pages_empty(self.table.shape).zero_()
        self.compiled_corners = torch.compile(self.grid.corners, fullgraph=True)
        self.compiled_features = torch.compile(self._features, fullgraph=True)

    def _features(self, positions: Tensor) -> Tensor:
        return self.grid.lookup(self.table, *self.grid.corners(positions))

    def forward(self, variant: str, positions: Tensor, sizes: Sizes) -> Case:
        output = torch.empty(len(positions), self.spec.n_output)
        pieces = torch.split(positions, PIECE_SAMPLES)

        def limit() -> float:
            lines = lines_per_point(self.grid, positions[:16384], self.spec.n_features)
            return sizes.random_lines(self.table.numel() * 4) / lines

        return Case(
            _name("forward", variant),
            len(positions),
            "M points/s",
            ours=lambda: _core.hash_grid_forward(self.shape, positions, self.table, output),
            eager=lambda: torch.cat([self._features(piece) for piece in pieces]),
            compiled=lambda: torch.cat([self.compiled_features(piece) for piece in pieces]),
            limit=limit,
            bar=None if variant else _SHARE,
            peers=drjit_hash_grid(self.spec, positions, backward=False),
        )

    def backward(self, variant: str, positions: Tensor) -> Case:
        grad_output = torch.randn(len(positions), self.spec.n_output)
        inputs = torch.split(positions, PIECE_SAMPLES)
        pieces = list(zip(inputs, torch.split(grad_output, PIECE_SAMPLES), strict=True))

        def eager() -> None:
            for piece, grad in pieces:
                self.grid.add_gradient(self.grad, *self.grid.corners(piece), grad)

        def compiled() -> None:
            for piece, grad in pieces:
                self.grid.add_gradient(self.grad, *self.compiled_corners(piece), grad)

        return Case(
            _name("backward", variant),
            len(positions),
            "M points/s",
            ours=lambda: _core.hash_grid_backward_table(
                self.shape, grad_output, positions, self.grad
            ),
            eager=eager,
            compiled=compiled,
        )

    def forward_backward(self, variant: str, positions: Tensor) -> Case:
        output = torch.empty(len(positions), self.spec.n_output)

        def ours() -> None:
            _core.hash_grid_forward(self.shape, positions, self.table, output)
            _core.hash_grid_backward_table(self.shape, output, positions, self.grad)

        def eager() -> None:
            for piece in torch.split(positions, PIECE_SAMPLES):
                corners = self.grid.corners(piece)
                features = self.grid.lookup(self.table, *corners)
                self.grid.add_gradient(self.grad, *corners, features)

        return Case(
            _name("backward", variant),
            len(positions),
            "M points/s",
            ours=ours,
            eager=eager,
            peers=drjit_hash_grid(self.spec, positions, backward=True),
        )

    def second(self, positions: Tensor) -> Case:
        grad_output = torch.randn(len(positions), self.spec.n_output)
        tangents, grad_positions = torch.randn_like(positions), torch.empty_like(positions)
        grad_grad_output = torch.empty_like(grad_output)
        return Case(
            _name("second", ""),
            len(positions),
            "M points/s",
            ours=lambda: _core.hash_grid_second(
                self.shape, tangents, grad_output, positions, self.table,
                grad_grad_output, grad_positions, self.grad,
            ),
        )  # fmt: skip
