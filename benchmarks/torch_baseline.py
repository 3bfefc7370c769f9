"""The radiance field's training step and forward in plain PyTorch, as fast as we could make it.

The same field as `neural_fields`' hash radiance field: hash grid, network [E, 64, 16], spherical
harmonics of degree 4, network [32, 64, 64, 3], packed compositing, Huber loss, Adam. It is what
speed is compared with, so it is written for speed; the naive oracles are elsewhere
(`neural_fields.ops.reference`).

What was measured for each part, on the batch of `nf bench` (65,536 samples along rays, float32,
8 x 4 grid), in milliseconds of processor time on one thread of a Zen 4 core, which other work on
the machine hardly disturbs. Other choices are multiples of the one taken:

- Corners, 21 ms: numbers of one kind contiguous over the points, all levels in one computation,
  int32 with wrap-around. int64 takes 1.4 times as long, corners innermost 3.9 times.
- Lookup, 24 ms: `embedding_bag` with a weight per corner. A sparse matrix product takes 0.8 to 1
  times as long, `bmm` of gathered rows 3.1, `index_select` or `embedding` and a weighted sum 3.2,
  plain indexing 5.8; int64 indices 1.05.
- Networks, compositing, loss and their backward, 74 ms: samples go through everything in pieces of
  whole rays that stay in the cache. 8,192 at a time are best; 4,096 take 1.2 times as long, 1,024
  1.4 times, all at once 1.2 times.
- Table gradient, 78 ms: `index_add_` of pairs of features as complex numbers, in place into one
  dense gradient. Adding rows takes 2.1 times as long, `scatter_add_` 2.1, `index_put_` 1.9, `put_`
  2.2. Lookup and gradient by autograd take 3.9 times (indexing), 4.4 (`embedding_bag`) or 5.3
  (`embedding`) what the two take here. Sorting the indices first costs 0.5 to 1.4 times all of it
  before anything is added. Only these additions use a single thread.
- Adam, 9 ms with clearing the gradient: `fused=True` over all numbers. `foreach=True` takes 7 times
  as long, gathering and updating only the touched entries (a third of them here) 8 times.
- `torch.compile`: one graph without breaks of what follows the lookup takes 0.8 to 0.9 times as
  long as eager. Compiled corners take as long as eager ones, compiled lookups (all in one loop) 4
  times, compiled scatters (atomic additions) several times as long, so these three stay eager.

Compositing is a float64 running sum over the piece, less its value at the ray's first sample, so
that no ray is padded; summing rays by `segment_reduce` is as fast as by `index_add`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from neural_fields.ops import HashGridSpec, huge_pages_empty

PIECE_SAMPLES = 8192
HUBER = 0.1
_MAX_THICKNESS = 100.0  # lets no light through, and keeps the running sum exact enough


@dataclass(frozen=True)
class Batch:
    """Packed samples along rays, and what the rays should look like.

    Attributes:
        offsets: int64 [n_rays + 1], ray r owns the samples offsets[r] ... offsets[r + 1] - 1.
        t_starts: [n] along the ray, world.
        t_ends: [n].
        positions: [n, 3] in [0, 1].
        directions: [n_rays, 3] unit vectors.
        target: [n_rays, 3] colours over the background.
        background: [n_rays, 3].
        unit: world length of one unit of density.
    """

    offsets: Tensor
    t_starts: Tensor
    t_ends: Tensor
    positions: Tensor
    directions: Tensor
    target: Tensor
    background: Tensor
    unit: float

    @property
    def n_rays(self) -> int:
        """Number of rays."""
        return len(self.directions)

    @property
    def n_samples(self) -> int:
        """Number of samples."""
        return len(self.positions)

    def split(self, n_samples: int) -> Iterator[Batch]:
        """Whole rays, in pieces of at least so many samples each but the last."""
        begin = 0
        while begin < self.n_rays:
            first = int(self.offsets[begin])
            end = int(torch.searchsorted(self.offsets, first + max(n_samples, 1)))
            end = min(end, self.n_rays)
            rays, samples = slice(begin, end), slice(first, int(self.offsets[end]))
            yield Batch(
                self.offsets[begin : end + 1] - first,
                self.t_starts[samples],
                self.t_ends[samples],
                self.positions[samples],
                self.directions[rays],
                self.target[rays],
                self.background[rays],
                self.unit,
            )
            begin = end


class Grid:
    """A 3-D hash grid of the tiny-cuda-nn convention with linear interpolation.

    Corner arrays are [n_levels * n, 8], all points of a level together.
    """

    def __init__(self, spec: HashGridSpec) -> None:
        levels = spec.levels
        kind = spec.n_dims, spec.grid_type, spec.interpolation, spec.convention
        if kind != (3, "hash", "linear", "tiny-cuda-nn"):
            raise ValueError("Grid: needs a linear hash grid in three dimensions, as tiny-cuda-nn.")
        if spec.n_features % 2:
            raise ValueError(f"Grid: needs an even number of features, got {spec.n_features}.")
        self.spec = spec
        self.n_dense = sum(level.indexing == "dense" for level in levels)  # they come first
        primes = (1, 2654435761 - (1 << 32), 805459861)  # as int32
        steps = [
            (1, level.resolution, level.resolution**2) if level.indexing == "dense" else primes
            for level in levels
        ]
        self._scale = torch.tensor([level.scale for level in levels])[:, None, None]
        self._step = torch.tensor(steps, dtype=torch.int32)[:, :, None]
        self._first = torch.tensor([level.offset for level in levels], dtype=torch.int32)
        sizes = [level.n_entries for level in levels]
        self._dense_size = torch.tensor(sizes[: self.n_dense], dtype=torch.int32)[:, None, None]
        self._mask = sizes[-1] - 1

    def corners(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Table entries (int32) and weights of the 8 corners around every point on every level."""
        scaled = positions.t()[None] * self._scale + 0.5  # [level, axis, point]
        cell = scaled.to(torch.int32)
        upper = scaled - cell
        lower_term = cell * self._step
        term = torch.stack((lower_term, lower_term + self._step), 1)  # [level, side, axis, point]
        dense, hashed = term[: self.n_dense], term[self.n_dense :]
        plane = dense[:, :, None, 2] + dense[:, None, :, 1]
        entry = (plane[:, :, :, None] + dense[:, None, None, :, 0]).flatten(1, 3)
        entry = torch.where(entry >= self._dense_size, entry - self._dense_size, entry)
        plane = hashed[:, :, None, 2] ^ hashed[:, None, :, 1]
        hashes = (plane[:, :, :, None] ^ hashed[:, None, None, :, 0]).flatten(1, 3) & self._mask
        index = torch.cat((entry, hashes)) + self._first[:, None, None]
        side = torch.stack((1 - upper, upper), 1)
        area = side[:, :, None, 2] * side[:, None, :, 1]
        weight = (area[:, :, :, None] * side[:, None, None, :, 0]).flatten(1, 3)
        return index.transpose(1, 2).reshape(-1, 8), weight.transpose(1, 2).reshape(-1, 8)

    def lookup(self, table: Tensor, index: Tensor, weight: Tensor) -> Tensor:
        """Features [n, n_levels * n_features]."""
        bags = F.embedding_bag(index, table, mode="sum", per_sample_weights=weight)
        by_level = bags.view(self.spec.n_levels, -1, self.spec.n_features)
        return by_level.transpose(0, 1).reshape(-1, self.spec.n_output)

    def add_gradient(self, grad: Tensor, index: Tensor, weight: Tensor, features: Tensor) -> None:
        """Add the table's gradient, for this gradient of the features, to `grad`."""
        pairs = self.spec.n_features // 2
        source = torch.view_as_complex(features.view(-1, self.spec.n_levels, pairs, 2))
        by_pair = source.permute(2, 1, 0).reshape(pairs, -1, 1)
        target = torch.view_as_complex(grad.view(-1, pairs, 2))
        entries = index.view(-1)
        for pair in range(pairs):
            target[:, pair].index_add_(0, entries, (weight * by_pair[pair]).view(-1))


class _Density(torch.autograd.Function):
    """exp(x), whose derivative is taken at x in [-15, 15] (instant-ngp)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.exp()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        slope: Tensor = x.clamp(-15, 15).exp()
        return grad * slope


def spherical_harmonics(directions: Tensor) -> Tensor:
    """The 16 real spherical harmonics of degree up to 3."""
    x, y, z = directions.unbind(1)
    xy, yz, xz, x2, y2, z2 = x * y, y * z, x * z, x * x, y * y, z * z
    return torch.stack(
        (
            torch.full_like(x, 0.28209479177387814),
            -0.48860251190291987 * y,
            0.48860251190291987 * z,
            -0.48860251190291987 * x,
            1.0925484305920792 * xy,
            -1.0925484305920792 * yz,
            0.94617469575755997 * z2 - 0.31539156525251999,
            -1.0925484305920792 * xz,
            0.54627421529603959 * (x2 - y2),
            0.59004358992664352 * y * (y2 - 3 * x2),
            2.8906114426405538 * xy * z,
            0.45704579946446572 * y * (1 - 5 * z2),
            0.3731763325901154 * z * (5 * z2 - 3),
            0.45704579946446572 * x * (1 - 5 * z2),
            1.4453057213202769 * z * (x2 - y2),
            0.59004358992664352 * x * (3 * y2 - x2),
        ),
        1,
    )


def composite(
    offsets: Tensor, t_starts: Tensor, t_ends: Tensor, density: Tensor, color: Tensor
) -> Tensor:
    """Colour without background and opacity [n_rays, 4] of packed samples."""
    counts = offsets.diff()
    ray = torch.repeat_interleave(counts, output_size=len(t_starts))
    thickness = (density * (t_ends - t_starts)).clamp(max=_MAX_THICKNESS)
    before = thickness.cumsum(0, dtype=torch.float64) - thickness
    reached = (before[offsets[ray]] - before).float().exp()
    weight = (reached * -torch.expm1(-thickness))[:, None]
    values = torch.cat((weight * color, weight), 1)
    return values.new_zeros(len(counts), 4).index_add(0, ray, values)


class RadianceBaseline:
    """The field with its gradients and its optimiser.

    Args:
        spec: the grid.
        table: [spec.n_entries, spec.n_features], copied.
        density_params: the flat matrices of the network [spec.n_output, 64, 16], copied.
        color_params: of [32, 64, 64, 3], copied.
        compiled: use `torch.compile` where it is faster.
        piece_samples: how many samples go through everything at a time.
    """

    def __init__(
        self,
        spec: HashGridSpec,
        table: Tensor,
        density_params: Tensor,
        color_params: Tensor,
        *,
        compiled: bool = False,
        piece_samples: int = PIECE_SAMPLES,
    ) -> None:
        self.grid = Grid(spec)
        self.table = huge_pages_empty(table.shape).copy_(table)
        self.table.grad = huge_pages_empty(table.shape).zero_()
        self.matrices = [
            *_matrices(density_params, (spec.n_output, 64, 16)),
            *_matrices(color_params, (32, 64, 64, 3)),
        ]
        self.optimizer = torch.optim.Adam(
            [self.table, *self.matrices], lr=1e-2, betas=(0.9, 0.99), eps=1e-15, fused=True
        )
        self.piece_samples = piece_samples
        self._colors: Callable[..., Tensor] = _ray_colors
        self._loss: Callable[..., Tensor] = _loss
        if compiled:
            self._colors = torch.compile(_ray_colors, fullgraph=True, dynamic=True)
            self._loss = torch.compile(_loss, fullgraph=True, dynamic=True)

    @torch.no_grad()
    def forward(self, batch: Batch) -> Tensor:
        """Colours of the rays [n_rays, 3]."""
        colors = []
        for piece in batch.split(self.piece_samples):
            features = self.grid.lookup(self.table, *self.grid.corners(piece.positions))
            colors.append(self._colors(features, self.matrices, *_arguments(piece)))
        return torch.cat(colors)

    def backward(self, batch: Batch) -> Tensor:
        """The mean loss; adds to the gradients of the table and the matrices."""
        total = torch.zeros(())
        for piece in batch.split(self.piece_samples):
            index, weight = self.grid.corners(piece.positions)
            features = self.grid.lookup(self.table, index, weight).requires_grad_()
            loss = self._loss(features, self.matrices, *_arguments(piece), piece.target)
            loss = loss / (5 * 3 * batch.n_rays)
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
            assert features.grad is not None
            assert self.table.grad is not None
            self.grid.add_gradient(self.table.grad, index, weight, features.grad)
        return total

    def step(self, batch: Batch) -> Tensor:
        """One step of training; returns the loss."""
        loss = self.backward(batch)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=False)
        return loss


def _matrices(params: Tensor, widths: tuple[int, ...]) -> list[Tensor]:
    shapes = list(zip(widths[1:], widths[:-1], strict=True))
    parts = torch.split(params, [n_out * n_in for n_out, n_in in shapes])
    return [
        part.clone().view(shape).requires_grad_() for part, shape in zip(parts, shapes, strict=True)
    ]


def _arguments(batch: Batch) -> tuple[Tensor, ...]:
    t_starts, t_ends = batch.t_starts / batch.unit, batch.t_ends / batch.unit
    return batch.offsets, t_starts, t_ends, batch.directions, batch.background


def _ray_colors(
    features: Tensor,
    matrices: list[Tensor],
    offsets: Tensor,
    t_starts: Tensor,
    t_ends: Tensor,
    directions: Tensor,
    background: Tensor,
) -> Tensor:
    first, trunk, color_in, color_hidden, color_out = matrices
    latent = F.linear(F.relu(F.linear(features, first)), trunk)
    ray = torch.repeat_interleave(offsets.diff(), output_size=len(features))
    harmonics = spherical_harmonics(directions)[ray]
    hidden = F.relu(F.linear(torch.cat((latent, harmonics), 1), color_in))
    hidden = F.relu(F.linear(hidden, color_hidden))
    color = F.linear(hidden, color_out).sigmoid()
    density: Tensor = _Density.apply(latent[:, 0])  # type: ignore[no-untyped-call]
    values = composite(offsets, t_starts, t_ends, density, color)
    return values[:, :3] + (1 - values[:, 3:]) * background


def _loss(
    features: Tensor,
    matrices: list[Tensor],
    offsets: Tensor,
    t_starts: Tensor,
    t_ends: Tensor,
    directions: Tensor,
    background: Tensor,
    target: Tensor,
) -> Tensor:
    colors = _ray_colors(features, matrices, offsets, t_starts, t_ends, directions, background)
    return F.huber_loss(colors, target, delta=HUBER, reduction="sum") / HUBER
