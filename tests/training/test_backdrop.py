"""Photographs without alpha before a plain colour."""

import pytest
import torch
from PIL import Image
from small_nf import small_setup

import neural_fields as nf
import neural_fields.fit
from neural_fields import scenes
from neural_fields.data.dataset import load_dataset
from neural_fields.rendering.volume import render_view

GREEN = (0, 204, 51)


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    folder = scenes.make("chess", tmp_path_factory.mktemp("s") / "a", n_train=20, n_test=2, size=32)
    for path in folder.rglob("*.png"):
        picture = Image.open(path)
        behind = Image.new("RGBA", picture.size, (*GREEN, 255))
        Image.alpha_composite(behind, picture).convert("RGB").save(path)
    return folder


@pytest.mark.parametrize("background", ["0,0.8,0.2", "auto"])
def test_a_named_backdrop_is_not_built(studio, tmp_path, background, monkeypatch):
    monkeypatch.setattr(neural_fields.fit.photographs, "radiance_setup", small_setup)
    run = nf.fit.nerf(studio, tmp_path / "a.nf", steps=200, background=background)
    named = background != "auto"
    scores = nf.evaluate(run.output, studio)
    assert scores["protocol"].get("backdrop", False) == named
    test = load_dataset(studio, "test", 1, background)
    opacity = render_view(run.field, test.cameras, 0).opacity
    behind = (test.images[0] == torch.tensor(GREEN)).all(2)
    inner = ~behind
    assert int(behind.sum()) > 200
    assert float(opacity[inner].mean()) > 0.8
    assert (float(opacity[behind].mean()) < 0.1) == named
    if named:
        assert scores["psnr"] > 20
