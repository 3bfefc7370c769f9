"""What commands print and write when all is well."""

import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from neural_fields.cli.commands import COMMANDS
from neural_fields.fields import read_field_file
from neural_fields.rendering.cameras import Cameras

OPTIONS = {
    "fit nerf": "--output --field --preset --modulate --precision --bits --background --seconds"
    " --steps --device --seed --resume --config --downscale --save-every --json",
    "eval": "--data --split --json",
    "render": "--output --orbit --cameras --data --split --mode --size --fps --json",
    "report": "--data --output --split --views --orbit --json",
    "view": "--port --host --data --origin",
    "info": "--json",
    "scenes list": "--json",
    "scenes make": "--output --n-train --n-test --size --seed --overwrite --json",
    "doctor": "--json",
    "bench": "--quick --json",
}


@pytest.mark.parametrize("name", COMMANDS)
def test_help_teaches(name, nf):
    outcome = nf(*name.split(), "--help")
    assert outcome.code == 0
    assert outcome.err == ""
    assert COMMANDS[name].__doc__.strip().splitlines()[0] in " ".join(outcome.out.split())
    for option in OPTIONS.get(name, "--json").split():
        assert option in outcome.out
    assert f"nf {name}" in outcome.out


def test_overview(nf):
    for arguments in ((), ("--help",), ("-h",), ("fit", "--help")):
        outcome = nf(*arguments)
        assert outcome.code == 0
        for name in COMMANDS:
            assert f"nf {name}" in outcome.out


FIT_KEYS = {
    "field", "kind", "architecture", "params", "steps", "seconds", "train_samples", "psnr_train",
    "device", "output",
}  # fmt: skip


def test_fit(nf, scene, tmp_path):
    path = tmp_path / "a.nf"
    outcome = nf("fit", "nerf", scene, "-o", path, "--steps", 20, "--json", "-")
    assert outcome.code == 0
    summary = json.loads(outcome.out)
    assert set(summary) == FIT_KEYS
    assert summary["output"] == summary["field"] == str(path)
    assert (summary["steps"], summary["kind"], summary["architecture"]) == (20, "radiance", "hash")
    assert f"wrote {path}" in outcome.err
    assert f"nf eval {path} --data {scene}" in outcome.err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.ckpt.nf", "a.nf"]
    target = tmp_path / "summary.json"
    outcome = nf("fit", "nerf", scene, "--output", path, "--seconds", 0.2, f"--json={target}")
    assert set(json.loads(target.read_text())) == FIT_KEYS
    assert f"wrote {path}" in outcome.out
    assert read_field_file(path).metrics["seconds"] >= 0.2


def test_info_and_doctor(nf, fitted):
    summary = json.loads(nf("info", fitted, "--json", "-").out)
    assert summary["bytes"] == fitted.stat().st_size
    assert summary["metrics"]["steps"] == 60
    assert summary["tensors"]["thumbnail"] == {"dtype": "uint8", "shape": [32, 32, 3]}
    assert "field.trunk.encoding.table" in nf("info", fitted).out
    assert nf("info", fitted.with_name("a.ckpt.nf")).code == 0
    machine = json.loads(nf("doctor", "--json", "-").out)
    assert {"best_path", "path_in_use", "threads", "cuda"} <= set(machine)
    listed = json.loads(nf("scenes", "list", "--json", "-").out)
    assert "locomotive" in [entry["name"] for entry in listed["scenes"]]


def test_scenes_make(nf, tmp_path):
    outcome = nf(
        "scenes", "make", "shine", "-o", tmp_path / "s", "--n_train", 2, "--n-test", 1,
        "--size", 16, "--json", "-",
    )  # fmt: skip
    assert json.loads(outcome.out)["train"] == 2
    assert (tmp_path / "s/transforms_train.json").is_file()


def read(path):
    with Image.open(path) as image:
        assert image.mode == "RGB"
        return np.asarray(image).astype(np.float64) / 255


def test_eval_equals_the_rendered_pictures(nf, scene, fitted, tmp_path):
    scores = json.loads(nf("eval", fitted, "--data", scene, "--json", "-").out)
    assert set(scores) == {"psnr", "ssim", "n_views", "seconds", "protocol", "views"}
    assert scores["protocol"]["background"] == "white"
    assert scores["protocol"]["eval_split"] == "test"
    outcome = nf("render", fitted, "--data", scene, "--split", "test", "-o", tmp_path / "views")
    assert outcome.code == 0
    names = [view["name"] for view in scores["views"]]
    assert names == ["r_0", "r_1"]
    assert sorted(p.name for p in (tmp_path / "views").iterdir()) == ["r_0.png", "r_1.png"]
    for view in scores["views"]:
        with Image.open(scene / f"test/{view['name']}.png") as image:
            rgba = np.asarray(image).astype(np.float64) / 255
        truth = rgba[..., :3] * rgba[..., 3:] + 1 - rgba[..., 3:]
        error = np.square(read(tmp_path / f"views/{view['name']}.png") - truth).mean()
        assert -10 * math.log10(error) == pytest.approx(view["psnr"], abs=0.02)
    assert scores["psnr"] == pytest.approx(sum(v["psnr"] for v in scores["views"]) / 2)
    assert "mean of 2" in nf("eval", fitted, "--data", scene).out


@pytest.mark.parametrize("mode", ["rgb", "depth", "normal", "opacity"])
def test_orbits_in_all_modes(mode, nf, fitted, tmp_path):
    summary = json.loads(
        nf(
            "render", fitted, "--orbit", 2, "-o", tmp_path / "o", "--size", "20x12", "--mode", mode,
            "--json", "-",
        ).out
    )  # fmt: skip
    assert summary == {"output": str(tmp_path / "o"), "views": 2, "mode": mode}
    assert sorted(p.name for p in (tmp_path / "o").iterdir()) == ["00000.png", "00001.png"]
    picture = read(tmp_path / "o/00000.png")
    assert picture.shape == (12, 20, 3)
    assert picture.std() > 0.01


def test_camera_files(nf, fitted, tmp_path):
    cameras = Cameras.orbit((0, 0, 0), 4, 10, 3, width=24, height=16)
    (tmp_path / "c.json").write_text(json.dumps(cameras.to_json(fps=5)))
    assert nf("render", fitted, "--cameras", tmp_path / "c.json", "-o", tmp_path / "v").code == 0
    assert read(tmp_path / "v/00002.png").shape == (16, 24, 3)


@pytest.mark.parametrize("size", ["32x24", "31x23"])
def test_videos(size, nf, fitted, tmp_path):
    import imageio_ffmpeg

    path = tmp_path / "turn.mp4"
    outcome = nf("render", fitted, "--orbit", 3, "-o", path, "--size", size, "--fps", 10)
    assert outcome.code == 0
    assert [p.name for p in tmp_path.iterdir()] == ["turn.mp4"]
    assert "WARNING" not in outcome.err
    decode = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", str(path)]
    decode += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    decoded = subprocess.run(decode, capture_output=True, check=True)
    assert len(decoded.stdout) == 3 * 24 * 32 * 3
    assert b"10 fps" in decoded.stderr


def test_precedence(nf, scene, tmp_path):
    path, config = tmp_path / "a.nf", tmp_path / "c.toml"
    config.write_text(
        'background = "black"\nsteps = 4\nseed = 3\n[training]\nlearning_rate = 0.5\n'
    )
    flags = ["--background", "random", "--steps", 2]
    assert nf("fit", "nerf", scene, "-o", path, "--config", config, *flags).code == 0
    content = read_field_file(path)
    assert content.metrics["steps"] == 2
    assert content.protocol["background"] == "random"
    assert content.provenance["seed"] == 3
    assert content.provenance["training"]["learning_rate"] == 0.5  # the file's, not the preset's
    assert content.provenance["training"]["batch_samples"] == 4096  # the preset's
    assert nf("fit", "nerf", scene, "-o", path, "--config", config).code == 0
    content = read_field_file(path)
    assert (content.metrics["steps"], content.protocol["background"]) == (4, "black")


TCNN = """{ // what is not used is said
  "loss": {"otype": "L2"},
  "optimizer": {"otype": "Ema", "decay": 0.9, "nested": {"otype": "Adam", "learning_rate": 3e-3}},
  "encoding": {"otype": "HashGrid", "n_levels": 4, "log2_hashmap_size": 8},
  "network": {"otype": "FullyFusedMLP", "n_neurons": 16, "n_hidden_layers": 1}
}"""
UNUSED = "not used: loss, optimizer but for learning_rate."


@pytest.mark.parametrize("kind", ["nerf", "image"])
def test_fit_a_configuration_of_tiny_cuda_nn(kind, nf, scene, tmp_path):
    file, path, toml = (tmp_path / name for name in ("tcnn.json", "a.nf", "c.toml"))
    file.write_text(TCNN)
    toml.write_text(f'field = "{file}"\nsteps = 2\n')
    data = scene if kind == "nerf" else next((scene / "train").glob("*.png"))
    for options in (("--field", file, "--steps", 2), ("--config", toml)):
        outcome = nf("fit", kind, data, "-o", path, "--json", "-", *options)
        assert outcome.code == 0, outcome
        assert outcome.err.count(f"--field {file}: {UNUSED}\n") == 1
        assert "Warning" not in outcome.err
        assert json.loads(outcome.out)["architecture"] == "hash"
        content = read_field_file(path)
        assert content.provenance["training"]["learning_rate"] == 3e-3
        if kind == "image":  # radiance fields of these tests have sizes of their own
            assert content.config["architecture"]["per_level_scale"] == 2.0


def test_failing_training_is_our_fault(nf, scene, tmp_path, monkeypatch):
    from neural_fields.errors import TrainingError
    from neural_fields.training.nerf import NerfTrainer

    def fail(*_):
        raise TrainingError("step 3: trunk.encoding.table is not finite.")

    monkeypatch.setattr(NerfTrainer, "step", fail)
    outcome = nf("fit", "nerf", scene, "-o", tmp_path / "a.nf", "--steps", 3)
    assert outcome.code == 1
    assert outcome.err == "nf: step 3: trunk.encoding.table is not finite.\n"
    assert list(tmp_path.iterdir()) == []


def test_numbers_without_json(tmp_path):
    from neural_fields.cli.output import emit_json

    emit_json(str(tmp_path / "a.json"), {"views": [{"psnr": math.inf}], "psnr": 1.5})
    assert json.loads((tmp_path / "a.json").read_text()) == {"views": [{"psnr": None}], "psnr": 1.5}


def nf_process(*arguments, **environment):
    code = "from neural_fields.cli.main import main; main()"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    variables = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, env=variables)


def test_processes_exit_with_the_code(tmp_path):
    done = nf_process("doctor", "--json", "-")
    assert done.returncode == 0
    assert done.stderr.count("\n") > 5
    assert json.loads(done.stdout)["python"]
    wrong = nf_process("info", tmp_path / "none.nf")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr == f"nf: {tmp_path}/none.nf: needs a .nf file, but there is none.\n"


def test_unknown_instruction_sets_and_threads():
    wrong = nf_process("doctor", NF_ISA="bogus")
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("nf: NF_ISA: needs one of portable")
    assert wrong.stderr.count("\n") == 1
    wrong = nf_process("doctor", NF_NUM_THREADS="many")
    assert wrong.stderr == "nf: NF_NUM_THREADS: needs a positive whole number, got 'many'.\n"


def test_choices_of_a_fit_reach_its_file(nf, scene, tmp_path):
    out = tmp_path / "a.nf"
    outcome = nf(
        *("fit", "nerf", str(scene), "-o", str(out), "--steps", "2"),
        *("--modulate", "direction-trunk", "--bits", "8"),
    )
    assert outcome.code == 0, outcome.err
    config = read_field_file(out).config
    assert config["modulate"]["coordinates"] == "direction-trunk"
    assert config["weight_bits"] == 8
    refused = nf("fit", "nerf", str(scene), "-o", str(out), "--bits", "4")
    assert refused.code == 2
    assert "--bits: needs 8 or 32, got 4" in refused.err
