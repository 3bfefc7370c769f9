"""Fitting to a mesh or points: `nf.fit.sdf`."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from torch import Tensor

from neural_fields.data.mesh import Mesh, load_mesh
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
from neural_fields.training.presets import (
    sdf_setup,
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
from neural_fields.training.sdf import MeshShape, SdfTrainer
from neural_fields.training.tcnn import FieldChoice
from neural_fields.training.thumbnail import of_shape


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
    device: str = "auto",
    backend: str = "native",
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
        device: `cpu`, `cuda`, `cuda:1` and so on, or `auto`: a GPU where one can be used.
        backend: as for `nerf`.
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
    check_numbers(seed, save_every)
    place = device_for(device, precision)
    check_backend(backend, place)
    chosen = field_with_note(field)
    budget = budget_of("sdf", chosen, preset, steps, seconds)
    path = checked_output(output, resume)
    if not isinstance(data, Mesh):
        data = load_mesh(data)
    config, training = sdf_setup(data, chosen, preset)
    config = with_choices(config, precision, modulate, bits)
    if on_load is not None:
        on_load(data)
    begun = path if resume else None
    config, record, spent = frequencies(config, data, fresh, begun, budget, on_choice)
    training = changed_options(training, options or {})
    with computed_by(backend):
        trainer = SdfTrainer(config, MeshShape(data), training, seed, place)
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
