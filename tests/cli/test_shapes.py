"""`nf fit sdf`, and eval and render of what it writes."""

import json

import numpy as np
import pytest
import trimesh
from PIL import Image
from test_mesh_files import BAD_MESHES

SMALL = """
steps = 150
field = "hash"
[training]
batch_points = 4096
pool = 16384
"""


@pytest.fixture(scope="module")
def shape(tmp_path_factory):
    path = tmp_path_factory.mktemp("shape") / "ball.ply"
    trimesh.creation.icosphere(subdivisions=3, radius=2).apply_translation((7, 0, 1)).export(path)
    return path


@pytest.fixture(scope="module")
def fitted(nf, shape):
    path = shape.parent / "ball.nf"
    (shape.parent / "small.toml").write_text(SMALL)
    outcome = nf("fit", "sdf", shape, "-o", path, "--config", shape.parent / "small.toml")
    assert outcome.code == 0, outcome.err
    assert "1280 triangles in a box of 4 x 4 x 4" in outcome.out
    assert "majority of 3 rays (watertight)" in outcome.out
    assert f"nf render {path}" in outcome.out
    return path


def test_the_summary_has_the_promised_keys(nf, shape, tmp_path):
    config = shape.parent / "small.toml"
    config.write_text(SMALL)
    arguments = ["fit", "sdf", shape, "-o", tmp_path / "a.nf", "--config", config, "--steps", "3"]
    summary = json.loads(nf(*arguments, "--json", "-").out)
    assert list(summary) == [
        *("field", "kind", "architecture", "params", "steps", "seconds", "train_samples"),
        *("psnr_train", "device", "output"),
    ]
    assert summary["kind"] == "sdf"
    assert summary["steps"] == 3


def test_scores(nf, fitted, shape):
    outcome = nf("eval", fitted, "--data", shape, "--json", "-")
    scores = json.loads(outcome.out)
    assert "IoU" in outcome.err
    assert scores["iou"] > 0.9
    assert 0 < scores["chamfer"] < 0.05
    assert 0 < scores["normal_error_deg"] < 45
    assert 0 <= scores["f_score"] <= 1
    assert scores["protocol"]["f_threshold"] == 0.001


def test_views(nf, fitted, tmp_path):
    out = tmp_path / "views"
    for mode in ("rgb", "normal", "depth", "opacity"):
        arguments = ["render", fitted, "-o", out, "--orbit", "2", "--size", "48x40"]
        assert nf(*arguments, "--mode", mode).code == 0
        picture = np.asarray(Image.open(out / "00000.png").convert("L"))
        assert picture.shape == (40, 48)
        assert picture[20, 24] != picture[0, 0]  # the ball is in the middle, nothing around
        assert len(np.unique(picture[0])) == 1


@pytest.mark.parametrize(("make", "said"), BAD_MESHES)
def test_bad_meshes_are_refused(make, said, refused, tmp_path):
    import re

    path = make(tmp_path / "a.obj")
    assert re.search(said.replace("+", r"\+"), refused("fit", "sdf", path, "-o", tmp_path / "a.nf"))


def test_what_does_not_apply_is_refused(refused, fitted, shape, tmp_path):
    assert "has no option --downscale" in refused(
        "fit", "sdf", shape, "-o", tmp_path / "a.nf", "--downscale", "2"
    )
    assert "an SDF needs xyz" in refused(
        *("fit", "sdf", shape, "-o", tmp_path / "a.nf", "--field", "siren", "--modulate", "xy")
    )
    assert "use --orbit or --cameras" in refused(
        "render", fitted, "-o", tmp_path / "v", "--data", shape
    )
    assert "--crop: does not apply" in refused(
        "render", fitted, "-o", tmp_path / "v", "--orbit", "2", "--crop", "0,0,4,4"
    )
    assert "there is none" in refused("eval", fitted, "--data", tmp_path / "none.obj")
