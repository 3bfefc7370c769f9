"""`nf report`: one file, the scores of `nf eval`, and honest charts."""

import base64
import io
import json
import math
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import neural_fields as nf
from neural_fields import scenes
from neural_fields.architectures.hash import Hash
from neural_fields.cli.main import run
from neural_fields.cli.report import write_report
from neural_fields.fields import FieldFile, RadianceConfig, RadianceField, read_field_file
from neural_fields.viewer import report_figures as figures
from neural_fields.viewer import report_page

N_TEST, SIZE = 5, 24


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A data set, a field fitted to it for a few steps, and its report with a turntable."""
    folder = tmp_path_factory.mktemp("report")
    data = scenes.make("shine", folder / "data", n_train=8, n_test=N_TEST, size=SIZE)
    field = folder / "a<b.nf"
    nf.fit.nerf(data, field, steps=6, options={"batch_samples": 4096})
    page = folder / "report.html"
    code = run(["report", str(field), "--data", str(data), "-o", str(page), "--orbit", "3"])
    assert code == 0
    return data, field, page


@pytest.fixture(scope="module")
def text(fitted):
    return fitted[2].read_text(encoding="utf-8")


def scores_in(text):
    return json.loads(re.search(r'id="scores">(.*?)</script>', text, re.S)[1])


def test_scores_are_those_of_eval(fitted, text):
    data, field, _ = fitted
    expected, found = nf.evaluate(field, data), scores_in(text)
    for scores in (expected, found):
        scores.pop("seconds")
    assert found == expected
    assert f"{expected['psnr']:.2f} <small>dB" in text
    for view in expected["views"]:
        row = f"<td>{view['psnr']:.2f}</td><td>{view['ssim']:.4f}</td>"
        assert row in text


def test_nothing_is_fetched(text):
    addresses = re.findall(r'(?:src|href|action)="([^"]*)"', text)
    assert len(addresses) == 4 * 5 + 1
    assert all(address.startswith("data:") for address in addresses)
    outside = re.sub(r'"data:[^"]*"', "", text)
    assert not re.search(r"https?:|@import|url\(|<link|<script src", outside)


def test_names_are_escaped(text):
    assert "a&lt;b" in text
    assert "a<b" not in text


def test_pictures_are_the_views(fitted, text):
    data, _, _ = fitted
    truths = re.findall(r'alt="(r_\d): truth" src="data:image/png;base64,([^"]*)"', text)
    assert [name for name, _ in truths] == ["r_0", "r_1", "r_2", "r_3"]
    for name, content in truths:
        shown = Image.open(io.BytesIO(base64.b64decode(content)))
        stored = Image.open(data / "test" / f"{name}.png")
        white = Image.new("RGBA", stored.size, "white")
        expected = Image.alpha_composite(white, stored).convert("RGB")
        difference = np.asarray(shown, dtype=int) - np.asarray(expected, dtype=int)
        assert np.abs(difference).max() <= 1


def test_the_video_is_an_mp4(text):
    content = base64.b64decode(re.search(r'src="data:video/mp4;base64,([^"]*)"', text)[1])
    assert content[4:8] == b"ftyp"


def test_the_file_keeps_the_training_curve(fitted, text):
    metrics = read_field_file(fitted[1]).metrics
    seconds, psnr = zip(*metrics["history"], strict=True)
    assert len(seconds) == 6
    assert list(seconds) == sorted(seconds)
    assert psnr[-1] == pytest.approx(metrics["psnr_train"], abs=1e-3)
    svg = ElementTree.fromstring(re.search(r"<svg.*?</svg>", text, re.S)[0])
    line = next(part for part in svg.iter() if part.get("class") == "curve")
    assert len(line.get("points").split()) == 6


def test_a_field_without_metrics_has_a_report(fitted, tmp_path):
    data, field, _ = fitted
    content = read_field_file(field)
    bare = tmp_path / "bare.nf"
    nf.save(nf.load(field), bare, scene=content.scene, protocol=content.protocol)
    write_report(bare, data, tmp_path / "bare.html", views=1, orbit=0, command="here")
    text = (tmp_path / "bare.html").read_text(encoding="utf-8")
    assert "no training curve" in text
    assert "no turntable: not asked for" in text
    assert "<svg" not in text


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["-o", "report.pdf"], "needs a name that ends in .html"),
        (["-o", "nowhere/report.html"], "does not exist"),
        (["-o", "r.html", "--views", "0"], "--views: needs at least 1"),
        (["-o", "r.html", "--orbit", "-1"], "--orbit: needs 0 or more"),
    ],
)
def test_faults_of_the_input(fitted, words, sentence, tmp_path, monkeypatch, capsys):
    data, field, _ = fitted
    monkeypatch.chdir(tmp_path)
    assert run(["report", str(field), "--data", str(data), *words]) == 2
    assert sentence in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_equal_view_is_shown_as_infinite():
    view = {"name": "same", "psnr": math.inf, "ssim": 1.0}
    other = {"name": "near", "psnr": 40.0, "ssim": 0.9}
    field = RadianceField(RadianceConfig(architecture=Hash(log2_table_size=4)))
    report = report_page.Report(
        title="t",
        command="c",
        again="a",
        content=FieldFile("radiance", field.config.to_dict(), {}),
        n_params=1,
        n_bytes=1,
        scores={
            "psnr": math.inf,
            "ssim": 1.0,
            "n_views": 2,
            "protocol": {"eval_split": "test"},
            "views": [view, other],
        },
        rows=[],
        error_scale=0.1,
        video=None,
        no_video="none",
        machine={},
    )
    assert "&infin;" in report_page.html(report)
    assert "width:100.0%" in report_page.html(replace(report, command="d"))


def test_error_and_depth_pictures():
    white, grey = torch.ones(2, 2, 3), torch.full((2, 2, 3), 0.8)
    ramp = torch.tensor(figures.ERROR_RAMP) / 255
    assert torch.equal(figures.error_picture(white, white, 0.2), ramp[0].expand(2, 2, 3))
    assert torch.allclose(figures.error_picture(grey, white, 0.2), ramp[-1].expand(2, 2, 3))
    picture, limits = figures.depth_picture(torch.tensor([[0.0, 2.0], [3.0, 4.0]]))
    assert limits == (2.0, 4.0)
    assert torch.equal(picture[0, 0], torch.ones(3))
    assert torch.allclose(picture[0, 1], torch.tensor(figures.DEPTH_RAMP[-1]) / 255)
    assert figures.depth_picture(torch.zeros(2, 2))[1] is None


def test_large_pictures_are_averaged_down():
    content = base64.b64decode(figures.png_uri(torch.rand(30, 1100, 3)).partition(",")[2])
    assert Image.open(io.BytesIO(content)).size == (367, 10)


@pytest.mark.parametrize(("low", "high"), [(0.0, 60.0), (11.3, 30.2), (5.0, 5.0), (1e-4, 3e-4)])
def test_ticks_cover_the_range(low, high):
    marks = figures.ticks(low, high, 5)
    assert marks[0] <= low
    assert marks[-1] >= high - 1e-9
    assert 2 <= len(marks) <= 10
