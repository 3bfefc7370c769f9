"""Frames of videos as pictures."""

import pytest
from made_videos import write_video

from neural_fields.data.clip import load_frames


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    return write_video(path, n=8, grey=lambda k: 30 * k)


@pytest.mark.parametrize(("n", "expected"), [(3, [0, 60, 150]), (8, range(0, 240, 30)), (50, None)])
def test_frames_are_spread_evenly(clip, n, expected):
    frames = load_frames(clip, n)
    means = [float(frame.pixels.float().mean()) for frame in frames]
    assert means == pytest.approx(list(expected or range(0, 240, 30)), abs=4)
    assert frames[0].pixels.shape == (64, 96, 3)
