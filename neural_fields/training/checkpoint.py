"""Runs on disk: the finished field `OUT.nf`, and `OUT.ckpt.nf` to go on from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from neural_fields.errors import InputError
from neural_fields.fields.file import FieldFile, read_field_file, tensor_of, write_field_file
from neural_fields.fields.load import Field, field_tensors
from neural_fields.training.loop import Trainer


class FieldTrainer(Trainer, Protocol):
    """What a run on disk needs of a trainer besides the loop's part."""

    n_samples: int

    @property
    def field(self) -> Field:
        """The field with the raw weights."""
        ...

    def averaged_field(self) -> Field:
        """A copy with the averaged weights."""
        ...

    def checkpoint_tensors(self) -> dict[str, Tensor]:
        """What a checkpoint needs besides the averaged field."""
        ...

    def checkpoint_state(self) -> dict[str, int]:
        """The numbers that go with it."""
        ...

    def restore(self, tensors: dict[str, Tensor], state: dict[str, int]) -> None:
        """Go on from a checkpoint of the same configuration."""
        ...


@dataclass
class Description:
    """What a file says about its run besides the field: see `FieldFile`."""

    scene: dict[str, Any]
    protocol: dict[str, Any]
    provenance: dict[str, Any]


def checkpoint_path(output: Path) -> Path:
    """Where the checkpoint of a run with this output lies.

    Example:
        >>> checkpoint_path(Path("lego.nf")).name
        'lego.ckpt.nf'
    """
    return output.with_name(f"{output.stem}.ckpt.nf")


def write_run(
    path: Path,
    trainer: FieldTrainer,
    about: Description,
    metrics: Mapping[str, Any],
    *,
    resumable: bool,
    seconds: float,
    thumbnail: Tensor | None = None,
) -> None:
    """Write the averaged field; with `resumable` also what training needs to go on.

    Raises:
        TrainingError: a parameter is not finite; the file on disk is left alone.
        InputError: the file cannot be written.
    """
    trainer.check_finite()
    field = trainer.averaged_field()
    content = FieldFile(
        kind=field.kind,
        config=field.config.to_dict(),
        tensors=field_tensors(field, resumable=resumable),
        scene=about.scene,
        protocol=about.protocol,
        provenance=about.provenance,
        metrics=dict(metrics),
    )
    if thumbnail is not None:
        content.tensors["thumbnail"] = thumbnail
    if resumable:
        content.tensors |= trainer.checkpoint_tensors()
        content.checkpoint = {**trainer.checkpoint_state(), "seconds": seconds}
    write_field_file(path, content)


def restore_run(path: Path, trainer: FieldTrainer, about: Description) -> float:
    """Load a checkpoint into a trainer of the same data and configuration; returns its seconds.

    Raises:
        InputError: the file is damaged, no checkpoint, or of other data or another configuration.
    """
    content = read_field_file(path)
    state = content.checkpoint
    if not state:
        raise InputError(f"{path}: needs a checkpoint, got a finished field; fit without --resume.")
    expected = trainer.field.config.to_dict()
    for name, old, new in (
        ("configuration", content.config, _as_json(expected)),
        ("data", content.provenance.get("fingerprint"), about.provenance.get("fingerprint")),
        ("protocol", content.protocol, about.protocol),
        ("seed", content.provenance.get("seed"), about.provenance.get("seed")),
        ("training", content.provenance.get("training"), about.provenance.get("training")),
    ):
        if old != new:
            raise InputError(
                f"{path}: was made with another {name}; use the same options, or fit without "
                "--resume."
            )
    needed = {**trainer.checkpoint_tensors(), **field_tensors(trainer.field, resumable=True)}
    tensors = {name: tensor_of(content, path, name, value.shape) for name, value in needed.items()}
    try:
        numbers = {name: int(state[name]) for name in trainer.checkpoint_state()}
        seconds = float(state["seconds"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: its checkpoint state is incomplete ({error}).") from error
    trainer.restore(tensors, numbers)
    return seconds


def _as_json(config: object) -> object:
    """Tuples as JSON gives them back."""
    if isinstance(config, dict):
        return {key: _as_json(value) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return [_as_json(value) for value in config]
    return config
