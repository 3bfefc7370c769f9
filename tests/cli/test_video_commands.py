"""`nf fit video`, `nf compress` and what other commands make of their files."""

import json

import numpy as np
import pytest
from made_videos import write_video
from PIL import Image

from neural_fields.cli.main import run
from neural_fields.codec.decoder import CodedVideo
from neural_fields.data.video import load_video


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    clip = write_video(folder / "clip.mkv", n=8, codec="ffv1", pix_fmt="bgr0", fps=12)
    config = folder / "run.toml"
    config.write_text("steps = 150\n[training]\nbatch_pixels = 8192\n")
    fitted = ["fit", "video", str(clip), "-o", str(folder / "a.nf"), "--config", str(config)]
    assert run([*fitted, "--json", str(folder / "fit.json")]) == 0
    assert run(["compress", str(clip), "-o", str(folder / "a.nfv"), "--steps", "40"]) == 0
    whole = ["--field", "ffnerv", "--steps", "6"]
    assert run(["fit", "video", str(clip), "-o", str(folder / "whole.nf"), *whole]) == 0
    assert run(["compress", str(clip), "-o", str(folder / "whole.nfv"), *whole]) == 0
    return folder


def test_fit_says_what_it_did(folder):
    summary = json.loads((folder / "fit.json").read_text())
    assert (summary["kind"], summary["architecture"], summary["steps"]) == ("video", "pyramid", 150)


@pytest.mark.parametrize("name", ["a.nf", "a.nfv", "whole.nf", "whole.nfv"])
def test_scores_have_the_documented_keys(folder, name, capsys):
    assert run(["eval", str(folder / name), "--data", str(folder / "clip.mkv"), "--json", "-"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert set(result) == {"psnr", "ms_ssim", "bpp", "n_views", "seconds", "protocol", "views"}
    assert result["n_views"] == 8
    assert result["bpp"] == (folder / name).stat().st_size * 8 / (8 * 96 * 64)


@pytest.mark.parametrize("name", ["a.nf", "a.nfv", "whole.nf", "whole.nfv"])
def test_info_of_both(folder, name, capsys):
    assert run(["info", str(folder / name), "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["bytes"] == (folder / name).stat().st_size


def test_frames_and_moments_are_rendered(folder, tmp_path):
    field = str(folder / "a.nf")
    assert run(["render", field, "-o", str(tmp_path / "all.mp4")]) == 0
    again = load_video(tmp_path / "all.mp4")
    assert (len(again), float(again.fps)) == (8, 12.0)
    assert run(["render", str(folder / "whole.nf"), "-o", str(tmp_path / "whole")]) == 0
    assert len([*(tmp_path / "whole").iterdir()]) == 8
    assert run(["render", field, "-o", str(tmp_path / "frames"), "--size", "48x32"]) == 0
    names = sorted(path.name for path in (tmp_path / "frames").iterdir())
    assert names == [f"{k}.png" for k in range(8)]
    with Image.open(tmp_path / "frames" / "0.png") as picture:
        assert picture.size == (48, 32)
    still = ["render", field, "-o", str(tmp_path / "a.png"), "--time", "0.5"]
    assert run([*still, "--crop", "10,5,40,20"]) == 0
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (40, 20)


def test_other_commands_say_what_they_need(folder, tmp_path, capsys):
    field, clip = str(folder / "a.nf"), str(folder / "clip.mkv")
    for arguments, word in (
        (["render", field, "-o", str(tmp_path / "a.mp4"), "--orbit", "3"], "--orbit"),
        (["render", field, "-o", str(tmp_path / "a.mp4"), "--mode", "depth"], "--mode"),
        (["render", field, "-o", str(tmp_path / "a.png"), "--time", "2"], "time"),
        (["render", field, "-o", str(tmp_path / "a.mp4"), "--fps", "0"], "--fps"),
        (["convert", field, "--to", "hash", "-o", str(tmp_path / "b.nf")], "moves"),
        (["export", field, "-o", str(tmp_path / "a.ply")], "video"),
        (["report", field, "--data", clip, "-o", str(tmp_path / "a.html")], "video"),
        (["eval", field, "--data", str(folder)], "video"),
        (["eval", str(folder / "a.nfv"), "--data", str(folder / "run.toml")], "video"),
        (["fit", "image", clip, "-o", str(tmp_path / "b.nf")], "clip.mkv"),
        (["fit", "video", clip, "-o", str(tmp_path / "b.nf"), "--modulate", "xy"], "needs time"),
        (["compress", clip, "-o", str(tmp_path / "b.nfv"), "--bpp", "0"], "--bpp"),
        (["compress", clip, "-o", str(tmp_path / "b.nfv"), "--seconds", "0.001"], "--seconds"),
        (["decompress", field, "-o", str(tmp_path / "b.mkv")], "needs a .nfv file"),
        (["info", str(tmp_path / "missing.nfv")], "there is none"),
    ):
        assert run(arguments) == 2, arguments
        said = capsys.readouterr().err
        assert word in said, (arguments, said)
        assert said.count("\n") <= 2
    assert list(tmp_path.iterdir()) == []


def test_decompress_writes_what_a_decoder_shows(folder, tmp_path):
    out = tmp_path / "part.mkv"
    part = ["--first", "2", "--last", "5"]
    assert run(["decompress", str(folder / "a.nfv"), "-o", str(out), *part]) == 0
    frames = load_video(out).frames.numpy()
    with CodedVideo(folder / "a.nfv") as video:
        assert np.array_equal(frames, np.stack([video.frame(k).numpy() for k in range(2, 6)]))
