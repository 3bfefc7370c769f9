"""`nf convert`."""

import json

import numpy as np
import pytest


def test_a_conversion_from_start_to_end(nf, scene, fitted, tmp_path):
    out = tmp_path / "v.nf"
    command = ("convert", fitted, "--to", "voxels", "-o", out, "--steps", 20, "--data", scene)
    outcome = nf(*command, "--json", "-")
    assert outcome.code == 0, outcome.err
    report = json.loads(outcome.out)
    keys = "teacher student architecture psnr_teacher psnr_student psnr_student_vs_teacher"
    assert set(f"{keys} seconds params bytes".split()) <= set(report)
    assert report["architecture"] == "voxels"
    assert report["student"] == str(out)
    assert report["bytes"] == out.stat().st_size
    assert report["psnr_student_vs_teacher"] > 20
    scored = json.loads(nf("eval", out, "--data", scene, "--json", "-").out)
    assert scored["psnr"] == pytest.approx(report["psnr_student"])
    from PIL import Image

    picture = np.asarray(Image.open(out.with_suffix(".comparison.png")))
    assert picture.shape == (32, 96, 3)
    shown = nf("info", out).out
    assert "conversion" in shown
    assert "hash of" in outcome.err
    assert "PSNR, student against teacher" in outcome.err


def test_converting_back_with_the_active_method(nf, fitted, tmp_path):
    vm = tmp_path / "vm.nf"
    assert nf("convert", fitted, "--to", "vm", "-o", vm, "--steps", 5).code == 0
    outcome = nf(
        *("convert", vm, "--to", "hash", "-o", tmp_path / "h.nf", "--steps", 5),
        *("--method", "pvd-al", "--fresh-head", "--start", "paper"),
    )
    assert outcome.code == 0, outcome.err
    assert "with the teacher's" not in outcome.out


def test_wrong_conversions(refused, fitted, tmp_path):
    assert "would overwrite the teacher" in refused("convert", fitted, "--to", "vm", "-o", fitted)
    out = tmp_path / "a.nf"
    assert "vxels" in refused("convert", fitted, "--to", "vxels", "-o", out)
    assert "--method" in refused("convert", fitted, "--to", "vm", "-o", out, "--method", "x")
    missing = tmp_path / "none.nf"
    assert "none.nf" in refused("convert", missing, "--to", "vm", "-o", out)
    assert "--bits" in refused("convert", fitted, "--to", "vm", "-o", out, "--bits", 7)
    assert "--preset" in refused("convert", fitted, "--to", "vm", "-o", out, "--preset", "x")
