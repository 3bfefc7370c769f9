"""`nf fit dynamic`, and what the other commands do with what it writes."""

import json

import numpy as np
import pytest
from PIL import Image

import neural_fields as nf_api
from neural_fields import scenes


@pytest.fixture(scope="module")
def moving(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli-moving") / "scene"
    return scenes.make("clockwork", folder, n_train=8, n_test=3, size=32)


@pytest.fixture(scope="module")
def fitted_moving(nf, moving, tmp_path_factory):
    path = tmp_path_factory.mktemp("cli-dynamic") / "a.nf"
    outcome = nf("fit", "dynamic", moving, "-o", path, "--steps", 60)
    assert outcome.code == 0, outcome.err
    assert "nf render" in outcome.out
    return path


def test_summary_info_and_eval(nf, fitted_moving, moving):
    info = nf("info", fitted_moving).out
    assert "dynamic" in info
    assert "config.motion" in info
    outcome = nf("eval", fitted_moving, "--data", moving, "--json", "-")
    assert outcome.code == 0, outcome.err
    scores = json.loads(outcome.out)
    assert scores["n_views"] == 3
    assert scores["psnr"] > 8


def pictures(folder):
    return [np.asarray(Image.open(path)).astype(int) for path in sorted(folder.iterdir())]


def test_renders_all_of_it_or_one_moment(nf, fitted_moving, moving, tmp_path):
    size = ("--size", "32x24")
    whole, one = tmp_path / "whole", tmp_path / "one"
    assert nf("render", fitted_moving, "-o", whole, "--orbit", 3, *size).code == 0
    assert nf("render", fitted_moving, "-o", one, "--orbit", 3, "--time", 0.5, *size).code == 0
    (a0, a1, a2), (b0, b1, b2) = pictures(whole), pictures(one)
    assert np.array_equal(a1, b1)  # the middle of three is at 0.5
    assert not np.array_equal(a0, b0)
    assert not np.array_equal(a2, b2)
    views = tmp_path / "views"
    assert nf("render", fitted_moving, "-o", views, "--data", moving).code == 0
    assert [path.name for path in sorted(views.iterdir())] == ["r_0.png", "r_1.png", "r_2.png"]


def test_renders_a_path_through_space_and_time(nf, fitted_moving, moving, tmp_path):
    listed = json.loads((moving / "transforms_test.json").read_text())
    pose = listed["frames"][0]["transform_matrix"]
    frames = [{"transform_matrix": pose, "time": time} for time in (0.0, 0.5, 0.5)]
    path = tmp_path / "path.json"
    lens = {"w": 32, "h": 32, "camera_angle_x": listed["camera_angle_x"]}
    path.write_text(json.dumps({**lens, "fps": 10, "frames": frames}))
    assert nf("render", fitted_moving, "-o", tmp_path / "out", "--cameras", path).code == 0
    first, second, third = pictures(tmp_path / "out")
    assert np.array_equal(second, third)
    assert not np.array_equal(first, second)


def test_reports(nf, fitted_moving, moving, tmp_path):
    page = tmp_path / "a.html"
    outcome = nf("report", fitted_moving, "--data", moving, "-o", page, "--orbit", 4)
    assert outcome.code == 0, outcome.err
    text = page.read_text()
    assert "data:video/mp4" in text
    assert "r_0" in text


def test_exports_one_moment(nf, refused, fitted_moving, tmp_path):
    mesh = tmp_path / "a.ply"
    assert "say with --time which moment" in refused("export", fitted_moving, "-o", mesh)
    assert "needs a number in [0, 1]" in refused("export", fitted_moving, "-o", mesh, "--time", 2)
    arguments = ("-o", mesh, "--time", 0.5, "--resolution", 24, "--threshold", 0.02)
    outcome = nf("export", fitted_moving, *arguments)
    assert outcome.code == 0, outcome.err
    assert mesh.stat().st_size > 1000


def test_refusals(refused, nf, fitted, fitted_moving, scene, moving, tmp_path):
    out = tmp_path / "a.nf"
    assert "there is no `time`" in refused("fit", "dynamic", scene, "-o", out)
    assert "got xy" in refused("fit", "dynamic", moving, "-o", out, "--modulate", "xy")
    assert "got time" in refused("fit", "nerf", moving, "-o", out, "--modulate", "time")
    orbit = ("--orbit", 2, "-o", tmp_path / "v")
    assert "needs a number in [0, 1]" in refused("render", fitted_moving, *orbit, "--time", "-1")
    assert "--time: does not apply" in refused("render", fitted, *orbit, "--time", "0.5")
    to = ("convert", fitted_moving, "--to", "mlp", "-o", out)
    assert "moves" in refused(*to)


def test_the_api_converts_no_field_that_moves(fitted_moving):
    with pytest.raises(nf_api.InputError, match="moves"):
        nf_api.convert(fitted_moving, to="mlp", steps=1)
