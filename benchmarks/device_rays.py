"""Rays and parameters on a GPU: march, composite, occupancy, Adam, distill."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from neural_fields.benchmarks import batch as stored
from neural_fields.benchmarks.device_case import Case, Place, backward_arm, in_turn, moved
from neural_fields.benchmarks.ops import bench_distill
from neural_fields.benchmarks.torch_baseline import composite as torch_composite
from neural_fields.ops import HashGridSpec, MarchScene, OccupancySpec
from neural_fields.ops.march import native_scene

_BLOCK = 16  # numbers that share a mark
_TOUCHED = 0.2
_MEAN_SAMPLES = 64  # of a ray that is composited
_FEATURES = 16  # of fields that learn from each other
_LOW, _HIGH = -2.0, 7.0


def march(place: Place) -> Iterator[Case]:
    """Rays of the largest stored batch through its occupancy grid, into buffers that are there."""
    found = stored.stored_batch(*place.sizes.batches[-1])
    copies, module = place.sizes.march_copies, place.module
    origins, directions = (
        tensor.to(place.device).repeat(copies, 1)
        for tensor in (found.origins, found.batch.directions)
    )
    n_rays, n = len(origins), found.batch.n_samples * copies
    scene = native_scene(module, _scene())
    words, jitter = found.words.to(place.device), torch.full_like(origins[:, 0], 0.5)
    offsets = torch.empty(n_rays + 1, dtype=torch.int64, device=place.device)
    samples = (offsets, place.empty(n), place.empty(n), place.empty(n, 3))
    used = torch.empty(2, dtype=torch.int64, device=place.device)
    yield Case(
        "march",
        n,
        "samples",
        ours=lambda: module.march_into(
            scene, words, origins, directions, jitter, None, *samples, used
        ),
        note="bound by the cells that rays pass, not by what is written",
    )


def _scene() -> MarchScene:
    """That of the stored batch, which has it in the core's form alone."""
    return MarchScene(
        box_min=(-stored.UNIT,) * 3,
        box_max=(stored.UNIT,) * 3,
        center=(0.0, 0.0, 0.0),
        unit=stored.UNIT,
        step=stored.STEP,
        grid=OccupancySpec(stored.RESOLUTION),
        max_step=stored.STEP,
        near=0.05,
        far=1e6,
    )


def composite(place: Place) -> Iterator[Case]:
    """Rays of 0 to 127 samples; PyTorch's arms leave out depth."""
    n_rays, module = max(1, place.sizes.n_streamed // 32), place.module
    counts = torch.randint(0, 2 * _MEAN_SAMPLES, (n_rays,), device=place.device)
    offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    n = int(offsets[-1])
    t_starts = place.rand(n)
    rays = (offsets, t_starts, t_starts + 0.01)
    density, color = place.rand(n), place.rand(n, 3)
    seen = place.empty(n_rays, 3), place.empty(n_rays), place.empty(n_rays)
    grad = place.randn(n_rays, 4)
    grads = grad[:, :3].contiguous(), grad[:, 3].contiguous()
    grad_density, grad_color = torch.empty_like(density), torch.empty_like(color)

    def plain(density: Tensor, color: Tensor) -> Tensor:
        return torch_composite(*rays, density, color)

    yield Case(
        "composite.forward",
        n,
        "samples",
        ours=lambda: module.composite_forward(*rays, density, color, 0.0, *seen),
        eager={"cumsum, index_add": lambda: plain(density, color)},
        work=moved(n, steps=8, density_and_color=16) + moved(n_rays, offsets=8, results=20),
    )
    yield Case(
        "composite.backward",
        n,
        "samples",
        ours=lambda: module.composite_backward(
            *rays, density, color, 0.0, *grads, None, None, None, grad_density, grad_color
        ),
        eager={"autograd": backward_arm(plain, [density, color], grad)},
        work=moved(n, steps=8, values_and_gradients=32) + moved(n_rays, offsets=8, gradients=16),
    )


def occupancy(place: Place) -> Iterator[Case]:
    """All cells of one cascade: random points in them, decay and maximum, bits."""
    side, module = place.sizes.cells, place.module
    n = side**3
    cells = torch.arange(n, device=place.device)
    values, fresh, positions = place.rand(n), place.rand(n), place.empty(n, 3)
    words = torch.empty(n // 64, dtype=torch.int64, device=place.device)
    yield Case(
        "occupancy.points",
        n,
        "cells",
        ours=lambda: module.occupancy_points(side, 1, cells, 7, 1, positions),
        work=moved(n, cells=8, points=12),
    )
    theirs = values.clone()

    def update() -> None:
        decayed = torch.maximum(theirs * 0.95, fresh)
        theirs.copy_(torch.where(theirs < 0, theirs, decayed))

    yield Case(
        "occupancy.update",
        n,
        "cells",
        ours=lambda: module.occupancy_update(side, 1, values, cells, fresh, 0.95),
        eager={"maximum, where": update},
        work=moved(n, cells=8, fresh=4, values_read_and_written=8),
        note="PyTorch has no list of cells",
    )
    yield Case(
        "occupancy.words",
        n,
        "cells",
        ours=lambda: module.occupancy_words(side, 1, values, 0.01, words),
        eager={"mean": lambda: values > values.clamp(min=0).mean().clamp(max=0.01)},
        work=moved(n, values_read_twice=8, bits=1 / 8),
        note="PyTorch stops at a boolean per cell",
    )


def adam(place: Place) -> Iterator[Case]:
    """The table of the default field: all numbers, and the fifth that a step touches."""
    n = HashGridSpec(log2_table_size=place.sizes.log2_table_size).n_entries * 4
    module, grads = place.module, place.randn(n)
    params, first, second = (torch.zeros_like(grads) for _ in range(3))
    marks = (place.rand((n + _BLOCK - 1) // _BLOCK) < _TOUCHED).to(torch.uint8)
    touched = marks.clone()
    parameter = params.clone()
    parameter.grad = grads.clone()
    optimizer = torch.optim.Adam([parameter], 1e-2, (0.9, 0.99), 1e-15, fused=True)
    numbers = (params, grads, first, second, 1e-2, 0.9, 0.99, 1e-15, 0.0, 9, True, False)

    def some() -> None:
        touched.copy_(marks)  # a step clears them
        module.adam(*numbers, touched)

    yield Case(
        "adam",
        n,
        "numbers",
        ours=lambda: module.adam(*numbers),
        eager={"fused": optimizer.step},
        work=moved(n, read=16, written=12),
    )
    yield Case(
        "adam:touched",
        n,
        "numbers",
        ours=some,
        eager={"fused": optimizer.step},
        work=moved(n, a_fifth_of_28=28 * _TOUCHED, marks=4 / _BLOCK),
        note="PyTorch visits all numbers",
    )


def distill(place: Place) -> Iterator[Case]:
    """Losses between two fields' levels, and the choice of samples and rays."""
    n, module = place.sizes.n_streamed, place.module
    student, teacher = ([*_levels(place, n)] for _ in range(2))
    both_sides = (*student, *teacher)
    gradients = [torch.empty_like(tensor) for tensor in student]
    losses, factors, grad = place.empty(3), place.empty(3), place.rand(3)
    width = 4 * (_FEATURES + 1 + 3)

    def forward() -> None:
        module.distill_forward(*both_sides, None, _LOW, _HIGH, False, losses, factors)

    def backward() -> None:
        module.distill_backward(*both_sides, None, _LOW, _HIGH, grad, factors, *gradients)

    yield Case(
        "distill.forward",
        n,
        "samples",
        ours=forward,
        eager={"vector_norm": lambda: bench_distill.norms(both_sides)},
        work=moved(n, both_sides=2 * width),
    )
    forward()

    def norms(*leaves: Tensor) -> Tensor:
        return bench_distill.norms((*leaves, *teacher))

    yield Case(
        "distill.backward",
        n,
        "samples",
        ours=backward,
        eager={"autograd": backward_arm(norms, student, grad)},
        work=moved(n, both_sides=2 * width, gradients=width),
    )
    yield Case(
        "distill.backward:with-forward",
        n,
        "samples",
        ours=in_turn(forward, backward),
        eager={"written out": lambda: bench_distill.norms_and_gradients(both_sides, grad)},
        work=moved(n, both_sides_read_twice=4 * width, gradients=width),
    )
    yield from _selections(place)


def _levels(place: Place, n: int) -> tuple[Tensor, Tensor, Tensor]:
    return place.randn(n, _FEATURES), place.randn(n) * 4, place.rand(n, 3)


def _selections(place: Place) -> Iterator[Case]:
    """The visible samples of rays, and the hardest tenth of a list."""
    n_rays, module = max(1, place.sizes.n_points // _MEAN_SAMPLES), place.module
    counts = torch.randint(0, 2 * _MEAN_SAMPLES, (n_rays,), device=place.device)
    offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    n = int(offsets[-1])
    weights = place.rand(n)
    marks = torch.empty(n, dtype=torch.bool, device=place.device)
    yield Case(
        "distill.visible",
        n,
        "samples",
        ours=lambda: module.distill_visible(offsets, weights, 0.3, 0.5, None, marks),
        eager={"sort": lambda: _visible(offsets, weights)},
        work=moved(n, weights=4, marks=1) + moved(n_rays, offsets=8),
    )
    difficulty = place.rand(place.sizes.n_points)
    chosen = torch.empty(len(difficulty) // 10, dtype=torch.int64, device=place.device)
    yield Case(
        "distill.hardest",
        len(difficulty),
        "numbers",
        ours=lambda: module.distill_hardest(difficulty, chosen),
        eager={
            "topk": lambda: difficulty.topk(len(chosen), sorted=False).indices.sort().values,
        },
        note="a list that fits the caches",
    )


def _visible(offsets: Tensor, weights: Tensor) -> Tensor:
    """As `bench_distill.visible`, which has constants on the CPU and counts samples anew."""
    counts = offsets.diff()
    ray = torch.repeat_interleave(counts, output_size=len(weights))
    sums = torch.zeros_like(counts, dtype=weights.dtype).index_add_(0, ray, weights)
    n_kept = torch.minimum(counts, (0.3 * counts).floor().long() + 1) * (sums >= 0.5)
    order = (ray.double() * 2 - weights).argsort()
    rank = torch.arange(len(weights), device=weights.device) - offsets[ray]
    return torch.zeros_like(weights, dtype=torch.bool).index_copy_(0, order, rank < n_kept[ray])
