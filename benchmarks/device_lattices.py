"""Interpolated lattices on a GPU: low-rank tensors and dense voxels, at random positions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from neural_fields.benchmarks.device_case import Case, Place, backward_arm, moved, spanned
from neural_fields.benchmarks.lattice_baseline import corners
from neural_fields.ops import TensorPlanesSpec, VoxelsSpec


def tensor_planes(place: Place) -> Iterator[Case]:
    """VM and CP of TensoRF, K-planes."""
    vm, cp, planes = place.sizes.plane_sides
    positions = place.rand(place.sizes.n_points, 3)
    for name, spec in (
        ("vm48", TensorPlanesSpec.vm((vm,) * 3, 48)),
        ("cp96", TensorPlanesSpec.cp((cp,) * 3, 96)),
        ("planes32", TensorPlanesSpec.planes((planes,) * 3, 32)),
    ):
        tensor = _LowRank(place, spec, positions)
        yield tensor.forward(name)
        yield tensor.backward(name)
        if name == "vm48":
            yield tensor.backward_positions(name)
            yield tensor.second(name)


class _LowRank:
    """The tensors that the cases of one spec share."""

    def __init__(self, place: Place, spec: TensorPlanesSpec, positions: Tensor) -> None:
        self.place, self.spec, self.positions = place, spec, positions
        self.n, self.module = len(positions), place.module
        self.shape = self.module.TensorPlanesShape(*spec.arguments)
        self.table = place.randn(spec.n_params)
        self.grad_table = torch.zeros_like(self.table)
        self.output = place.empty(self.n, spec.n_output)
        self.grad_output = place.randn(self.n, spec.n_output)
        self.grad_positions = torch.empty_like(positions)
        self.images = [_image(factor) for term in spec.views(self.table) for factor in term]
        self.values = 4 * spec.n_output
        # Two runs of two rows per plane; lines stay in the nearest caches.
        row, factors = 4 * spec.rank, [factor for term in spec.terms for factor in term]
        self.rows = sum(2 * spanned(2 * row, unit=row) for axes in factors if len(axes) == 2)

    def forward(self, name: str) -> Case:
        return Case(
            f"tensor_planes.forward:{name}",
            self.n,
            "points",
            ours=lambda: self.module.tensor_planes_forward(
                self.shape, self.positions, self.table, self.output
            ),
            eager={
                "embedding_bag": self.bags,
                "grid_sample": lambda: self.sampled(self.positions, self.images),
            },
            work=moved(self.n, positions=12, rows=self.rows, values=self.values),
        )

    def backward(self, name: str) -> Case:
        """The table's gradient, for which the other factors are read, too."""
        eager = backward_arm(
            lambda *images: self.sampled(self.positions, images),
            self.images,
            self.grad_output.t().contiguous(),
        )
        return Case(
            f"tensor_planes.backward:{name}",
            self.n,
            "points",
            ours=lambda: self.module.tensor_planes_backward_table(
                self.shape, self.grad_output, self.positions, self.table, self.grad_table
            ),
            eager={"grid_sample": eager},
            work=moved(
                self.n, positions=12, rows_read_and_added_to=3 * self.rows, gradients=self.values
            ),
        )

    def backward_positions(self, name: str) -> Case:
        eager = backward_arm(
            lambda positions: self.sampled(positions, self.images),
            [self.positions],
            self.grad_output.t().contiguous(),
        )
        return Case(
            f"tensor_planes.backward:{name}-positions",
            self.n,
            "points",
            ours=lambda: self.module.tensor_planes_backward_positions(
                self.shape, self.grad_output, self.positions, self.table, self.grad_positions
            ),
            eager={"grid_sample": eager},
            work=moved(self.n, positions_and_gradients=24, rows=self.rows, gradients=self.values),
        )

    def second(self, name: str) -> Case:
        tangents = self.place.randn(self.n, 3)
        return Case(
            f"tensor_planes.second:{name}",
            self.n,
            "points",
            ours=lambda: self.module.tensor_planes_second(
                self.shape, tangents, None, self.grad_output, self.positions, self.table,
                self.output, self.grad_positions, self.grad_table,
            ),
            work=moved(
                self.n,
                three_vectors=36,
                rows_read_and_added_to=3 * self.rows,
                two_gradients=2 * self.values,
            ),
        )  # fmt: skip

    def bags(self) -> Tensor:
        products = []
        for term, factors in zip(self.spec.terms, self.spec.views(self.table), strict=True):
            values = []
            for axes, factor in zip(term, factors, strict=True):
                sizes = tuple(self.spec.resolution[axis] for axis in axes)
                rows = factor.reshape(-1, self.spec.rank)
                values.append(_bag(_columns(self.positions, axes), sizes, rows))
            products.append(_product(values))
        return torch.cat(products, 1)

    def sampled(self, positions: Tensor, images: Sequence[Tensor]) -> Tensor:
        """[n_output, n]."""
        left, products = iter(images), []
        for term in self.spec.terms:
            values = []
            for axes in term:
                place = _columns(positions, axes) * 2 - 1
                if len(axes) == 1:
                    place = F.pad(place, (1, 0))
                values.append(F.grid_sample(next(left), place[None, None], align_corners=True))
            products.append(_product([value[0, :, 0] for value in values]))
        return torch.cat(products)


def voxels(place: Place) -> Iterator[Case]:
    """28 channels, as PVD has them."""
    side, n, module = place.sizes.voxel_side, place.sizes.n_points, place.module
    spec = VoxelsSpec((side,) * 3, 28)
    shape, positions = module.VoxelsShape(*spec.arguments), place.rand(n, 3)
    grid = place.randn(spec.n_vertices, 28)
    image = grid.view(side, side, side, 28).permute(3, 0, 1, 2)[None].contiguous()
    output, grad_output, tangents = place.empty(n, 28), place.randn(n, 28), place.randn(n, 3)
    grad_grid, grad_positions = torch.zeros_like(grid), torch.empty_like(positions)
    turned, values = grad_output.t().contiguous(), 4 * 28
    rows = 4 * spanned(2 * values, unit=values)  # four runs of two vertices
    yield Case(
        "voxels.forward",
        n,
        "points",
        ours=lambda: module.voxels_forward(shape, positions, grid, None, output),
        eager={
            "embedding_bag": lambda: _bag(positions, spec.resolution, grid),
            "grid_sample": lambda: _sampled(positions, image),
        },
        work=moved(n, positions=12, rows=rows, values=values),
    )
    yield Case(
        "voxels.backward",
        n,
        "points",
        ours=lambda: module.voxels_backward_grid(shape, grad_output, positions, None, grad_grid),
        eager={"grid_sample": backward_arm(lambda x: _sampled(positions, x), [image], turned)},
        work=moved(n, positions=12, rows_added_to=2 * rows, gradients=values),
    )
    yield Case(
        "voxels.backward:positions",
        n,
        "points",
        ours=lambda: module.voxels_backward_positions(
            shape, grad_output, positions, grid, None, grad_positions
        ),
        eager={"grid_sample": backward_arm(lambda x: _sampled(x, image), [positions], turned)},
        work=moved(n, positions_and_gradients=24, rows=rows, gradients=values),
    )
    yield Case(
        "voxels.second",
        n,
        "points",
        ours=lambda: module.voxels_second(
            shape, tangents, grad_output, positions, grid, None, output, grad_positions, grad_grid
        ),
        work=moved(n, three_vectors=36, rows_read_and_added_to=3 * rows, two_gradients=2 * values),
    )


def _sampled(positions: Tensor, image: Tensor) -> Tensor:
    """[28, n] of an image [1, 28, side, side, side]."""
    place = (positions * 2 - 1)[None, None, None]
    return F.grid_sample(image, place, align_corners=True)[0, :, 0, 0]


def _bag(positions: Tensor, sizes: tuple[int, ...], rows: Tensor) -> Tensor:
    index, weight = corners(positions, sizes)
    return F.embedding_bag(index, rows, mode="sum", per_sample_weights=weight)


def _columns(positions: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Some axes of positions; a list of indices would come from the host, which waits for that."""
    return torch.stack([positions[:, axis] for axis in axes], 1)


def _product(values: list[Tensor]) -> Tensor:
    product = values[0]
    for value in values[1:]:
        product = product * value
    return product


def _image(factor: Tensor) -> Tensor:
    """A factor as grid_sample wants it: [1, rank, height, width]."""
    plane = factor if factor.dim() == 3 else factor[:, None]
    return plane.permute(2, 0, 1)[None].contiguous()
