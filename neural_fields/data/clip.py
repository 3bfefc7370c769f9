"""Frames of a video as pictures."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import torch

from neural_fields.data.picture import Picture
from neural_fields.data.video import pick_frames


def load_frames(path: str | os.PathLike[str], n: int) -> list[Picture]:
    """Read `n` frames of a video, spread evenly over it; all of a shorter one.

    Args:
        path: what FFmpeg reads.
        n: how many.

    Returns:
        8-bit RGB pictures, named by the file and the frame.

    Raises:
        InputError: the file is missing, no video, or PyAV is not installed.

    Example:
        >>> len(load_frames("clip.mp4", 10))  # doctest: +SKIP
        10
    """
    path = Path(path)
    return [
        Picture(
            pixels=torch.from_numpy(frame),
            name=f"{path.name}, frame {index}",
            color_space="srgb",
            bits=8,
            protocol={"color_space": "srgb", "alpha": "none", "downscale": 1},
            fingerprint=hashlib.sha256(frame.data).hexdigest(),
        )
        for index, frame in pick_frames(path, n)
    ]
