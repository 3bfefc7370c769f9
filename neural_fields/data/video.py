"""Videos: any container and codec that FFmpeg reads, as frames of 8-bit RGB."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neural_fields.data.picture import MIN_SIDE
from neural_fields.errors import InputError, library

VIDEO_SUFFIXES = (".mp4", ".mkv", ".mov", ".avi", ".webm", ".m4v", ".gif")
_TAGS = ("colorspace", "color_range", "color_primaries", "color_trc")
_MAX_BYTES = 1 << 32  # of all frames


@dataclass(frozen=True)
class Video:
    """A decoded video.

    Attributes:
        frames: uint8 [n, height, width, 3], sRGB.
        name: of the file.
        fps: frames per second, on average.
        times: of the frames, seconds after the first.
        protocol: how it was read and is scored.
        fingerprint: of its frames.
        source: pixel format and colour tags of the file, as FFmpeg names them.
        notes: sentences on what of the file the frames do not keep.
    """

    frames: Tensor
    name: str
    fps: Fraction
    times: tuple[float, ...]
    protocol: dict[str, Any]
    fingerprint: str
    source: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.frames)

    def to(self, device: torch.device | str) -> Video:
        """The same video with its frames on another device."""
        return replace(self, frames=self.frames.to(device))


def load_video(path: str | os.PathLike[str], downscale: int = 1) -> Video:
    """Read a video.

    Args:
        path: MP4, MKV, MOV, AVI, WebM, GIF and what else FFmpeg reads; sound is left out.
        downscale: box-average by this factor; remainders are cropped.

    Raises:
        InputError: the file is missing, empty, no video or damaged, its frames are smaller than 11
            pixels a side or change their size, all frames have more than 4 GB, or PyAV is not
            installed.

    Example:
        >>> load_video("clip.mp4").frames.shape  # doctest: +SKIP
        torch.Size([132, 720, 1280, 3])
    """
    path = Path(path)
    frames: list[NDArray[np.uint8]] = []
    times: list[float] = []
    digest = hashlib.sha256()
    n_bytes = 0
    with _opened(path) as stream:
        source, notes = _source(stream), _notes(stream)
        fps = Fraction(stream.average_rate or stream.guessed_rate or 25)
        for picture, time in _pictures(path, stream):
            frame = _averaged(path, picture, downscale)
            if frames and frame.shape != frames[0].shape:
                raise InputError(
                    f"{path}: needs frames of one size, got {_size(frames[0])} and {_size(frame)}; "
                    "convert the video first."
                )
            n_bytes += frame.nbytes
            if n_bytes > _MAX_BYTES:
                raise InputError(
                    f"{path}: all frames of {_size(frame)} pixels need more than "
                    f"{_MAX_BYTES / 1e9:.0f} GB; use --downscale, or cut the video into parts."
                )
            frames.append(frame)
            times.append(len(frames) / float(fps) if time is None else time)
            digest.update(frame.data)
    if not frames:
        raise InputError(f"{path}: needs a video, got none of its frames; copy or export it again.")
    if min(frames[0].shape[:2]) < MIN_SIDE:
        raise InputError(
            f"{path}: needs frames of {MIN_SIDE} pixels a side or more, got {_size(frames[0])}."
        )
    return Video(
        frames=torch.from_numpy(np.stack(frames)),
        name=path.name,
        fps=fps,
        times=tuple(time - times[0] for time in times),
        protocol={"color_space": "srgb", "downscale": downscale},
        fingerprint=digest.hexdigest(),
        source=source,
        notes=notes,
    )


def _source(stream: Any) -> dict[str, Any]:
    context = stream.codec_context
    tags = {name: getattr(context, name, None) for name in _TAGS}
    known = {name: int(value) for name, value in tags.items() if isinstance(value, int)}
    return {"pix_fmt": context.pix_fmt, **known}


def _notes(stream: Any) -> tuple[str, ...]:
    notes = []
    if stream.container.streams.audio:
        notes.append("its sound is left out")
    form = stream.codec_context.format  # None where a file is too short to say
    depth = max((part.bits for part in form.components), default=8) if form else 8
    if depth > 8:
        notes.append(f"its {depth} bits per value become 8")
    return tuple(notes)


def pick_frames(path: Path, n: int) -> list[tuple[int, NDArray[np.uint8]]]:
    """`n` frames [height, width, 3] with their numbers, spread evenly; all of a shorter video.

    Raises:
        InputError: as of `load_video`.
    """
    with _opened(path) as stream:
        count = sum(packet.pts is not None for packet in stream.container.demux(stream))
    wanted = {k * count // n for k in range(n)} if count else set()
    with _opened(path) as stream:
        pictures = enumerate(_pictures(path, stream))
        picked = [(index, picture) for index, (picture, _) in pictures if index in wanted]
    if not picked or min(picked[0][1].shape[:2]) < MIN_SIDE:
        raise InputError(f"{path}: needs frames of {MIN_SIDE} pixels a side or more.")
    return picked


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A file's first video stream."""
    if not path.is_file():
        raise InputError(f"{path}: needs a video file, but there is none.")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: needs a video, got an empty file; copy or export it again.")
    av = library("av", "video")
    av.logging.set_level(av.logging.PANIC)  # what goes wrong we say in our own words
    try:
        container = av.open(str(path))
    except (av.error.FFmpegError, ValueError) as error:
        raise _unreadable(path, error) from error
    with container:
        if not container.streams.video:
            raise InputError(f"{path}: needs a video, got a file without moving pictures.")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        yield stream


def _pictures(path: Path, stream: Any) -> Iterator[tuple[NDArray[np.uint8], float | None]]:
    """Frames [height, width, 3] as they are shown, with their times in seconds."""
    av = library("av", "video")
    try:
        for frame in stream.container.decode(stream):
            picture = frame.to_ndarray(format="rgb24")
            turns = round(frame.rotation / 90) % 4
            yield np.ascontiguousarray(np.rot90(picture, turns)), frame.time
    except (av.error.FFmpegError, ValueError) as error:
        raise _unreadable(path, error) from error


def _averaged(path: Path, picture: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    if factor == 1:
        return picture
    height, width = picture.shape[0] // factor, picture.shape[1] // factor
    if min(height, width) < MIN_SIDE:
        raise InputError(
            f"{path}: --downscale {factor} leaves {width}x{height} pixels; {MIN_SIDE} a side are "
            "needed."
        )
    total = np.zeros((height, width, 3), np.uint32)
    for row in range(factor):
        for column in range(factor):
            total += picture[row : height * factor : factor, column : width * factor : factor]
    n = factor * factor
    return ((2 * total + n) // (2 * n)).astype(np.uint8)


def _size(frame: NDArray[np.uint8]) -> str:
    return f"{frame.shape[1]}x{frame.shape[0]}"


def _unreadable(path: Path, error: Exception) -> InputError:
    reason = getattr(error, "strerror", None) or str(error)
    return InputError(
        f"{path}: needs a video that FFmpeg can read ({reason}); copy or export it again."
    )
