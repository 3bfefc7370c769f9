"""Frames of videos."""

import time

import imageio.v2 as imageio
import numpy as np
import pytest

from neural_fields.data.clip import load_frames


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    with imageio.get_writer(path, format="FFMPEG", fps=10, macro_block_size=2) as writer:
        for k in range(8):
            writer.append_data(np.full((64, 96, 3), 30 * k, np.uint8))
    return path


@pytest.mark.parametrize(("n", "expected"), [(3, [0, 60, 150]), (8, range(0, 240, 30)), (50, None)])
def test_frames_are_spread_evenly(clip, n, expected):
    frames = load_frames(clip, n)
    means = [float(frame.pixels.float().mean()) for frame in frames]
    np.testing.assert_allclose(means, list(expected or range(0, 240, 30)), atol=4)
    assert frames[0].pixels.shape == (64, 96, 3)


@pytest.mark.filterwarnings("error")
def test_a_process_that_ended_long_before_closing_warns_of_nothing(clip, monkeypatch):
    class Late:
        """A reader that is closed after its FFmpeg has ended by itself."""

        def __init__(self, reader):
            self.get_data, self.close = reader.get_data, reader.close

        def __enter__(self):
            return self

        def __exit__(self, *raised):
            time.sleep(0.5)
            self.close()

    real = imageio.get_reader
    monkeypatch.setattr(imageio, "get_reader", lambda *a, **k: Late(real(*a, **k)))
    assert len(load_frames(clip, 8)) == 8
