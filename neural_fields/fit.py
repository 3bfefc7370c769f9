"""Fitting fields to data: `nf.fit.nerf`."""

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
from typing import Any, cast, get_args

import torch
from torch import Tensor

from neural_fields import _core
from neural_fields.data.dataset import Dataset, load_dataset
from neural_fields.errors import InputError
from neural_fields.fields import RadianceField, read_field_file
from neural_fields.ops import Precision
from neural_fields.rendering.volume import over, render_view
from neural_fields.training.budget import Budget
from neural_fields.training.checkpoint import (
    Description,
    checkpoint_path,
    restore_run,
    write_run,
)
from neural_fields.training.loop import Moment, Report, run_loop
from neural_fields.training.nerf import NerfOptions, NerfTrainer, StepReport
from neural_fields.training.presets import radiance_setup

DEFAULT_SECONDS = 60.0
_VERSION = "0.1.0.dev0"
_HISTORY = 200  # points of the training curve that a file keeps


@dataclass(frozen=True)
class Run:
    """A finished or interrupted run.

    Attributes:
        field: the field with averaged weights.
        output: the file it was written to, or None.
        interrupted: whether Ctrl-C ended it.
        summary: `field, kind, architecture, params, steps, seconds, train_samples, psnr_train,
            device, output`.
    """

    field: RadianceField
    output: Path | None
    interrupted: bool
    summary: dict[str, Any]


@dataclass(frozen=True)
class Progress:
    """What a caller may show while training: see `Moment`; psnr is of recent training rays."""

    moment: Moment
    psnr: float
    samples_per_s: float


def nerf(
    data: str | os.PathLike[str] | Dataset,
    output: str | os.PathLike[str] | None = None,
    *,
    preset: str = "default",
    precision: str = "float32",
    background: str = "auto",
    downscale: int = 1,
    seconds: float | None = None,
    steps: int | None = None,
    seed: int = 0,
    resume: bool = False,
    options: dict[str, Any] | None = None,
    save_every: float = 60.0,
    on_progress: Callable[[Progress], None] | None = None,
    on_start: Callable[[NerfTrainer, Dataset], None] | None = None,
) -> Run:
    """Fit a radiance field to posed photographs.

    Args:
        data: a folder (see docs/data.md), or a loaded training split.
        output: where the `.nf` file goes; None keeps the field in memory. A checkpoint lies
            beside it while training.
        preset: `default`, `ngp` or `ngp16`; see `neural_fields.training.presets`.
        precision: of the networks' products: `float32`, or `bf16`, which is faster and rounds.
        background: `auto`, `white`, `black`, `random` or `R,G,B`: what pictures are scored over.
        downscale: box-average the photographs by this factor.
        seconds: trained seconds; 60 where neither it nor `steps` is given.
        steps: number of steps; repeats bit for bit on one machine and path.
        seed: of every random choice.
        resume: go on from the checkpoint beside `output`.
        options: fields of `NerfOptions` to change.
        save_every: trained seconds between checkpoints.
        on_progress: called after every step.
        on_start: called once, when data and trainer are ready.

    Raises:
        InputError: data, output or an option is at fault.
        TrainingError: the loss or a parameter became non-finite; the last good file is kept.

    Example:
        >>> run = nerf("lego", "lego.nf", seconds=60)  # doctest: +SKIP
        >>> run.summary["psnr_train"]  # doctest: +SKIP
    """
    if seconds is None and steps is None:
        seconds = DEFAULT_SECONDS
    budget = Budget(steps=steps, seconds=seconds)
    if not 0 <= seed < 1 << 63:
        raise InputError(f"--seed: needs a whole number from 0 to 2^63 - 1, got {seed}.")
    if not save_every > 0:
        raise InputError(f"--save-every: needs a positive number of seconds, got {save_every}.")
    path = None if output is None else checked_output(Path(output))
    if not isinstance(data, Dataset):
        data = load_dataset(data, "train", downscale, background)
    config, training = radiance_setup(data, preset)
    config = replace(config, precision=checked_precision(precision))
    training = _with_options(training, options or {})
    trainer = NerfTrainer(config, data, training, seed)
    about = _description(data, trainer, preset)
    trained = 0.0
    history: list[list[float]] = []
    if resume:
        checkpoint = _existing_checkpoint(path)
        trained = restore_run(checkpoint, trainer, about)
        history = read_field_file(checkpoint).metrics.get("history", [])
    if on_start is not None:
        on_start(trainer, data)
    watch = _Watch(trainer, history, on_progress)

    def save(at: float) -> None:
        if path is not None:
            write_run(
                checkpoint_path(path), trainer, about, watch.record(at), resumable=True, seconds=at
            )

    moment, interrupted = run_loop(
        trainer,
        budget,
        seconds=trained,
        on_step=watch.on_step,
        save=save,
        save_every_s=save_every,
    )
    if path is not None:
        if not interrupted:
            save(moment.seconds)
        picture = _thumbnail(trainer, data)
        write_run(
            path,
            trainer,
            about,
            watch.record(moment.seconds),
            resumable=False,
            seconds=moment.seconds,
            thumbnail=picture,
        )
    field = trainer.averaged_field()
    summary = {
        "field": str(path) if path else None,
        "kind": field.kind,
        "architecture": field.architecture,
        "params": field.n_params,
        **watch.metrics(moment.seconds),
        "device": f"cpu ({_core.active_isa()}, {_core.num_threads()} threads)",
        "output": str(path) if path else None,
    }
    return Run(field, path, interrupted, summary)


def checked_precision(name: str) -> Precision:
    """One of the two names; raises InputError for any other."""
    for known in get_args(Precision):
        if name == known:
            return cast(Precision, known)
    raise InputError(f"--precision: needs float32 or bf16, got {name!r}.")


def checked_output(path: Path) -> Path:
    """An output file that can be written; raises InputError before any work is done."""
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


def _existing_checkpoint(path: Path | None) -> Path:
    if path is None:
        raise InputError("--resume: needs an output, whose checkpoint training goes on from.")
    checkpoint = checkpoint_path(path)
    if not checkpoint.is_file():
        raise InputError(f"--resume: needs the checkpoint {checkpoint}, but there is none.")
    return checkpoint


def _with_options(training: NerfOptions, changes: dict[str, Any]) -> NerfOptions:
    known = asdict(training)
    for name, value in changes.items():
        if name not in known:
            raise InputError(f"options: needs one of {', '.join(known)}, got {name!r}.")
        kind = int if isinstance(known[name], int) else (int, float)
        if isinstance(value, bool) or not isinstance(value, kind) or not 0 < value < math.inf:
            number = "whole number" if kind is int else "number"
            raise InputError(f"options: {name} needs a positive {number}, got {value!r}.")
        known[name] = type(known[name])(value)
    return NerfOptions(**known)


def _description(data: Dataset, trainer: NerfTrainer, preset: str) -> Description:
    field = trainer.field
    background = None if data.background is None else data.background.tolist()
    return Description(
        scene={
            "box": data.aabb.tolist(),
            "box_rule": data.box_rule,
            "unit": field.unit,
            "background": background,
            "cameras": data.cameras.to_json(),
            "to_input": torch.eye(4).tolist(),
        },
        protocol=dict(data.protocol),
        provenance={
            "command": " ".join(["nf", *sys.argv[1:]]) if sys.argv[0].endswith("nf") else None,
            "seed": trainer.seed,
            "preset": preset,
            "training": asdict(trainer.options),
            "fingerprint": data.fingerprint,
            "versions": {
                "neural_fields": _VERSION,
                "torch": torch.__version__,
                "python": platform.python_version(),
            },
            "isa": _core.active_isa(),
        },
    )


class _Watch:
    """Running figures of a run; `history` are [seconds, psnr] of the part before a resume."""

    def __init__(
        self,
        trainer: NerfTrainer,
        history: list[list[float]],
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self._trainer = trainer
        self._history = list(history)
        self._noted_at = 0.0  # progress
        self._recent: deque[StepReport] = deque(maxlen=200)
        self._started = (time.perf_counter(), trainer.n_samples)
        self._on_progress = on_progress

    def on_step(self, moment: Moment, report: Report) -> None:
        assert isinstance(report, StepReport)
        self._recent.append(report)
        if moment.progress - self._noted_at >= 1 / _HISTORY or moment.progress >= 1:
            self._noted_at = moment.progress
            self._history.append([round(moment.seconds, 3), round(self.psnr(), 3)])
        if self._on_progress is not None:
            began, samples = self._started
            rate = (self._trainer.n_samples - samples) / max(time.perf_counter() - began, 1e-9)
            self._on_progress(Progress(moment, self.psnr(), rate))

    def psnr(self) -> float:
        """Of the rays of the last 200 steps, over random backgrounds."""
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


def _thumbnail(trainer: NerfTrainer, data: Dataset) -> Tensor:
    """uint8 [h, w, 3]: the first training view, at most 128 pixels a side."""
    factor = max(1, -(-max(data.cameras.width, data.cameras.height) // 128))
    cameras = data.cameras[0:1].downscaled(factor)
    background = data.background if data.background is not None else torch.zeros(3)
    picture = over(render_view(trainer.averaged_field(), cameras), background)
    return (picture * 255).round().to(torch.uint8)
