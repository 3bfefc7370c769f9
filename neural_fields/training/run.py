"""A run from the first step to the file: budget, checkpoints, curve and summary."""

from __future__ import annotations

import math
import os
import platform
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import torch
from torch import Tensor

from neural_fields import _core
from neural_fields.errors import InputError
from neural_fields.fields import read_field_file
from neural_fields.fields.load import Field, as_kept_
from neural_fields.ops import chosen_device, device_of, device_text
from neural_fields.training.budget import Budget
from neural_fields.training.checkpoint import (
    Description,
    FieldTrainer,
    checkpoint_path,
    restore_run,
    write_run,
)
from neural_fields.training.loop import Control, Moment, Report, run_loop

_VERSION = "0.1.0.dev0"
_HISTORY = 200  # points of the training curve that a file keeps


@dataclass(frozen=True)
class Run:
    """A finished or interrupted run.

    Attributes:
        field: the field with averaged weights, on the CPU like one that is loaded.
        output: the file it was written to, or None.
        interrupted: whether Ctrl-C ended it.
        summary: `field, kind, architecture, params, steps, seconds, train_samples, psnr_train,
            device, output`.
    """

    field: Field
    output: Path | None
    interrupted: bool
    summary: dict[str, Any]


@dataclass(frozen=True)
class Progress:
    """What a caller may show while training: see `Moment`; psnr is of recent training samples."""

    moment: Moment
    psnr: float
    samples_per_s: float


@dataclass(frozen=True)
class Plan:
    """How a run goes and where it is written.

    Attributes:
        path: of the `.nf` file, or None.
        budget: steps or seconds.
        about: what the file says besides the field.
        resume: go on from the checkpoint beside `path`.
        save_every: trained seconds between checkpoints.
        thumbnail: makes the file's picture when the run is over.
        spent: of the budget before the first step, seconds.
        control: what whoever watches asks of the run, or None.
    """

    path: Path | None
    budget: Budget
    about: Description
    resume: bool
    save_every: float
    thumbnail: Callable[[], Tensor]
    spent: float = 0.0
    control: Control | None = None


class MeasuredReport(Report, Protocol):
    """What the training curve needs of a step."""

    @property
    def mse(self) -> float:
        """Mean squared error of the step."""
        ...

    @property
    def n_rays(self) -> int:
        """Rays or pixels that it is of."""
        ...


def run_plan(
    trainer: FieldTrainer, plan: Plan, on_progress: Callable[[Progress], None] | None = None
) -> Run:
    """Train, write the checkpoint and the field, and say what was done.

    Raises:
        InputError: there is no checkpoint to resume, or it does not fit.
        TrainingError: the loss or a parameter became non-finite; the last good file is kept.
    """
    path, about, trained = plan.path, plan.about, plan.spent
    history: list[list[float]] = []
    if plan.resume:
        checkpoint = _existing_checkpoint(path)
        trained = restore_run(checkpoint, trainer, about)
        history = read_field_file(checkpoint).metrics.get("history", [])
    watch = _Watch(trainer, history, on_progress)

    def save(at: float) -> None:
        if path is not None:
            write_run(
                checkpoint_path(path), trainer, about, watch.record(at), resumable=True, seconds=at
            )

    moment, interrupted = run_loop(
        trainer,
        plan.budget,
        seconds=trained,
        on_step=watch.on_step,
        save=save,
        save_every_s=plan.save_every,
        control=plan.control,
    )
    if path is not None:
        if not interrupted:
            save(moment.seconds)
        write_run(
            path,
            trainer,
            about,
            watch.record(moment.seconds),
            resumable=False,
            seconds=moment.seconds,
            thumbnail=plan.thumbnail(),
        )
    field = as_kept_(trainer.averaged_field()).cpu()
    summary = {
        "field": str(path) if path else None,
        "kind": field.kind,
        "architecture": field.architecture,
        "params": field.n_params,
        **watch.metrics(moment.seconds),
        "device": device_text(device_of(trainer.field)),
        "output": str(path) if path else None,
    }
    return Run(field, path, interrupted, summary)


def device_for(name: str, precision: str) -> torch.device:
    """The device of a run, see `chosen_device`; bfloat16 is the CPU's."""
    device = chosen_device("cpu" if name == "auto" and precision != "float32" else name)
    if device.type != "cpu" and precision != "float32":
        raise InputError(
            f"--device {device}: needs networks of float32; those of {precision} are computed "
            "on the CPU."
        )
    return device


def device_of_field(name: str, field: Field) -> torch.device:
    """The device that a field is used on, see `device_for`."""
    return device_for(name, getattr(field.config, "precision", "float32"))


def checked_output(output: str | os.PathLike[str] | None, resume: bool) -> Path | None:
    """An output file that can be written, and resumed; raises InputError before any work."""
    path = None if output is None else Path(output)
    if resume:
        _existing_checkpoint(path)
    if path is None:
        return None
    if path.suffix != ".nf":
        raise InputError(f"-o {path}: needs a name that ends in .nf, such as {path.stem}.nf.")
    if path.is_dir():
        raise InputError(f"-o {path}: needs a file name, got a folder.")
    folder = path.parent
    if not folder.is_dir():
        raise InputError(f"-o {path}: its folder {folder} does not exist; create it first.")
    if not os.access(folder, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise InputError(f"-o {path}: is not writable; choose another place.")
    return path


Options = TypeVar("Options", bound=Any)


def changed_options(training: Options, changes: dict[str, Any]) -> Options:
    """A dataclass of plain values with some of them changed; raises InputError.

    Numbers are positive, but for those that the class lists as `ANY_NUMBER`.
    """
    known = asdict(training)
    any_number: frozenset[str] = getattr(training, "ANY_NUMBER", frozenset())
    for name, value in changes.items():
        if name not in known:
            raise InputError(f"options: needs one of {', '.join(known)}, got {name!r}.")
        if isinstance(known[name], str | bool):
            if type(value) is not type(known[name]):
                wanted = "a word" if isinstance(known[name], str) else "true or false"
                raise InputError(f"options: {name} needs {wanted}, got {value!r}.")
            known[name] = value
            continue
        kind = int if isinstance(known[name], int) else (int, float)
        low = -math.inf if name in any_number else 0
        if isinstance(value, bool) or not isinstance(value, kind) or not low < value < math.inf:
            number = "whole number" if kind is int else "number"
            positive = "finite" if name in any_number else "positive"
            raise InputError(f"options: {name} needs a {positive} {number}, got {value!r}.")
        known[name] = type(known[name])(value)
    return replace(training, **known)


def provenance(seed: int, preset: str, training: Any, fingerprint: str) -> dict[str, Any]:
    """Where a file is from: command, options, versions, fingerprint of the data."""
    return {
        "command": " ".join(["nf", *sys.argv[1:]]) if sys.argv[0].endswith("nf") else None,
        "seed": seed,
        "preset": preset,
        "training": asdict(training),
        "fingerprint": fingerprint,
        "versions": {
            "neural_fields": _VERSION,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "isa": _core.active_isa(),
    }


def _existing_checkpoint(path: Path | None) -> Path:
    if path is None:
        raise InputError("--resume: needs an output, whose checkpoint training goes on from.")
    checkpoint = checkpoint_path(path)
    if not checkpoint.is_file():
        raise InputError(f"--resume: needs the checkpoint {checkpoint}, but there is none.")
    return checkpoint


class _Watch:
    """Running figures of a run; `history` are [seconds, psnr] of the part before a resume."""

    def __init__(
        self,
        trainer: FieldTrainer,
        history: list[list[float]],
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self._trainer = trainer
        self._history = list(history)
        self._noted_at = 0.0  # progress
        self._recent: deque[MeasuredReport] = deque(maxlen=200)
        self._started = (time.perf_counter(), trainer.n_samples)
        self._on_progress = on_progress

    def on_step(self, moment: Moment, report: Report) -> None:
        self._recent.append(cast(MeasuredReport, report))
        if moment.progress - self._noted_at >= 1 / _HISTORY or moment.progress >= 1:
            self._noted_at = moment.progress
            self._history.append([round(moment.seconds, 3), round(self.psnr(), 3)])
        if self._on_progress is not None:
            began, samples = self._started
            rate = (self._trainer.n_samples - samples) / max(time.perf_counter() - began, 1e-9)
            self._on_progress(Progress(moment, self.psnr(), rate))

    def psnr(self) -> float:
        """Of the last 200 steps; radiance fields train over random backgrounds."""
        rays = sum(report.n_rays for report in self._recent)
        error = sum(report.mse * report.n_rays for report in self._recent)
        return -10 * math.log10(error / rays) if rays and error > 0 else 0.0

    def metrics(self, seconds: float) -> dict[str, Any]:
        return {
            "steps": self._trainer.step_number,
            "seconds": seconds,
            "train_samples": self._trainer.n_samples,
            "psnr_train": self.psnr(),
        }

    def record(self, seconds: float) -> dict[str, Any]:
        """What the file keeps: the metrics, and `history`, [seconds, psnr] over the run."""
        return {**self.metrics(seconds), "history": self._history}
