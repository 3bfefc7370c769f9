"""Fields to files and back."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from neural_fields.errors import InputError
from neural_fields.fields.file import FieldFile, read_field_file, tensor_of, write_field_file
from neural_fields.fields.radiance import RadianceConfig, RadianceField, check_box


def field_tensors(field: RadianceField) -> dict[str, Tensor]:
    """The tensors of a field under the names that a file has them."""
    tensors = {f"field.{name}": value for name, value in field.state_dict().items()}
    return {**tensors, "occupancy.words": field.occupancy}


def build_field(content: FieldFile, path: str | os.PathLike[str]) -> RadianceField:
    """The field that a file describes; raises InputError where its tensors do not fit."""
    if content.kind != RadianceField.kind:
        raise InputError(f"{path}: needs a radiance field, got kind {content.kind!r}.")
    try:
        config = RadianceConfig.from_dict(content.config)
        check_box(config.box)
        shapes = config.tensor_shapes()
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{path}: its configuration is not usable: {error}") from error
    # All of this before the field is made: a hostile configuration asks for terabytes.
    weights = {
        name: tensor_of(content, path, f"field.{name}", shape, torch.float32)
        for name, shape in shapes.items()
    }
    n_words = config.sampling.grid.n_words
    words = tensor_of(content, path, "occupancy.words", (n_words,), torch.int64)
    field = RadianceField(config)
    field.load_state_dict(weights)
    field.occupancy.copy_(words)
    return field


def save(
    field: RadianceField,
    path: str | os.PathLike[str],
    *,
    scene: Mapping[str, Any] | None = None,
    protocol: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    extra: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a field as a `.nf` file, atomically.

    Args:
        field: the field.
        path: the file.
        scene: cameras, background and the like, plain JSON data.
        protocol: how the data was read and is scored.
        provenance: command, seed, versions, fingerprint of the data.
        metrics: figures of the run.
        extra: further tensors, such as `thumbnail`.

    Raises:
        InputError: the file cannot be written.

    Example:
        >>> import tempfile, pathlib
        >>> from neural_fields.encodings import HashConfig
        >>> field = RadianceField(RadianceConfig(encoding=HashConfig(log2_table_size=12)))
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "field.nf"
        >>> save(field, path)
        >>> load(path).n_params == field.n_params
        True
    """
    content = FieldFile(
        kind=field.kind,
        config=field.config.to_dict(),
        tensors={**field_tensors(field), **(extra or {})},
        scene=dict(scene or {}),
        protocol=dict(protocol or {}),
        provenance=dict(provenance or {}),
        metrics=dict(metrics or {}),
    )
    write_field_file(path, content)


def load(path: str | os.PathLike[str]) -> RadianceField:
    """Open a `.nf` file as a field, on the CPU.

    Raises:
        InputError: the file is missing, damaged, of a newer version, or of another kind.
    """
    return build_field(read_field_file(path), path)
