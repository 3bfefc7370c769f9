"""Frames of a video as pictures."""

from __future__ import annotations

import hashlib
import os
import warnings
from pathlib import Path

import numpy as np
import torch

from neural_fields.data.picture import MIN_SIDE, Picture
from neural_fields.errors import InputError, library

CLIP_SUFFIXES = (".mp4", ".mkv", ".mov", ".avi", ".webm", ".m4v", ".gif")


def load_frames(path: str | os.PathLike[str], n: int) -> list[Picture]:
    """Read `n` frames of a video, spread evenly over it; all of a shorter one.

    Args:
        path: what imageio's FFmpeg reads.
        n: how many.

    Returns:
        8-bit RGB pictures, named by the file and the frame.

    Raises:
        InputError: the file is missing, no video, or imageio-ffmpeg is not installed.

    Example:
        >>> len(load_frames("clip.mp4", 10))  # doctest: +SKIP
        10
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: needs a video file, but there is none.")
    ffmpeg = library("imageio_ffmpeg", "video")
    imageio = library("imageio.v2", "video")
    try:
        count, _ = ffmpeg.count_frames_and_secs(str(path))  # also whether it is a video at all
        # imageio-ffmpeg leaves the pipes of an FFmpeg that has ended to the garbage collector.
        with warnings.catch_warnings(), imageio.get_reader(path, format="FFMPEG") as reader:
            warnings.simplefilter("ignore", ResourceWarning)
            wanted = sorted({k * count // n for k in range(n)})
            frames = [np.asarray(reader.get_data(index)) for index in wanted]
    except (OSError, ValueError, RuntimeError, IndexError, StopIteration) as error:
        said = str(error).strip().splitlines()
        reason = said[-1] if said else type(error).__name__
        raise InputError(f"{path}: needs a video that FFmpeg can read ({reason}).") from error
    if not frames or min(frames[0].shape[:2]) < MIN_SIDE:
        raise InputError(f"{path}: needs frames of {MIN_SIDE} pixels a side or more.")
    return [
        Picture(
            pixels=torch.from_numpy(np.ascontiguousarray(frame)),
            name=f"{path.name}, frame {index}",
            color_space="srgb",
            bits=8,
            protocol={"color_space": "srgb", "alpha": "none", "downscale": 1},
            fingerprint=hashlib.sha256(frame.tobytes()).hexdigest(),
        )
        for index, frame in zip(wanted, frames, strict=True)
    ]
