"""`nf bench` yields well-formed rows for every operation. Nothing here is timed."""

import json
import math
from dataclasses import asdict

import pytest
import torch

from neural_fields import _core
from neural_fields.benchmarks import bench, limits
from neural_fields.benchmarks.batch import stored_batch
from neural_fields.benchmarks.bench_radiance import cases as radiance_cases
from neural_fields.benchmarks.case import QUICK
from neural_fields.benchmarks.ops import bench_mlp, bench_rbf
from neural_fields.benchmarks.ops.bench_hash_grid import lines_per_point
from neural_fields.benchmarks.timing import Timing, compare, ratio
from neural_fields.benchmarks.torch_baseline import Grid
from neural_fields.errors import InputError
from neural_fields.ops import HashGridSpec

KEYS = {
    "name", "ours", "torch_eager", "torch_compile", "limit", "ratio_eager", "ratio_compile",
    "share_of_limit", "unit", "threads", "isa", "bar", "spread", "drjit",
}  # fmt: skip
EXPECTED = {
    "step": {"step", "step:16x2", "step:bf16"},
    "render": {"render", "render:16x2", "render:bf16"},
    "march": {"march"},
    "hash_grid": {
        "hash_grid.forward.f32", "hash_grid.forward.f32:rays", "hash_grid.forward.f32:16x2",
        "hash_grid.forward.f32:16x2-rays", "hash_grid.backward.f32",
        "hash_grid.backward.f32:with-forward", "hash_grid.second.f32",
    },
    "mlp": {
        "mlp.forward.f32", "mlp.backward.f32", "mlp.second.f32", "mlp.forward.bf16",
        "mlp.backward.bf16", "mlp.forward.f32:sine-256", "mlp.backward.f32:sine-256",
        "mlp.forward.f32:cam-relu-128", "mlp.backward.f32:cam-relu-128",
        "mlp.forward.bf16:relu-256", "mlp.backward.bf16:relu-256",
    },
    "spherical_harmonics": {"spherical_harmonics.forward.f32", "spherical_harmonics.backward.f32"},
    "frequency": {"frequency.forward.f32", "frequency.backward.f32"},
    "composite": {"composite.forward.f32", "composite.backward.f32"},
    "adam": {"adam.forward.f32", "adam.forward.f32:sparse"},
    "occupancy": {"occupancy.forward.f32"},
    "tensor_planes": {
        "tensor_planes.forward.f32:vm48", "tensor_planes.backward.f32:vm48-with-forward",
        "tensor_planes.backward.f32:vm48-grid-sample",
    },
    "voxels": {
        "voxels.forward.f32", "voxels.forward.f32:rays", "voxels.backward.f32:with-forward",
        "voxels.backward.f32:rays-grid-sample",
    },
    "modulate": {"modulate.forward.f32", "modulate.backward.f32"},
    "rbf": {
        "rbf.forward.f32:18-64-1", "rbf.backward.f32:18-64-1", "rbf.second.f32:18-64-1",
        "rbf.backward.f32:18-64-1-with-forward-beside-mlp",
    },
    "distill": {
        "distill.forward.f32", "distill.backward.f32:with-forward",
        "distill.backward.f32:with-forward-autograd", "distill.backward.f32:with-forward-kept",
        "distill.backward.f32:with-forward-kept-autograd",
        "distill.backward.f32:with-forward-public", "distill.forward.f32:visible",
        "distill.forward.f32:hardest",
    },
}  # fmt: skip


def check(row):
    assert set(asdict(row)) == KEYS
    assert row.ours > 0
    assert row.unit.startswith("M ")
    assert row.threads == _core.num_threads()
    assert row.isa == _core.active_isa()
    for value, of in ((row.ratio_eager, row.torch_eager), (row.share_of_limit, row.limit)):
        assert (value is None) == (of is None)
        assert value is None or math.isfinite(value)
    for low, high in row.spread.values():
        assert 0 < low <= high
    if row.bar:
        assert row.bar["claim"]
        assert all(hasattr(row, key) for key in row.bar if key != "claim")


@pytest.mark.parametrize("name", EXPECTED)
def test_rows_are_well_formed(name):
    threads = torch.get_num_threads()
    lines = []
    rows = bench.run([name], quick=True, progress=lines.append)
    assert torch.get_num_threads() == threads
    assert {row.name for row in rows} >= EXPECTED[name]
    assert [row.name for row in rows] == lines
    for row in rows:
        check(row)
    assert json.loads(json.dumps([asdict(row) for row in rows]))[0]["name"] == rows[0].name
    assert all(row.name in bench.table(rows) for row in rows)


def test_every_operation_has_rows():
    assert set(EXPECTED) == set(bench._MODULES)


def test_one_row_alone():
    assert [row.name for row in bench.run(["mlp.second.f32"], quick=True)] == ["mlp.second.f32"]


@pytest.mark.parametrize("name", ["nothing", "mlp.sideways"])
def test_unknown_names(name):
    with pytest.raises(InputError, match=name):
        bench.run([name], quick=True)


def test_arms_share_the_batch():
    stored = stored_batch(QUICK.n_samples, QUICK.image_size)
    batch = stored.batch
    assert QUICK.n_samples - 64 <= batch.n_samples <= QUICK.n_samples
    assert batch.positions.min() >= 0
    assert batch.positions.max() <= 1
    render = next(case for case in radiance_cases(QUICK) if case.name == "render")
    assert render.ours() == batch.n_samples
    native = render.ours.__self__
    over = native.ray_color + (1 - native.opacity[:, None]) * batch.background
    torch.testing.assert_close(over, render.eager(), rtol=1e-4, atol=1e-5)


def test_lines_are_counted():
    # Eight vertices of one row of a dense level lie in one line; a cell touches four rows.
    spec = HashGridSpec(n_levels=1, n_features=2, base_resolution=8)
    positions = torch.full((5, 3), 2.6 / 7)
    assert lines_per_point(Grid(spec), positions, 2) == 4


def test_limits_are_plausible():
    threads = _core.num_threads()
    isa = _core.active_isa()
    assert limits.flops(0.01, threads) > 1e8
    assert limits.random_lines(1 << 16, 0.01, threads) > 1e6
    assert limits.stream_bytes(1 << 22, 0.01, threads) > 1e7
    assert _core.active_isa() == isa
    with pytest.raises(ValueError, match="threads"):
        limits.random_lines(1 << 16, 0.01, threads + 1)


def test_limits_refuse_bad_arguments():
    table = torch.zeros(64)
    with pytest.raises(ValueError, match="seconds"):
        _core.limit_fma(0)
    with pytest.raises(ValueError, match="table"):
        _core.limit_lines(torch.zeros(3), 0.01)
    with pytest.raises(ValueError, match="destination"):
        _core.limit_stream(table, torch.zeros(3), 0.01)
    with pytest.raises(ValueError, match="source"):
        _core.limit_stream(table[:1], torch.zeros(1), 0.01)


def test_compare_interleaves():
    order = []
    arms = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    timings = compare(arms, rounds=2, min_seconds=0.0, pause=0.0)
    assert "".join(order) == "aabb" + "aabb" * 2
    assert len(timings["a"].seconds) == 2


def test_ratio_is_paired():
    slower, faster = Timing((2.0, 40.0, 6.0)), Timing((1.0, 10.0, 2.0))
    assert ratio(slower, faster) == 3
    assert slower.median == 6
    assert faster.quartiles == (1.5, 6)
    assert Timing((1.0,)).quartiles == (1, 1)


@pytest.mark.parametrize("network", [bench_mlp.DEFAULT, *bench_mlp.NETWORKS[:7]])
def test_both_sides_compute_the_same_network(network):
    arms = bench_mlp._Bench(QUICK, network)
    case = arms.forward()
    case.ours()
    torch.testing.assert_close(arms.output, case.eager(), rtol=1e-4, atol=1e-4)
    arms.backward().ours()
    *gradients, grad_inputs = zip(*arms.backward().eager(), strict=True)
    torch.testing.assert_close(arms.grad_inputs, torch.cat(grad_inputs), rtol=1e-3, atol=1e-3)
    matrices = [sum(pieces) for pieces in gradients if pieces[0].dim() == 2]
    flat = torch.cat([matrix.flatten() for matrix in reversed(matrices)])
    scale = flat.abs().max().item()
    torch.testing.assert_close(arms.grad_params, flat, rtol=1e-3, atol=1e-4 * scale)


@pytest.mark.parametrize("widths", [(18, 64, 1), (7, 20, 9)])
def test_both_sides_compute_the_same_neurons(widths):
    arms = bench_rbf._Bench(QUICK, *widths)
    arms.forward()
    torch.testing.assert_close(arms.output, torch.cat(arms.forward_torch()), rtol=1e-4, atol=1e-4)
    arms.backward()
    of_features, *pieces = zip(*arms.backward_torch(), strict=True)
    torch.testing.assert_close(arms.grads[0], torch.cat(of_features), rtol=1e-3, atol=1e-3)
    for mine, theirs in zip(arms.grads[1:], map(sum, pieces), strict=True):
        scale = theirs.abs().max().item()
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4 * scale)
