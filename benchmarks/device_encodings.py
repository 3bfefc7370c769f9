"""Encodings on a GPU: hash grid, frequencies, spherical harmonics."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from neural_fields.benchmarks.device_case import (
    SECTOR_BYTES,
    Case,
    Place,
    backward_arm,
    in_turn,
    moved,
    second_arm,
)
from neural_fields.benchmarks.device_peers import HALF, grid_on, tcnn_hash_grid
from neural_fields.benchmarks.ops import bench_frequency
from neural_fields.benchmarks.torch_baseline import Grid
from neural_fields.benchmarks.torch_baseline import spherical_harmonics as torch_harmonics
from neural_fields.ops import HashGridSpec

_COUNTED = 16384  # points whose sectors are counted


def hash_grid(place: Place) -> Iterator[Case]:
    """8 levels of 4 features, as the default field has them; random positions."""
    spec = HashGridSpec(log2_table_size=place.sizes.log2_table_size, finest_resolution=2048)
    n, module = place.sizes.n_points, place.module
    shape, grid = module.HashGridShape(*spec.arguments), grid_on(spec, place.device)
    positions, tangents = place.rand(n, 3), place.randn(n, 3)
    table = (place.rand(spec.n_entries, spec.n_features) - 0.5) * 2e-4
    output, grad_output = place.empty(n, spec.n_output), place.randn(n, spec.n_output)
    grad_table, grad_positions = torch.zeros_like(table), torch.empty_like(positions)
    entries = SECTOR_BYTES * sectors_per_point(grid, positions[:_COUNTED])
    features = 4 * spec.n_output

    def forward() -> None:
        module.hash_grid_forward(shape, positions, table, output)

    def backward() -> None:
        module.hash_grid_backward_table(shape, grad_output, positions, grad_table)

    def plain(positions: Tensor) -> Tensor:
        return grid.lookup(table, *grid.corners(positions))

    def add(grad: Tensor) -> None:
        grid.add_gradient(grad_table, *grid.corners(positions), grad)

    theirs, theirs_both = tcnn_hash_grid(place, spec, positions, table, grad_output)
    yield Case(
        "hash_grid.forward",
        n,
        "points",
        ours=forward,
        eager={"embedding_bag": lambda: plain(positions)},
        tcnn=theirs,
        work=moved(n, positions=12, entries=entries, features=features),
        note="" if theirs is None else HALF,
    )
    yield Case(
        "hash_grid.backward",
        n,
        "points",
        ours=backward,
        eager={"index_add": lambda: add(grad_output)},
        work=moved(n, positions=12, entries_added_to=2 * entries, gradients=features),
    )
    yield Case(
        "hash_grid.backward:with-forward",
        n,
        "points",
        ours=in_turn(forward, backward),
        eager={"embedding_bag, index_add": lambda: add(plain(positions))},
        tcnn=theirs_both,
        work=moved(
            n,
            positions=12,
            entries_read_and_added_to=3 * entries,
            features_and_gradients=2 * features,
        ),
        note="" if theirs is None else HALF,
    )
    yield Case(
        "hash_grid.backward:positions",
        n,
        "points",
        ours=lambda: module.hash_grid_backward_positions(
            shape, grad_output, positions, table, grad_positions
        ),
        eager={"autograd": backward_arm(plain, [positions], grad_output)},
        work=moved(n, positions_and_gradients=24, entries=entries, gradients=features),
    )
    grad_grad = torch.empty_like(grad_output)
    yield Case(
        "hash_grid.second",
        n,
        "points",
        ours=lambda: module.hash_grid_second(
            shape, tangents, grad_output, positions, table, grad_grad, grad_positions, grad_table
        ),
        work=moved(
            n, three_vectors=36, entries_read_and_added_to=3 * entries, two_gradients=2 * features
        ),
    )


def sectors_per_point(grid: Grid, positions: Tensor) -> float:
    """How many different 32-byte sectors of the table a point touches, counted."""
    index, _ = grid.corners(positions)
    by_point = index.view(grid.spec.n_levels, len(positions), 8).transpose(0, 1).flatten(1)
    sectors = (by_point.long() * grid.spec.n_features * 4 // SECTOR_BYTES).sort(1)[0]
    return float((sectors.diff(dim=1) != 0).sum() / len(positions)) + 1


def frequency(place: Place) -> Iterator[Case]:
    """10 octaves of three coordinates, 63 values."""
    n, module = place.sizes.n_points, place.module
    shape = module.FrequencyShape(3, bench_frequency.N_OCTAVES, True, False)
    width = shape.n_output

    def plain(positions: Tensor) -> Tensor:
        with place.device:
            return bench_frequency.frequency(positions)

    yield from _pointwise(
        place,
        ("frequency", n, "points", width),
        place.rand(n, 3),
        plain,
        lambda x, y: module.frequency_forward(shape, x, y),
        lambda g, x, gx: module.frequency_backward(shape, g, x, gx),
        lambda v, g, x, gg, gx: module.frequency_second(shape, v, g, x, gg, gx),
    )


def spherical_harmonics(place: Place) -> Iterator[Case]:
    """Degree 4, 16 values."""
    n, module = place.sizes.n_streamed, place.module
    yield from _pointwise(
        place,
        ("spherical_harmonics", n, "directions", 16),
        F.normalize(place.randn(n, 3), dim=1),
        torch_harmonics,
        lambda x, y: module.spherical_harmonics_forward(4, x, y),
        lambda g, x, gx: module.spherical_harmonics_backward(4, g, x, gx),
        lambda v, g, x, gg, gx: module.spherical_harmonics_second(4, v, g, x, gg, gx),
    )


def _pointwise(
    place: Place,
    named: tuple[str, int, str, int],
    vectors: Tensor,
    plain: Callable[[Tensor], Tensor],
    forward: Callable[..., None],
    backward: Callable[..., None],
    second: Callable[..., None],
) -> Iterator[Case]:
    """Three numbers to `width` numbers: values, gradient, and its derivatives."""
    name, n, unit, width = named
    output, grad_output = place.empty(n, width), place.randn(n, width)
    tangents, grad = place.randn(n, 3), torch.empty_like(vectors)
    yield Case(
        f"{name}.forward",
        n,
        unit,
        ours=lambda: forward(vectors, output),
        eager={"elementwise": lambda: plain(vectors)},
        work=moved(n, vectors=12, values=4 * width),
    )
    yield Case(
        f"{name}.backward",
        n,
        unit,
        ours=lambda: backward(grad_output, vectors, grad),
        eager={"autograd": backward_arm(plain, [vectors], grad_output)},
        work=moved(n, vectors_and_gradients=24, gradients=4 * width),
    )
    yield Case(
        f"{name}.second",
        n,
        unit,
        ours=lambda: second(tangents, grad_output, vectors, output, grad),
        eager={"autograd": second_arm(plain, [vectors], grad_output, tangents)},
        work=moved(n, three_vectors=36, two_gradients=8 * width),
    )
