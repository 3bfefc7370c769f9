"""Breaks the kernels on purpose: for every seeded mistake, the named test must fail.

The core is compiled once without optimisation (portable path), then per mutation the operation
that has it; the test runs in a process of its own, with that core in place of the built one.
A new operation adds its mutations to the table.
"""

import json
import os
import re
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pybind11
import pytest

ROOT = Path(__file__).resolve().parents[2]
CSRC = ROOT / "csrc"


class Mutation(NamedTuple):
    """Replaces a text in a file of an operation (or one that it includes)."""

    op: str
    file: str
    old: str
    new: str
    check: str  # the test that notices, in tests/ops/test_<op>.py


FIRST = "test_first_derivatives_are_right"
SECOND = "test_second_derivatives_are_right"
VALUES = "test_equals_the_reference_in_float64"

GRID = "ops/hash_grid/hash_grid.h"
GRID_SHAPE = "ops/hash_grid/shape.cpp"
GRID_TILE = "ops/hash_grid/tile.h"
MLP = "ops/mlp/mlp.h"
ROWS = "ops/mlp/epilogue.h"
SH = "ops/spherical_harmonics/spherical_harmonics.h"
TRIG = "common/trig.h"
COMPOSITE = "ops/composite/composite.h"
MARCH = "ops/march/march.h"
LATTICE = "common/lattice.h"
PLANES = "ops/tensor_planes/tensor_planes.h"
VOXELS = "ops/voxels/voxels.h"
MODULATE = "ops/modulate/modulate.h"
DISTILL = "ops/distill/distill.h"
RBF = "ops/rbf/rbf.h"
RBF_LOOPS = "ops/rbf/rbf.cpp"

MUTATIONS = [
    Mutation("hash_grid", GRID_SHAPE, "2654435761u", "2654435769u", "test_golden_hashes"),
    Mutation("hash_grid", GRID_SHAPE, "(n + 7) / 8 * 8", "n", "test_published_configurations"),
    Mutation("hash_grid", GRID_SHAPE, "* base_resolution - 1.0", "* base_resolution", VALUES),
    Mutation("hash_grid", GRID_SHAPE, "torch_ngp ? 1 : 0", "torch_ngp ? 0 : 0", "test_upper_edge"),
    Mutation("hash_grid", GRID_SHAPE, "power(side, d)", "power(level.resolution, d)", VALUES),
    Mutation("hash_grid", GRID, "scale + ScalarOf<L>(0.5)", "scale", "test_golden_corner"),
    Mutation("hash_grid", GRID, "t * t * (3 - 2 * t)", "t * t * (3 - t)", VALUES),
    Mutation("hash_grid", GRID, "cell.slope[axis] : -cell", "cell.slope[axis] : cell", FIRST),
    Mutation("hash_grid", GRID, "cell.curvature[d] : -cell", "cell.curvature[d] : cell", SECOND),
    Mutation("hash_grid", GRID, "= inside * scale", "= scale + zero", "test_positions_outside"),
    Mutation("hash_grid", GRID, "index - level.size", "index", "test_upper_edge"),
    Mutation("hash_grid", GRID_TILE, "+ corners.weight[c][p] * g", "+ g", "test_corner_weights"),
    Mutation("rbf", RBF, "T(0.5) * args.log", "T(1) * args.log", "test_golden_values"),
    Mutation("rbf", RBF, "lane_exp2<L>(-squares)", "lane_exp<L>(-squares)", "test_golden_values"),
    Mutation("rbf", RBF, "log_precision(center * u)", "log_precision(center)", FIRST),
    Mutation("rbf", RBF, "u * (center + along)", "u * center", SECOND),
    Mutation("rbf", RBF, "along = v * q", "along = q", SECOND),
    Mutation("rbf", RBF_LOOPS, ": to) - of_point[g]", ": to) + of_point[g]", FIRST),
    Mutation(
        "rbf",
        RBF_LOOPS,
        "tile.phi_a(), T(-1), n_rows, *sums",
        "tile.phi_a(), T(1), n_rows, *sums",
        SECOND,
    ),
    Mutation("rbf", RBF_LOOPS, "phi[std::int64_t(r + g) * p.row + k] * w[v]", "w[v]", VALUES),
    Mutation("mlp", MLP, "select(y > zero, one, zero)", "select(y > zero, one, one)", FIRST),
    Mutation("mlp", MLP, "y * (1 - y) * (1 - 2 * y)", "y * (1 - y) * (1 - y)", SECOND),
    Mutation("mlp", MLP, "lane_log<L>(1 + ", "lane_log<L>(2 + ", VALUES),
    Mutation("mlp", "ops/mlp/mlp.cpp", "l - 1, of_z, row, x", "l - 1, of_u, row, x", SECOND),
    Mutation("mlp", "ops/mlp/tile.h", "+= number(delta[", "-= number(delta[", FIRST),
    Mutation("mlp", ROWS, "rate + omega * magnitude", "rate", FIRST),
    Mutation("mlp", ROWS, "2 * omega * sign", "omega * sign", SECOND),
    Mutation("mlp", ROWS, "- sine * (phase", "+ sine * (phase", SECOND),
    Mutation(
        "mlp", ROWS, "l == 1 ? shape.first_omega", "l == 2 ? shape.first_omega", "test_the_first"
    ),
    Mutation(
        "mlp",
        ROWS,
        "finer_detached) return {rate * v, rate",
        "finer_detached) return {rate * v, 2 * rate",
        "test_detached_finer",
    ),
    Mutation("mlp", ROWS, "by_b = twice * b - omega", "by_b = twice * b + omega", FIRST),
    Mutation("mlp", ROWS, "+ twice * h.re * w.im", "", SECOND),
    Mutation(
        "mlp",
        ROWS,
        "squares.total() / width +",
        "squares.total() / (width - 1) +",
        "test_rows_are_normalised",
    ),
    Mutation("mlp", ROWS, "row.m + i) * slope", "row.m + i) * 0", FIRST),
    Mutation(
        "mlp", ROWS, "of_scale.add(of_v * lane", "of_scale.add(lane", "test_gradients_of_scale"
    ),
    Mutation(
        "mlp",
        ROWS,
        "+ of_p.scale * lane_load<L>(change",
        "- of_p.scale * lane_load<L>(change",
        SECOND,
    ),
    Mutation("mlp", ROWS, "+ row.scale_tangent * of_w", "", SECOND),
    Mutation("mlp", TRIG, "k * 9.67502593994140625e-4f", "k * 9.675e-4f", "test_sine_of_large"),
    Mutation("mlp", TRIG, "(kCosine ? 1 : 0)", "0", "test_sine_of_large"),
    Mutation("mlp", "common/bf16.h", "(bits >> 16 & 1u)", "0u", "test_bf16_rounds_as_torch"),
    Mutation("mlp", "common/bf16.h", "sum += second *", "sum += first *", "test_bf16_equals"),
    Mutation(
        "mlp",
        "ops/mlp/rows.h",
        "return d * activation_slope",
        "return d + 0 * activation_slope",
        FIRST,
    ),
    Mutation(
        "frequency", "ops/frequency/frequency.h", "(1 << octave)", "(2 << octave)", "test_order"
    ),
    Mutation(
        "frequency", "ops/frequency/frequency.cpp", "g_sine * cosine -", "g_sine * cosine +", FIRST
    ),
    Mutation("frequency", "ops/frequency/frequency.cpp", "sum - (rate", "sum + (rate", SECOND),
    Mutation("frequency", TRIG, "& 2) != 0, -a, a)", "& 2) != 0, a, a)", "test_sines_of_large"),
    Mutation("frequency", TRIG, "4.837512969970703125e-4f", "4.8375e-4f", "test_sines_of_large"),
    Mutation("spherical_harmonics", SH, "0.5462742152", "0.5463742152", "test_golden_values"),
    Mutation("spherical_harmonics", SH, "gx - g9 * xy2", "gx + g9 * xy2", FIRST),
    Mutation(
        "spherical_harmonics", "common/dual.h", "b.value + a.value", "b.value - a.value", SECOND
    ),
    Mutation("composite", COMPOSITE, "(i, transmittance * (1 - passed)", "(i, 1 - passed", VALUES),
    Mutation("composite", COMPOSITE, "-= (t1[i] - t0[i]) * sum", "+= (t1[i] - t0[i]) * sum", FIRST),
    Mutation("distill", DISTILL, "- distill_clamp(teacher, low, high)", "- teacher", VALUES),
    Mutation(
        "distill",
        DISTILL,
        "student > high, zero",
        "student > high, value",
        "test_no_gradient_outside",
    ),
    Mutation("distill", DISTILL, "norm == 0 ? 0 : 1 / norm", "1 / norm", "test_the_same_on_both"),
    Mutation("distill", DISTILL, ": 2 / count", ": 1 / count", FIRST),
    Mutation("distill", DISTILL, "n_equal-- > 0", "n_equal > 0", "test_of_equal_weights"),
    Mutation(
        "distill",
        DISTILL,
        "static_cast<double>(m))) + 1",
        "static_cast<double>(m)))",
        "test_of_ten",
    ),
    Mutation(
        "distill",
        "ops/distill/distill.cpp",
        "level.log_density && i % level.width == 0",
        "level.log_density",
        "test_only_the_first_feature",
    ),
    Mutation(
        "occupancy", "ops/occupancy/occupancy.cpp", "args.decay *", "1 *", "test_a_cell_without"
    ),
    Mutation(
        "adam",
        "ops/adam/adam.h",
        "std::pow(static_cast<double>(args.beta1), step)",
        "0",
        "test_first_step",
    ),
    Mutation("march", MARCH, "= ceilf(", "= 1.0f + ceilf(", "test_equals_the_march"),
    Mutation("march", MARCH, "== least ? whole", ">= least ? whole", "test_skips_end"),
    Mutation(
        "tensor_planes", LATTICE, "resolution : resolution - 1", "resolution : resolution", VALUES
    ),
    Mutation("tensor_planes", LATTICE, "inside * scale", "one * scale", "test_positions_outside"),
    Mutation("tensor_planes", LATTICE, "6 - 12 * t", "6 + 12 * t", SECOND),
    Mutation("tensor_planes", LATTICE, "s.tangent * v.value +", "s.tangent * v.value -", SECOND),
    Mutation(
        "tensor_planes",
        PLANES,
        "first.slope[side] * second.weight",
        "first.slope[side] + second.weight",
        FIRST,
    ),
    Mutation("tensor_planes", PLANES, "if (k != one) grad", "if (k < one) grad", FIRST),
    Mutation(
        "tensor_planes",
        "ops/tensor_planes/tensor_planes.cpp",
        "slab.row_begin > 0 ? slab.row_begin - 1 : 0",
        "slab.row_begin",
        "test_gradients_of_many",
    ),
    Mutation("voxels", "common/lattice_grid.h", "stride *= grid", "stride += grid", "test_x_is"),
    Mutation("voxels", "common/lattice_grid.h", "d != axis", "d > axis", FIRST),
    Mutation(
        "voxels", VOXELS, "channels[1 + c * k + j]", "channels[1 + j * 3 + c]", "test_colors_are"
    ),
    Mutation("voxels", VOXELS, "row[1 + c] * basis[j]", "row[1 + c]", FIRST),
    Mutation(
        "voxels",
        "common/lattice_loops.h",
        "begin > 0 ? begin - 1 : 0",
        "begin",
        "test_gradients_of_many",
    ),
    Mutation("modulate", MODULATE, "T(1e-5)", "T(1e-3)", "test_modulate_equals"),
    Mutation(
        "modulate", MODULATE, "s.rate * mean_product", "mean_product", "test_first_derivatives_of"
    ),
    Mutation(
        "modulate",
        "ops/modulate/modulate.cpp",
        "args.grad_scale[i] = sums.product",
        "args.grad_scale[i] = sums.g",
        "test_gradients_have",
    ),
]

# Runs jobs of (core, log, pytest's arguments) and prints their exit statuses. What takes long to
# import is imported once; every job is a fork of that.
RUNNER = """
import importlib.util, json, os, sys
import pytest, torch

def run(core, log, arguments):
    for stream in (1, 2):
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    name = "neural_fields._core"
    spec = importlib.util.spec_from_file_location(name, core)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    import neural_fields
    neural_fields._core = module
    return pytest.main(arguments)

for job in json.load(sys.stdin):
    child = os.fork()
    if child == 0:
        status = 70
        try:
            status = int(run(*job))
        finally:
            sys.stdout.flush()
            os._exit(status)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


class Workshop:
    """Compiles the core into a folder, whole or with one operation replaced."""

    def __init__(self, folder):
        self.folder = folder
        python = [sysconfig.get_paths()["include"], pybind11.get_include()]
        self.flags = ["-std=c++17", "-O0", "-w", "-Wno-psabi", "-fPIC", "-fvisibility=hidden"]
        self.python = [f"-I{path}" for path in python]

    def run(self, *command):
        compiler = os.environ.get("CXX", "c++").split()
        command = [*compiler, *self.flags, *map(str, command)]
        result = subprocess.run(command, capture_output=True, text=True)
        assert result.returncode == 0, f"{' '.join(command)}\n{result.stderr[-5000:]}"

    def prepare(self):
        """All objects without a mutation, by their source."""
        header = self.folder / "precompiled" / "bind" / "tensor.h"
        header.parent.mkdir(parents=True)
        header.write_text((CSRC / "bind" / "tensor.h").read_text())
        self.run(*self.python, f"-I{CSRC}", "-x", "c++-header", header, "-o", f"{header}.gch")
        sources = sorted(s for s in CSRC.rglob("*.cpp") if "cuda" not in s.name)
        with ThreadPoolExecutor(2) as pool:
            objects = pool.map(lambda s: self.compile(s, self.folder / "whole"), sources)
            self.objects = dict(zip(sources, objects, strict=True))

    def compile(self, source, folder, *includes):
        target = folder / source.relative_to(CSRC).with_suffix(".o")
        target.parent.mkdir(parents=True, exist_ok=True)
        options = [f"-I{path}" for path in (*includes, CSRC)]
        if source.parent.name == "bind":
            options += self.python
            options += [f"-I{self.folder / 'precompiled'}", "-include", "bind/tensor.h"]
        mutated = [path / source.relative_to(CSRC) for path in includes]
        given = next((path for path in mutated if path.exists()), source)
        self.run(*options, "-c", given, "-o", target)
        return target

    def link(self, objects, folder):
        core = folder / "_core.so"
        self.run("-shared", *objects, "-o", core, "-lpthread")
        return core

    def whole(self):
        return self.link(self.objects.values(), self.folder)

    def mutated(self, mutation):
        folder = self.folder / f"mutation{MUTATIONS.index(mutation)}"
        file = folder / "csrc" / mutation.file
        file.parent.mkdir(parents=True)
        file.write_text((CSRC / mutation.file).read_text().replace(mutation.old, mutation.new))
        own = [s for s in self.objects if s.parent == CSRC / "ops" / mutation.op]
        replaced = {source: self.compile(source, folder, folder / "csrc") for source in own}
        # First, because the linker keeps the first of several copies of an inline function.
        others = [o for source, o in self.objects.items() if source not in replaced]
        return self.link([*replaced.values(), *others], folder)


def run_checks(jobs):
    """Exit status and output of the checks [(operation, test)] of every (core, checks)."""
    arguments = []
    for core, checks in jobs:
        files = sorted({f"tests/ops/test_{op}.py" for op, _ in checks})
        names = " or ".join(sorted({check for _, check in checks}))
        options = ["-q", "-x", "--tb=line", "-p", "no:cacheprovider", "-p", "no:xdist", "-k", names]
        arguments.append([str(core), f"{core}.log", [*options, *files]])
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("NF_", "PYTEST_"))}
    result = subprocess.run(
        [sys.executable, "-c", RUNNER],
        input=json.dumps(arguments),
        cwd=ROOT,
        env=environment | {"NF_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-5000:]
    statuses = map(int, result.stdout.split())
    return [(s, Path(log).read_text()) for s, (_, log, _) in zip(statuses, arguments, strict=True)]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: f"{m.file}:{m.old}")
def test_the_table_is_current(mutation):
    assert mutation.old in (CSRC / mutation.file).read_text()
    test = (ROOT / "tests" / "ops" / f"test_{mutation.op}.py").read_text()
    suite = (ROOT / "tests" / "ops" / "suite.py").read_text()
    assert f"def {mutation.check}" in test + suite


def test_every_mistake_is_noticed(tmp_path):
    workshop = Workshop(tmp_path)
    workshop.prepare()
    jobs = [(workshop.whole(), [(m.op, m.check) for m in MUTATIONS])]
    with ThreadPoolExecutor(2) as pool:
        cores = pool.map(workshop.mutated, MUTATIONS)
        jobs += [(core, [(m.op, m.check)]) for core, m in zip(cores, MUTATIONS, strict=True)]
    (status, output), *results = run_checks(jobs)
    assert status == 0, f"without a mutation the checks need to pass:\n{output[-5000:]}"
    for mutation, (status, output) in zip(MUTATIONS, results, strict=True):
        noticed = status == 1 and re.search(r"\d+ failed", output)
        assert noticed, f"{mutation} was not noticed:\n{output[-3000:]}"
