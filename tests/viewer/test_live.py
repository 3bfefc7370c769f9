"""A run that is watched: its result is that of one that nobody watched."""

import asyncio
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
import viser
from viewed import camera_message
from websockets.asyncio.client import connect

import neural_fields as nf
import neural_fields.fit
from neural_fields import scenes
from neural_fields.training.checkpoint import checkpoint_path
from neural_fields.viewer.live import NAME
from neural_fields.viewer.server import Viewer

sys.path.append(str(Path(__file__).parents[1] / "training"))

import small_nf

STEPS = 150
TIMEOUT = 30


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("live") / "scene"
    return scenes.make("locomotive", folder, n_train=6, n_test=1, size=24)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(neural_fields.fit.photographs, "radiance_setup", small_nf.small_setup)


def fit(data, output=None, viewer=None, on_progress=None):
    calls = {"on_progress": on_progress}
    if viewer is not None:
        run = viewer.run

        def step(progress):
            run.step(progress)
            if on_progress is not None:
                on_progress(progress)

        calls = {
            "on_start": lambda trainer, data: run.start(
                trainer, {"cameras": data.cameras.to_json(), "background": [1.0, 1.0, 1.0]}
            ),
            "on_progress": step,
            "control": run.control,
        }
    return nf.fit.nerf(data, output, steps=STEPS, **calls)


def weights(run):
    return {name: value.clone() for name, value in run.field.state_dict().items()}


def assert_same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name


class Visitor(threading.Thread):
    """Moves all the time, and is killed in the middle of a picture when the test says so."""

    def __init__(self, viewer):
        super().__init__(daemon=True)
        self.url = viewer.url.replace("http", "ws")
        self.n_pictures = 0
        self.leaves = threading.Event()

    def run(self):
        asyncio.run(self._visit())

    async def _visit(self):
        protocol = f"viser-v{viser.__version__}"
        async with connect(self.url, subprotocols=[protocol], max_size=None) as socket:
            moving = asyncio.create_task(self._move(socket))
            while not self.leaves.is_set():
                message = await asyncio.wait_for(socket.recv(), TIMEOUT)
                self.n_pictures += b"\xff\xd8\xff" in message
            moving.cancel()
            socket.transport.abort()

    async def _move(self, socket):
        for step in range(10**6):
            position = [0.0, 0.0, -4.0 - 0.01 * (step % 7)]
            await socket.send(camera_message(120, 90, position=position))
            await asyncio.sleep(0.02)


def wait_for(condition):
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_result_is_the_same_bit_for_bit(data, tmp_path, monkeypatch):
    monkeypatch.setattr("neural_fields.viewer.live.COPY_S", 0.0)  # a copy after every step
    alone = weights(fit(data))
    with Viewer([], port=0, run=tmp_path / "a.nf") as viewer:
        visitor = Visitor(viewer)
        visitor.start()
        seen = []

        def on_progress(progress):
            if progress.moment.step == 1:
                wait_for(lambda: visitor.n_pictures)
            if progress.moment.step == STEPS // 2:
                wait_for(lambda: visitor.n_pictures > 2)
                visitor.leaves.set()
            seen.append(viewer.run.entry().stamp)

        watched = weights(fit(data, tmp_path / "a.nf", viewer, on_progress))
        visitor.join(TIMEOUT)
        assert not visitor.is_alive()
    assert_same(watched, alone)
    assert len(set(seen[: STEPS // 4])) > 5  # it was shown as it changed


def test_pauses_saves_and_goes_on(data, tmp_path):
    output = tmp_path / "a.nf"
    alone = weights(fit(data))
    with Viewer([], port=0, run=output) as viewer:
        control, reached = viewer.run.control, []

        def on_progress(progress):
            reached.append(progress.moment)
            if progress.moment.step == 20:
                control.pause()

        done = []
        thread = threading.Thread(
            target=lambda: done.append(fit(data, output, viewer, on_progress)), daemon=True
        )
        thread.start()
        wait_for(lambda: len(reached) == 20)
        time.sleep(0.2)
        assert len(reached) == 20
        assert not checkpoint_path(output).exists()
        control.save()
        wait_for(checkpoint_path(output).exists)
        assert nf.load(checkpoint_path(output)).kind == "radiance"
        with Viewer([tmp_path], port=0) as other:  # of somebody else
            assert [entry.name for entry in other._library.entries()] == ["a.ckpt.nf"]
            assert other._library.open("a.ckpt.nf").shown.modes[0] == "rgb"
        assert "step 20" in viewer.run.about
        paused_at = time.monotonic()
        time.sleep(0.3)
        control.resume()
        thread.join(TIMEOUT)
        assert not thread.is_alive()
    assert_same(weights(done[0]), alone)
    assert reached[-1].step == STEPS
    assert reached[20].seconds - reached[19].seconds < 0.3 + time.monotonic() - paused_at
    assert reached[20].seconds - reached[19].seconds < 0.25  # waiting does not count


def test_without_visitors_nothing_is_copied(data, tmp_path):
    with Viewer([], port=0, run=tmp_path / "a.nf") as viewer:
        stamps = set()
        fit(data, None, viewer, lambda _: stamps.add(viewer.run.entry().stamp))
        assert len(stamps) <= 2  # the first, and the finished one
        entry = viewer.run.entry()
        assert (entry.name, entry.kind, entry.architecture) == (NAME, "radiance", "hash")
