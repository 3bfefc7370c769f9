"""Fitting to a video: `nf.fit.video`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from torch import Tensor

from neural_fields.data.video import Video, load_video
from neural_fields.decoders.frames import FrameNetwork
from neural_fields.errors import InputError
from neural_fields.fit.common import budget_of, check_numbers, field_with_note
from neural_fields.spectra.applied import frequencies
from neural_fields.training.budget import Budget
from neural_fields.training.checkpoint import Description
from neural_fields.training.frames import FramesTrainer
from neural_fields.training.loop import Control
from neural_fields.training.motion import estimate_motion
from neural_fields.training.presets import (
    frames_setup,
    motion_cells,
    video_setup,
    with_choices,
)
from neural_fields.training.run import (
    Plan,
    Progress,
    Run,
    changed_options,
    checked_output,
    device_for,
    provenance,
    run_plan,
)
from neural_fields.training.tcnn import FieldChoice
from neural_fields.training.thumbnail import of_video
from neural_fields.training.video import VideoOptions, VideoTrainer


def video(
    data: str | os.PathLike[str] | Video,
    output: str | os.PathLike[str] | None = None,
    *,
    field: FieldChoice = "pyramid",
    preset: str = "default",
    modulate: str | None = None,
    precision: str = "float32",
    bits: int = 32,
    fresh: bool = False,
    motion: bool = True,
    downscale: int = 1,
    seconds: float | None = None,
    steps: int | None = None,
    seed: int = 0,
    resume: bool = False,
    options: dict[str, Any] | None = None,
    save_every: float = 60.0,
    device: str = "auto",
    on_load: Callable[[Video], None] | None = None,
    on_choice: Callable[[dict[str, Any]], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    control: Control | None = None,
    on_start: Callable[[VideoTrainer | FramesTrainer, Video], None] | None = None,
) -> Run:
    """Fit a video field to a video.

    Args:
        data: a file that FFmpeg reads, or a loaded video.
        output: as for `nerf`.
        field: as for `nerf`, or `ffnerv`, a convolutional network that makes whole frames; see
            docs/video.md.
        preset: `default`, or one of the architecture's; of `ffnerv` also `paper`.
        modulate: `none`, or coordinate-aware modulation by `time`; None: by `time`, where hidden
            channels can be modulated one by one.
        precision: of the networks' products: `float32`, or `bf16`, which is faster and rounds.
        bits: of a kept weight: 32, or 8 for small files.
        fresh: let FreSh choose the architecture's frequencies and how fast time runs; its time
            counts as trained.
        motion: whether positions move with time; where to is first estimated from the frames,
            which counts as trained.
        downscale: box-average the frames by this factor.
        seconds: trained seconds; `default_seconds` where neither it nor `steps` is given.
        steps: number of steps; repeats bit for bit on one machine and path.
        seed: of every random choice.
        resume: go on from the checkpoint beside `output`.
        options: fields of `VideoOptions`, or of `FramesOptions`, to change.
        save_every: trained seconds between checkpoints.
        device: `cpu`, `cuda`, `cuda:1` and so on, or `auto`: a GPU where one can be used.
        on_load: called once with the video, before motion is estimated.
        on_choice: called with what FreSh chose and why, once for space and once for time.
        on_progress: called after every step.
        control: pauses the run and asks it for checkpoints, from any thread.
        on_start: called once, when data and trainer are ready.

    Raises:
        InputError: the video, output or an option is at fault.
        TrainingError: the loss or a parameter became non-finite; the last good file is kept.

    Example:
        >>> run = video("clip.mp4", "clip.nf")  # doctest: +SKIP
        >>> run.field.at(0.5).value(positions)  # doctest: +SKIP
    """
    check_numbers(seed, save_every)
    place = device_for(device, precision)
    chosen = field_with_note(field, also=(FrameNetwork.name,))
    whole = chosen == FrameNetwork.name
    budget = budget_of("video", chosen, preset, steps, seconds)
    path = checked_output(output, resume)
    if not isinstance(data, Video):
        data = load_video(data, downscale)
    if on_load is not None:
        on_load(data)
    trainer: FramesTrainer | VideoTrainer
    spent, record = 0.0, dict[str, Any]()
    if whole:
        _refuse_of_frames(precision, motion, fresh)
        setup = frames_setup(data, preset, modulate, bits)
        trainer = FramesTrainer(
            setup[0], data, changed_options(setup[1], options or {}), seed, place
        )
    else:
        displacements, spent = _displacements(data, budget, motion)
        config, training = video_setup(data, chosen, preset, displacements)
        config = with_choices(config, precision, modulate, bits)
        begun = path if resume else None
        config, record, seconds_of_choice = frequencies(
            config, data, fresh, begun, budget, on_choice, motion=displacements, spent=spent
        )
        spent += seconds_of_choice
        changed: VideoOptions = changed_options(training, options or {})
        trainer = VideoTrainer(config, data, changed, seed, displacements, place)
    about = Description(
        scene={"fps": float(data.fps), "times": list(data.times)},
        protocol=dict(data.protocol),
        provenance=provenance(seed, preset, trainer.options, data.fingerprint) | record,
    )
    if on_start is not None:
        on_start(trainer, data)

    def thumbnail() -> Tensor:
        return of_video(trainer.averaged_field())

    plan = Plan(path, budget, about, resume, save_every, thumbnail, spent, control)
    return run_plan(trainer, plan, on_progress)


def _refuse_of_frames(precision: str, motion: bool, fresh: bool) -> None:
    if precision != "float32":
        raise InputError(f"--precision {precision}: {FrameNetwork.name} needs float32.")
    for flag, given in (("--no-motion", not motion), ("--fresh", fresh)):
        if given:
            raise InputError(f"{flag}: does not apply to {FrameNetwork.name}; leave it out.")


def _displacements(data: Video, budget: Budget, motion: bool) -> tuple[Tensor | None, float]:
    """Estimated displacements, where any are wanted, and the seconds that it took."""
    began = time.perf_counter()
    cells = motion_cells(data) if motion else None
    displacements = None if cells is None else estimate_motion(data.frames, *cells)
    spent = time.perf_counter() - began
    if budget.seconds is not None and spent >= budget.seconds:
        raise InputError(
            f"--seconds {budget.seconds:g}: estimating motion took {spent:.1f} s, which leaves "
            "none for training; give more, or leave motion out (--no-motion)."
        )
    return displacements, spent
