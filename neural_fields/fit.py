"""Fitting fields to data: `nf.fit.nerf`, `surface`, `dynamic`, `sdf`, `image` and `video`."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple, get_args

import torch
from torch import Tensor

from neural_fields import architectures
from neural_fields.data.dataset import Dataset, load_dataset
from neural_fields.data.mesh import Mesh, load_mesh
from neural_fields.data.picture import Picture, load_picture
from neural_fields.data.video import Video, load_video
from neural_fields.decoders.frames import FrameNetwork
from neural_fields.errors import InputError, unknown_value
from neural_fields.fields import RadianceConfig, SurfaceConfig
from neural_fields.fields.surface import Density
from neural_fields.spectra.applied import frequencies
from neural_fields.training.budget import Budget
from neural_fields.training.checkpoint import Description
from neural_fields.training.frames import FramesTrainer
from neural_fields.training.image import ImageTrainer
from neural_fields.training.loop import Control
from neural_fields.training.motion import estimate_motion
from neural_fields.training.nerf import NerfOptions, NerfTrainer
from neural_fields.training.presets import (
    dynamic_setup,
    frames_setup,
    image_setup,
    motion_cells,
    radiance_setup,
    sdf_setup,
    surface_setup,
    video_setup,
    with_choices,
)
from neural_fields.training.run import Plan, Progress, Run, checked_output, provenance, run_plan
from neural_fields.training.run import changed_options as _changed
from neural_fields.training.sdf import MeshShape, SdfTrainer
from neural_fields.training.surface import SurfaceOptions, SurfaceTrainer
from neural_fields.training.tcnn import Chosen, FieldChoice, TcnnConfig, chosen_field
from neural_fields.training.thumbnail import of_image, of_scene, of_shape, of_video
from neural_fields.training.video import VideoOptions, VideoTrainer

_SECONDS: dict[architectures.Kind, float] = {
    "radiance": 60.0,
    "image": 20.0,
    "sdf": 60.0,
    "video": 180.0,
}
_FRAMES_SECONDS = 600.0  # of a video field of whole frames

__all__ = [
    "Control",
    "Progress",
    "Run",
    "default_seconds",
    "dynamic",
    "image",
    "nerf",
    "sdf",
    "surface",
    "video",
]


def default_seconds(
    kind: architectures.Kind, field: FieldChoice = "hash", preset: str = "default"
) -> float:
    """Trained seconds where neither seconds nor steps are given.

    Example:
        >>> default_seconds("image"), default_seconds("image", "siren")
        (20.0, 180.0)
    """
    if kind == "video" and field == FrameNetwork.name:
        return _FRAMES_SECONDS
    chosen = chosen_field(field)
    made = chosen.architecture if isinstance(chosen, TcnnConfig) else chosen
    owner = architectures.get(made) if isinstance(made, str) else made
    return owner.rates(kind, preset).seconds or _SECONDS[kind]


def nerf(
    data: str | os.PathLike[str] | Dataset,
    output: str | os.PathLike[str] | None = None,
    *,
    field: FieldChoice = "hash",
    preset: str = "default",
    modulate: str = "none",
    precision: str = "float32",
    bits: int = 32,
    fresh: bool = False,
    background: str = "auto",
    downscale: int = 1,
    seconds: float | None = None,
    steps: int | None = None,
    seed: int = 0,
    resume: bool = False,
    options: dict[str, Any] | None = None,
    save_every: float = 60.0,
    on_choice: Callable[[dict[str, Any]], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    control: Control | None = None,
    on_start: Callable[[NerfTrainer, Dataset], None] | None = None,
) -> Run:
    """Fit a radiance field to posed photographs.

    Args:
        data: a folder (see docs/data.md), or a loaded training split.
        output: where the `.nf` file goes; None keeps the field in memory. A checkpoint lies
            beside it while training.
        field: the architecture's name, an `Architecture` with sizes of its own, or a file or
            dictionary of tiny-cuda-nn's JSON; see docs/architectures.md.
        preset: `default`, or one of the architecture's.
        modulate: `none`, or coordinate-aware modulation by `xyz`, `direction`,
            `direction-trunk` or `camera`.
        precision: of the networks' products: `float32`, or `bf16`, which is faster and rounds.
        bits: of a kept weight: 32, or 8 for small files.
        fresh: let FreSh choose the architecture's frequencies; its time counts as trained.
        background: `auto`, `white`, `black`, `random` or `R,G,B`: what pictures are scored over.
        downscale: box-average the photographs by this factor.
        seconds: trained seconds; 60 where neither it nor `steps` is given.
        steps: number of steps; repeats bit for bit on one machine and path.
        seed: of every random choice.
        resume: go on from the checkpoint beside `output`.
        options: fields of `NerfOptions` to change.
        save_every: trained seconds between checkpoints.
        on_choice: called once with what FreSh chose and why.
        on_progress: called after every step.
        control: pauses the run and asks it for checkpoints, from any thread.
        on_start: called once, when data and trainer are ready.

    Raises:
        InputError: data, output or an option is at fault.
        TrainingError: the loss or a parameter became non-finite; the last good file is kept.

    Example:
        >>> run = nerf("lego", "lego.nf", seconds=60)  # doctest: +SKIP
        >>> run.summary["psnr_train"]  # doctest: +SKIP
    """
    choices = _Choices(field, preset, modulate, precision, bits, fresh)
    return _fit_photographs(
        radiance_setup,
        choices,
        data,
        output,
        background=background,
        downscale=downscale,
        seconds=seconds,
        steps=steps,
        seed=seed,
        resume=resume,
        options=options,
        save_every=save_every,
        on_choice=on_choice,
        on_progress=on_progress,
        control=control,
        on_start=on_start,
    )


def dynamic(
    data: str | os.PathLike[str] | Dataset,
    output: str | os.PathLike[str] | None = None,
    *,
    field: FieldChoice = "hash",
    preset: str = "default",
    modulate: str | None = None,
    precision: str = "float32",
    bits: int = 32,
    background: str = "auto",
    downscale: int = 1,
    seconds: float | None = None,
    steps: int | None = None,
    seed: int = 0,
    resume: bool = False,
    options: dict[str, Any] | None = None,
    save_every: float = 60.0,
    on_progress: Callable[[Progress], None] | None = None,
    control: Control | None = None,
    on_start: Callable[[NerfTrainer, Dataset], None] | None = None,
) -> Run:
    """Fit a radiance field that moves to posed photographs of different times.

    Args:
        data: a folder whose frames have a `time` in [0, 1], or a loaded training split.
        output: as for `nerf`.
        field: as for `nerf`; behind a network that moves positions with time, unless the
            architecture sees time itself, as `hash` and `mlp` do.
        preset: `default`, or one of the architecture's; `nerf` of `mlp` is T-NeRF.
        modulate: `none`, or coordinate-aware modulation by `time`, or as for `nerf`; None: by
            `time`, where the architecture has hidden layers and does not see time itself.
        precision: as for `nerf`.
        bits: as for `nerf`.
        background: as for `nerf`.
        downscale: as for `nerf`.
        seconds: trained seconds; 60 where neither it nor `steps` is given.
        steps: number of steps; repeats bit for bit on one machine and path.
        seed: of every random choice.
        resume: go on from the checkpoint beside `output`.
        options: fields of `NerfOptions` to change.
        save_every: trained seconds between checkpoints.
        on_progress: called after every step.
        control: pauses the run and asks it for checkpoints, from any thread.
        on_start: called once, when data and trainer are ready.

    Raises:
        InputError: data, output or an option is at fault, or the photographs are of one time.
        TrainingError: the loss or a parameter became non-finite, or nothing of the scene is left;
            the last good file is kept.

    Example:
        >>> run = dynamic("bounce", "bounce.nf", downscale=4)  # doctest: +SKIP
        >>> run.field.at(0.5).density(positions)  # doctest: +SKIP
    """
    return _fit_photographs(
        dynamic_setup,
        _Choices(field, preset, modulate, precision, bits),
        data,
        output,
        background=background,
        downscale=downscale,
        seconds=seconds,
        steps=steps,
        seed=seed,
        resume=resume,
        options=options,
        save_every=save_every,
        on_progress=on_progress,
        control=control,
        on_start=on_start,
    )


def surface(
    data: str | os.PathLike[str] | Dataset,
    output: str | os.PathLike[str] | None = None,
    *,
    field: FieldChoice = "hash",
    preset: str = "default",
    modulate: str = "none",
    precision: str = "float32",
    bits: int = 32,
    density: Density = "volsdf",
    masks: str = "use",
    background: str = "auto",
    downscale: int = 1,
    seconds: float | None = None,
    steps: int | None = None,
    seed: int = 0,
    resume: bool = False,
    options: dict[str, Any] | None = None,
    save_every: float = 60.0,
    on_progress: Callable[[Progress], None] | None = None,
    control: Control | None = None,
    on_start: Callable[[NerfTrainer, Dataset], None] | None = None,
) -> Run:
    """Fit a signed distance field with colours to posed photographs.

    Args:
        data: as for `nerf`.
        output: as for `nerf`.
        field: as for `nerf`.
        preset: as for `nerf`.
        modulate: as for `nerf`.
        precision: as for `nerf`.
        bits: as for `nerf`.
        density: what is made of distances, `volsdf` or `neus` (see `SurfaceField`).
        masks: what mask files say: which pixels to `use`, or where the `object` is.
        background: as for `nerf`.
        downscale: as for `nerf`.
        seconds: trained seconds; 60 where neither it nor `steps` is given.
        steps: number of steps; repeats bit for bit on one machine and path.
        seed: of every random choice.
        resume: go on from the checkpoint to the same total.
        options: fields of `SurfaceOptions` to change.
        save_every: trained seconds between checkpoints.
        on_progress: called after every step.
        control: pauses the run and asks it for checkpoints, from any thread.
        on_start: called once, when data and trainer are ready.

    Raises:
        InputError: data, output or an option is at fault.
        TrainingError: the loss or a parameter became non-finite; the last good file is kept.

    Example:
        >>> run = surface("lego", "lego.nf")  # doctest: +SKIP
        >>> run.field.distance(Samples(positions))  # doctest: +SKIP
    """
    if density not in get_args(Density):
        raise InputError(unknown_value("--density", density, get_args(Density)))

    def setup(data: Dataset, field: Chosen, preset: str) -> tuple[RadianceConfig, NerfOptions]:
        config, training = surface_setup(data, field, preset)
        return replace(config, density=density), training

    return _fit_photographs(
        setup,
        _Choices(field, preset, modulate, precision, bits),
        data,
        output,
        background=background,
        downscale=downscale,
        seconds=seconds,
        steps=steps,
        seed=seed,
        resume=resume,
        options=options,
        save_every=save_every,
        on_progress=on_progress,
        control=control,
        on_start=on_start,
        masks=masks,
    )


class _Choices(NamedTuple):
    """What a radiance field is to be, rested, moving or a surface."""

    field: FieldChoice
    preset: str
    modulate: str | None
    precision: str
    bits: int
    fresh: bool = False


def _fit_photographs(
    setup: Callable[[Dataset, Chosen, str], tuple[RadianceConfig, NerfOptions]],
    choices: _Choices,
    data: str | os.PathLike[str] | Dataset,
    output: str | os.PathLike[str] | None,
    *,
    background: str,
    downscale: int,
    seconds: float | None,
    steps: int | None,
    seed: int,
    resume: bool,
    options: dict[str, Any] | None,
    save_every: float,
    on_progress: Callable[[Progress], None] | None,
    control: Control | None,
    on_start: Callable[[NerfTrainer, Dataset], None] | None,
    on_choice: Callable[[dict[str, Any]], None] | None = None,
    masks: str = "use",
) -> Run:
    """See `nerf`, `dynamic` and `surface`."""
    preset = choices.preset
    _check_numbers(seed, save_every)
    chosen = _chosen(choices.field)
    budget = _budget("radiance", chosen, preset, steps, seconds)
    path = checked_output(output, resume)
    if not isinstance(data, Dataset):
        data = load_dataset(data, "train", downscale, background, masks=masks)
    config, training = setup(data, chosen, preset)
    config = with_choices(config, choices.precision, choices.modulate, choices.bits, len(data))
    begun = path if resume else None
    config, record, spent = frequencies(config, data, choices.fresh, begun, budget, on_choice)
    training = _changed(training, options or {})
    trainer = (
        SurfaceTrainer(config, data, training, seed)
        if isinstance(config, SurfaceConfig) and isinstance(training, SurfaceOptions)
        else NerfTrainer(config, data, training, seed)
    )
    about = Description(
        scene=_scene(data, trainer),
        protocol=dict(data.protocol),
        provenance=provenance(seed, preset, trainer.options, data.fingerprint) | record,
    )
    if on_start is not None:
        on_start(trainer, data)

    def thumbnail() -> Tensor:
        return of_scene(trainer.averaged_field(), data.cameras, data.background)

    plan = Plan(path, budget, about, resume, save_every, thumbnail, spent, control)
    return run_plan(trainer, plan, on_progress)


def image(
    data: str | os.PathLike[str] | Picture,
    output: str | os.PathLike[str] | None = None,
    *,
    field: FieldChoice = "hash",
    preset: str = "default",
    modulate: str = "none",
    precision: str = "float32",
    bits: int = 32,
    fresh: bool = False,
    downscale: int = 1,
    seconds: float | None = None,
    steps: int | None = None,
    seed: int = 0,
    resume: bool = False,
    options: dict[str, Any] | None = None,
    save_every: float = 60.0,
    on_choice: Callable[[dict[str, Any]], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    control: Control | None = None,
    on_start: Callable[[ImageTrainer, Picture], None] | None = None,
) -> Run:
    """Fit an image field to a picture.

    Args:
        data: a file (PNG, JPEG, EXR, HDR, TIFF, ...), or a loaded picture.
        output: as for `nerf`.
        field: the architecture's name, an `Architecture` with sizes of its own, or a file or
            dictionary of tiny-cuda-nn's JSON; see docs/architectures.md.
        preset: `default`, or one of the architecture's.
        modulate: `none`, or coordinate-aware modulation by `xy`.
        precision: of the networks' products: `float32`, or `bf16`, which is faster and rounds.
        bits: of a kept weight: 32, or 8 for small files.
        fresh: let FreSh choose the architecture's frequencies; its time counts as trained.
        downscale: box-average the picture by this factor.
        seconds: trained seconds; `default_seconds` where neither it nor `steps` is given.
        steps: number of steps; repeats bit for bit on one machine and path.
        seed: of every random choice.
        resume: go on from the checkpoint beside `output`.
        options: fields of `ImageOptions` to change.
        save_every: trained seconds between checkpoints.
        on_choice: called once with what FreSh chose and why.
        on_progress: called after every step.
        control: pauses the run and asks it for checkpoints, from any thread.
        on_start: called once, when data and trainer are ready.

    Raises:
        InputError: the picture, output or an option is at fault.
        TrainingError: the loss or a parameter became non-finite; the last good file is kept.

    Example:
        >>> run = image("photo.png", "photo.nf")  # doctest: +SKIP
        >>> run.summary["psnr_train"]  # doctest: +SKIP
    """
    _check_numbers(seed, save_every)
    chosen = _chosen(field)
    budget = _budget("image", chosen, preset, steps, seconds)
    path = checked_output(output, resume)
    if not isinstance(data, Picture):
        data = load_picture(data, downscale)
    config, training = image_setup(data, chosen, preset)
    config = with_choices(config, precision, modulate, bits)
    begun = path if resume else None
    config, record, spent = frequencies(config, data, fresh, begun, budget, on_choice)
    trainer = ImageTrainer(config, data, _changed(training, options or {}), seed)
    about = Description(
        scene={},
        protocol=dict(data.protocol),
        provenance=provenance(seed, preset, trainer.options, data.fingerprint) | record,
    )
    if on_start is not None:
        on_start(trainer, data)

    def thumbnail() -> Tensor:
        return of_image(trainer.averaged_field())

    plan = Plan(path, budget, about, resume, save_every, thumbnail, spent, control)
    return run_plan(trainer, plan, on_progress)


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
    _check_numbers(seed, save_every)
    whole = field == FrameNetwork.name
    chosen = FrameNetwork.name if whole else _chosen(field)
    budget = _budget("video", chosen, preset, steps, seconds)
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
        trainer = FramesTrainer(setup[0], data, _changed(setup[1], options or {}), seed)
    else:
        displacements, spent = _displacements(data, budget, motion)
        config, training = video_setup(data, chosen, preset, displacements)
        config = with_choices(config, precision, modulate, bits)
        begun = path if resume else None
        config, record, seconds_of_choice = frequencies(
            config, data, fresh, begun, budget, on_choice, motion=displacements, spent=spent
        )
        spent += seconds_of_choice
        changed: VideoOptions = _changed(training, options or {})
        trainer = VideoTrainer(config, data, changed, seed, displacements)
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


def sdf(
    data: str | os.PathLike[str] | Mesh,
    output: str | os.PathLike[str] | None = None,
    *,
    field: FieldChoice = "hash",
    preset: str = "default",
    modulate: str = "none",
    precision: str = "float32",
    bits: int = 32,
    fresh: bool = False,
    seconds: float | None = None,
    steps: int | None = None,
    seed: int = 0,
    resume: bool = False,
    options: dict[str, Any] | None = None,
    save_every: float = 60.0,
    on_load: Callable[[Mesh], None] | None = None,
    on_choice: Callable[[dict[str, Any]], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    control: Control | None = None,
    on_start: Callable[[SdfTrainer, Mesh], None] | None = None,
) -> Run:
    """Fit a signed distance field to a mesh or an oriented point cloud.

    Args:
        data: a file (OBJ, PLY, STL, GLB, OFF), or a loaded mesh.
        output: as for `nerf`.
        field: the architecture's name, an `Architecture` with sizes of its own, or a file or
            dictionary of tiny-cuda-nn's JSON; see docs/architectures.md.
        preset: `default`, or one of the architecture's.
        modulate: `none`, or coordinate-aware modulation by `xyz`.
        precision: of the networks' products: `float32`, or `bf16`, which is faster and rounds.
        bits: of a kept weight: 32, or 8 for small files.
        fresh: let FreSh choose the architecture's frequencies; its time counts as trained.
        seconds: trained seconds; 60 where neither it nor `steps` is given. Computing distances
            before the first step is not counted.
        steps: number of steps; repeats bit for bit on one machine and path.
        seed: of every random choice.
        resume: go on from the checkpoint beside `output`.
        options: fields of `SdfOptions` to change.
        save_every: trained seconds between checkpoints.
        on_load: called once with the mesh, before distances are computed.
        on_choice: called once with what FreSh chose and why.
        on_progress: called after every step.
        control: pauses the run and asks it for checkpoints, from any thread.
        on_start: called once, when data and trainer are ready.

    Raises:
        InputError: the mesh, output or an option is at fault.
        TrainingError: the loss or a parameter became non-finite; the last good file is kept.

    Example:
        >>> run = sdf("armadillo.obj", "armadillo.nf", field="rbf")  # doctest: +SKIP
        >>> run.field.distance(positions)  # doctest: +SKIP
    """
    _check_numbers(seed, save_every)
    chosen = _chosen(field)
    budget = _budget("sdf", chosen, preset, steps, seconds)
    path = checked_output(output, resume)
    if not isinstance(data, Mesh):
        data = load_mesh(data)
    config, training = sdf_setup(data, chosen, preset)
    config = with_choices(config, precision, modulate, bits)
    if on_load is not None:
        on_load(data)
    begun = path if resume else None
    config, record, spent = frequencies(config, data, fresh, begun, budget, on_choice)
    trainer = SdfTrainer(config, MeshShape(data), _changed(training, options or {}), seed)
    about = Description(
        scene={"box": config.box, "unit": trainer.field.unit},
        protocol={"origin": data.origin, "watertight": data.watertight, "sign": trainer.sign},
        provenance=provenance(seed, preset, trainer.options, data.fingerprint) | record,
    )
    if on_start is not None:
        on_start(trainer, data)

    def thumbnail() -> Tensor:
        return of_shape(trainer.averaged_field())

    plan = Plan(path, budget, about, resume, save_every, thumbnail, spent, control)
    return run_plan(trainer, plan, on_progress)


def _chosen(field: FieldChoice) -> Chosen:
    """See `chosen_field`; warns of what a configuration says that is not used."""
    chosen = chosen_field(field)
    if isinstance(chosen, TcnnConfig) and chosen is not field and chosen.note:
        warnings.warn(chosen.note, stacklevel=3)
    return chosen


def _budget(
    kind: architectures.Kind,
    field: Chosen,
    preset: str,
    steps: int | None,
    seconds: float | None,
) -> Budget:
    if seconds is None and steps is None:
        seconds = default_seconds(kind, field, preset)
    return Budget(steps=steps, seconds=seconds)


def _check_numbers(seed: int, save_every: float) -> None:
    if not 0 <= seed < 1 << 63:
        raise InputError(f"--seed: needs a whole number from 0 to 2^63 - 1, got {seed}.")
    if not save_every > 0:
        raise InputError(f"--save-every: needs a positive number of seconds, got {save_every}.")


def _scene(data: Dataset, trainer: NerfTrainer) -> dict[str, Any]:
    return {
        "box": data.aabb.tolist(),
        "box_rule": data.box_rule,
        "unit": trainer.field.unit,
        "background": None if data.background is None else data.background.tolist(),
        "cameras": data.cameras.to_json(),
        "to_input": torch.eye(4).tolist(),
    }
