"""`nf fresh` and `nf fit --fresh` on every kind of signal."""

import json

import imageio.v2 as imageio
import numpy as np
import pytest
import trimesh
from PIL import Image


def drawing(side=140, shift=0.0):
    y, x = np.mgrid[:side, :side] / side
    rings = 0.5 + 0.5 * np.sin(90 * (x - 0.3 - shift) ** 2 + 70 * (y - 0.4) ** 2)
    board = ((x * 20).astype(int) + (y * 20).astype(int)) % 2
    return (np.stack([rings, board, x * y], -1) * 255).astype(np.uint8)


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    path = tmp_path_factory.mktemp("fresh") / "drawing.png"
    Image.fromarray(drawing()).save(path)
    return path


def test_it_prints_a_table_and_writes_plot_and_json(nf, picture, tmp_path):
    plot = tmp_path / "curve.png"
    outcome = nf("fresh", picture, "--field", "siren", "-o", plot, "--json", "-")
    assert outcome.code == 0, outcome.err
    result = json.loads(outcome.out)
    assert list(result) == [
        *("architecture", "parameter", "value", "default", "reason", "at_edge", "n_bins", "side"),
        *("search", "both_quadrants", "seconds", "candidates", "output"),
    ]
    assert result["parameter"] == "first_omega"
    assert result["n_bins"] == 64
    by_value = {entry["value"]: entry for entry in result["candidates"]}
    assert by_value[result["value"]]["distance"] == min(e["distance"] for e in by_value.values())
    assert by_value[30.0]["seeds"] == 10
    assert "default" in outcome.err
    assert f"nf fit image {picture} --field siren --fresh" in outcome.err
    with Image.open(plot) as image:
        assert image.width > 800
        assert np.asarray(image.convert("RGB")).std() > 10


def test_options(nf, picture, tmp_path):
    arguments = ("fresh", picture, "--field", "finer", "--parameter", "first_omega", "--bins", "16")
    more = ("--seeds", "2", "--candidates", "20", "40", "60", "--search", "all")
    plot = tmp_path / "a.svg"
    outcome = nf(*arguments, *more, "--both-quadrants", "-o", plot, "--json", "-")
    assert outcome.code == 0, outcome.err
    result = json.loads(outcome.out)
    assert {20.0, 30.0, 40.0, 60.0} <= {entry["value"] for entry in result["candidates"]}
    assert result["both_quadrants"] is True
    assert result["n_bins"] == 16
    assert result["side"] == 140  # all samples
    assert "</svg>" in plot.read_text()


def test_the_other_kinds_of_signals(nf, scene, tmp_path):
    ball = tmp_path / "ball.ply"
    trimesh.creation.icosphere(subdivisions=2).export(ball)
    clip = tmp_path / "clip.mp4"
    with imageio.get_writer(clip, format="FFMPEG", fps=10, macro_block_size=2) as writer:
        for k in range(4):
            writer.append_data(drawing(96, k / 50))
    for signal, command in ((scene, "nf fit nerf"), (ball, "nf fit sdf"), (clip, "nf fit video")):
        plot = tmp_path / f"{signal.stem}.png"
        few = ("--seeds", "2", "--candidates", "10", "30", "--bins", "8")
        outcome = nf("fresh", signal, "--field", "siren", "-o", plot, *few)
        assert outcome.code == 0, outcome.err
        assert "first_omega" in outcome.out
        assert plot.stat().st_size > 10_000
        assert command in outcome.out


def test_fitting_says_what_was_chosen(nf, picture, tmp_path):
    out = tmp_path / "a.nf"
    outcome = nf("fit", "image", picture, "-o", out, "--field", "fourier", "--fresh", "--steps", 2)
    assert outcome.code == 0, outcome.err
    assert "choosing frequencies" in outcome.out
    assert "sigma" in outcome.out
    assert "bins from the signal" in outcome.out
    assert "'parameter': 'sigma'" in nf("info", out).out
    config = tmp_path / "a.toml"
    config.write_text('fresh = true\nfield = "hash"\n')
    outcome = nf("fit", "image", picture, "-o", out, "--config", config, "--steps", 2)
    assert "finest_resolution" in outcome.out
    config.write_text('fresh = 1\nfield = "hash"\n')
    refused = nf("fit", "image", picture, "-o", out, "--config", config, "--steps", 2)
    assert refused.code == 2
    assert "fresh needs bool, got 1" in refused.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--field", "voxels"), "voxels has no parameter that sets its frequencies"),
        (("--parameter", "omega_0"), "--parameter: needs one of first_omega, beta"),
        (("-o", "curve.txt"), "needs a name that ends in .png"),
        (("--candidates", "3"), "needs two or more ascending numbers"),
        (("--candidates", "3", "nan"), "needs two or more ascending numbers"),
        (("--seeds", "0"), "--seeds: needs a positive number"),
        (("--bins", "-3"), "--bins: needs a positive number"),
        (("--downscale", "0"), "--downscale: needs a positive whole number"),
    ],
)
def test_refusals(arguments, message, nf, picture):
    outcome = nf("fresh", picture, *arguments)
    assert outcome.code == 2, outcome.err
    assert message in outcome.err
    assert len(outcome.err.strip().splitlines()) == 1


def test_signals_that_are_none(nf, tmp_path):
    flat, text = tmp_path / "flat.png", tmp_path / "text.mp4"
    Image.new("RGB", (64, 64), (7, 7, 7)).save(flat)
    text.write_text("not a video")
    for path, message in (
        (flat, "not constant"),
        (text, "needs a video that FFmpeg can read"),
        (tmp_path / "none.mp4", "needs a video file, but there is none"),
        (tmp_path / "none.png", "needs a picture file"),
    ):
        outcome = nf("fresh", path, "-o", tmp_path / "plot.png")
        assert outcome.code == 2, outcome.err
        assert message in outcome.err
        assert not (tmp_path / "plot.png").exists()
