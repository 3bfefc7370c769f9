"""Every kind of bad input: one sentence on stderr, code 2, nothing written."""

import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from bad_files import bad_files
from PIL import Image
from scene_files import picture, write_blender, write_capture, write_image

# ---- data ----------------------------------------------------------------------------------------


def missing(folder):
    return folder / "none"


def no_poses(folder):
    write_image(folder / "pictures/a.png", picture(0))
    return folder / "pictures"


def video(folder):
    (folder / "a.mp4").write_bytes(b"video")
    return folder / "a.mp4"


def truncated_json(folder):
    write_capture(folder / "d")
    path = folder / "d/transforms.json"
    path.write_text(path.read_text()[:-40])
    return folder / "d"


def missing_image(folder):
    write_blender(folder / "d")
    (folder / "d/train/r_1.png").unlink()
    return folder / "d"


def truncated_image(folder):
    write_blender(folder / "d")
    path = folder / "d/train/r_1.png"
    path.write_bytes(path.read_bytes()[:-100])
    return folder / "d"


def other_size(folder):
    write_blender(folder / "d")
    with Image.open(folder / "d/train/r_1.png") as image:
        half = image.resize((9, 5))
    half.save(folder / "d/train/r_1.png")
    return folder / "d"


def edited(change):
    return lambda folder: write_capture(folder / "d", change=change)


def matrix(change):
    def edit(data):
        change(data["frames"][3]["transform_matrix"])

    return edited(edit)


DATA = {
    "missing folder": (missing, "does not exist"),
    "images without poses": (no_poses, "reconstruct the poses with"),
    "video": (video, "ns-process-data video"),
    "truncated JSON": (truncated_json, "needs to be JSON"),
    "no frames": (edited(lambda d: d.pop("frames") and None), "needs a list `frames`"),
    "zero frames": (edited(lambda d: {**d, "frames": []}), "`frames` is empty"),
    "no lens": (edited(lambda d: d.pop("fl_x") and None), "no intrinsics"),
    "no matrix": (edited(lambda d: d["frames"][3].pop("transform_matrix") and None), "four rows"),
    "no path": (edited(lambda d: d["frames"][3].pop("file_path") and None), "file_path"),
    "NaN in a matrix": (matrix(lambda m: m[0].__setitem__(3, math.nan)), "finite number"),
    "scaled matrix": (matrix(lambda m: m[0].__setitem__(0, 3.0)), "orthonormal"),
    "missing image": (missing_image, "does not exist"),
    "truncated image": (truncated_image, "r_1.png"),
    "image of another size": (other_size, "same image size"),
}


@pytest.mark.parametrize("case", DATA)
def test_bad_data(case, refused, nf, fitted, tmp_path):
    import re

    make, message = DATA[case]
    data = make(tmp_path)
    said = refused("fit", "nerf", data, "-o", tmp_path / "a.nf", "--steps", 1)
    assert re.search(message, said)
    assert re.search(message, refused("eval", fitted, "--data", data, "--split", "train"))
    refused("render", fitted, "--data", data, "--split", "train", "-o", tmp_path / "v")


# ---- fields --------------------------------------------------------------------------------------


def test_bad_fields(refused, nf, scene, fitted, tmp_path):
    path = tmp_path / "bad.nf"
    for case, (data, _) in bad_files(fitted.read_bytes()).items():
        path.write_bytes(data)
        assert str(path) in refused("eval", path, "--data", scene), case
        assert str(path) in refused("render", path, "--orbit", 2, "-o", tmp_path / "v"), case
        assert nf("info", path).code in (0, 2), case  # it shows what can be shown
    path.unlink()
    assert "there is none" in refused("eval", path, "--data", scene)


def test_fields_that_say_nothing_of_their_run(refused, scene, tmp_path):
    from neural_fields.fields.load import load, save

    stored = load(f"{os.path.dirname(__file__)}/../files/radiance_v3.nf")
    for protocol in ({}, {"background": 5, "downscale": 1}, {"background": "white"}):
        save(stored, tmp_path / "a.nf", protocol=protocol)
        refused("eval", tmp_path / "a.nf", "--data", scene)
    orbit = ("--orbit", 2, "-o", tmp_path / "v")
    assert "no training cameras" in refused("render", tmp_path / "a.nf", *orbit)
    save(stored, tmp_path / "a.nf", scene={"cameras": 3})
    refused("render", tmp_path / "a.nf", *orbit)
    save(stored, tmp_path / "a.nf", scene={"background": "abc"})
    cameras = tmp_path / "c.json"
    from neural_fields.rendering.cameras import Cameras

    cameras.write_text(json.dumps(Cameras.orbit((0, 0, 0), 4, 0, 1, width=8, height=8).to_json()))
    refused("render", tmp_path / "a.nf", "--cameras", cameras, "-o", tmp_path / "v")


# ---- outputs -------------------------------------------------------------------------------------


def test_bad_outputs(refused, scene, fitted, tmp_path):
    fit = ("fit", "nerf", scene, "--steps", 1)
    assert "ends in .nf" in refused(*fit, "-o", tmp_path / "a.ply")
    assert "does not exist" in refused(*fit, "-o", tmp_path / "none/a.nf")
    (tmp_path / "folder.nf").mkdir()
    assert "got a folder" in refused(*fit, "-o", tmp_path / "folder.nf")
    said = refused(*fit, "-o", tmp_path / "a.nf", "--json", tmp_path / "none/a.json")
    assert "folder that exists" in said
    render = ("render", fitted, "--orbit", 1, "--size", "8x8")
    assert "does not exist" in refused(*render, "-o", tmp_path / "none/a.mp4")
    assert "ending in .mp4" in refused(*render, "-o", tmp_path / "a.gif")
    (tmp_path / "file").write_bytes(b"")
    assert "cannot make the folder" in refused(*render, "-o", tmp_path / "file")


def test_read_only_folders(refused, scene, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    assert "not writable" in refused("fit", "nerf", scene, "-o", tmp_path / "a.nf", "--steps", 1)


def test_really_read_only_folders(tmp_path):
    """As an ordinary user, which the process becomes after its imports: root may write anywhere."""
    code = (
        "import os, sys, neural_fields.fit, neural_fields.cli.main as nf\n"
        "nf.run(['fit', 'nerf', '--help'])\n"
        "os.geteuid() or os.setuid(65534)\n"
        "sys.exit(max(nf.run(['fit', 'nerf', 'x', '-o', path]) for path in sys.argv[1:]))"
    )
    closed, read_only = tmp_path / "closed", Path(tempfile.mkdtemp())
    closed.mkdir(mode=0)
    read_only.chmod(0o555)
    command = [sys.executable, "-c", code, read_only / "a.nf", closed / "a.nf"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert os.listdir(read_only) == []
    read_only.rmdir()
    closed.rmdir()
    assert done.returncode == 2, done
    first, second = done.stderr.splitlines()
    assert first.startswith("nf: ")
    assert "is not writable" in first
    assert second.startswith("nf: ")
    assert "access denied" in second


# ---- options -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--field hsah --steps 1", "did you mean hash?"),
        ("--field none.json --steps 1", "--field none.json: there is no such file"),
        ("--preset ngpp --steps 1", "did you mean ngp?"),
        ("--background whte --steps 1", "did you mean white?"),
        ("--background 1,2,3 --steps 1", "three numbers in [0, 1]"),
        ("--device gpu --steps 1", "--device: needs auto, cpu, cuda or cuda:NUMBER, got 'gpu'"),
        ("--device cuda:99 --steps 1", "--device cuda:99: needs "),
        ("--backend tcn --steps 1", "did you mean tcnn?"),
        ("--backend tcnn --device cpu --steps 1", "--backend tcnn: needs a GPU"),
        ("--seconds -1", "--seconds: needs a positive number"),
        ("--seconds x", "--seconds"),
        ("--steps 0", "--steps: needs at least 1"),
        ("--steps 1.5", "--steps"),
        ("--steps 1 --seconds 1", "not both"),
        ("--steps 1 --downscale 0", "downscale: needs"),
        ("--steps 1 --downscale 99", "downscale"),
        ("--steps 1 --seed -1", "--seed"),
        ("--steps 1 --save-every 0", "--save-every"),
        ("--stepz 1", "did you mean --steps?"),
        ("--steps=1 --bakground=white", "did you mean --background?"),
        ("--resume --steps 1", "needs the checkpoint"),
        ("surplus --steps 1", "surplus"),
        ("--preset", "--preset"),
    ],
)
def test_bad_options_of_fit(options, message, refused, scene, tmp_path):
    assert message in refused("fit", "nerf", scene, "-o", tmp_path / "a.nf", *options.split())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--orbit 2 --mode dpeth", "did you mean depth?"),
        ("--orbit 2 --mode=dpeth", "did you mean depth?"),
        ("--orbit 2 --size 640", "WIDTHxHEIGHT"),
        ("--orbit 2 --size 0x3", "WIDTHxHEIGHT"),
        ("--orbit 2 --size ²x3", "WIDTHxHEIGHT"),
        ("--orbit 0", "1 to 100000 views"),
        ("--orbit 2 --fps 0", "--fps: needs"),
        ("--orbit 2 --data x", "exactly one of"),
        ("", "exactly one of"),
        ("--cameras none.json", "none.json"),
        ("--data {scene} --split tset", "did you mean test?"),
        ("--obrit 3", "did you mean --orbit?"),
    ],
)
def test_bad_options_of_render(options, message, refused, scene, fitted, tmp_path):
    words = options.format(scene=scene).split()
    assert message in refused("render", fitted, "-o", tmp_path / "v", *words)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "needs a readable TOML file"),
        ("steps = ", "needs a readable TOML file"),
        ("step = 3", "did you mean steps?"),
        ('steps = "3"', "steps needs int, got '3'"),
        ("steps = true", "steps needs int"),
        ("seed = 1.5", "seed needs int"),
        ("training = 5", "training needs dict"),
        ("steps = 1\nseconds = 1", "not both"),
        ("steps = 1\n[training]\nrate = 1", "got 'rate'"),
        ('steps = 1\npreset = "ngpp"', "ngp"),
        ("steps = 1\nbackground = [1, 2]", "background"),
    ],
)
def test_bad_config_files(text, message, refused, scene, tmp_path):
    config = tmp_path / "c.toml"
    if text is not None:
        config.write_text(text)
    said = refused("fit", "nerf", scene, "-o", tmp_path / "a.nf", "--config", config)
    assert message in said


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"encoding": {"otype": "HashGrid"', "needs to be JSON"),
        ("[1, 2]", "needs tiny-cuda-nn's JSON"),
        ('{"encoding": {"otype": "HashGrid", "level": 3}}', "needs one of otype"),
        ('{"encoding": {"otype": "Grid", "per_level_scale": 1e30}}', "below 2^24"),
        ('{"encoding": {"otype": "Grid", "log2_hashmap_size": 60}}', "from 3 to 28, got 60"),
    ],
)
def test_bad_configurations_of_tiny_cuda_nn(text, message, refused, tmp_path):
    config = tmp_path / "c.json"
    config.write_text(text)
    write_image(tmp_path / "a.png", picture(0))
    fit = ("fit", "image", tmp_path / "a.png", "-o", tmp_path / "a.nf", "--steps", 1)
    assert message in refused(*fit, "--field", config)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("fti nerf x", "command: needs one of"),
        ("rendr x", "did you mean render?"),
        ("fit", "needs one of nerf, surface, dynamic, sdf, image, video after it"),
        ("fit nrf", "did you mean nerf?"),
        ("scenes mke x", "did you mean make?"),
        ("eval", "Missing from nf eval"),
        ("fit nerf x -o", "Missing value"),
        ("scenes make locomotiv -o x", "locomotive"),
    ],
)
def test_bad_commands(arguments, message, refused):
    assert message in refused(*arguments.split())
