"""Videos: what is read from containers, and what is refused."""

import contextlib
import subprocess

import imageio_ffmpeg
import numpy as np
import pytest
from made_videos import moving_square, write_video

from neural_fields import InputError
from neural_fields.data.video import load_video


def test_frames_are_those_of_the_file(tmp_path):
    pictures = [moving_square(k) for k in range(6)]
    path = write_video(
        tmp_path / "a.mkv", n=6, codec="ffv1", pix_fmt="bgr0", pictures=pictures, fps=12
    )
    video = load_video(path)
    assert np.array_equal(video.frames.numpy(), np.stack(pictures))
    assert len(video) == 6
    assert float(video.fps) == 12
    assert video.times == pytest.approx([k / 12 for k in range(6)], abs=2e-3)
    assert load_video(path).fingerprint == video.fingerprint


@pytest.mark.parametrize(
    ("suffix", "codec", "pix_fmt"),
    [
        (".mp4", "libx264", "yuv420p"),
        (".mkv", "libx265", "yuv420p10le"),
        (".webm", "libvpx-vp9", "yuv420p"),
        (".mov", "libx264", "yuv444p"),
        (".avi", "ffv1", "yuv422p"),
    ],
)
def test_containers_codecs_and_depths(tmp_path, suffix, codec, pix_fmt):
    options = {"x265-params": "log-level=none"} if codec == "libx265" else None
    path = write_video(
        tmp_path / f"a{suffix}",
        codec=codec,
        pix_fmt=pix_fmt,
        options=options,
        audio=suffix == ".mp4",
    )
    frames = load_video(path).frames.numpy().astype(float)
    truth = np.stack([moving_square(k) for k in range(8)])
    assert frames.shape == truth.shape
    assert np.sqrt(((frames - truth) ** 2).mean()) < 14  # chroma is halved at the square's edge


def test_odd_sizes(tmp_path):
    path = write_video(tmp_path / "a.mkv", size=(51, 33), codec="ffv1", pix_fmt="bgr0")
    assert load_video(path).frames.shape == (8, 33, 51, 3)


def test_times_of_a_video_without_a_fixed_rate(tmp_path):
    times = [0, 40, 200, 240, 900]
    path = write_video(tmp_path / "a.mkv", n=5, codec="ffv1", pix_fmt="bgr0", times=times)
    assert load_video(path).times == pytest.approx([t / 1000 for t in times], abs=2e-3)


def test_frames_are_averaged(tmp_path):
    pictures = [moving_square(k) for k in range(3)]
    path = write_video(tmp_path / "a.mkv", n=3, codec="ffv1", pix_fmt="bgr0", pictures=pictures)
    smaller = load_video(path, downscale=3)
    assert smaller.frames.shape == (3, 21, 32, 3)
    block = pictures[1][3:6, 60:63].reshape(-1, 3).mean(0)
    assert np.abs(smaller.frames[1, 1, 20].numpy() - block).max() <= 0.5
    assert smaller.protocol["downscale"] == 3
    with pytest.raises(InputError, match=r"--downscale 8 leaves 12x8 pixels; 11 a side"):
        load_video(path, downscale=8)


def test_what_is_no_video_is_refused(tmp_path):
    with pytest.raises(InputError, match="there is none"):
        load_video(tmp_path / "missing.mp4")
    empty = tmp_path / "empty.mp4"
    empty.touch()
    with pytest.raises(InputError, match="empty file"):
        load_video(empty)
    text = tmp_path / "text.mp4"
    text.write_text("not a video" * 100)
    with pytest.raises(InputError, match="a video that FFmpeg can read"):
        load_video(text)
    small = write_video(tmp_path / "small.mkv", size=(10, 40), codec="ffv1", pix_fmt="bgr0")
    with pytest.raises(InputError, match="11 pixels a side or more, got 10x40"):
        load_video(small)


def test_a_file_cut_short_gives_what_is_there_or_is_refused(tmp_path):
    path = write_video(tmp_path / "a.mkv", codec="ffv1", pix_fmt="bgr0")
    data = path.read_bytes()
    for share in (0.05, 0.5, 0.95):
        cut = tmp_path / "cut.mkv"
        cut.write_bytes(data[: int(len(data) * share)])
        found = 0
        with contextlib.suppress(InputError):
            found = len(load_video(cut))
        assert 0 <= found <= 8
        assert found > 0 or share < 0.5


@pytest.mark.parametrize("degrees", [90, -90, 180])
def test_videos_are_seen_as_they_were_held(tmp_path, degrees):
    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    path = write_video(tmp_path / "a.mp4", n=2)
    turned, shown = tmp_path / "turned.mp4", tmp_path / "shown.mkv"
    quiet = [ffmpeg, "-v", "error"]
    hint = [*quiet, "-display_rotation", str(degrees), "-i", path, "-c", "copy", turned]
    subprocess.run(hint, check=True)
    subprocess.run([*quiet, "-i", turned, "-c:v", "ffv1", shown], check=True)  # turns pixels
    assert np.array_equal(load_video(turned).frames, load_video(shown).frames)
    assert not np.array_equal(load_video(turned).frames, load_video(path).frames)


def test_sound_alone_is_refused(tmp_path):
    import av

    path = tmp_path / "sound.m4v"
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 48000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(InputError, match="without moving pictures"):
        load_video(path)
