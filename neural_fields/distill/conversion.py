"""Converting a field into another architecture: from file to file, with a report."""

from __future__ import annotations

import copy
import hashlib
import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from neural_fields.data.dataset import Dataset
from neural_fields.data.mesh import Mesh
from neural_fields.data.picture import Picture
from neural_fields.distill.options import Method
from neural_fields.distill.report import Comparison, compare
from neural_fields.distill.setup import (
    PAPER_STEPS,
    image_student,
    radiance_student,
    scene_cameras,
    sdf_student,
)
from neural_fields.distill.shape import FieldShape
from neural_fields.distill.trainer import Distiller
from neural_fields.errors import InputError, unknown_value
from neural_fields.fields import (
    AnyVideo,
    DynamicField,
    FieldFile,
    FramesField,
    ImageField,
    RadianceField,
    SdfField,
    VideoField,
    read_field_file,
)
from neural_fields.fields.file import finite, write_field_file
from neural_fields.fields.load import Field, build_field
from neural_fields.ops import device_of
from neural_fields.rendering.cameras import Cameras
from neural_fields.training.budget import Budget
from neural_fields.training.checkpoint import Description, FieldTrainer, checkpoint_path
from neural_fields.training.image import ImageTrainer
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
from neural_fields.training.sdf import SdfTrainer
from neural_fields.training.tcnn import FieldChoice, chosen_field
from neural_fields.training.thumbnail import of_image, of_scene, of_shape

_MOVES = "the teacher: moves, and only fields that rest can be converted so far."
SECONDS = {"radiance": 30.0, "image": 20.0, "sdf": 30.0}


def default_budget(kind: str, preset: str) -> tuple[int | None, float | None]:
    """Steps and seconds where neither is given.

    Example:
        >>> default_budget("radiance", "default"), default_budget("radiance", "paper")
        ((None, 30.0), (30000, None))
    """
    if kind in (DynamicField.kind, VideoField.kind, FramesField.kind):
        raise InputError(_MOVES)
    if kind == "radiance" and preset == "paper":
        return PAPER_STEPS, None
    return None, SECONDS[kind]


@dataclass(frozen=True)
class Conversion:
    """A finished or interrupted conversion.

    Attributes:
        run: the student's; `run.field` is it.
        report: the student beside the teacher.
        summary: `teacher, student, architecture, psnr_teacher, psnr_student,
            psnr_student_vs_teacher, seconds, params, bytes` and the report's other figures.
    """

    run: Run
    report: Comparison
    summary: dict[str, Any]


def convert(
    teacher: str | os.PathLike[str] | Field,
    output: str | os.PathLike[str] | None = None,
    *,
    to: FieldChoice,
    preset: str = "default",
    method: Method = "pvd",
    modulate: str = "none",
    precision: str = "float32",
    bits: int = 32,
    inherit_head: bool = True,
    data: Dataset | Picture | Mesh | None = None,
    seconds: float | None = None,
    steps: int | None = None,
    seed: int = 0,
    resume: bool = False,
    options: dict[str, Any] | None = None,
    save_every: float = 60.0,
    device: str = "auto",
    on_start: Callable[[FieldTrainer], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Conversion:
    """Turn a field into one of another architecture, without the data that it was fitted to.

    Args:
        teacher: a `.nf` file, or a field; of a radiance field, a file also knows the scene's
            cameras.
        output: where the student's `.nf` file goes; None keeps it in memory.
        to: the student's architecture, as for `nf.fit`.
        preset: as for `nf.fit`; of radiance fields also `paper`, PVD's sizes and schedule.
        method: `pvd`, or `pvd-al`, which shows hard cameras, rays and samples again.
        modulate: as for `nf.fit`.
        precision: as for `nf.fit`.
        bits: of a kept weight, as for `nf.fit`.
        inherit_head: whether the student of a radiance field begins with the teacher's colour head
            where it has the same.
        data: for the report: a data set's split, picture or mesh.
        seconds: trained seconds; 30, of pictures 20, where neither it nor `steps` is given.
        steps: number of steps; repeats bit for bit on one machine and path.
        seed: of every random choice.
        resume: go on from the checkpoint beside `output`.
        options: fields of `DistillOptions`, `ImageOptions` or `SdfOptions` to change.
        save_every: trained seconds between checkpoints.
        device: as for `nf.fit`.
        on_start: called once, when the student is about to learn.
        on_progress: called after every step.

    Returns:
        The student and the report, which the student's file has as well.

    Raises:
        InputError: a file, an option or a size is at fault.
        TrainingError: the loss or a parameter became non-finite; the last good file is kept.

    Source: Fang et al., Progressive Volume Distillation, AAAI 2023; docs/convert.md lists what is
    different.

    Example:
        >>> conversion = convert("lego.nf", "small.nf", to="mlp")  # doctest: +SKIP
        >>> conversion.summary["psnr_student_vs_teacher"]  # doctest: +SKIP
    """
    if method not in get_args(Method):
        raise InputError(unknown_value("--method", method, get_args(Method)))
    chosen = chosen_field(to)
    path = checked_output(output, resume)
    content, field, name = _opened(teacher)
    own = getattr(field.config, "precision", "float32")
    place = device_for(device, precision if own == "float32" else own)
    _check_ends(path, teacher, field, data)
    if steps is None and seconds is None:
        steps, seconds = default_budget(field.kind, preset)
    budget = Budget(steps=steps, seconds=seconds)
    trainer, thumbnail, cameras = _trainer(
        _on(field, place), content, chosen, seed, method, options or {}, inherit_head, steps,
        preset=preset, modulate=modulate, precision=precision, bits=bits,
    )  # fmt: skip
    made = provenance(seed, preset, trainer.options, _fingerprint(field))
    about = Description(
        scene=content.scene if content else {},
        protocol=content.protocol if content else {},
        provenance=made | {"teacher": name, "method": method, "inherit_head": inherit_head},
    )
    if on_start is not None:
        on_start(trainer)
    plan = Plan(path, budget, about, resume, save_every, thumbnail)
    run = run_plan(trainer, plan, on_progress)
    background = content.scene.get("background") if content else None
    report = compare(
        field,
        run.field,
        cameras=cameras,
        background=None if background is None else torch.tensor(background),
        data=data,
    )
    summary = {
        "teacher": name,
        "student": str(path) if path else None,
        "architecture": run.field.architecture,
        "params": run.field.n_params,
        "params_teacher": field.n_params,
        **report.figures,
        "method": method,
        "steps": run.summary["steps"],
        "seconds": run.summary["seconds"],
        "bytes": None,
        "output": str(path) if path else None,
    }
    if path:
        summary["bytes"] = _written(path, summary, report.picture)
    return Conversion(run, report, summary)


def _check_ends(
    path: Path | None,
    teacher: str | os.PathLike[str] | Field,
    field: Field,
    data: Dataset | Picture | Mesh | None,
) -> None:
    """Refuse, before any work, a student over its teacher, and what nothing can be learnt from."""
    if path is not None and isinstance(teacher, str | os.PathLike):
        written = {path.resolve(), checkpoint_path(path).resolve()}
        if Path(teacher).resolve() in written:
            raise InputError(f"-o {path}: would overwrite the teacher; choose another name.")
    if isinstance(field, DynamicField | AnyVideo):
        raise InputError(_MOVES)
    if isinstance(field, RadianceField) and not bool(field.occupancy.any()):
        raise InputError("the teacher: has no occupied cells, so there is nothing to convert.")
    kinds = {"radiance": Dataset, "surface": Dataset, "sdf": Mesh, "image": Picture}
    wanted = kinds[field.kind]
    if data is not None and not isinstance(data, wanted):
        raise InputError(
            f"data: a field of kind {field.kind} needs a {wanted.__name__}, "
            f"got {type(data).__name__}."
        )


def _opened(
    teacher: str | os.PathLike[str] | Field,
) -> tuple[FieldFile | None, Field, str]:
    if isinstance(teacher, str | os.PathLike):
        content = read_field_file(teacher)
        return content, build_field(content, teacher), str(teacher)
    return None, teacher, f"a field of {teacher.architecture}"


def _trainer(
    field: Field,
    content: FieldFile | None,
    chosen: Any,
    seed: int,
    method: Method,
    changes: dict[str, Any],
    inherit_head: bool,
    steps: int | None,
    **names: Any,
) -> tuple[Any, Callable[[], Tensor], Cameras | None]:
    """The trainer of the student, what makes its thumbnail, and a scene's cameras."""
    trainer: Any
    if isinstance(field, RadianceField):
        cameras = scene_cameras(content.scene if content else {}, field)
        config, options = radiance_student(
            field.config, cameras, chosen, method=method, steps=steps, **names
        )
        options = changed_options(options, changes)
        trainer = Distiller(field, config, cameras, options, seed, inherit=inherit_head)
        background = content.scene.get("background") if content else None
        under = None if background is None else torch.tensor(background)
        return trainer, lambda: of_scene(trainer.averaged_field(), cameras, under), cameras
    if method != "pvd":
        raise InputError(f"--method {method}: needs a radiance field, got kind {field.kind}.")
    if isinstance(field, SdfField):
        shape, shape_options = sdf_student(field.config, chosen, **names)
        shape_options = changed_options(shape_options, changes)
        trainer = SdfTrainer(shape, FieldShape(field), shape_options, seed, device_of(field))
        return trainer, lambda: of_shape(trainer.averaged_field()), None
    assert isinstance(field, ImageField)
    picture, picture_options = image_student(field.config, chosen, **names)
    picture_options = changed_options(picture_options, changes)
    trainer = ImageTrainer(picture, field, picture_options, seed, device_of(field))
    return trainer, lambda: of_image(trainer.averaged_field()), None


def _on(field: Field, device: torch.device) -> Field:
    """The field on a device; a copy where it is elsewhere."""
    return field if device_of(field) == device else copy.deepcopy(field).to(device)


def _fingerprint(field: Field) -> str:
    """Of everything that the student can learn from."""
    digest = hashlib.sha256()
    for name, tensor in sorted({**field.state_dict(), **field.occupancy_tensors()}.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _written(path: Path, summary: dict[str, Any], picture: Tensor) -> int:
    """Put the report into the student's file, the picture as PNG; the bytes of the file."""
    content = read_field_file(path)
    kept = {key: value for key, value in summary.items() if key not in ("student", "output")}
    content.tensors["comparison"] = torch.frombuffer(bytearray(png(picture)), dtype=torch.uint8)
    n_bytes = 0
    while kept["bytes"] != n_bytes:  # the number is in the file that it is of
        kept["bytes"] = n_bytes
        content.metrics["conversion"] = finite(kept)
        write_field_file(path, content)
        n_bytes = path.stat().st_size
    return n_bytes


def png(picture: Tensor) -> bytes:
    """A picture [h, w, 3] in [0, 1] as a PNG file."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray((picture * 255).round().byte().numpy()).save(stream, "PNG", optimize=True)
    return stream.getvalue()
