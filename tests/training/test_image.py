"""Image fields that learn something small and real: a synthetic picture with fine detail."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

import neural_fields as nf
from neural_fields import InputError, _core
from neural_fields.data.picture import load_picture
from neural_fields.fields import ImageConfig, ImageField, Samples, read_field_file
from neural_fields.fields.load import load
from neural_fields.rendering.image import render_image


def drawing(width=96, height=64, channels=3):
    """Rings, a gradient and a checkerboard, uint8."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    rings = 0.5 + 0.5 * np.sin((x - 30) ** 2 / 60 + (y - 30) ** 2 / 60)
    board = ((x // 4 + y // 4) % 2) * 0.8
    alpha = (x > width / 4) * 0.75 + 0.25
    planes = [rings, board, x / width, alpha]
    picked = {1: [0], 2: [0, 3], 3: [0, 1, 2], 4: [0, 1, 2, 3]}[channels]
    return (np.stack([planes[i] for i in picked], -1) * 255).round().astype(np.uint8)


@pytest.fixture(scope="module", params=[1, 2, 3, 4])
def picture(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("picture") / "drawing.png"
    Image.fromarray(drawing(channels=request.param).squeeze()).save(path)
    return path


@pytest.fixture(scope="module")
def rgb(tmp_path_factory):
    path = tmp_path_factory.mktemp("rgb") / "drawing.png"
    Image.fromarray(drawing()).save(path)
    return path


SMALL = {"batch_pixels": 4096}


def test_it_learns_every_kind_of_channels(picture, tmp_path):
    run = nf.fit.image(picture, tmp_path / "a.nf", steps=300, options=SMALL)
    scores = nf.evaluate(tmp_path / "a.nf", picture)
    assert scores["psnr"] > 38
    assert scores["ssim"] > 0.97
    assert scores["n_views"] == 1
    assert scores["views"][0]["name"] == "drawing.png"
    assert run.summary["kind"] == "image"
    assert run.summary["train_samples"] == 300 * 4096
    assert read_field_file(tmp_path / "a.nf").tensors["thumbnail"].shape == (64, 96, 3)


def test_a_linear_picture_above_one_is_learnt(tmp_path):
    import OpenImageIO

    values = (drawing() / 255.0 * 6).astype(np.float32)
    stream = OpenImageIO.ImageOutput.create(str(tmp_path / "a.exr"))
    assert stream.open(str(tmp_path / "a.exr"), OpenImageIO.ImageSpec(96, 64, 3, "float"))
    assert stream.write_image(values)
    assert stream.close()
    run = nf.fit.image(tmp_path / "a.exr", steps=300, options=SMALL)
    shown = render_image(run.field)
    assert float((shown - torch.from_numpy(values)).abs().mean()) < 0.1
    assert float(shown.max()) > 5


def test_steps_repeat_and_resume_bit_for_bit(rgb, tmp_path):
    import os
    import signal

    def stop(progress):
        if progress.moment.step == 17:
            os.kill(os.getpid(), signal.SIGINT)

    fields = []
    for name, threads in (("a", 1), ("b", 2)):
        _core.set_num_threads(threads)
        nf.fit.image(rgb, tmp_path / f"{name}.nf", steps=40, options=SMALL)
        fields.append(load(tmp_path / f"{name}.nf"))
    stopped = nf.fit.image(rgb, tmp_path / "c.nf", steps=40, options=SMALL, on_progress=stop)
    assert stopped.interrupted
    nf.fit.image(rgb, tmp_path / "c.nf", steps=40, options=SMALL, resume=True)
    fields.append(load(tmp_path / "c.nf"))
    for other in fields[1:]:
        for name, value in fields[0].state_dict().items():
            assert torch.equal(value, other.state_dict()[name])


# ---- positions and rendering ---------------------------------------------------------------------


def ramp_field(width=40, height=20):
    """A field whose value is its position in the cube, whatever the architecture."""
    field = ImageField(ImageConfig(width, height, channels=2))

    class Ramp(torch.nn.Module):
        def forward(self, positions):
            return positions - 0.5

    field.trunk = Ramp()
    return field


def test_positions_are_pixels_with_centres_at_half():
    field = ramp_field()
    positions = torch.tensor([[0.0, 0.0], [40.0, 20.0], [20.0, 10.0], [-5.0, 30.0]])
    expected = torch.tensor([[0.0, 0.25], [1.0, 0.75], [0.5, 0.5], [0.0, 0.75]])
    torch.testing.assert_close(field.value(Samples(positions)), expected)


@pytest.mark.parametrize(("width", "height"), [(40, 20), (80, 40), (20, 10), (13, 7), (1, 1)])
def test_any_size_covers_the_same_picture(width, height):
    shown = render_image(ramp_field(), width, height)
    assert shown.shape == (height, width, 2)
    x = (torch.arange(width) + 0.5) / width
    y = 0.25 + 0.5 * (torch.arange(height) + 0.5) / height
    torch.testing.assert_close(shown[0, :, 0], x, atol=1e-5, rtol=0)
    torch.testing.assert_close(shown[:, 0, 1], y, atol=1e-5, rtol=0)


def test_a_crop_is_that_part():
    whole = render_image(ramp_field())
    part = render_image(ramp_field(), crop=(10, 5, 12, 6))
    torch.testing.assert_close(part, whole[5:11, 10:22])


def test_small_sizes_average():
    field = ramp_field()

    class Board(torch.nn.Module):
        def forward(self, positions):
            cells = (positions * 40).floor().sum(1, keepdim=True) % 2
            return torch.cat([cells, cells], 1) - 0.5

    field.trunk = Board()
    torch.testing.assert_close(render_image(field, 10, 5), torch.full((5, 10, 2), 0.5))


# ---- the command line ----------------------------------------------------------------------------


def run(*arguments):
    from neural_fields.cli.main import run as nf_run

    return nf_run([str(argument) for argument in arguments])


def test_the_commands_from_picture_to_picture(rgb, tmp_path, capsys):
    import json

    field, scores = tmp_path / "a.nf", tmp_path / "scores.json"
    assert run("fit", "image", rgb, "-o", field, "--steps", 150, "--json", tmp_path / "f.json") == 0
    assert json.loads((tmp_path / "f.json").read_text())["architecture"] == "hash"
    assert run("eval", field, "--data", rgb, "--json", scores) == 0
    assert json.loads(scores.read_text())["psnr"] > 30
    assert run("render", field, "-o", tmp_path / "b.png") == 0
    shown, truth = load_picture(tmp_path / "b.png"), load_picture(rgb)
    error = (shown.pixels.double() - truth.pixels.double()).square().mean().item()
    assert 20 * math.log10(255) - 10 * math.log10(error) > 29
    assert (
        run("render", field, "-o", tmp_path / "c.jpg", "--size", "48x64", "--crop", "0,0,48,64")
        == 0
    )
    assert load_picture(tmp_path / "c.jpg").pixels.shape == (64, 48, 3)
    assert "nf render" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("-o x.gif", "needs a name ending in"),
        ("-o x.png --orbit 3", "--orbit: does not apply"),
        ("-o x.png --mode depth", "--mode: does not apply"),
        ("-o x.png --crop 1,2,3", "--crop: needs LEFT"),
        ("-o x.png --crop 0,0,0,5", "--crop: needs LEFT"),
        ("-o nowhere/x.png", "folder does not exist"),
    ],
)
def test_renderings_that_cannot_be(arguments, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    nf.save(ImageField(ImageConfig(16, 12)), "a.nf")
    assert run("render", "a.nf", *arguments.split()) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_bad_pictures_end_in_one_sentence(tmp_path, capsys):
    (tmp_path / "a.png").write_bytes(b"%PDF-1.4 and so on")
    assert run("fit", "image", tmp_path / "a.png", "-o", tmp_path / "a.nf") == 2
    err = capsys.readouterr().err
    assert err.startswith("nf: ")
    assert err.count("\n") == 1


def test_another_picture_is_refused(rgb, tmp_path):
    nf.save(ImageField(ImageConfig(16, 12)), tmp_path / "a.nf")
    with pytest.raises(InputError, match="16x12 with 3 channels, got 96x64"):
        nf.evaluate(tmp_path / "a.nf", rgb)
