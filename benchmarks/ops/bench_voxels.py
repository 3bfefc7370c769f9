"""Dense voxels: PVD's 28 channels at 128^3."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from neural_fields import _core
from neural_fields.benchmarks.batch import stored_batch
from neural_fields.benchmarks.case import Bar, Case, Sizes
from neural_fields.benchmarks.lattice_baseline import corners
from neural_fields.benchmarks.torch_baseline import PIECE_SAMPLES
from neural_fields.ops import VoxelsSpec, huge_pages_empty

_BAR: Bar = {"claim": "dense voxels at ten times grid_sample", "ratio_eager": 10.0}
_LINES = 4 * (2 * 28 * 4 / 64 + 1 - 4 / 64)  # four runs of two vertices


def cases(sizes: Sizes) -> Iterator[Case]:
    """Random positions and positions along rays."""
    generator = torch.Generator().manual_seed(2)
    random = torch.rand(sizes.n_samples, 3, generator=generator)
    along_rays = stored_batch(sizes.n_samples, sizes.image_size).batch.positions
    bench = _Bench(VoxelsSpec((16 if sizes.n_samples < 65536 else 128,) * 3, 28), sizes)
    for variant, positions in (("", random), ("rays", along_rays)):
        yield from bench.cases(variant, positions)


class _Bench:
    """The tensors that the cases share."""

    def __init__(self, spec: VoxelsSpec, sizes: Sizes) -> None:
        self.spec, self.sizes = spec, sizes
        self.shape = _core.VoxelsShape(*spec.arguments)
        self.grid = huge_pages_empty((spec.n_vertices, spec.n_channels)).normal_()
        self.grad = huge_pages_empty(self.grid.shape).zero_()
        x, y, z = spec.resolution
        image = self.grid.view(z, y, x, -1).permute(3, 0, 1, 2)[None].contiguous()
        self.image = image.requires_grad_()

    def cases(self, variant: str, positions: Tensor) -> Iterator[Case]:
        output = torch.empty(len(positions), self.spec.n_channels)
        grad_output = torch.randn(len(positions), self.spec.n_channels)

        def forward() -> None:
            _core.voxels_forward(self.shape, positions, self.grid, None, output)

        def both() -> None:
            forward()
            _core.voxels_backward_grid(self.shape, grad_output, positions, None, self.grad)

        def bags() -> None:
            for piece in torch.split(positions, PIECE_SAMPLES):
                self._bag(*corners(piece, self.spec.resolution))

        def bags_both() -> None:
            pairs = zip(
                torch.split(positions, PIECE_SAMPLES),
                torch.split(grad_output, PIECE_SAMPLES),
                strict=True,
            )
            for piece, grad in pairs:
                index, weight = corners(piece, self.spec.resolution)
                self._bag(index, weight)
                shares = (weight[:, :, None] * grad[:, None]).flatten(0, 1)
                self.grad.index_add_(0, index.flatten(), shares)

        def grid_sample() -> object:
            place = (positions * 2 - 1)[None, None, None]
            values = F.grid_sample(self.image, place, align_corners=True)[0, :, 0, 0]
            return torch.autograd.grad(values, self.image, grad_output.t())

        rows = (
            ("forward", "", forward, bags),
            ("backward", "with-forward", both, bags_both),
            ("backward", "grid-sample", both, grid_sample),
        )
        for kind, what, ours, eager in rows:
            suffix = "-".join(filter(None, (variant, what)))
            yield Case(
                f"voxels.{kind}.f32" + (f":{suffix}" if suffix else ""),
                len(positions),
                "M points/s",
                ours=ours,
                eager=eager,
                limit=self._limit if kind == "forward" else None,
                bar=_BAR if what == "grid-sample" else None,
            )

    def _bag(self, index: Tensor, weight: Tensor) -> Tensor:
        return F.embedding_bag(index, self.grid, mode="sum", per_sample_weights=weight)

    def _limit(self) -> float:
        return self.sizes.random_lines(self.grid.numel() * 4) / _LINES
