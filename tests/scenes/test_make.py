"""Data sets: layout, repeatability, straight alpha, all or nothing, and what is refused."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
import torch
from PIL import Image

from neural_fields import scenes
from neural_fields.errors import InputError
from neural_fields.scenes import dataset
from neural_fields.scenes.cameras import ANGLE_X, RADIUS, poses
from neural_fields.scenes.shade import to_linear, to_srgb

SMALL = {"n_train": 3, "n_test": 2, "size": 24}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    calls = []
    out = tmp_path_factory.mktemp("sets") / "a"
    result = scenes.make("shine", out, **SMALL, progress=lambda i, n: calls.append((i, n)))
    assert result == out
    return out, calls


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_layout(made):
    out, calls = made
    assert calls[-1] == (5, 5)
    for split, n in (("train", 3), ("test", 2)):
        data = json.loads((out / f"transforms_{split}.json").read_text())
        assert data["camera_angle_x"] == ANGLE_X
        assert [f["file_path"] for f in data["frames"]] == [f"./{split}/r_{i}" for i in range(n)]
        for frame in data["frames"]:
            picture = Image.open(out / f"{frame['file_path']}.png")
            assert picture.mode == "RGBA"
            assert picture.size == (24, 24)
            assert np.asarray(picture)[..., 3].max() == 255
    with np.load(out / "test" / "r_1_geometry.npz", allow_pickle=False) as geometry:
        assert geometry["depth"].shape == (24, 24)
        assert geometry["depth"].dtype == np.float32
        assert geometry["normal"].shape == (24, 24, 3)
    assert not list((out / "train").glob("*.npz"))


def test_same_seed_same_bytes(made, tmp_path):
    out, _ = made
    again = scenes.make("shine", tmp_path / "b", **SMALL)
    assert contents(again) == contents(out)
    other = scenes.make("shine", tmp_path / "c", **SMALL, seed=1, depth=False)
    assert contents(other)["train/r_0.png"] != contents(out)["train/r_0.png"]
    assert not list(other.rglob("*.npz"))


def test_cameras_are_rigid_and_face_the_centre():
    train, test = poses(100, 3, test=False), poses(20, 3, test=True)
    for pose in (*train, *test):
        turn = pose[:3, :3]
        np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(turn) == pytest.approx(1.0)
        np.testing.assert_allclose(pose[:3, 3], RADIUS * pose[:3, 2], atol=1e-12)
        assert pose[2, 3] > 0
        assert pose[2, 1] > 0
    gap = np.linalg.norm(test[:, None, :3, 3] - train[None, :, :3, 3], axis=-1).min(1)
    assert gap.min() > 1e-3
    assert gap.max() < 1.2


def test_straight_alpha_has_no_fringe(made):
    out, _ = made
    picture = np.asarray(Image.open(out / "train" / "r_0.png")).astype(np.float32) / 255
    with open(out / "transforms_train.json") as file:
        pose = np.array(json.load(file)["frames"][0]["transform_matrix"])
    view = scenes.render_view("shine", pose, 0.5 * 24 / np.tan(0.5 * ANGLE_X), 24, 24)
    alpha = picture[..., 3:]
    assert ((alpha > 0.02) & (alpha < 0.98)).sum() > 10
    for background in (0.0, 1.0):
        ours = view.rgba[..., :3].numpy() + background * (1 - view.rgba[..., 3:].numpy())
        theirs = picture[..., :3] * alpha + background * (1 - alpha)
        assert np.abs(ours - theirs).max() < 0.009


def test_srgb_round_trip():
    x = torch.linspace(0, 1, 101)
    torch.testing.assert_close(to_srgb(to_linear(x)), x, atol=1e-5, rtol=0)


def test_reuse_and_overwrite(made, monkeypatch, tmp_path):
    out, _ = made
    with pytest.raises(InputError, match="exists"):
        scenes.make("shine", out, **SMALL)
    with pytest.raises(InputError, match="exists"):
        scenes.make("shine", out, **SMALL, seed=5, reuse=True)
    with monkeypatch.context() as patch:
        patch.setattr(dataset, "_renderer", None)
        assert scenes.make("shine", out, **SMALL, reuse=True) == out
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "keep.txt").write_text("x")
    target = scenes.make("shine", tmp_path / "old", n_train=1, n_test=0, size=8, overwrite=True)
    assert not (target / "keep.txt").exists()
    assert json.loads((target / "scene.json").read_text())["name"] == "shine"
    assert os.listdir(tmp_path) == ["old"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_failure_leaves_nothing(tmp_path, error):
    def stop(done, total):
        raise error

    with pytest.raises(error):
        scenes.make("shine", tmp_path / "x", **SMALL, progress=stop)
    assert os.listdir(tmp_path) == []


def test_failure_keeps_what_was_to_be_overwritten(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "keep.txt").write_text("x")

    def stop(done, total):
        raise RuntimeError

    with pytest.raises(RuntimeError):
        scenes.make("shine", tmp_path / "x", **SMALL, overwrite=True, progress=stop)
    assert os.listdir(tmp_path) == ["x"]
    assert os.listdir(tmp_path / "x") == ["keep.txt"]


def test_full_disk_is_one_sentence(tmp_path, monkeypatch):
    def full(self, *args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(InputError, match="No space left on device"):
        scenes.make("shine", tmp_path / "x", **SMALL)
    assert os.listdir(tmp_path) == []


def test_refusals(tmp_path):
    with pytest.raises(InputError, match="did you mean 'locomotive'"):
        scenes.make("locomotiv", tmp_path / "x")
    with pytest.raises(InputError, match="public set"):
        scenes.make("nerf-synthetic", tmp_path / "x")
    with pytest.raises(InputError, match="size"):
        scenes.make("shine", tmp_path / "x", size=0)
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError):
        scenes.make("shine", tmp_path / "file" / "x", **SMALL)
    assert os.listdir(tmp_path) == ["file"]


def test_every_name_is_described():
    assert scenes.names()[0] == "locomotive"
    assert len(scenes.names()) >= 3
    for name in (*scenes.names(), *scenes.public_names()):
        info = scenes.describe(name)
        assert info.name == name
        assert info.summary
        assert info.licence
        assert info.layout
        assert (info.kind == "public") == bool(info.homepage)


def test_a_scene_that_moves_has_a_time_per_frame(tmp_path):
    out = scenes.make("clockwork", tmp_path / "a", n_train=3, n_test=2, size=32)
    times = {}
    for split in ("train", "test"):
        frames = json.loads((out / f"transforms_{split}.json").read_text())["frames"]
        times[split] = [frame["time"] for frame in frames]
    assert times == {"train": [0.0, 0.5, 1.0], "test": [0.25, 0.75]}
    frame = frames[1]
    pose, stored = np.array(frame["transform_matrix"]), np.asarray(Image.open(out / "test/r_1.png"))
    focal = 0.5 * 32 / np.tan(0.5 * ANGLE_X)
    then = scenes.render_view("clockwork", pose, focal, 32, 32, 0.75)
    assert np.array_equal(dataset.to_png(then.rgba), stored)
    other = scenes.render_view("clockwork", pose, focal, 32, 32, 0.25)
    moved = (then.ids != other.ids).float().mean()
    assert 0.005 < moved < 0.3
    again = scenes.make("clockwork", tmp_path / "b", n_train=3, n_test=2, size=32)
    assert contents(again) == contents(out)


def test_a_scene_that_moves_ends_as_it_began():
    pose, focal = poses(1, 0, test=False)[0], 60.0
    first, last, middle = (
        scenes.render_view("clockwork", pose, focal, 48, 48, time).rgba for time in (0.0, 1.0, 0.5)
    )
    assert torch.equal(first, last)
    assert (first - middle).abs().mean() > 2e-3
