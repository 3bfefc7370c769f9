"""Small videos for tests, written by PyAV."""

from fractions import Fraction

import av
import numpy as np


def moving_square(k, height=64, width=96):
    """uint8 [height, width, 3]: a textured ground with a square that moves to the right."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    ground = 0.5 + 0.25 * np.sin(x / 5) * np.cos(y / 7)
    picture = np.stack([ground, 0.8 * ground, 1 - ground], -1)
    left = 8 + 3 * k
    picture[20:44, left : left + 24] = [0.9, 0.2, 0.1]
    return (picture * 255).round().astype(np.uint8)


def write_video(
    path,
    *,
    n=8,
    size=(96, 64),
    fps=10,
    codec="libx264",
    pix_fmt="yuv420p",
    grey=None,
    pictures=None,
    times=None,
    audio=False,
    options=None,
):
    """A video of `n` frames: of grey levels by number, of pictures, or a moving square.

    `times` are in thousandths of a second, of a video without a fixed rate.
    """
    width, height = size
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.options = {"crf": "5"} | (options or {}) if codec == "libx264" else options or {}
        if times is not None:
            stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        sound = container.add_stream("aac", rate=48000) if audio else None
        for k in range(n):
            if grey is not None:
                picture = np.full((height, width, 3), grey(k), np.uint8)
            else:
                picture = pictures[k] if pictures is not None else moving_square(k, height, width)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if times is not None:
                frame.pts = times[k]
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if sound is not None:
            silence = np.zeros((1, 1024), np.float32)
            for k in range(4):
                frame = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
                frame.sample_rate, frame.pts = 48000, 1024 * k
                container.mux(sound.encode(frame))
            container.mux(sound.encode())
    return path
