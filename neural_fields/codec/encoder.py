"""Videos to `.nfv` files: groups of pictures, each fitted for error and rate together."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from neural_fields import _core
from neural_fields.codec.decoder import CodedVideo
from neural_fields.codec.evaluate import evaluate_coded
from neural_fields.codec.fitting import FIELDS, CodedGroup, Goal, GroupProgress, Order, fit_groups
from neural_fields.codec.parts import Rules
from neural_fields.codec.quantiser import Quantiser
from neural_fields.codec.stream import GroupEntry, StreamHeader, write_stream
from neural_fields.data.video import Video, load_video
from neural_fields.errors import InputError, unknown_value
from neural_fields.training.budget import Budget

SECONDS = 180.0
_VERSION = "0.1.0.dev0"
_MOST_FRAMES = 160  # of a group, which is one field
_EVEN = 1e-3  # a difference of frame rate's steps that counts as even, seconds


@dataclass(frozen=True)
class CompressProgress:
    """Where compressing is: the group that made a step, of how many, seconds since the start."""

    group: GroupProgress
    n_groups: int
    seconds: float


def compress(
    video: str | os.PathLike[str] | Video,
    output: str | os.PathLike[str],
    *,
    bpp: float | None = None,
    psnr: float | None = None,
    seconds: float | None = None,
    steps: int | None = None,
    workers: int | None = None,
    downscale: int = 1,
    field: str = "pyramid",
    modulate: str | None = None,
    quantiser: str = "step",
    bits: int = 8,
    seed: int = 0,
    options: dict[str, Any] | None = None,
    on_load: Callable[[Video], None] | None = None,
    on_progress: Callable[[CompressProgress], None] | None = None,
) -> dict[str, Any]:
    """Write a video as a `.nfv` file: video fields whose parameters are whole numbers, coded.

    Args:
        video: a file that FFmpeg reads, or a loaded video; sound is left out.
        output: the file.
        bpp: bits per pixel that the file is to have; or
        psnr: dB that frames are to have; with neither the price of a bit is that of `options`.
        seconds: of fitting, all groups together; 180 where neither it nor `steps` is given.
        steps: of each group; such a run repeats bit for bit.
        workers: processes that fit groups at the same time; one per processor at most where it is
            None. A single group is fitted in this process.
        downscale: box-average the frames by this factor.
        field: `pyramid`, or `ffnerv`, a convolutional network that makes whole frames; see
            docs/video.md.
        modulate: `time` or `none`; None: what gains bits, `none` for `pyramid` and `time` for
            `ffnerv`.
        quantiser: `step` or `tanh`, see `Quantiser`.
        bits: of the largest number of grids, or of any weight of `ffnerv`, 4 to 8.
        seed: of every random choice.
        options: fields of `CodecOptions`, or of `FramesCodecOptions`, to change.
        on_load: called once with the video.
        on_progress: called after every step.

    Returns:
        `output, frames, bytes, bpp, psnr, ms_ssim, seconds, groups, interrupted`; PSNR and MS-SSIM
        of 8-bit RGB, means over frames, of what a decoder shows.

    Raises:
        InputError: the video, output or an option is at fault.
        TrainingError: a loss became non-finite.

    Example:
        >>> compress("clip.mp4", "clip.nfv", bpp=0.05)["psnr"]  # doctest: +SKIP
    """
    goal, path = Goal(bpp, psnr), _checked_output(output)
    if field not in FIELDS:
        raise InputError(unknown_value("--field", field, FIELDS))
    rules = Rules(Quantiser(quantiser, bits))
    if not isinstance(video, Video):
        video = load_video(video, downscale)
    if on_load is not None:
        on_load(video)
    began = time.perf_counter()
    parts = split(len(video))
    if seconds is None and steps is None:
        seconds = SECONDS
    workers = min(len(parts), workers or _core.num_threads())
    turns = -(-len(parts) // workers)
    budget = Budget(steps, None if seconds is None else seconds / turns)
    order = Order(field, goal, rules, budget, modulate, seed, options or {})
    videos = [
        replace(video, frames=video.frames[at : at + n], times=video.times[at : at + n])
        for at, n in parts
    ]

    def report(at: GroupProgress) -> None:
        if on_progress is not None:
            on_progress(CompressProgress(at, len(parts), time.perf_counter() - began))

    coded = fit_groups(videos, order, workers, report)
    n_bytes = write_stream(path, _header(video, parts, coded), [each.data for each in coded])
    with CodedVideo(path) as decoded:
        scores = evaluate_coded(decoded, video)
    return {
        "output": str(path),
        "frames": len(video),
        "bytes": n_bytes,
        "bpp": n_bytes * 8 / video.frames[..., 0].numel(),
        "psnr": scores["psnr"],
        "ms_ssim": scores["ms_ssim"],
        "seconds": time.perf_counter() - began,
        "groups": len(parts),
        "interrupted": any(each.interrupted for each in coded),
    }


def split(n_frames: int) -> list[tuple[int, int]]:
    """First frame and length of each group: as few as may be, of about the same length.

    Example:
        >>> split(330)
        [(0, 110), (110, 110), (220, 110)]
    """
    n_groups = -(-n_frames // _MOST_FRAMES)
    ends = [n_frames * k // n_groups for k in range(n_groups + 1)]
    return [(first, last - first) for first, last in itertools.pairwise(ends)]


def _header(video: Video, parts: list[tuple[int, int]], coded: list[CodedGroup]) -> StreamHeader:
    n, height, width = video.frames.shape[:3]
    even = [k / float(video.fps) for k in range(n)]
    is_even = max(abs(a - b) for a, b in zip(even, video.times, strict=True)) < _EVEN
    return StreamHeader(
        width=width,
        height=height,
        n_frames=n,
        fps=(video.fps.numerator, video.fps.denominator),
        times_ms=None if is_even else tuple(round(1000 * time) for time in video.times),
        source={**video.source, "downscale": video.protocol.get("downscale", 1)},
        made={
            "isa": _core.active_isa(),
            "threads": _core.num_threads(),
            "neural_fields": _VERSION,
            "torch": torch.__version__,
        },
        groups=tuple(
            GroupEntry(first, length, len(each.data))
            for (first, length), each in zip(parts, coded, strict=True)
        ),
    )


def _checked_output(output: str | os.PathLike[str]) -> Path:
    path = Path(output)
    if path.suffix != ".nfv":
        raise InputError(f"-o {path}: needs a name that ends in .nfv, such as {path.stem}.nfv.")
    if path.is_dir():
        raise InputError(f"-o {path}: needs a file name, got a folder.")
    if not path.parent.is_dir():
        raise InputError(f"-o {path}: its folder {path.parent} does not exist; create it first.")
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"-o {path}: is not writable; choose another place.")
    return path


__all__ = ["CompressProgress", "compress", "split"]
