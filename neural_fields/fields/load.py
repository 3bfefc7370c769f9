"""Fields to files and back."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from neural_fields.errors import InputError
from neural_fields.fields.dynamic import DynamicConfig, DynamicField
from neural_fields.fields.file import FieldFile, read_field_file, tensor_of, write_field_file
from neural_fields.fields.frames import FramesConfig, FramesField
from neural_fields.fields.image import ImageConfig, ImageField
from neural_fields.fields.quantize import packed, quantize_, unpack_into
from neural_fields.fields.radiance import RadianceConfig, RadianceField
from neural_fields.fields.sdf import SdfConfig, SdfField
from neural_fields.fields.surface import SurfaceConfig, SurfaceField
from neural_fields.fields.video import VideoConfig, VideoField

Field = RadianceField | ImageField | SdfField | VideoField | FramesField
_KINDS: dict[str, tuple[type[Any], type[Any]]] = {
    "frames": (FramesConfig, FramesField),
    "dynamic": (DynamicConfig, DynamicField),
    "radiance": (RadianceConfig, RadianceField),
    "image": (ImageConfig, ImageField),
    "sdf": (SdfConfig, SdfField),
    "surface": (SurfaceConfig, SurfaceField),
    "video": (VideoConfig, VideoField),
}


def field_tensors(field: Field, *, resumable: bool = False) -> dict[str, Tensor]:
    """The tensors of a field under the names that a file, or a checkpoint, has them."""
    small = field.config.weight_bits == 8 and not resumable
    state = packed(field) if small else field.state_dict()
    tensors = {f"field.{name}": value for name, value in state.items()}
    return tensors | {f"occupancy.{name}": t for name, t in field.occupancy_tensors().items()}


def build_field(content: FieldFile, path: str | os.PathLike[str]) -> Field:
    """The field that a file describes; raises InputError where its tensors do not fit."""
    if content.kind not in _KINDS:
        known = " or ".join(_KINDS)
        raise InputError(f"{path}: needs a field of kind {known}, got kind {content.kind!r}.")
    config_type, field_type = _KINDS[content.kind]
    try:
        config = config_type.from_dict(content.config)
        # Shapes before memory: a hostile configuration asks for terabytes.
        with torch.device("meta"):
            wanted = field_tensors(
                field_type(config, seed=None), resumable=bool(content.checkpoint)
            )
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise InputError(f"{path}: its configuration is not usable: {error}") from error
    tensors = {
        name: tensor_of(content, path, name, like.shape, like.dtype)
        for name, like in wanted.items()
    }
    field: Field = field_type(config, seed=None)
    with torch.no_grad():
        for name, target in field_tensors(field, resumable=True).items():
            if name in tensors:
                target.copy_(tensors[name])
    if config.weight_bits == 8 and not content.checkpoint:
        unpack_into(field, {name.removeprefix("field."): value for name, value in tensors.items()})
    return as_kept_(field)


def as_kept_(field: Field) -> Field:
    """The field itself, its weights rounded in place to what a finished file keeps of them."""
    if field.config.weight_bits == 8:
        quantize_(field)
    return field


def build_radiance(content: FieldFile, path: str | os.PathLike[str]) -> RadianceField:
    """The same where only a radiance field will do."""
    field = build_field(content, path)
    if not isinstance(field, RadianceField):
        raise InputError(f"{path}: needs a radiance field, got kind {content.kind!r}.")
    return field


def save(
    field: Field,
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
        >>> from neural_fields.architectures.hash import Hash
        >>> field = RadianceField(RadianceConfig(architecture=Hash(log2_table_size=12)))
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


def load(path: str | os.PathLike[str]) -> Field:
    """Open a `.nf` file as a field, on the CPU.

    Raises:
        InputError: the file is missing, damaged, of a newer version, or of an unknown kind.

    Example:
        >>> load("lego.nf").density(torch.zeros(1, 3))  # doctest: +SKIP
    """
    return build_field(read_field_file(path), path)
