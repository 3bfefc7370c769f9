"""FreSh for videos: what changes in space, and how fast time runs."""

import json
from dataclasses import replace
from fractions import Fraction

import pytest
import torch

import neural_fields as nf
from neural_fields import InputError
from neural_fields.architectures.siren import Siren
from neural_fields.cli.main import run
from neural_fields.data.video import Video
from neural_fields.fields import VideoConfig, VideoField, read_field_file
from neural_fields.fields.video import Samples
from neural_fields.spectra.choice import choose
from neural_fields.spectra.moving import CourseSignal, FramesSignal, Tempo
from neural_fields.training.presets import video_setup, with_choices

SIREN = Siren(hidden=(32, 32))


def made(frames):
    """A video of frames [n, h, w, 3] in [0, 1]."""
    bytes_ = (frames.clamp(0, 1) * 255).round().to(torch.uint8)
    n = len(bytes_)
    return Video(
        name="made",
        frames=bytes_,
        fps=Fraction(25),
        times=tuple(k / 25 for k in range(n)),
        source={},
        notes=(),
        protocol={"downscale": 1},
        fingerprint="made",
    )


def config_of(n_frames, tempo=1.0, side=48, omega=30.0):
    architecture = replace(SIREN, first_omega=omega)
    return VideoConfig(side, side, n_frames, architecture, tempo=tempo)


@torch.no_grad()
def shown(config, seed):
    """An untrained field as a video."""
    field = VideoField(config, seed)
    centres = torch.arange(config.width) + 0.5
    frames = [field.at(field.time_of(k)).lattice(centres, centres) for k in range(config.n_frames)]
    pictures = torch.stack(frames)
    low, high = pictures.min(), pictures.max()
    return made((pictures - low) / (high - low))


@pytest.mark.parametrize("tempo", [1.0, 0.25])
def test_a_video_that_is_a_field_finds_how_fast_its_time_runs(tempo):
    omega = 200.0
    video = shown(config_of(64, tempo, side=32, omega=omega), seed=77)
    found = choose(CourseSignal(video, config_of(64, side=32, omega=omega)), Tempo(1.0), n_seeds=4)
    assert found.parameter == "tempo"
    assert 0.5 * tempo <= found.architecture.value <= 2 * tempo
    assert found.side == 64


def test_a_slower_copy_of_a_video_is_slower():
    moving = shown(config_of(64, omega=200.0, side=32), seed=5)
    slow = made(moving.frames[torch.arange(64) // 8].float() / 255)  # an eighth of it, held
    tempos = [
        choose(CourseSignal(each, config_of(64, omega=200.0, side=32)), Tempo(1.0), n_seeds=3).value
        for each in (moving, slow)
    ]
    assert tempos[1] < tempos[0]


def test_frames_choose_what_changes_in_space():
    fine = shown(config_of(12, omega=160.0), seed=9)
    found = choose(FramesSignal(fine, config_of(12)), SIREN, n_seeds=4)
    assert found.value == pytest.approx(160, abs=50)
    coarse = shown(config_of(12, omega=40.0), seed=9)
    assert choose(FramesSignal(coarse, config_of(12)), SIREN, n_seeds=4).value < 90


def test_what_is_measured_is_what_a_field_shows():
    """With displacements, at the frame's time and pixels."""
    video = shown(config_of(12), seed=3)
    motion = 3 * torch.rand(4, 3, 3, 2, generator=torch.Generator().manual_seed(0))
    config, _ = video_setup(video, SIREN, motion=motion)
    signal = FramesSignal(video, config, motion)
    values = signal.untrained(SIREN, 2, 1.0, None)
    assert values.shape == signal.target(2, None).shape == (3, 48, 48)
    course = CourseSignal(video, config, motion)
    assert course.untrained(Tempo(0.5), 2, 1.0, None).shape == course.target(2, None).shape
    still = FramesSignal(video, config, torch.zeros_like(motion)).untrained(SIREN, 2, 1.0, None)
    assert not torch.allclose(values, still)


def test_tempo_is_the_third_coordinate():
    slow, fast = (VideoField(config_of(9, tempo)) for tempo in (0.5, 1.0))
    places = torch.rand(5, 2) * 48
    at = [slow.value(Samples(places, times=torch.full((5,), 1.0)))]
    at.append(fast.value(Samples(places, times=torch.full((5,), 0.75))))
    torch.testing.assert_close(*at)
    with pytest.raises(InputError, match="tempo"):
        config_of(9, 0.0)
    with pytest.raises(InputError, match="tempo"):
        config_of(9, 1.5)


def test_fitting_uses_records_and_keeps_both_choices(tmp_path):
    video = shown(config_of(24, 0.25, omega=120.0), seed=4)
    path, seen = tmp_path / "a.nf", []
    choices = {"field": SIREN, "fresh": True, "steps": 4, "options": {"batch_pixels": 256}}
    run_ = nf.fit.video(video, path, on_choice=seen.append, **choices)
    assert [record["parameter"] for record in seen] == ["first_omega", "tempo"]
    config = run_.field.config
    assert config.architecture.first_omega == seen[0]["value"]
    assert config.tempo == seen[1]["value"]
    kept = read_field_file(path).provenance
    assert (kept["fresh"]["value"], kept["fresh_time"]["value"]) == tuple(
        record["value"] for record in seen
    )
    again = nf.fit.video(video, path, resume=True, **{**choices, "steps": 6})
    assert again.field.config == config
    with pytest.raises(InputError, match="leaves none"):
        nf.fit.video(video, field=SIREN, fresh=True, seconds=0.2, motion=False)
    with pytest.raises(InputError, match="--fresh"):
        nf.fit.video(video, field="ffnerv", fresh=True, steps=2)


def test_the_command(tmp_path, capsys, monkeypatch):
    from made_videos import write_video

    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "clip.mkv", n=20, codec="ffv1", pix_fmt="bgr0")
    assert run(["fresh", "clip.mkv", "--seeds", "2", "--json", "a.json"]) == 0
    said = capsys.readouterr().out
    assert "--parameter tempo" in said
    assert "nf fit video clip.mkv --field siren --fresh" in said
    assert (
        run(["fresh", "clip.mkv", "--seeds", "2", "--parameter", "tempo", "--json", "b.json"]) == 0
    )
    assert json.loads((tmp_path / "a.json").read_text())["parameter"] == "first_omega"
    assert json.loads((tmp_path / "b.json").read_text())["parameter"] == "tempo"
    config = with_choices(config_of(4), "float32", "none", 32)
    assert config.tempo == 1.0
