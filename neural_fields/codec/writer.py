"""Decoded videos to files of other codecs."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

from neural_fields.codec.decoder import CodedVideo
from neural_fields.codec.stream import StreamHeader
from neural_fields.errors import InputError, library

_TAGS = ("colorspace", "color_range", "color_primaries", "color_trc")


def write_video(
    video: CodedVideo,
    output: Path,
    codec: str,
    frames: range,
    on_frame: Callable[[int], None] | None = None,
) -> None:
    """Write frames of a coded video, atomically.

    `ffv1` keeps the 8-bit RGB values; other codecs get the pixel format of the video that was
    compressed, or what they have instead, with its colour tags.

    Raises:
        InputError: the codec is unknown or does not go with the container, the file cannot be
            written, or the coded video is damaged.
    """
    av = library("av", "video")
    av.logging.set_level(av.logging.PANIC)
    if not output.suffix:
        raise InputError(f"-o {output}: needs the name of a video, such as {output.name}.mkv.")
    if not output.parent.is_dir() or not os.access(output.parent, os.W_OK):
        raise InputError(f"-o {output}: its folder does not exist or is not writable.")
    handle, name = tempfile.mkstemp(prefix=".", suffix=output.suffix, dir=output.parent)
    os.close(handle)
    try:
        try:
            _write(av, video, name, codec, frames, on_frame)
        except (av.error.FFmpegError, ValueError, TypeError) as error:
            if isinstance(error, InputError):
                raise
            reason = getattr(error, "strerror", None) or str(error)
            raise InputError(
                f"-o {output}: cannot be written as {codec} ({reason}); choose another --codec or "
                "container, such as ffv1 in .mkv."
            ) from error
        os.chmod(name, 0o644)
        os.replace(name, output)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(name)


def _write(
    av: Any,
    video: CodedVideo,
    name: str,
    codec: str,
    frames: range,
    on_frame: Callable[[int], None] | None,
) -> None:
    header = video.header
    with av.open(name, "w") as container:
        stream = container.add_stream(codec, rate=header.rate)
        stream.width, stream.height = header.width, header.height
        stream.pix_fmt = _pixel_format(av, codec, header)
        if "yuv" in stream.pix_fmt:
            _tag(stream.codec_context, header.source)
        if header.times_ms is not None:
            stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        for number, index in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(video.frame(index).numpy(), format="rgb24")
            if header.times_ms is not None:
                picture.pts = header.times_ms[index] - header.times_ms[frames[0]]
                picture.time_base = Fraction(1, 1000)
            container.mux(stream.encode(picture))
            if on_frame is not None:
                on_frame(number + 1)
        container.mux(stream.encode())


def _pixel_format(av: Any, codec: str, header: StreamHeader) -> str:
    """What the codec is given: RGB where nothing may be lost, else the source's if it has it."""
    if codec == "ffv1":
        return "bgr0"
    known = [form.name for form in av.codec.Codec(codec, "w").video_formats or ()]
    odd = header.width % 2 or header.height % 2
    for form in (header.source.get("pix_fmt"), "yuv444p" if odd else "yuv420p"):
        if form in known and not (odd and "420" in str(form)):
            return str(form)
    return str(known[0]) if known else "yuv420p"


def _tag(context: Any, source: dict[str, Any]) -> None:
    """Colour tags of the video that was compressed; the library's numbers, where it knows them."""
    for name in _TAGS:
        value = source.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            setattr(context, name, value)
