"""Runs that stop, on purpose or not, and go on."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from small_nf import small_setup

import neural_fields.fit
from neural_fields import InputError
from neural_fields.fields import read_field_file
from neural_fields.fields.load import load
from neural_fields.training.budget import Budget
from neural_fields.training.loop import run_loop

SMALL_NF = Path(__file__).with_name("small_nf.py")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(neural_fields.fit.photographs, "radiance_setup", small_setup)


def assert_equal_files(a, b):
    a, b = read_field_file(a), read_field_file(b)
    assert a.tensors.keys() == b.tensors.keys()
    for name, tensor in a.tensors.items():
        assert torch.equal(tensor, b.tensors[name]), name
    assert a.config == b.config
    for content in (a, b):
        content.provenance.pop("command")
        for timed in ("seconds", "psnr_train", "history"):  # of this process, or of its clock
            content.metrics.pop(timed)
        content.checkpoint.pop("seconds", None)
    assert (a.metrics, a.scene, a.protocol) == (b.metrics, b.scene, b.protocol)
    assert a.provenance == b.provenance
    assert a.checkpoint == b.checkpoint


def interrupt_at(step):
    def at(progress):
        if progress.moment.step == step:
            os.kill(os.getpid(), signal.SIGINT)

    return at


@pytest.mark.parametrize("bits", [32, 8])
def test_repeats_and_resumed_runs_are_equal_bit_for_bit(bits, data, tmp_path):
    whole, again, parted = (tmp_path / f"{name}.nf" for name in ("whole", "again", "parted"))
    for path in (whole, again):
        run = neural_fields.fit.nerf(data, path, steps=60, bits=bits)
        assert not run.interrupted
    first = neural_fields.fit.nerf(data, parted, steps=60, bits=bits, on_progress=interrupt_at(29))
    assert first.interrupted
    assert first.summary["steps"] == 29
    assert read_field_file(parted).metrics["steps"] == 29
    neural_fields.fit.nerf(data, parted, steps=60, bits=bits, resume=True)
    for path in (again, parted):
        assert_equal_files(whole, path)
        assert_equal_files(whole.with_name("whole.ckpt.nf"), path.with_name(f"{path.stem}.ckpt.nf"))
    other = tmp_path / "other.nf"
    neural_fields.fit.nerf(data, other, steps=60, bits=bits, seed=1)
    assert not torch.equal(load(other).trunk.mlp.params, load(whole).trunk.mlp.params)


@pytest.fixture(scope="module")
def stopped(data, tmp_path_factory):
    """A run of 5 of 10 steps."""
    path = tmp_path_factory.mktemp("stopped") / "a.nf"
    patch = pytest.MonkeyPatch()
    patch.setattr(neural_fields.fit.photographs, "radiance_setup", small_setup)
    neural_fields.fit.nerf(data, path, steps=10, on_progress=interrupt_at(5))
    patch.undo()
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, "another seed"),
        ({"options": {"huber": 0.2}}, "another training"),
        ({"downscale": 2}, "another (configuration|protocol)"),
        ({"background": "black"}, "another protocol"),
    ],
)
def test_other_runs_are_not_resumed(changes, message, scene, stopped):
    before = stopped.read_bytes()
    with pytest.raises(InputError, match=message):
        neural_fields.fit.nerf(scene, stopped, steps=10, resume=True, **changes)
    assert stopped.read_bytes() == before


def test_other_data_are_not_resumed(scene, stopped, tmp_path):
    import shutil

    other = shutil.copytree(scene, tmp_path / "other")
    listing = other / "transforms_train.json"
    changed = json.loads(listing.read_text())
    changed["frames"][3]["transform_matrix"][2][3] += 1e-3
    listing.write_text(json.dumps(changed))
    with pytest.raises(InputError, match=r"another (data|configuration)"):
        neural_fields.fit.nerf(other, stopped, steps=10, resume=True)


def test_without_a_checkpoint_nothing_is_resumed(data, stopped, tmp_path):
    with pytest.raises(InputError, match=r"needs the checkpoint .*but there is none"):
        neural_fields.fit.nerf(data, tmp_path / "a.nf", steps=10, resume=True)
    with pytest.raises(InputError, match="needs an output"):
        neural_fields.fit.nerf(data, None, steps=10, resume=True)
    (tmp_path / "a.ckpt.nf").write_bytes(stopped.read_bytes())
    with pytest.raises(InputError, match="needs a checkpoint, got a finished field"):
        neural_fields.fit.nerf(data, tmp_path / "a.nf", steps=10, resume=True)
    good = stopped.with_name("a.ckpt.nf").read_bytes()
    (tmp_path / "a.ckpt.nf").write_bytes(good[:-9])
    with pytest.raises(InputError, match="truncated"):
        neural_fields.fit.nerf(data, tmp_path / "a.nf", steps=10, resume=True)


# ---- the loop ------------------------------------------------------------------------------------


class FakeTrainer:
    step_number = 0

    def __init__(self):
        self.progress = []

    def step(self, progress):
        self.progress.append(progress)
        self.step_number += 1
        return type("Report", (), {"loss": 1.0})()

    def check_finite(self):
        pass


def test_progress_by_steps():
    trainer = FakeTrainer()
    moment, interrupted = run_loop(trainer, Budget(steps=4))
    assert trainer.progress == [0, 0.25, 0.5, 0.75]
    assert (moment.step, moment.progress, interrupted) == (4, 1.0, False)


def test_progress_by_seconds(monkeypatch):
    """A step takes 2 s and what is shown of it 100 s; checkpoints take 1 s, every 4 s."""
    clock, saved = [0.0], []
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    trainer = FakeTrainer()
    step = trainer.step

    def slow_step(progress):
        clock[0] += 2
        return step(progress)

    def save(seconds):
        saved.append(seconds)
        clock[0] += 1

    def show(*_):
        clock[0] += 100

    trainer.step = slow_step
    budget = Budget(seconds=10.0)
    moment, _ = run_loop(trainer, budget, seconds=1.0, on_step=show, save=save, save_every_s=4.0)
    assert trainer.progress == pytest.approx([0.1, 0.3, 0.6, 0.8])
    assert saved == [5.0, 10.0]
    assert (moment.step, moment.seconds, moment.progress) == (4, 11.0, 1.0)


def test_the_first_interrupt_ends_the_step_and_the_second_acts_at_once():
    trainer = FakeTrainer()
    step = trainer.step
    trainer.step = lambda p: (os.kill(os.getpid(), signal.SIGINT), step(p))[1]
    saved = []
    moment, interrupted = run_loop(trainer, Budget(steps=9), save=saved.append)
    assert (moment.step, interrupted, len(saved)) == (1, True, 1)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    trainer.step = lambda p: [os.kill(os.getpid(), signal.SIGINT) for _ in range(2)]
    with pytest.raises(KeyboardInterrupt):
        run_loop(trainer, Budget(steps=9))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


# ---- processes that die --------------------------------------------------------------------------


def start(scene, path, *options):
    command = [sys.executable, SMALL_NF, "fit", "nerf", scene, "-o", path, *map(str, options)]
    environment = {**os.environ, "NF_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=environment, **pipes)


def wait_for(path, process, seconds=120):
    end = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


def test_interrupt_leaves_usable_files_and_130(scene, tmp_path):
    path, checkpoint = tmp_path / "a.nf", tmp_path / "a.ckpt.nf"
    process = start(scene, path, "--steps", 10**6, "--save-every", 0.2)
    wait_for(checkpoint, process)
    process.send_signal(signal.SIGINT)
    said, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert "--resume" in said
    assert load(path).n_params > 0
    steps = read_field_file(checkpoint).checkpoint["step"]
    assert read_field_file(path).metrics["steps"] == steps > 0
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.ckpt.nf", "a.nf"]
    process = start(scene, path, "--steps", steps + 7, "--resume")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert read_field_file(path).metrics["steps"] == steps + 7


def test_killed_at_any_moment_it_goes_on(scene, tmp_path):
    """The interval is so short that most of the time is spent in writing."""
    path, checkpoint = tmp_path / "a.nf", tmp_path / "a.ckpt.nf"
    moments, steps = random.Random(1), 0
    for _ in range(4):
        more = ["--resume"] if checkpoint.exists() else []
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        process = start(scene, path, "--steps", 10**6, "--save-every", 1e-3, *more)
        wait_for(checkpoint, process)
        while checkpoint.stat().st_mtime_ns == before and process.poll() is None:
            time.sleep(0.02)
        time.sleep(moments.random() * 0.3)
        process.kill()
        process.communicate(timeout=60)
        state = read_field_file(checkpoint).checkpoint
        assert state["step"] > steps
        steps = state["step"]
        load(checkpoint)
        assert not path.exists()
    process = start(scene, path, "--steps", steps + 1, "--resume")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert load(path).n_params > 0
