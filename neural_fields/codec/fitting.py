"""Fitting groups of pictures for a bitstream, several at a time."""

from __future__ import annotations

import math
import queue
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from multiprocessing.synchronize import Event
from typing import Any

import torch
import torch.multiprocessing as torch_multiprocessing

from neural_fields import _core
from neural_fields.codec.frames_trainer import FramesCodecOptions, FramesCodecTrainer
from neural_fields.codec.group import check_size, encode_group, field_of, numbers_of
from neural_fields.codec.parts import Rules
from neural_fields.codec.trainer import CodecOptions, CodecTrainer
from neural_fields.data.video import Video
from neural_fields.decoders.frames import FrameNetwork
from neural_fields.errors import InputError
from neural_fields.fields import AnyVideo
from neural_fields.rendering.video import render_frame
from neural_fields.training.budget import Budget
from neural_fields.training.loop import Moment, Report, run_loop
from neural_fields.training.metrics import psnr
from neural_fields.training.motion import estimate_motion
from neural_fields.training.presets import frames_setup, motion_cells, video_setup, with_choices
from neural_fields.training.run import changed_options
from neural_fields.training.values import ValueStep

_GOVERNED = (0.2, 0.97, 0.05)  # from, until and how often, as shares of a run, the price moves
_LOOKED_AT = 8  # frames
_TYPICAL_BPP = 0.0035  # at a price of 1; it falls with the price's root
_FEW = 60  # steps of a group whose turn comes after Ctrl-C, so that the file is whole
_FRAMES_USUAL: dict[str, Any] = {"learning_rate": 2e-3}
_USUAL: dict[str, Any] = {"batch_pixels": 1 << 17, "grid_rate": 0.1, "matrix_rate": 5e-3}
_WAIT_S = 0.2

FIELDS = ("pyramid", FrameNetwork.name)
AnyTrainer = CodecTrainer | FramesCodecTrainer


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
class Order:
    """What is wanted of every group."""

    field: str
    goal: Goal
    rules: Rules
    budget: Budget
    modulate: str | None
    seed: int
    changes: dict[str, Any]  # of `CodecOptions`


@dataclass(frozen=True)
class GroupProgress:
    """A group's number, the share of its budget that is used, PSNR and rate of recent steps."""

    group: int
    share: float
    psnr: float
    bpp: float


@dataclass(frozen=True)
class CodedGroup:
    """A group's bytes, and whether Ctrl-C came before it was done."""

    data: bytes
    interrupted: bool


class _Governor:
    """Moves the price of a bit towards a goal, by what the field would be as a file by then."""

    def __init__(self, trainer: AnyTrainer, goal: Goal) -> None:
        self._trainer, self._goal = trainer, goal
        self._error = 0.0  # running mean
        self._due = _GOVERNED[0]
        self.bpp = 0.0
        if goal.bpp is not None:
            trainer.price = (_TYPICAL_BPP / goal.bpp) ** 2

    def on_step(self, moment: Moment, report: Report) -> None:
        assert isinstance(report, ValueStep)
        share = 0.02 if moment.step > 50 else 0.2
        self._error += share * (report.mse - self._error)
        if moment.step == 1:
            self.bpp = self._trainer.bits_per_pixel
        if self._due <= moment.progress < _GOVERNED[1]:
            self._due = moment.progress + _GOVERNED[2]
            self._govern()

    def _govern(self) -> None:
        """The rate falls about with the price's root, a dB costs about 0.8 of its logarithm."""
        trainer = self._trainer
        numbers = numbers_of(trainer.field, trainer.rules)
        n_bytes = len(encode_group(trainer.field.config, numbers, trainer.rules))
        self.bpp = 8 * n_bytes / trainer.data.frames[..., 0].numel()
        excess = 0.0
        if self._goal.bpp is not None:
            excess = 1.5 * math.log(self.bpp / self._goal.bpp)
        elif self._goal.psnr is not None:
            field = field_of(trainer.field.config, numbers, trainer.rules)
            excess = 0.8 * (_psnr_of_some(field, trainer.data) - self._goal.psnr)
        trainer.price *= math.exp(max(-1.0, min(1.0, excess)))

    @property
    def psnr(self) -> float:
        """Of recent steps, dB."""
        return -10 * math.log10(max(self._error, 1e-10))


def _psnr_of_some(field: AnyVideo, video: Video) -> float:
    """Mean over a few frames, evenly spread."""
    chosen = sorted({k * len(video) // _LOOKED_AT for k in range(_LOOKED_AT)})
    scores = []
    for index in chosen:
        frame = render_frame(field, field.time_of(index)).clamp(0, 1)
        scores.append(psnr(frame, video.frames[index].float() / 255))
    return sum(scores) / len(scores)


@dataclass(frozen=True)
class _Until(Budget):
    """A budget that is used up when somebody says so."""

    stop: Event | None = field(default=None, compare=False)

    def progress(self, step: int, seconds: float) -> float:
        """See `Budget.progress`."""
        stopped = self.stop is not None and self.stop.is_set() and step >= _FEW
        return 1.0 if stopped else super().progress(step, seconds)


def fit_groups(
    videos: Sequence[Video],
    order: Order,
    workers: int,
    report: Callable[[GroupProgress], None],
) -> list[CodedGroup]:
    """Fit every group, `workers` at a time in processes of their own, or one here.

    Ctrl-C ends the groups that are being fitted and leaves a few steps for the others.
    """
    if len(videos) == 1 or workers == 1:
        coded: list[CodedGroup] = []
        for number, video in enumerate(videos):
            stopped = any(each.interrupted for each in coded)
            budget = Budget(steps=_FEW) if stopped else order.budget
            coded.append(_fitted(number, video, order, budget, report))
        return coded
    context = torch_multiprocessing.get_context("spawn")
    with context.Manager() as manager:
        stop, reports = manager.Event(), manager.Queue()
        threads = max(1, _core.num_threads() // workers)
        with ProcessPoolExecutor(workers, context, _begin, (threads,)) as pool:
            jobs = [
                pool.submit(_in_worker, number, video, order, stop, reports)
                for number, video in enumerate(videos)
            ]
            return _awaited(jobs, stop, reports, report)


def _awaited(
    jobs: list[Future[CodedGroup]],
    stop: Any,
    reports: Any,
    report: Callable[[GroupProgress], None],
) -> list[CodedGroup]:
    """All results; passes reports on and Ctrl-C to the workers."""
    while not all(job.done() for job in jobs):
        try:
            report(reports.get(timeout=_WAIT_S))
        except queue.Empty:
            continue
        except KeyboardInterrupt:
            if stop.is_set():
                raise
            stop.set()
    return [job.result() for job in jobs]


def _begin(threads: int) -> None:
    """A worker leaves Ctrl-C to its parent, which says when to stop."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _core.set_num_threads(threads)
    torch.set_num_threads(threads)


def _in_worker(number: int, video: Video, order: Order, stop: Any, reports: Any) -> CodedGroup:
    said = time.perf_counter()

    def report(at: GroupProgress) -> None:
        nonlocal said
        if time.perf_counter() - said > _WAIT_S:
            said = time.perf_counter()
            reports.put(at)

    budget = _Until(order.budget.steps, order.budget.seconds, stop)
    coded = _fitted(number, video, order, budget, report)
    return CodedGroup(coded.data, coded.interrupted or stop.is_set())


def _fitted(
    number: int,
    video: Video,
    order: Order,
    budget: Budget,
    report: Callable[[GroupProgress], None],
) -> CodedGroup:
    trainer, spent = _trainer(video, order)
    governor = _Governor(trainer, order.goal)

    def on_step(moment: Moment, step: Report) -> None:
        governor.on_step(moment, step)
        report(GroupProgress(number, moment.progress, governor.psnr, governor.bpp))

    if budget.seconds is not None and spent >= budget.seconds:
        raise InputError(
            f"--seconds: looking for motion took {spent:.1f} of {budget.seconds:.1f} s of a group, "
            "which leaves none for fitting; give more."
        )
    _, interrupted = run_loop(trainer, budget, seconds=spent, on_step=on_step)
    numbers = numbers_of(trainer.field, trainer.rules)
    return CodedGroup(encode_group(trainer.field.config, numbers, trainer.rules), interrupted)


def _trainer(part: Video, order: Order) -> tuple[AnyTrainer, float]:
    """A trainer, and the seconds that looking for motion took."""
    if order.field == FrameNetwork.name:
        shape, _ = frames_setup(part, modulate=order.modulate)
        check_size(shape)
        chosen = changed_options(FramesCodecOptions(**_FRAMES_USUAL), order.changes)
        return FramesCodecTrainer(shape, part, chosen, order.rules, order.seed), 0.0
    began = time.perf_counter()
    cells = motion_cells(part)
    motion = None if cells is None else estimate_motion(part.frames, *cells)
    config, usual = video_setup(part, "pyramid", "default", motion)
    config = with_choices(config, "float32", order.modulate or "none", 32)
    options: CodecOptions = changed_options(
        CodecOptions(**{**asdict(usual), **_USUAL}), order.changes
    )
    check_size(config)
    trainer = CodecTrainer(config, part, options, order.rules, order.seed, motion)
    return trainer, time.perf_counter() - began


__all__ = ["FIELDS", "CodedGroup", "Goal", "GroupProgress", "Order", "fit_groups"]
