"""A run in training as something to look at: copies of its averaged weights, and its controls."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from neural_fields.fields import FieldFile
from neural_fields.training.checkpoint import FieldTrainer
from neural_fields.training.loop import Control
from neural_fields.training.run import Progress
from neural_fields.viewer.library import Entry, Opened
from neural_fields.viewer.shown import shown

NAME = "in training"
COPY_S = 2.0  # between copies


class _Copy(NamedTuple):
    """A copy, and its number."""

    number: int
    opened: Opened


class LiveRun:
    """What a window needs of a run, and what the run has to call.

    The run's thread makes a copy of the averaged weights now and then, while `watched()` is true;
    nobody else touches the run. So a window, or its end, changes nothing but when checkpoints are
    written.

    Attributes:
        control: of the run; give it to `nf.fit`.
        about: a line on where the run is.
    """

    def __init__(self, path: Path, watched: Callable[[], bool]) -> None:
        self.control = Control()
        self.about = "preparing"
        self._path, self._watched = path, watched
        self._trainer: FieldTrainer | None = None
        self._scene: dict[str, Any] = {}
        self._copied_at = float("-inf")
        self._lock = threading.Lock()
        self._copy: _Copy | None = None

    def start(self, trainer: FieldTrainer, scene: dict[str, Any]) -> None:
        """For `on_start` of `nf.fit`: the trainer, and what the file will say of the scene."""
        self._trainer, self._scene = trainer, scene
        self._make_copy()

    def step(self, progress: Progress) -> None:
        """For `on_progress` of `nf.fit`."""
        at = progress.moment
        done = f"step {at.step}, {at.seconds:.0f} s, {100 * at.progress:.0f} %"
        speed = f"{progress.samples_per_s / 1e6:.2f} M samples/s"
        self.about = f"{done}: {progress.psnr:.2f} dB, {speed}"
        due = time.monotonic() - self._copied_at >= COPY_S
        if at.progress >= 1 or (due and self._watched()):
            self._make_copy()

    def _make_copy(self) -> None:
        assert self._trainer is not None
        field = self._trainer.averaged_field()
        content = FieldFile(field.kind, field.config.to_dict(), {}, scene=self._scene)
        with self._lock:
            number = 0 if self._copy is None else self._copy.number + 1
            entry = Entry(NAME, self._path, (number, 0), field.kind, field.architecture)
            self._copy = _Copy(number, Opened(entry, content, shown(field, content)))
        self._copied_at = time.monotonic()

    def entry(self) -> Entry | None:
        """The newest copy's, or None before there is one."""
        with self._lock:
            return None if self._copy is None else self._copy.opened.entry

    def open(self) -> Opened | None:
        """The newest copy."""
        with self._lock:
            return None if self._copy is None else self._copy.opened
