"""`nf fit surface`, and what the other commands do with what it writes."""

import json

import numpy as np
import pytest
import trimesh
from PIL import Image

from neural_fields import scenes


@pytest.fixture(scope="module")
def chess(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli-chess") / "scene"
    return scenes.make("chess", folder, n_train=16, n_test=2, size=48)


@pytest.fixture(scope="module")
def fitted_surface(nf, chess, tmp_path_factory):
    path = tmp_path_factory.mktemp("cli-surface") / "a.nf"
    outcome = nf("fit", "surface", chess, "-o", path, "--steps", 200)
    assert outcome.code == 0, outcome.err
    assert f"nf export {path} -o mesh.ply" in outcome.out
    return path


def test_info_and_eval(nf, fitted_surface, chess):
    assert "surface" in nf("info", fitted_surface).out
    outcome = nf("eval", fitted_surface, "--data", chess, "--json", "-")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["psnr"] > 15


@pytest.mark.parametrize("mode", ["rgb", "normal", "depth"])
def test_renders(nf, fitted_surface, tmp_path, mode):
    out = tmp_path / mode
    how = ("--orbit", 2, "--size", "40x30", "--mode", mode)
    outcome = nf("render", fitted_surface, "-o", out, *how)
    assert outcome.code == 0, outcome.err
    assert len(list(out.iterdir())) >= 2


def test_exports_a_closed_mesh_with_colours(nf, fitted_surface, tmp_path):
    mesh = tmp_path / "a.ply"
    outcome = nf("export", fitted_surface, "-o", mesh, "--resolution", 64)
    assert outcome.code == 0, outcome.err
    loaded = trimesh.load(mesh, process=False)
    assert loaded.is_watertight
    colors = np.asarray(loaded.visual.vertex_colors)[:, :3]
    assert len(np.unique(colors, axis=0)) > 100


def test_converts(nf, fitted_surface, chess, tmp_path):
    student = tmp_path / "student.nf"
    outcome = nf("convert", fitted_surface, "--to", "hash", "-o", student, "--steps", 60)
    assert outcome.code == 0, outcome.err
    assert json.loads(nf("info", student, "--json", "-").out)["kind"] == "radiance"


def test_masks_of_the_wrong_size(refused, chess, tmp_path):
    folder = tmp_path / "masked"
    folder.mkdir()
    listed = json.loads((chess / "transforms_train.json").read_text())
    for index, frame in enumerate(listed["frames"]):
        Image.open(chess / f"{frame['file_path']}.png").convert("RGB").save(folder / f"{index}.png")
        Image.new("L", (9, 9), 255).save(folder / f"{index}_mask.png")
        frame.update(file_path=f"{index}.png", mask_path=f"{index}_mask.png")
    (folder / "transforms.json").write_text(json.dumps(listed))
    for masks in ("use", "object"):
        said = refused("fit", "surface", folder, "-o", tmp_path / "a.nf", "--masks", masks)
        assert "needs the size of its image, 48x48, got 9x9" in said


def test_words_that_there_are_not(refused, chess, tmp_path):
    path = tmp_path / "a.nf"
    assert "volsdf" in refused("fit", "surface", chess, "-o", path, "--density", "volsd")
    assert "object" in refused("fit", "surface", chess, "-o", path, "--masks", "objects")
