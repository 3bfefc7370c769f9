"""`nf export`: what it prints and writes, and what it refuses."""

import json
import sys

import pytest
import torch
from bad_files import bad_files
from scene_files import picture, write_image

from neural_fields.architectures.hash import Hash
from neural_fields.data.mesh import load_mesh
from neural_fields.fields import SdfConfig, SdfField
from neural_fields.fields.load import save

KEYS = {
    "output", "vertices", "faces", "components", "open_edges", "watertight", "euler",
    "distance_to_zero", "distance_to_zero_max", "level", "resolution", "seconds", "notes",
}  # fmt: skip


@pytest.fixture(scope="module")
def ball(tmp_path_factory):
    """A small field of a ball of radius 0.6 around (0, 0, 0), as a file."""
    grid = Hash(log2_table_size=12, base_resolution=4, finest_resolution=16, hidden=(16,))
    field = SdfField(SdfConfig(architecture=grid))
    adam = torch.optim.Adam(field.parameters(), 1e-2)
    generator = torch.Generator().manual_seed(1)
    for _ in range(150):
        cube = torch.rand(4096, 3, generator=generator)
        loss = (field.encoded(cube) - (2 * cube - 1).norm(dim=1) + 0.6).abs().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    path = tmp_path_factory.mktemp("ball") / "ball.nf"
    save(field, path)
    return path


@pytest.fixture(scope="module")
def photo(nf, tmp_path_factory):
    folder = tmp_path_factory.mktemp("photo")
    write_image(folder / "a.png", picture(0))
    assert nf("fit", "image", folder / "a.png", "-o", folder / "a.nf", "--steps", 1).code == 0
    return folder / "a.nf"


@pytest.mark.parametrize("suffix", ["ply", "GLB"])
def test_a_distance_becomes_a_mesh(suffix, nf, ball, tmp_path):
    path = tmp_path / f"a.{suffix}"
    outcome = nf("export", ball, "-o", path, "--resolution", 40)
    assert outcome.code == 0, outcome.err
    assert f"wrote {path}" in outcome.out
    for word in ("faces", "parts  1, Euler number 2", "open edges  0 (watertight)", "level  0"):
        assert word in outcome.out
    assert "off the surface" in outcome.out
    mesh = load_mesh(path)
    assert mesh.watertight
    assert float((mesh.vertices.norm(dim=1) - 0.6).abs().max()) < 0.1


def test_json(nf, ball, tmp_path):
    path = tmp_path / "a.obj"
    outcome = nf("export", ball, "-o", path, "--resolution", 20, "--kind", "mesh", "--json", "-")
    summary = json.loads(outcome.out)
    assert set(summary) == KEYS
    assert (summary["output"], summary["resolution"], summary["euler"]) == (str(path), 20, 2)
    assert "wrote" in outcome.err
    target = tmp_path / "a.json"
    flags = ["--threshold", 0.1, "--frame", "field", "--min-volume", 0.5, "--json", target]
    assert nf("export", ball, "-o", path, "--resolution", 20, *flags).code == 0
    assert json.loads(target.read_text())["level"] == 0.1


def test_a_density_becomes_a_mesh(nf, fitted, tmp_path):
    outcome = nf("export", fitted, "-o", tmp_path / "a.ply", "--resolution", 32, "--json", "-")
    assert outcome.code == 0, outcome.err
    summary = json.loads(outcome.out)
    assert summary["watertight"]
    assert summary["open_edges"] == 0
    assert any(note.startswith("density") for note in summary["notes"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("-o {tmp}/a.xyz", "needs one of .ply, .obj, .glb, .stl, .off, got '.xyz'"),
        ("-o {tmp}/a.pyl", "did you mean .ply?"),
        ("-o {tmp}/none/a.ply", "does not exist; create it first"),
        ("-o {tmp}", "got a folder"),
        ("-o {tmp}/a.ply --resolution 0", "--resolution: needs a whole number from 2 to 2048"),
        ("-o {tmp}/a.ply --resolution 100000", "--resolution: needs"),
        ("-o {tmp}/a.ply --resolution 1.5", "--resolution"),
        ("-o {tmp}/a.ply --threshold nan", "--threshold: needs a finite number"),
        ("-o {tmp}/a.ply --min-volume 2", "--min-volume: needs a number in [0, 1]"),
        ("-o {tmp}/a.ply --kind points", "--kind: needs one of mesh, got 'points'"),
        ("-o {tmp}/a.ply --frame inptu", "did you mean input?"),
        ("-o {tmp}/a.ply --json {tmp}/none/a.json", "folder that exists"),
        ("", "Missing from nf export"),
    ],
)
def test_bad_options(options, message, refused, ball, tmp_path):
    assert message in refused("export", ball, *options.format(tmp=tmp_path).split())


def test_no_surface(nf, ball, tmp_path):
    outcome = nf("export", ball, "-o", tmp_path / "a.ply", "--resolution", 8, "--threshold", 50)
    assert outcome.code == 2
    said = outcome.err.splitlines()[-1]  # after the progress
    assert said.startswith("nf: mesh: needs values that pass 50 inside the box, got none")
    assert list(tmp_path.iterdir()) == []


def test_bad_fields(refused, fitted, photo, tmp_path):
    export = ("-o", tmp_path / "a.ply", "--resolution", 8)
    assert "got kind 'image'; nf render draws" in refused("export", photo, *export)
    path = tmp_path / "bad.nf"
    assert "there is none" in refused("export", path, *export)
    for case, (data, _) in bad_files(fitted.read_bytes()).items():
        path.write_bytes(data)
        assert str(path) in refused("export", path, *export), case


def test_missing_packages(refused, ball, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "trimesh", None)
    said = refused("export", ball, "-o", tmp_path / "a.ply")
    assert "pip install 'neural_fields[mesh]'" in said


def test_a_full_disk_leaves_the_old_file(nf, ball, tmp_path, monkeypatch):
    import neural_fields.fields.file as file

    path = tmp_path / "a.ply"
    path.write_bytes(b"old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(file.os, "replace", fail)
    outcome = nf("export", ball, "-o", path, "--resolution", 8)
    assert outcome.code == 2
    assert "No space left" in outcome.err
    assert [p.name for p in tmp_path.iterdir()] == ["a.ply"]
    assert path.read_bytes() == b"old"
