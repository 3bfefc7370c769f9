"""Scoring a video field against its video."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor

from neural_fields.data.video import Video
from neural_fields.errors import InputError
from neural_fields.fields import AnyVideo
from neural_fields.rendering.video import render_frame
from neural_fields.training.metrics import ms_ssim, psnr


def evaluate_video(
    field: AnyVideo, data: Video, n_bytes: int, on_frame: Callable[[int], None] | None = None
) -> dict[str, Any]:
    """PSNR and MS-SSIM of a video field, and its rate.

    Args:
        field: the field.
        data: the video, read by the field's protocol.
        n_bytes: of the field's file.
        on_frame: called with the number of frames scored so far.

    Returns:
        `psnr, ms_ssim, bpp, n_views, seconds, protocol, views: [{name, psnr, ms_ssim}]`, means over
        frames of 8-bit RGB. `bpp` are bits of the file per pixel of the video. `ms_ssim` is None
        where a side has fewer than 161 pixels.

    Raises:
        InputError: the video is of another size or length than the field's.
    """
    config = field.config
    n, height, width = data.frames.shape[:3]
    if (width, height, n) != (config.width, config.height, config.n_frames):
        raise InputError(
            f"--data {data.name}: needs the video that was fitted, {config.n_frames} frames of "
            f"{config.width}x{config.height}, got {n} of {width}x{height}."
        )
    began = time.perf_counter()
    frames = (render_frame(field, field.time_of(index)) for index in range(n))
    scores = score_frames(frames, data, on_frame)
    return {
        **scores,
        "bpp": n_bytes * 8 / (n * height * width),
        "seconds": time.perf_counter() - began,
        "protocol": dict(data.protocol),
    }


def score_frames(
    frames: Iterable[Tensor], data: Video, on_frame: Callable[[int], None] | None = None
) -> dict[str, Any]:
    """`psnr, ms_ssim, n_views, views` of frames [height, width, 3] in [0, 1], rounded to 8 bits."""
    views: list[dict[str, Any]] = []
    for index, frame in enumerate(frames):
        picture = (frame.clamp(0, 1) * 255).round() / 255
        truth = data.frames[index].float() / 255
        name = f"frame {index}"
        views.append(
            {"name": name, "psnr": psnr(picture, truth), "ms_ssim": ms_ssim(picture, truth)}
        )
        if on_frame is not None:
            on_frame(index + 1)
    similar = [view["ms_ssim"] for view in views if view["ms_ssim"] is not None]
    return {
        "psnr": sum(view["psnr"] for view in views) / len(views),
        "ms_ssim": sum(similar) / len(similar) if similar else None,
        "n_views": len(views),
        "views": views,
    }
