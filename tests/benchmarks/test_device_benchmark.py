"""`benchmarks/device.py`, rehearsed without a GPU. Nothing here is timed."""

import dataclasses
import json
import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from device import emulation
from integrations import stub_tinycudann

from neural_fields import scenes
from neural_fields.benchmarks import device, device_setup
from neural_fields.benchmarks.batch import stored_batch
from neural_fields.benchmarks.device_case import REHEARSAL, Case, Place, Work, moved, spanned
from neural_fields.benchmarks.device_encodings import sectors_per_point
from neural_fields.benchmarks.device_limits import Ceilings
from neural_fields.benchmarks.device_networks import _Network
from neural_fields.benchmarks.device_peers import DeviceBaseline
from neural_fields.benchmarks.device_rays import _visible
from neural_fields.benchmarks.device_setup import Done, suite_of
from neural_fields.benchmarks.device_table import row_of, text
from neural_fields.benchmarks.device_timing import Clock
from neural_fields.benchmarks.ops import bench_distill, bench_mlp
from neural_fields.benchmarks.timing import Timing
from neural_fields.benchmarks.torch_baseline import Grid, RadianceBaseline
from neural_fields.errors import InputError
from neural_fields.integrations import tcnn
from neural_fields.ops import HashGridSpec, hash_grid
from neural_fields.ops.voxels import VoxelsSpec, voxels

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
CPU_ONLY = {"limits"}  # measures the processor
CEILINGS = Ceilings(1e9, 2e9, 1e12, 1e13, 1e13)


@pytest.fixture(scope="module", autouse=True)
def one_torch_thread():
    """Tiny tensors on many threads wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def rehearsal(tmp_path_factory):
    """Exit status and JSON of a run over everything."""
    path = tmp_path_factory.mktemp("device") / "rows.json"
    code = device.main(["--device", "cpu", "--json", str(path)])
    return code, json.loads(path.read_text())


def test_every_operation_has_a_row(rehearsal):
    code, found = rehearsal
    assert code == 0
    assert found["left_out"] == []
    operations = {path.name for path in (ROOT / "csrc" / "ops").iterdir() if path.is_dir()}
    names = [row["name"] for row in found["rows"]]
    assert {name.partition(":")[0].partition(".")[0] for name in names} == (
        operations - CPU_ONLY | {"step", "train", "render"}
    )
    assert len(set(names)) == len(names)
    both = {"hash_grid", "mlp", "frequency", "spherical_harmonics", "voxels", "modulate"}
    for name in both:
        assert any(row.startswith(f"{name}.forward") for row in names), name
        assert any(row.startswith(f"{name}.backward") for row in names), name
    assert {"hash_grid.second", "mlp.second", "composite.backward", "adam:touched"} <= set(names)


def test_rows_are_well_formed(rehearsal):
    _, found = rehearsal
    assert found["machine"]["device"].startswith("cpu (")
    assert found["suite"] is None
    assert all(found["ceilings"][key] > 0 for key in found["ceilings"])
    for row in found["rows"]:
        assert row["ms"] > 0, row["name"]
        assert row["items"] > 0
        assert "does not run here" not in row["note"], row["note"]
        assert (row["eager_ms"] is None) == (row["ratio_eager"] is None) == (row["eager"] is None)
        assert row["tcnn_ms"] is None
        assert (row["n_bytes"] is None) == (row["share"] is None) == (row["formula"] is None)
        if row["share"] is not None:
            assert math.isfinite(row["share"])
            assert row["bound"] in ("memory", "float32")
            assert (row["state"] == "met") == (row["share"] >= 0.6)
            assert row["state"] == "met" or row["state"].startswith("short by 0.")


def test_bytes_are_counted_by_hand(rehearsal):
    rows = {row["name"]: row for row in rehearsal[1]["rows"]}
    # 257 points: three numbers in; of 10 octaves 60 waves and the numbers themselves out.
    assert rows["frequency.forward"]["n_bytes"] == 257 * (3 + 63) * 4
    assert rows["frequency.forward"]["formula"] == "257 x (12 vectors + 252 values)"
    # Adam reads parameter, gradient and two moments, and writes all but the gradient.
    assert rows["adam"]["n_bytes"] == rows["adam"]["items"] * 7 * 4
    # 32-64-64-16 has 7168 weights, each multiplied and added once per sample.
    assert rows["mlp.forward"]["flops"] == 257 * 2 * 7168


def test_sectors_are_counted():
    # A sector has four vertices of a row, and points are half a cell further on: a cell touches
    # four rows, each within a sector (vertices 2 and 3), or across two (3 and 4).
    spec = HashGridSpec(n_levels=1, n_features=2, base_resolution=8)
    for place, sectors in ((2.1, 4), (2.6, 8)):
        positions = torch.tensor([[place / 7, 2.1 / 7, 2.1 / 7]]).expand(5, 3)
        assert sectors_per_point(Grid(spec), positions) == sectors
    # Rows of 112 bytes begin at 0 or 16 bytes of a sector: 224 bytes lie in 7 or 8 of them.
    assert spanned(224, unit=112) == 7.5 * 32


def test_work_adds_up():
    work = moved(2, 10, a=3, nothing=0) + moved(5, bits=1 / 8)
    assert work == Work(6.625, "2 x (3 a) + 5 x (0.125 bits)", 20.0)


def test_share_is_of_whatever_decides():
    timings = {"ours": Timing((2e-3,)), "eager a": Timing((8e-3,)), "eager b": Timing((4e-3,))}
    by_memory = Case("op.forward", 5, "points", print, work=Work(1e6, "n x 1", 1e8))
    row = row_of(by_memory, timings, CEILINGS, [])
    assert (row.ms, row.eager, row.eager_ms, row.ratio_eager) == (2.0, "b", 4.0, 2.0)
    assert (row.bound, row.share, row.state) == ("memory", 0.25, "short by 0.35")
    by_products = dataclasses.replace(by_memory, work=Work(1e6, "n x 1", 1.6e9))
    row = row_of(by_products, timings, CEILINGS, ["tcnn fails"])
    assert (row.bound, row.share, row.state) == ("float32", 0.8, "met")
    assert row.note == "tcnn fails"


def test_what_fails_is_a_row():
    def fails():
        raise RuntimeError("out of memory\nand more")

    place, clock = Place(CPU, REHEARSAL), Clock(CPU)
    row = device.measured(Case("op", 1, "points", fails), place, clock, CEILINGS)
    assert (row.ms, row.note) == (None, "RuntimeError: out of memory")
    case = Case("op", 1, "points", lambda: None, eager={"plain": fails})
    row = device.measured(case, place, clock, CEILINGS)
    assert row.ms is not None
    assert row.eager_ms is None
    assert row.note == "eager plain does not run here: RuntimeError: out of memory"


def test_a_failed_operation_does_not_end_the_run(monkeypatch, capsys):
    def cases(place):
        yield Case("march", 1, "samples", lambda: None)
        raise ValueError("no more")

    monkeypatch.setitem(device.OPERATIONS, "march", cases)
    assert device.main(["march", "adam", "--device", "cpu"]) == 1
    printed = capsys.readouterr().out
    assert "march: ValueError: no more" in printed
    assert "\nadam:touched " in printed


def test_a_budget_is_kept(tmp_path, capsys):
    path = tmp_path / "rows.json"
    assert device.main(["--device", "cpu", "--minutes", "0.001", "--json", str(path)]) == 0
    found = json.loads(path.read_text())
    assert found["rows"] == []
    assert found["left_out"] == [*device.OPERATIONS, *device.FIELD]
    assert "left out: hash_grid, mlp, " in capsys.readouterr().out


def test_lego_is_fitted(tmp_path, capsys):
    data, path = tmp_path / "lego", tmp_path / "rows.json"
    scenes.make("locomotive", data, n_train=3, n_test=1, size=24, depth=False)
    assert (
        device.main(["occupancy", "--device", "cpu", "--lego", str(data), "--json", str(path)]) == 0
    )
    (row,) = json.loads(path.read_text())["lego"]
    assert row["seconds"] == 0.2
    assert row["psnr_test"] > 0
    assert row["n_views"] == 1
    assert "lego: 0.2 s " in capsys.readouterr().out


def test_without_a_gpu(monkeypatch, capsys):
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device.main([]) == 2
    said = capsys.readouterr().err
    assert said.startswith("--device cuda: needs a PyTorch with CUDA")
    assert "install one" in said
    assert "'make cuda'" in said


def test_as_a_script():
    command = [sys.executable, str(ROOT / "benchmarks" / "device.py"), "nothing"]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 2
    assert ended.stderr.startswith("NAME: needs one of hash_grid, mlp, ")


def test_wrong_options(capsys):
    assert device.main(["--device", "cpu", "--lego", "nowhere"]) == 2
    assert "nowhere is not there" in capsys.readouterr().err
    assert device.main(["--device", "cpu", "--json", "nowhere/rows.json"]) == 2
    assert "needs a folder that exists" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        device.main(["--minutes", "0"])


def test_building_says_what_is_missing(monkeypatch):
    monkeypatch.setattr(device_setup.shutil, "which", lambda name: None)
    with pytest.raises(InputError, match="needs nvcc on PATH"):
        device_setup.build_module((9, 0), 1.0)


def test_the_module_is_built_for_the_gpu(monkeypatch):
    commands = []

    def command(arguments, seconds):
        commands.append(arguments)
        return Done(0, "/cmake\n")

    monkeypatch.setattr(device_setup.shutil, "which", lambda name: name)
    monkeypatch.setattr(device_setup, "command", command)
    device_setup.build_module((8, 6), 1.0)
    assert "-DNF_CUDA_ARCHITECTURES=86-real" in commands[1]
    assert "-Dpybind11_DIR=/cmake" in commands[1]
    assert commands[2][:5] == ["cmake", "--build", commands[1][4], "--target", "_cuda"]


def test_commands_end_with_their_time():
    code = "import time; print('begun', flush=True); time.sleep(60)"
    done = device_setup.command([sys.executable, "-c", code], 1.0)
    assert done == Done(None, "begun\n")


def test_the_suite_is_counted():
    lines = [
        "tests/ops/test_adam.py::test_a[cuda] PASSED    [ 25%]",
        "[gw1] [ 50%] FAILED tests/ops/test_mlp.py::TestMlp::test_b[cuda-wide] ",
        "tests/ops/test_rbf.py::test_c[cuda] SKIPPED (no)  [ 75%]",
        "tests/ops/test_rbf.py:12: AssertionError: FAILED to be seen as a test",
    ]
    suite = suite_of(Done(None, "\n".join(lines[:3])), 2.0)
    assert (suite.passed, suite.failed, suite.skipped, suite.finished) == (1, 1, 1, False)
    assert suite.failures == ("tests/ops/test_mlp.py::TestMlp::test_b[cuda-wide]",)
    assert suite_of(Done(5, "no tests ran"), 0.1).failures == ("pytest ended with 5",)
    report = device.Report({"device": "x"}, suite=suite)
    assert not report.is_good
    assert "1 passed, 1 failed, 1 skipped in 2 s, not finished" in text(report)


def test_events_are_milliseconds_of_all_calls(monkeypatch):
    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            calls.append("event")

        def synchronize(self):
            calls.append("wait")

        def elapsed_time(self, last):
            return 6.0

    calls = []
    monkeypatch.setattr(torch.cuda, "Event", Event)
    clock = Clock(torch.device("cuda", 0))
    assert clock.seconds(lambda: calls.append("call"), 3) == 0.002
    assert calls == ["event", "call", "call", "call", "event", "wait"]


def test_the_machine_is_named(monkeypatch):
    found = SimpleNamespace(name="A GPU", major=9, minor=0, total_memory=8e9, L2_cache_size=5e7)
    module = SimpleNamespace(runtime_version=lambda: "13.0", architectures=lambda: "90-real")
    monkeypatch.setitem(sys.modules, "neural_fields._cuda", module)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: found)
    monkeypatch.setattr(device_setup, "device_text", str)
    facts = device_setup.machine(torch.device("cuda", 0))
    assert (facts["device"], facts["capability"]) == ("A GPU", "9.0")
    assert (facts["memory_gb"], facts["cache_mb"]) == (8.0, 50.0)
    assert (facts["module_cuda"], facts["module_architectures"]) == ("13.0", "90-real")


@pytest.mark.parametrize("name", ["hash_grid", "mlp", "step"])
def test_tinycudann_has_arms_where_it_is_installed(name, monkeypatch):
    package, _ = stub_tinycudann.made()
    monkeypatch.setitem(sys.modules, "tinycudann", package)
    monkeypatch.setattr(tcnn, "_DEVICE", "cpu")
    monkeypatch.setattr(Place, "is_gpu", True)
    place = Place(CPU, REHEARSAL)
    arms = [case.tcnn for case in (device.OPERATIONS | device.FIELD)[name](place)]
    arms = [arm for arm in arms if arm is not None]
    assert len(arms) == {"hash_grid": 2, "mlp": 3, "step": 1}[name]
    for arm in arms:
        arm()
        arm()
    tcnn._encoding.cache_clear()
    tcnn._network.cache_clear()


def test_both_sides_compute_the_same():
    stored = stored_batch(*REHEARSAL.batches[-1])
    ours = device.device_field._Native(Place(CPU, REHEARSAL), stored, sparse=True)
    plain = ours.plain(Place(CPU, REHEARSAL))
    assert isinstance(plain, DeviceBaseline)
    outcome = ours.gradients(ours.rays, ours.scene)
    torch.testing.assert_close(plain.backward(stored.batch), outcome.loss, rtol=1e-4, atol=1e-7)
    table = ours.state.adam["trunk.encoding.table"].grad.view_as(plain.table)
    scale = table.abs().max()
    torch.testing.assert_close(plain.table.grad / scale, table / scale, rtol=1e-3, atol=1e-4)
    whole = RadianceBaseline(plain.grid.spec, plain.table, *_flat(plain))
    torch.testing.assert_close(whole.backward(stored.batch), outcome.loss, rtol=1e-4, atol=1e-7)


def _flat(plain):
    flat = [matrix.detach().flatten() for matrix in plain.matrices]
    return torch.cat(flat[:2]), torch.cat(flat[2:])


def test_plain_arms_compute_the_same():
    place = Place(CPU, REHEARSAL)
    network = _Network(place, bench_mlp.DEFAULT, 33)
    network.forward().ours()
    close(network.plain(network.inputs)[0], network.output)
    lattices = device.device_lattices
    spec = lattices.TensorPlanesSpec.vm((5, 5, 5), 4)
    tensor = lattices._LowRank(place, spec, torch.rand(33, 3))
    tensor.forward("vm").ours()
    close(tensor.bags(), tensor.output)
    close(tensor.sampled(tensor.positions, tensor.images).t(), tensor.output)
    grid, positions = torch.randn(5**3, 28), torch.rand(33, 3)
    image = grid.view(5, 5, 5, 28).permute(3, 0, 1, 2)[None]
    native = voxels(positions, grid, VoxelsSpec((5, 5, 5), 28))
    close(lattices._sampled(positions, image).t(), native)
    close(lattices._bag(positions, (5, 5, 5), grid), native)
    offsets, weights = torch.tensor([0, 9, 9, 33]), torch.rand(33)
    assert torch.equal(_visible(offsets, weights), bench_distill.visible(offsets, weights))
    table = HashGridSpec(log2_table_size=8)
    entries = torch.randn(table.n_entries, 4)
    grid = device.device_encodings.grid_on(table, CPU)
    close(grid.lookup(entries, *grid.corners(positions)), hash_grid(positions, entries, table))


def close(got, wanted):
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


if emulation.is_built():

    @pytest.mark.parametrize("name", [*device.OPERATIONS, "step"])
    def test_cases_run_where_tensors_are_elsewhere(name):
        """By the CUDA module's bindings, and without waiting for the GPU within a timed call."""
        stored_batch(*REHEARSAL.batches[-1])  # made on the CPU, as on a GPU
        sizes = dataclasses.replace(REHEARSAL, n_points=70, n_streamed=64, log2_table_size=8)
        with emulation.emulation() as waits:
            place = Place(torch.device(emulation.NAME, 0), sizes)
            for case in (device.OPERATIONS | device.FIELD)[name](place):
                for arm in (case.ours, *case.eager.values()):
                    arm()  # makes the graphs of autograd
                waits.clear()
                case.ours()
                assert waits == [], case.name
                for arm in case.eager.values():
                    arm()
                    mistaken = {"index_copy_.default"}  # of a tensor of bool, whose size is known
                    assert {*waits} - mistaken == set(), case.name
