"""The whole hash radiance field: a step of training, and the forward alone."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from neural_fields import _core
from neural_fields.benchmarks.batch import FieldParams, StoredBatch, fresh_field, stored_batch
from neural_fields.benchmarks.case import Bar, Case, Sizes
from neural_fields.benchmarks.torch_baseline import HUBER, RadianceBaseline
from neural_fields.ops import HashGridSpec, huge_pages_empty

_STEP: Bar = {"claim": "training step against PyTorch", "ratio_eager": 20.0, "ratio_compile": 10.0}
_RENDER: Bar = {"claim": "forward against PyTorch", "ratio_eager": 15.0, "ratio_compile": 3.0}


def cases(sizes: Sizes) -> Iterator[Case]:
    """`step` and `render` with 8 x 4, then with 16 x 2, then 8 x 4 in bfloat16.

    PyTorch's arms are float32 throughout. The limit is that of the networks' multiply-adds alone,
    forward or with both gradients, at the float32 peak: as if all else were free.
    """
    stored = stored_batch(sizes.n_samples, sizes.image_size)
    for n_levels, n_features, precision, variant in (
        (8, 4, "float32", ""),
        (16, 2, "float32", ":16x2"),
        (8, 4, "bf16", ":bf16"),
    ):
        spec = HashGridSpec(
            n_levels=n_levels,
            n_features=n_features,
            log2_table_size=sizes.log2_table_size,
            finest_resolution=2048,
        )
        field = fresh_field(spec)
        ours = _Native(field, stored, precision)
        eager, compiled = (
            RadianceBaseline(spec, field.table, field.density, field.color, compiled=compiled)
            for compiled in (False, True)
        )
        items = stored.batch.n_samples
        products = len(field.density) + len(field.color)  # multiply-adds of a sample's forward pass
        # Before any step: later the field is opaque in places, and our render would stop early.
        yield Case(
            f"render{variant}",
            items,
            "M samples/s",
            ours=ours.render,
            eager=lambda eager=eager: eager.forward(stored.batch),  # type: ignore[misc]
            compiled=lambda compiled=compiled: compiled.forward(stored.batch),  # type: ignore[misc]
            limit=lambda products=products: sizes.flops() / (2 * products),  # type: ignore[misc]
            bar=None if variant else _RENDER,
        )
        yield Case(
            f"step{variant}",
            items,
            "M samples/s",
            ours=ours.step,
            eager=lambda eager=eager: eager.step(stored.batch),  # type: ignore[misc]
            compiled=lambda compiled=compiled: compiled.step(stored.batch),  # type: ignore[misc]
            limit=lambda products=products: sizes.flops() / (6 * products),  # type: ignore[misc]
            bar=None if variant else _STEP,
        )


class _Native:
    """The fused path over the stored batch."""

    def __init__(self, field: FieldParams, stored: StoredBatch, precision: str) -> None:
        self.stored, spec = stored, field.spec
        self.shape = _core.RadianceShape(
            _core.HashGridShape(*spec.arguments),
            _core.MlpShape([spec.n_output, 64, 16], "relu", "none", 1.0, False, precision),
            _core.MlpShape([32, 64, 64, 3], "relu", "sigmoid", 1.0, False, precision),
        )
        self.params = (field.table, field.density, field.color)
        self.grads, self.first, self.second = (_zeros_like(self.params) for _ in range(3))
        self.touched = torch.zeros((field.table.numel() + 15) // 16, dtype=torch.uint8)
        n_rays, n_samples = stored.batch.n_rays, stored.batch.n_samples
        self.features = torch.empty(n_samples, spec.n_output)
        self.positions = stored.batch.positions.clone()  # the step may move them
        self.ray_loss, self.ray_color = torch.empty(n_rays), torch.empty(n_rays, 3)
        self.opacity, self.depth = torch.empty(n_rays), torch.empty(n_rays)
        self.n_steps = 0

    def step(self) -> None:
        """Gradients and Adam. No ray is ended early, so every sample counts on both sides."""
        batch = self.stored.batch
        _core.radiance_train(
            self.shape, *self.params, self.stored.origins, batch.directions,
            batch.offsets, batch.t_starts, batch.t_ends, self.positions,
            batch.target, batch.background, self.features,
            self.grads[0], self.touched, self.grads[1], self.grads[2],
            self.ray_loss, self.ray_color, batch.unit, 0.0, HUBER, batch.n_rays,
        )  # fmt: skip
        self.n_steps += 1
        columns = zip(self.params, self.grads, self.first, self.second, strict=True)
        for number, (params, grads, first, second) in enumerate(columns):
            is_table = number == 0
            _core.adam(
                params.view(-1), grads.view(-1), first.view(-1), second.view(-1),
                1e-2, 0.9, 0.99, 1e-15, 0.0, self.n_steps,
                is_table, is_table, self.touched if is_table else None,
            )  # fmt: skip

    def render(self) -> int:
        """The same samples, marched anew; returns how many there were."""
        batch = self.stored.batch
        return _core.radiance_render(
            self.shape, *self.params, self.stored.scene, self.stored.words, self.stored.origins,
            batch.directions, self.ray_color, self.opacity, self.depth, 0.0, 0.0,
        )  # fmt: skip


def _zeros_like(tensors: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    first, second, third = (huge_pages_empty(tensor.shape).zero_() for tensor in tensors)
    return first, second, third
