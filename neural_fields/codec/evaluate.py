"""Scoring a `.nfv` file against the video that was compressed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from neural_fields.codec.decoder import CodedVideo
from neural_fields.data.video import Video
from neural_fields.errors import InputError
from neural_fields.training.evaluate_video import score_frames


def downscale_of(coded: CodedVideo) -> int:
    """The factor by which the frames were averaged before they were coded."""
    factor = coded.header.source.get("downscale", 1)
    return factor if isinstance(factor, int) and factor > 0 else 1


def evaluate_coded(
    coded: CodedVideo, data: Video, on_frame: Callable[[int], None] | None = None
) -> dict[str, Any]:
    """The keys of `evaluate_video`; raises InputError where the video is of another size."""
    header = coded.header
    n, height, width = data.frames.shape[:3]
    if (width, height, n) != (header.width, header.height, header.n_frames):
        raise InputError(
            f"--data {data.name}: needs the video that was compressed, {header.n_frames} frames of "
            f"{header.width}x{header.height}, got {n} of {width}x{height}."
        )
    began = time.perf_counter()
    scores = score_frames((frame.float() / 255 for frame in coded.frames()), data, on_frame)
    return {
        **scores,
        "bpp": coded.n_bytes * 8 / header.n_pixels,
        "seconds": time.perf_counter() - began,
        "protocol": dict(data.protocol),
    }
