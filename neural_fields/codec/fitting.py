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

import torch.multiprocessing as torch_multiprocessing

from neural_fields import _core
from neural_fields.codec.group import Rules, encode_group, numbers_of
from neural_fields.codec.trainer import CodecOptions, CodecTrainer
from neural_fields.data.video import Video
from neural_fields.errors import InputError
from neural_fields.training.budget import Budget
from neural_fields.training.loop import Moment, Report, run_loop
from neural_fields.training.motion import estimate_motion
from neural_fields.training.presets import motion_cells, video_setup, with_choices
from neural_fields.training.run import changed_options
from neural_fields.training.values import ValueStep

_PULL = 10.0  # of the price's logarithm over a run, per unit of how far the goal is away
_GOVERNED = (0.1, 0.95)  # part of the run in which the price moves
_TYPICAL_BPP = 0.0035  # at a price of 1; it falls with the price's root
_FEW = 60  # steps of a group whose turn comes after Ctrl-C, so that the file is whole
_USUAL: dict[str, Any] = {"batch_pixels": 1 << 17, "grid_rate": 0.1, "matrix_rate": 5e-3}
_WAIT_S = 0.2
_BITS_OF_PARAMETER = 5.5  # of the network, as coded
_BITS_OF_TABLES = 9600


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

    goal: Goal
    rules: Rules
    budget: Budget
    modulate: str
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
    """Moves the price of a bit until a goal is met."""

    def __init__(self, trainer: CodecTrainer, goal: Goal) -> None:
        self._trainer, self._goal = trainer, goal
        self._error, self._rate, self._progress = 0.0, 0.0, 0.0  # the first two running means
        if goal.bpp is not None:
            trainer.price = (_TYPICAL_BPP / goal.bpp) ** 2
        n_params = trainer.network.n_params
        n_frames, height, width = trainer.data.frames.shape[:3]
        self._fixed = (_BITS_OF_PARAMETER * n_params + _BITS_OF_TABLES) / (
            n_frames * height * width
        )

    def on_step(self, moment: Moment, report: Report) -> None:
        assert isinstance(report, ValueStep)
        mse, rate = report.mse, self._trainer.bits_per_pixel + self._fixed
        share = 0.02 if moment.step > 50 else 0.2
        self._error += share * (mse - self._error)
        self._rate += share * (rate - self._rate)
        passed, self._progress = moment.progress - self._progress, moment.progress
        if _GOVERNED[0] < moment.progress < _GOVERNED[1]:
            self._trainer.price *= math.exp(_PULL * passed * self._too_dear())

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


def _trainer(part: Video, order: Order) -> tuple[CodecTrainer, float]:
    """A trainer, and the seconds that looking for motion took."""
    began = time.perf_counter()
    cells = motion_cells(part)
    motion = None if cells is None else estimate_motion(part.frames, *cells)
    config, usual = video_setup(part, "pyramid", "default", motion)
    config = with_choices(config, "float32", order.modulate, 32)
    options: CodecOptions = changed_options(
        CodecOptions(**{**asdict(usual), **_USUAL}), order.changes
    )
    trainer = CodecTrainer(config, part, options, order.rules, order.seed, motion)
    return trainer, time.perf_counter() - began


__all__ = ["CodedGroup", "Goal", "GroupProgress", "Order", "fit_groups"]
