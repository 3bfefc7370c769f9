"""Fitting to posed photographs: `nf.fit.nerf`, `dynamic` and `surface`."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple, get_args

import torch
from torch import Tensor

from neural_fields.data.dataset import Dataset, load_dataset
from neural_fields.errors import InputError, unknown_value
from neural_fields.fields import RadianceConfig, SurfaceConfig
from neural_fields.fields.surface import Density
from neural_fields.fit.common import (
    budget_of,
    check_backend,
    check_numbers,
    computed_by,
    field_with_note,
)
from neural_fields.spectra.applied import frequencies
from neural_fields.training.checkpoint import Description
from neural_fields.training.loop import Control
from neural_fields.training.nerf import NerfOptions, NerfTrainer
from neural_fields.training.presets import (
    dynamic_setup,
    radiance_setup,
    surface_setup,
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
from neural_fields.training.surface import SurfaceOptions, SurfaceTrainer
from neural_fields.training.tcnn import Chosen, FieldChoice
from neural_fields.training.thumbnail import of_scene


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
    device: str = "auto",
    backend: str = "native",
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
        device: `cpu`, `cuda`, `cuda:1` and so on, or `auto`: a GPU where one can be used.
        backend: what computes hash grids and networks on a GPU, `native` or `tcnn`, where the
            package tinycudann is installed; docs/cuda.md says what it covers.
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
        device=device,
        backend=backend,
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
    device: str = "auto",
    backend: str = "native",
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
        device: `cpu`, `cuda`, `cuda:1` and so on, or `auto`: a GPU where one can be used.
        backend: as for `nerf`.
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
        device=device,
        backend=backend,
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
    device: str = "auto",
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
        device: `cpu`, `cuda`, `cuda:1` and so on, or `auto`: a GPU where one can be used.
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
        device=device,
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
    device: str,
    backend: str = "native",
    on_progress: Callable[[Progress], None] | None,
    control: Control | None,
    on_start: Callable[[NerfTrainer, Dataset], None] | None,
    on_choice: Callable[[dict[str, Any]], None] | None = None,
    masks: str = "use",
) -> Run:
    """See `nerf`, `dynamic` and `surface`."""
    preset = choices.preset
    check_numbers(seed, save_every)
    place = device_for(device, choices.precision)
    check_backend(backend, place)
    chosen = field_with_note(choices.field)
    budget = budget_of("radiance", chosen, preset, steps, seconds)
    path = checked_output(output, resume)
    if not isinstance(data, Dataset):
        data = load_dataset(data, "train", downscale, background, masks=masks)
    config, training = setup(data, chosen, preset)
    config = with_choices(config, choices.precision, choices.modulate, choices.bits, len(data))
    begun = path if resume else None
    config, record, spent = frequencies(config, data, choices.fresh, begun, budget, on_choice)
    training = changed_options(training, options or {})
    with computed_by(backend):
        trainer = (
            SurfaceTrainer(config, data, training, seed, place)
            if isinstance(config, SurfaceConfig) and isinstance(training, SurfaceOptions)
            else NerfTrainer(config, data, training, seed, place)
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


def _scene(data: Dataset, trainer: NerfTrainer) -> dict[str, Any]:
    return {
        "box": data.aabb.tolist(),
        "box_rule": data.box_rule,
        "unit": trainer.field.unit,
        "background": None if data.background is None else data.background.tolist(),
        "cameras": data.cameras.to_json(),
        "to_input": torch.eye(4).tolist(),
    }
