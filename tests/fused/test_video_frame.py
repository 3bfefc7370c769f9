"""`frame` is what lookups of every level and the network are one by one, gradients included."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from neural_fields import _core
from neural_fields.ops import (
    FrameSpec,
    MlpSpec,
    Slice,
    VoxelsSpec,
    frame,
    frame_lattice,
    mlp,
    voxels,
)

LEVELS = {
    "one": ((7, 5, 1),),
    "pairs": ((9, 4, 2), (3, 3, 2)),
    "all": ((33, 17, 1), (16, 9, 2), (8, 5, 4), (2, 2, 8), (3, 2, 1)),
}
NETWORKS: dict[str, dict[str, Any]] = {
    "relu": {"widths": (32, 32, 3), "biases": True},
    "softplus": {"widths": (16, 3), "hidden": "softplus", "beta": 5.0},
    "sigmoid out": {"widths": (24, 2), "output": "sigmoid", "biases": True},
    "linear": {"widths": (1,)},
}
PLACE = (0.8, 1.1, 0.1, -0.05)
PATHS = ["portable", "avx2", "avx512"]  # those beyond run the last one
AVAILABLE = PATHS[: PATHS.index(_core.best_isa()) + 1] if _core.best_isa() in PATHS else PATHS


def _case(levels: str, network: str, moves: bool, n: int) -> tuple[FrameSpec, list[Tensor]]:
    options = dict(NETWORKS[network])
    sizes = LEVELS[levels]
    widths = (sum(size[2] for size in sizes), *options.pop("widths"))
    spec = FrameSpec(sizes, MlpSpec(widths, **options), (5, 4) if moves else None)
    generator = torch.Generator().manual_seed(n + len(levels))
    grids = torch.randn(spec.n_grids, generator=generator)
    params = 0.4 * torch.randn(spec.network.n_params, generator=generator)
    motion = 0.05 * torch.randn(4, 5, 2, generator=generator)
    positions = torch.rand(n, 2, generator=generator)
    tensors = [grids, params, motion] if moves else [grids, params]
    return spec, [positions, *(tensor.requires_grad_() for tensor in tensors)]


def _one_by_one(
    positions: Tensor, grids: Tensor, params: Tensor, spec: FrameSpec, motion: Tensor | None
) -> Tensor:
    places = positions * torch.tensor(PLACE[:2]) + torch.tensor(PLACE[2:])
    if motion is not None:
        assert spec.motion is not None
        places = places + voxels(positions, motion.reshape(-1, 2), VoxelsSpec(spec.motion, 2))
    features, at = [], 0
    for width, height, channels in spec.levels:
        n = width * height * channels
        grid = grids[at : at + n].view(-1, channels)
        features.append(voxels(places, grid, VoxelsSpec((width, height), channels)))
        at += n
    return mlp(torch.cat(features, 1), params, spec.network)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize(("n", "moves"), [(0, True), (1, True), (97, False), (3001, True)])
def test_equals_its_operations(levels: str, network: str, n: int, moves: bool) -> None:
    spec, (positions, *tensors) = _case(levels, network, moves, n)
    grids, params = tensors[:2]
    motion = tensors[2] if moves else None
    expected = _one_by_one(positions, grids, params, spec, motion)
    found = frame(positions, grids, params, spec, motion, PLACE)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    weights = torch.randn(found.shape, generator=torch.Generator().manual_seed(1))
    wanted = torch.autograd.grad((expected * weights).sum(), tensors)
    for one, other in zip(
        torch.autograd.grad((found * weights).sum(), tensors), wanted, strict=True
    ):
        size = 1e-6 + float(other.abs().max())
        torch.testing.assert_close(one / size, other / size, rtol=1e-3, atol=2e-5)


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    spec, (positions, *tensors) = _case("all", "relu", True, 5000)
    results = []
    before = _core.num_threads()
    try:
        for n_threads in (1, 2, 5):
            _core.set_num_threads(n_threads)
            values = frame(positions, *tensors[:2], spec, tensors[2], PLACE)
            results.append((values, *torch.autograd.grad(values.square().sum(), tensors)))
    finally:
        _core.set_num_threads(before)
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            assert torch.equal(one, two)


def test_a_position_that_is_no_number_reads_the_first_vertex() -> None:
    spec, (_, grids, params) = _case("pairs", "relu", False, 1)
    positions = torch.tensor([[float("nan"), 0.0], [0.0, 0.0], [-3.0, 7.0], [0.0, 1.0]])
    nan, first, outside, corner = frame(positions, grids, params, spec)
    assert torch.equal(nan, first)
    assert torch.equal(outside, corner)


def test_what_does_not_fit_is_refused() -> None:
    network = MlpSpec((2, 16, 3))
    for levels, motion, word in (
        ((), None, "1 to 32 levels"),
        (((4, 4, 1),) * 33, None, "1 to 32 levels"),
        (((4, 1, 2),), None, "2 vertices"),
        (((4, 4, 3),), None, "1, 2, 4 or 8 channels"),
        (((4, 4, 4),), None, "channels of all levels, 4, got 2"),
        (((4, 4, 2),), (1, 4), "2 vertices"),
    ):
        with pytest.raises(ValueError, match=word):
            FrameSpec(levels, network, motion)
    for other, word in (
        (MlpSpec((2, 16, 3), hidden="sine"), "hidden layers"),
        (MlpSpec((2, 16, 3), precision="bf16"), "float32"),
    ):
        with pytest.raises(ValueError, match=word):
            FrameSpec(((4, 4, 2),), other)


def test_wrong_tensors_are_refused() -> None:
    spec, (positions, grids, params) = _case("pairs", "relu", False, 8)
    with pytest.raises(ValueError, match="positions"):
        frame(torch.rand(8, 3), grids, params, spec)
    with pytest.raises(ValueError, match="grids"):
        frame(positions, grids[1:], params, spec)
    with pytest.raises(TypeError, match="params"):
        frame(positions, grids, params.double(), spec)
    moving = FrameSpec(spec.levels, spec.network, (3, 3))
    with pytest.raises((TypeError, ValueError), match="motion"):
        frame(positions, grids, params, moving)


def _slices(spec: FrameSpec, seed: int) -> list[Slice]:
    """One or two moments of every level."""
    generator = torch.Generator().manual_seed(seed)
    return [
        Slice(torch.randn(1 + k % 2, high, wide, channels, generator=generator), 0.3 * (k % 2))
        for k, (wide, high, channels) in enumerate(spec.levels)
    ]


@pytest.mark.parametrize("isa", AVAILABLE)
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(("size", "moves"), [((0, 3), True), ((1, 1), True), ((131, 7), False)])
def test_a_lattice_is_all_crossings(
    isa: str, network: str, size: tuple[int, int], moves: bool
) -> None:
    spec, (_, _, params, *_) = _case("all", network, moves, 1)
    levels = _slices(spec, 2)
    generator = torch.Generator().manual_seed(3)
    x, y = (1.2 * torch.rand(n, generator=generator) - 0.1 for n in size)
    motion, moved, unit = None, None, (0.5, 2.0)
    if moves:
        motion = Slice(0.05 * torch.randn(2, 4, 5, 2, generator=generator), 0.75)
        moved = motion.between * torch.tensor(unit)
    grids = torch.cat([level.between.reshape(-1) for level in levels])
    positions = torch.cartesian_prod(y, x).flip(1)
    before = _core.active_isa()
    _core.set_isa(isa)
    try:
        found = frame_lattice(x, y, levels, params, spec, motion, PLACE, unit)
        expected = frame(positions, grids, params, spec, moved, PLACE)
    finally:
        _core.set_isa(before)
    assert found.shape == (size[1], size[0], spec.network.n_output)
    torch.testing.assert_close(found.view(expected.shape), expected, rtol=1e-4, atol=1e-5)


def test_a_lattice_refuses_what_does_not_fit() -> None:
    spec, (_, _, params) = _case("pairs", "relu", False, 1)
    levels, x = _slices(spec, 1), torch.rand(4)
    with pytest.raises(ValueError, match="slice per level"):
        frame_lattice(x, x, levels[1:], params, spec)
    three = Slice(torch.rand(3, 4, 9, 2), 0.5)
    with pytest.raises(ValueError, match="one or two moments"):
        frame_lattice(x, x, [three, levels[1]], params, spec)
    with pytest.raises(ValueError, match="level"):
        frame_lattice(x, x, [levels[1], levels[0]], params, spec)
    with pytest.raises(ValueError, match="motion"):
        frame_lattice(x, x, levels, params, spec, Slice(torch.rand(1, 3, 3, 2), 0.0))
    with pytest.raises(TypeError, match="y"):
        frame_lattice(x, x.double(), levels, params, spec)
