"""Video fields that learn something small and real: a square that moves over a ground."""

import os
import signal

import pytest
import torch
from made_videos import write_video

import neural_fields as nf
from neural_fields import InputError
from neural_fields.data.video import load_video
from neural_fields.fields import read_field_file
from neural_fields.fields.load import load
from neural_fields.rendering.video import render_frame
from neural_fields.training.metrics import psnr


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "clip.mkv"
    return write_video(path, n=12, codec="ffv1", pix_fmt="bgr0")


@pytest.fixture(scope="module")
def fitted(clip, tmp_path_factory):
    path = tmp_path_factory.mktemp("fitted") / "a.nf"
    return path, nf.fit.video(clip, path, steps=400, options={"batch_pixels": 8192})


def test_it_learns(clip, fitted):
    path, run = fitted
    scores = nf.evaluate(path, clip)
    assert scores["psnr"] > 30
    assert scores["ms_ssim"] is None  # of 96x64 pixels
    assert scores["n_views"] == 12
    assert scores["bpp"] == pytest.approx(path.stat().st_size * 8 / (12 * 96 * 64))
    assert run.summary["kind"] == "video"
    content = read_field_file(path)
    assert content.tensors["thumbnail"].shape == (64, 96, 3)
    assert content.scene["fps"] == 10
    assert len(content.scene["times"]) == 12


def test_files_keep_it(fitted):
    path, run = fitted
    for index in (0, 7):
        time = run.field.time_of(index)
        assert torch.equal(render_frame(load(path), time), render_frame(run.field, time))


def test_parts_and_sizes(clip, fitted):
    _, run = fitted
    whole = render_frame(run.field, 0.5)
    part = render_frame(run.field, 0.5, crop=(20, 10, 30, 20))
    torch.testing.assert_close(part, whole[10:30, 20:50])
    half = render_frame(run.field, 0.5, 48, 32)
    means = whole.view(32, 2, 48, 2, 3).mean((1, 3))
    assert psnr(half, means) > 35


@pytest.mark.parametrize("field", ["hash", "planes"])
def test_other_architectures_learn_it_too(clip, field):
    options = {"batch_pixels": 8192}
    video = load_video(clip)
    run = nf.fit.video(video, field=field, steps=150, options=options, modulate="time")
    frame = render_frame(run.field, 0.0)
    assert psnr(frame, video.frames[0].float() / 255) > 21


def test_steps_repeat_and_resume_to_the_same_bits(clip, tmp_path):
    options = {"batch_pixels": 4096}
    whole = nf.fit.video(clip, steps=40, options=options)

    def stop(progress):
        if progress.moment.step == 17:
            os.kill(os.getpid(), signal.SIGINT)

    path = tmp_path / "a.nf"
    part = nf.fit.video(clip, path, steps=40, options=options, on_progress=stop)
    assert part.interrupted
    resumed = nf.fit.video(clip, path, steps=40, options=options, resume=True)
    for name, value in whole.field.state_dict().items():
        assert torch.equal(value, resumed.field.state_dict()[name]), name


def test_one_frame_and_rest(clip, tmp_path):
    still = write_video(tmp_path / "one.mkv", n=1, codec="ffv1", pix_fmt="bgr0")
    run = nf.fit.video(still, steps=60)
    assert run.field.config.motion is None
    assert torch.isfinite(render_frame(run.field, 0.0)).all()
    without = nf.fit.video(clip, steps=2, motion=False)
    assert without.field.motion is None
    assert without.field.config.margin == (0, 0)


def test_what_is_asked_wrongly_is_refused(clip, fitted, tmp_path):
    path, _ = fitted
    other = write_video(tmp_path / "other.mkv", n=5, codec="ffv1", pix_fmt="bgr0")
    with pytest.raises(InputError, match=r"12 frames of 96x64, got 5 of 96x64"):
        nf.evaluate(path, other)
    with pytest.raises(InputError, match="needs time, got xyz"):
        nf.fit.video(clip, modulate="xyz", steps=1)
    with pytest.raises(InputError, match="which leaves none"):
        nf.fit.video(clip, seconds=1e-3)
    with pytest.raises(InputError, match="needs one of"):
        nf.fit.video(clip, steps=1, options={"batch": 3})
