"""Low-rank tensors: features, and features with the table's gradient."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from neural_fields import _core
from neural_fields.benchmarks.case import Bar, Case, Sizes
from neural_fields.benchmarks.lattice_baseline import corners
from neural_fields.benchmarks.torch_baseline import PIECE_SAMPLES
from neural_fields.ops import TensorPlanesSpec, huge_pages_empty

LINE_BYTES = 64
_BAR: Bar = {"claim": "low-rank tensors at ten times grid_sample", "ratio_eager": 10.0}


def cases(sizes: Sizes) -> Iterator[Case]:
    """Random positions; VM and CP of TensoRF, K-planes."""
    small = sizes.n_samples < 65536
    positions = torch.rand(sizes.n_samples, 3, generator=torch.Generator().manual_seed(2))
    for name, kind, resolution, rank in (
        ("vm16", TensorPlanesSpec.vm, 300, 16),
        ("vm48", TensorPlanesSpec.vm, 300, 48),
        ("cp96", TensorPlanesSpec.cp, 500, 96),
        ("planes16", TensorPlanesSpec.planes, 128, 16),
        ("planes32", TensorPlanesSpec.planes, 512, 32),
    ):
        spec = kind((24 if small else resolution,) * 3, rank)
        yield from _Bench(spec, positions, sizes).cases(name)


class _Bench:
    """The tensors that the cases of one spec share."""

    def __init__(self, spec: TensorPlanesSpec, positions: Tensor, sizes: Sizes) -> None:
        self.spec, self.positions, self.sizes = spec, positions, sizes
        self.shape = _core.TensorPlanesShape(*spec.arguments)
        self.table = huge_pages_empty((spec.n_params,)).normal_()
        self.grad = huge_pages_empty((spec.n_params,)).zero_()
        self.factors = [[factor.reshape(-1, spec.rank) for factor in t] for t in self.views]
        grads = spec.views(self.grad)
        self.grads = [[factor.view(-1, spec.rank) for factor in t] for t in grads]
        self.output = torch.empty(len(positions), spec.n_output)
        self.grad_output = torch.randn(len(positions), spec.n_output)
        self.images = [[_image(factor) for factor in term] for term in self.views]

    @property
    def views(self) -> tuple[tuple[Tensor, ...], ...]:
        return self.spec.views(self.table)

    def cases(self, name: str) -> Iterator[Case]:
        yield Case(
            f"tensor_planes.forward.f32:{name}",
            len(self.positions),
            "M points/s",
            ours=self.forward,
            eager=lambda: [
                self.bags(piece) for piece in torch.split(self.positions, PIECE_SAMPLES)
            ],
            limit=self.limit,
        )
        yield Case(
            f"tensor_planes.backward.f32:{name}-with-forward",
            len(self.positions),
            "M points/s",
            ours=self.forward_backward,
            eager=self.bags_backward,
        )
        yield Case(
            f"tensor_planes.backward.f32:{name}-grid-sample",
            len(self.positions),
            "M points/s",
            ours=self.forward_backward,
            eager=self.grid_sample_backward,
            bar=_BAR,
        )

    def forward(self) -> None:
        _core.tensor_planes_forward(self.shape, self.positions, self.table, self.output)

    def forward_backward(self) -> None:
        self.forward()
        _core.tensor_planes_backward_table(
            self.shape, self.grad_output, self.positions, self.table, self.grad
        )

    def limit(self) -> float:
        """Lines that the planes of a point touch; lines of vertices stay in the nearest caches."""
        row = 2 * self.spec.rank * 4
        lines = sum(
            2 * (row / LINE_BYTES + 1 - 4 / LINE_BYTES)
            for term in self.spec.terms
            for factor in term
            if len(factor) == 2
        )
        return self.sizes.random_lines(self.table.numel() * 4) / max(lines, 1)

    def bags(self, positions: Tensor) -> Tensor:
        products = []
        for term, factors in zip(self.spec.terms, self.factors, strict=True):
            values = [self._bag(positions, *pair)[0] for pair in zip(term, factors, strict=True)]
            products.append(_product(values))
        return torch.cat(products, 1)

    def _bag(
        self, positions: Tensor, axes: tuple[int, ...], factor: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        sizes = tuple(self.spec.resolution[axis] for axis in axes)
        index, weight = corners(positions[:, list(axes)], sizes)
        bag = F.embedding_bag(index, factor, mode="sum", per_sample_weights=weight)
        return bag, index, weight

    def bags_backward(self) -> None:
        pieces = zip(
            torch.split(self.positions, PIECE_SAMPLES),
            torch.split(self.grad_output, PIECE_SAMPLES),
            strict=True,
        )
        for positions, grad_output in pieces:
            terms = zip(
                self.spec.terms,
                self.factors,
                self.grads,
                torch.split(grad_output, self.spec.rank, 1),
                strict=True,
            )
            for term, factors, grads, grad in terms:
                bags = [self._bag(positions, *pair) for pair in zip(term, factors, strict=True)]
                for k, (_, index, weight) in enumerate(bags):
                    others = _product([grad, *(b[0] for j, b in enumerate(bags) if j != k)])
                    shares = (weight[:, :, None] * others[:, None]).flatten(0, 1)
                    grads[k].index_add_(0, index.flatten(), shares)

    def grid_sample(self) -> Tensor:
        products = []
        for term, images in zip(self.spec.terms, self.images, strict=True):
            values = []
            for axes, image in zip(term, images, strict=True):
                place = self.positions[:, list(axes)] * 2 - 1
                if len(axes) == 1:
                    place = F.pad(place, (1, 0))
                sampled = F.grid_sample(image, place[None, None], align_corners=True)
                values.append(sampled[0, :, 0])
            products.append(_product(values))
        return torch.cat(products)

    def grid_sample_backward(self) -> object:
        images = [image for term in self.images for image in term]
        return torch.autograd.grad(self.grid_sample(), images, self.grad_output.t())


def _product(values: list[Tensor]) -> Tensor:
    product = values[0]
    for value in values[1:]:
        product = product * value
    return product


def _image(factor: Tensor) -> Tensor:
    """A factor as grid_sample wants it: [1, rank, height, width]."""
    plane = factor if factor.dim() == 3 else factor[:, None]
    return plane.permute(2, 0, 1)[None].contiguous().requires_grad_()
