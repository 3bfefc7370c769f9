"""Videos to `.nfv` files: groups of pictures, each fitted for error and rate together."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from neural_fields import _core
from neural_fields.codec.group import Rules, encode_group, field_of, numbers_of
from neural_fields.codec.quantiser import Quantiser
from neural_fields.codec.stream import GroupEntry, StreamHeader, write_stream
from neural_fields.codec.trainer import CodecOptions, CodecTrainer
from neural_fields.data.video import Video, load_video
from neural_fields.errors import InputError
from neural_fields.fields import VideoField
from neural_fields.rendering.video import render_frame
from neural_fields.training.budget import Budget
from neural_fields.training.evaluate_video import score_frames
from neural_fields.training.loop import Moment, Report, run_loop
from neural_fields.training.motion import estimate_motion
from neural_fields.training.presets import motion_cells, video_setup, with_choices
from neural_fields.training.run import changed_options

SECONDS = 180.0
_VERSION = "0.1.0.dev0"
_MOST_FRAMES = 160  # of a group, which is one field
_EASY = 1e-3  # a difference of frame rate's steps that counts as even, seconds


@dataclass(frozen=True)
class Goal:
    """What a stream is to reach: bits per pixel, or PSNR in dB, or neither.

    Raises:
        InputError: both are given, or one is no positive number.
    """

    bpp: float | None = None
    psnr: float | None = None

    def __post_init__(self) -> None:
        if self.bpp is not None and self.psnr is not None:
            raise InputError("compress: needs --bpp or --psnr, not both.")
        for name, value, most in (("--bpp", self.bpp, 24.0), ("--psnr", self.psnr, 60.0)):
            if value is not None and not 0 < value <= most:
                raise InputError(f"{name}: needs a number above 0 and up to {most:g}, got {value}.")


@dataclass(frozen=True)
class CompressProgress:
    """Where compressing is: group of groups, share of the whole, PSNR and rate of recent steps."""

    group: int
    n_groups: int
    share: float
    seconds: float
    psnr: float
    bpp: float


class _Governor:
    """Moves the price of a bit until a goal is met."""

    def __init__(self, trainer: CodecTrainer, goal: Goal) -> None:
        self._trainer, self._goal = trainer, goal
        self._error, self._rate = 0.0, 0.0  # running means
        params = trainer.field.trunk.mlp.spec.n_params  # type: ignore[union-attr, operator]
        n_frames, height, width = trainer.data.frames.shape[:3]
        self._fixed = (5.5 * params + 8 * 1200) / (n_frames * height * width)

    def on_step(self, moment: Moment, report: Report) -> None:
        mse, rate = report.mse, self._trainer.bits_per_pixel + self._fixed  # type: ignore[attr-defined]
        share = 0.02 if moment.step > 50 else 0.2
        self._error += share * (mse - self._error)
        self._rate += share * (rate - self._rate)
        if 0.05 < moment.progress < 0.95:
            self._trainer.price *= math.exp(_PULL * self._too_dear())

    def _too_dear(self) -> float:
        """How far the rate is above the goal, or the quality, at most 1."""
        if self._goal.bpp is not None:
            excess = math.log(self._rate / self._goal.bpp)
        elif self._goal.psnr is not None:
            excess = (self.psnr - self._goal.psnr) * math.log(10) / 10
        else:
            return 0.0
        return max(-1.0, min(1.0, excess))

    @property
    def psnr(self) -> float:
        return -10 * math.log10(max(self._error, 1e-10))

    @property
    def bpp(self) -> float:
        return self._rate


_PULL = 0.02  # of the price per step


@dataclass(frozen=True)
class _Coded:
    """A group: its bytes, and what a decoder will see."""

    data: bytes
    field: VideoField
    interrupted: bool


def compress(
    video: str | os.PathLike[str] | Video,
    output: str | os.PathLike[str],
    *,
    bpp: float | None = None,
    psnr: float | None = None,
    seconds: float | None = None,
    steps: int | None = None,
    downscale: int = 1,
    modulate: str = "time",
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
        downscale: box-average the frames by this factor.
        modulate: `time`, or `none`.
        quantiser: `step` or `tanh`, see `Quantiser`.
        bits: of the largest number of grids, 4 to 8.
        seed: of every random choice.
        options: fields of `CodecOptions` to change.
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
    rules = Rules(Quantiser(quantiser, bits))
    if not isinstance(video, Video):
        video = load_video(video, downscale)
    if on_load is not None:
        on_load(video)
    began = time.perf_counter()
    parts = split(len(video))
    if seconds is None and steps is None:
        seconds = SECONDS
    budget = Budget(steps, None if seconds is None else seconds / len(parts))
    coded: list[_Coded] = []
    for number, (first, n) in enumerate(parts):
        part = replace(
            video, frames=video.frames[first : first + n], times=video.times[first : first + n]
        )
        trainer, spent = _trainer(part, rules, modulate, seed, options or {})

        def report(moment: Moment, governor: _Governor, number: int = number) -> None:
            if on_progress is not None:
                share = (number + moment.progress) / len(parts)
                passed = time.perf_counter() - began
                on_progress(
                    CompressProgress(number, len(parts), share, passed, governor.psnr, governor.bpp)
                )

        stopped = any(each.interrupted for each in coded)
        # After Ctrl-C the groups that are left get a few steps, so that the file is whole.
        coded.append(
            _fitted(trainer, Budget(steps=_FEW) if stopped else budget, goal, spent, report)
        )
    n_bytes = write_stream(path, _header(video, parts, coded), [each.data for each in coded])
    frames = (
        render_frame(each.field, each.field.time_of(index))
        for each in coded
        for index in range(each.field.config.n_frames)
    )
    scores = score_frames(frames, video)
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


_FEW = 60  # steps


def split(n_frames: int) -> list[tuple[int, int]]:
    """First frame and length of each group: as few as may be, of about the same length.

    Example:
        >>> split(330)
        [(0, 110), (110, 110), (220, 110)]
    """
    n_groups = -(-n_frames // _MOST_FRAMES)
    ends = [n_frames * k // n_groups for k in range(n_groups + 1)]
    return [(first, last - first) for first, last in zip(ends[:-1], ends[1:], strict=True)]


def _trainer(
    part: Video, rules: Rules, modulate: str, seed: int, changes: dict[str, Any]
) -> tuple[CodecTrainer, float]:
    """A trainer, and the seconds that looking for motion took."""
    began = time.perf_counter()
    cells = motion_cells(part)
    motion = None if cells is None else estimate_motion(part.frames, *cells)
    config, usual = video_setup(part, "pyramid", "default", motion)
    config = with_choices(config, "float32", modulate, 32)
    options: CodecOptions = changed_options(CodecOptions(**{**asdict(usual), **_USUAL}), changes)
    trainer = CodecTrainer(config, part, options, rules, seed, motion)
    return trainer, time.perf_counter() - began


_USUAL: dict[str, Any] = {"batch_pixels": 1 << 17, "grid_rate": 0.1, "matrix_rate": 5e-3}


def _fitted(
    trainer: CodecTrainer,
    budget: Budget,
    goal: Goal,
    spent: float,
    report: Callable[[Moment, _Governor], None],
) -> _Coded:
    governor = _Governor(trainer, goal)

    def on_step(moment: Moment, step: Report) -> None:
        governor.on_step(moment, step)
        report(moment, governor)

    if budget.seconds is not None and spent >= budget.seconds:
        raise InputError(
            f"--seconds: looking for motion took {spent:.1f} of {budget.seconds:.1f} s of a group, "
            "which leaves none for fitting; give more."
        )
    _, interrupted = run_loop(trainer, budget, seconds=spent, on_step=on_step)
    numbers = numbers_of(trainer.field, trainer.rules)
    data = encode_group(trainer.field.config, numbers, trainer.rules)
    return _Coded(data, field_of(trainer.field.config, numbers, trainer.rules), interrupted)


def _header(video: Video, parts: list[tuple[int, int]], coded: list[_Coded]) -> StreamHeader:
    n, height, width = video.frames.shape[:3]
    even = [k / float(video.fps) for k in range(n)]
    is_even = max(abs(a - b) for a, b in zip(even, video.times, strict=True)) < _EASY
    return StreamHeader(
        width=width,
        height=height,
        n_frames=n,
        fps=(video.fps.numerator, video.fps.denominator),
        times_ms=None if is_even else tuple(round(1000 * time) for time in video.times),
        source=video.source,
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


__all__ = ["CompressProgress", "Goal", "compress", "split"]
