"""The loop that every trainer runs in: budget, checkpoints, stopping."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import FrameType
from typing import Protocol

from neural_fields.errors import TrainingError
from neural_fields.ops.threads import one_torch_thread
from neural_fields.training.budget import Budget

_PAUSE_S = 0.05  # between looks at whether a pause is over


class Report(Protocol):
    """What a step reports."""

    @property
    def loss(self) -> float:
        """Mean loss of the step."""
        ...


class Trainer(Protocol):
    """What the loop needs of a trainer.

    One whose time goes into torch's own operations says so: `convolves = True`. One whose steps
    may still be under way when they return has `settle() -> float`: wait for them; their loss.
    """

    step_number: int

    def step(self, progress: float) -> Report:
        """One update."""
        ...

    def check_finite(self) -> None:
        """Raise TrainingError naming the first parameter that holds NaN or infinity."""
        ...


@dataclass(frozen=True)
class Moment:
    """Where a run is: steps done, trained seconds, progress in [0, 1]."""

    step: int
    seconds: float
    progress: float


class Control:
    """What whoever watches a run asks of it, from any thread.

    Example:
        >>> control = Control()
        >>> control.pause()
        >>> control.paused
        True
    """

    def __init__(self) -> None:
        self._paused, self._saving = threading.Event(), threading.Event()

    @property
    def paused(self) -> bool:
        """Whether the run is to wait after its step."""
        return self._paused.is_set()

    def pause(self) -> None:
        """Wait after this step; the time does not count as trained."""
        self._paused.set()

    def resume(self) -> None:
        """Go on."""
        self._paused.clear()

    def save(self) -> None:
        """Write a checkpoint after this step, or now while paused."""
        self._saving.set()

    def attend(self, ended: threading.Event, save: Callable[[], None]) -> None:
        """Between two steps, do what is asked; waiting ends when the run does."""
        while True:
            if self._saving.is_set():
                self._saving.clear()
                save()
            if not self.paused or ended.is_set():
                return
            time.sleep(_PAUSE_S)


def run_loop(
    trainer: Trainer,
    budget: Budget,
    *,
    seconds: float = 0.0,
    on_step: Callable[[Moment, Report], None] | None = None,
    save: Callable[[float], None] | None = None,
    save_every_s: float = 60.0,
    control: Control | None = None,
) -> tuple[Moment, bool]:
    """Train until the budget is used.

    Args:
        trainer: is stepped.
        budget: steps or seconds; checkpoint writing counts, what `on_step` does does not.
        seconds: trained before, by the run that is resumed.
        on_step: called after every step.
        save: writes a checkpoint; called every `save_every_s` with the trained seconds, and once
            more on Ctrl-C. The first Ctrl-C waits for the step to end, so that what is written is
            a state that an uninterrupted run passes through; a second one is not waited for.
        save_every_s: seconds between checkpoints.
        control: pauses the run and asks for checkpoints, which then count like the others.

    Returns:
        Where the run ended, and whether Ctrl-C ended it.

    Raises:
        TrainingError: the loss is not finite. Nothing is written then.
    """
    saved_at = seconds

    def settle() -> None:  # what a GPU still computes counts too
        nonlocal seconds
        began = time.perf_counter()
        _check(trainer, trainer.settle() if hasattr(trainer, "settle") else 0.0)
        seconds += time.perf_counter() - began

    def write() -> None:
        nonlocal seconds, saved_at
        if save is not None:
            settle()
            began = time.perf_counter()
            save(seconds)
            seconds += time.perf_counter() - began
            saved_at = seconds

    moment = Moment(trainer.step_number, seconds, budget.progress(trainer.step_number, seconds))
    convolves = getattr(trainer, "convolves", False)
    threads = contextlib.nullcontext() if convolves else one_torch_thread()
    with _interrupts_noted() as interrupted, threads:
        while moment.progress < 1.0 and not interrupted.is_set():
            began = time.perf_counter()
            report = trainer.step(moment.progress)
            _check(trainer, report.loss)
            seconds += time.perf_counter() - began
            if seconds - saved_at >= save_every_s:
                write()
            step = trainer.step_number
            moment = Moment(step, seconds, budget.progress(step, seconds))
            if on_step is not None:
                on_step(moment, report)
            if control is not None:
                control.attend(interrupted, write)
        settle()
        moment = replace(moment, seconds=seconds)
        if interrupted.is_set() and save is not None:
            save(seconds)
    return moment, interrupted.is_set()


def _check(trainer: Trainer, loss: float) -> None:
    if not math.isfinite(loss):
        trainer.check_finite()
        raise TrainingError(
            f"step {trainer.step_number}: the loss is {loss}; try a lower learning rate."
        )


@contextlib.contextmanager
def _interrupts_noted() -> Iterator[threading.Event]:
    """The first Ctrl-C sets the event; leaves alone what another thread or handler owns."""
    noted = threading.Event()
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield noted
        return

    def note(number: int, frame: FrameType | None) -> None:
        if noted.is_set():
            signal.default_int_handler(number, frame)
        noted.set()

    signal.signal(signal.SIGINT, note)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
