"""Fields of whole frames that learn something small and real: a square that moves."""

import os
import signal

import pytest
import torch
from made_videos import write_video

import neural_fields as nf
from neural_fields import InputError
from neural_fields.data.video import load_video
from neural_fields.decoders.frames import FrameNetwork
from neural_fields.fields import FramesField
from neural_fields.fields.load import load
from neural_fields.rendering.video import render_frame
from neural_fields.training import presets
from neural_fields.training.frames import FramesOptions, FramesTrainer
from neural_fields.training.presets import frames_setup

FAST = {"learning_rate": 5e-3}


@pytest.fixture(scope="module", autouse=True)
def small_networks():
    """What is tested is not how large they are."""
    sizes = FrameNetwork(moments=(1, 4), channels=16, narrowest=12)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(presets._FRAMES_PRESETS, "default", sizes)
        yield


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "clip.mkv"
    return write_video(path, n=12, codec="ffv1", pix_fmt="bgr0")


@pytest.fixture(scope="module")
def fitted(clip, tmp_path_factory):
    path = tmp_path_factory.mktemp("fitted") / "a.nf"
    return path, nf.fit.video(clip, path, field="ffnerv", steps=360, options=FAST)


def test_it_learns(clip, fitted):
    path, run = fitted
    scores = nf.evaluate(path, clip)
    assert scores["psnr"] > 26
    assert scores["n_views"] == 12
    assert run.summary["kind"] == "frames"
    assert run.summary["architecture"] == "ffnerv"
    assert isinstance(run.field, FramesField)


def test_files_keep_it(fitted):
    path, run = fitted
    for time in (0.0, 0.37, 1.0):
        assert torch.equal(render_frame(load(path), time), render_frame(run.field, time))
    part = render_frame(run.field, 0.5, crop=(20, 10, 30, 20))
    whole = render_frame(run.field, 0.5)
    torch.testing.assert_close(part, whole[10:30, 20:50], atol=1e-5, rtol=0)


def test_a_byte_for_each_weight(clip, tmp_path):
    path = tmp_path / "small.nf"
    run = nf.fit.video(clip, path, field="ffnerv", bits=8, steps=12, options=FAST)
    assert path.stat().st_size < 1.3 * run.field.n_params + 40_000
    assert torch.equal(render_frame(load(path), 0.5), render_frame(run.field, 0.5))


def test_steps_repeat_and_resume_to_the_same_bits(clip, tmp_path):
    whole = nf.fit.video(clip, field="ffnerv", steps=20, options=FAST)

    def stop(progress):
        if progress.moment.step == 7:
            os.kill(os.getpid(), signal.SIGINT)

    path = tmp_path / "a.nf"
    choices = {"field": "ffnerv", "steps": 20, "options": FAST}
    assert nf.fit.video(clip, path, on_progress=stop, **choices).interrupted
    resumed = nf.fit.video(clip, path, resume=True, **choices)
    for name, value in whole.field.state_dict().items():
        assert torch.equal(value, resumed.field.state_dict()[name]), name


def test_every_epoch_shows_every_frame_and_neighbours_wait_until_they_exist(clip):
    video = load_video(clip)
    config, _ = frames_setup(video)
    trainer = FramesTrainer(config, video, FramesOptions())
    orders = []
    for epoch in range(2):
        trainer.step_number = 12 * epoch
        orders.append([])
        for _ in range(12):
            orders[-1].append(trainer._drawn())
            trainer.step_number += 1
    assert sorted(orders[0]) == sorted(orders[1]) == [*range(12)]
    assert orders[0] != orders[1]
    trainer.step_number = 0
    assert trainer._picture(3.0) is None
    trainer._loss(3)
    shown = trainer._picture(3.0)
    with torch.no_grad():
        made = trainer.field.raw(3.0).independent
    assert float((shown - made).abs().max()) <= 0.5 / 255 + 1e-6


def test_the_learning_rate_warms_up_and_falls_as_published(clip):
    video = load_video(clip)
    trainer = FramesTrainer(frames_setup(video)[0], video, FramesOptions())
    shares = [trainer._share(at) for at in (0, 0.1, 0.2, 0.6, 1.0)]
    assert shares == pytest.approx([0.1, 0.55, 1.0, 0.5, 0.0])


def test_modulation_can_be_left_out_and_every_node_learns(clip):
    video = load_video(clip)
    without = nf.fit.video(video, field="ffnerv", modulate="none", steps=2)
    assert all("modulation" not in name for name, _ in without.field.named_parameters())
    run = nf.fit.video(video, field="ffnerv", steps=24, options=FAST)
    for name, parameter in run.field.named_parameters():
        if name.endswith("modulation"):
            moved = (parameter[:, 0] != 1) & (parameter[:, 1] != 0)
            assert moved[:-1].all(), name


def test_few_frames_and_small_ones(tmp_path):
    one = write_video(tmp_path / "one.mkv", n=1, size=(14, 12), codec="ffv1", pix_fmt="bgr0")
    run = nf.fit.video(one, field="ffnerv", steps=3)
    assert render_frame(run.field, 0.0).shape == (12, 14, 3)


def test_what_is_asked_wrongly_is_refused(clip):
    for choices, said in (
        ({"modulate": "xy"}, "--modulate"),
        ({"preset": "papre"}, "paper"),
        ({"precision": "bf16"}, "float32"),
        ({"motion": False}, "--no-motion"),
        ({"options": {"grid_rate": 1.0}}, "learning_rate"),
    ):
        with pytest.raises(InputError, match=said):
            nf.fit.video(clip, field="ffnerv", steps=2, **choices)
    with pytest.raises(InputError, match="--field"):
        nf.fit.image("none.png", field="ffnerv")
