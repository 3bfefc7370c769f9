"""The `.nf` file: safetensors with one JSON string of everything that is not a tensor."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from neural_fields.errors import InputError
from neural_fields.fields.upgrade import upgraded

FORMAT_VERSION = 6
_KEY = "neural_fields"
_ENTRIES = ("kind", "config", "scene", "protocol", "provenance", "metrics", "checkpoint")


@dataclass
class FieldFile:
    """What a `.nf` file holds.

    Attributes:
        kind: `radiance`, `image` or `sdf`.
        config: the field's configuration as plain data.
        tensors: `field.*` (the weights that evaluate), `occupancy.*`, `thumbnail`; a checkpoint
            adds `checkpoint.*`.
        scene: box, unit, background, training cameras, `to_input` (4x4).
        protocol: how the data was read and is scored.
        provenance: command, seed, versions, fingerprint of the data.
        metrics: figures of the run.
        checkpoint: numbers that training goes on from; empty in a finished field.
    """

    kind: str
    config: dict[str, Any]
    tensors: dict[str, Tensor]
    scene: dict[str, Any] = field(default_factory=dict)
    protocol: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    checkpoint: dict[str, Any] = field(default_factory=dict)


def finite(value: Any) -> Any:
    """Plain data for JSON, which has no infinity (the PSNR of equal pictures): None for those.

    Example:
        >>> finite({"psnr": math.inf, "views": [1.0]})
        {'psnr': None, 'views': [1.0]}
    """
    if isinstance(value, dict):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_field_file(path: str | os.PathLike[str], content: FieldFile) -> None:
    """Write a `.nf` file; a reader sees the old file or the new one, never a part.

    Raises:
        InputError: the folder does not exist or cannot be written, or the disk is full.
    """
    header = {"format_version": FORMAT_VERSION, **{key: getattr(content, key) for key in _ENTRIES}}
    tensors = {name: tensor.detach().contiguous() for name, tensor in content.tensors.items()}
    tensors = {name: tensor.cpu() for name, tensor in tensors.items()}
    data = save(tensors, {_KEY: json.dumps(header, allow_nan=False)})
    write_atomically(Path(path), data)


def write_atomically(path: Path, data: bytes) -> None:
    """Write bytes beside `path` and rename them into place; raises InputError where that fails."""
    temporary: str | None = None
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(
            f"{path}: cannot write {len(data) / 1e6:.0f} MB there ({reason}); choose another place."
        ) from error
    finally:
        if temporary is not None:  # also after Ctrl-C
            os.unlink(temporary)


def read_field_file(path: str | os.PathLike[str], only: Container[str] | None = None) -> FieldFile:
    """Read a `.nf` file.

    Args:
        path: the file.
        only: the tensors that are read, by name; None: all of them.

    Raises:
        InputError: it is missing, empty, truncated, not a `.nf` file, or of a newer version.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: needs a .nf file, but there is none.")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: needs a .nf file, got an empty file; fit the field again.")
    try:
        with safe_open(path, framework="pt") as stream:
            metadata = stream.metadata() or {}
            header = _header(path, metadata)
            names = [name for name in stream.keys() if only is None or name in only]  # noqa: SIM118
            tensors = {name: stream.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: needs a .nf file, got {_guess(path)} ({error}).") from error
    header, tensors = upgraded(header["format_version"], header, tensors)
    return FieldFile(tensors=tensors, **{key: header[key] for key in _ENTRIES})


def _header(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    if _KEY not in metadata:
        raise InputError(f"{path}: needs a .nf file, got safetensors of another program.")
    try:
        header = json.loads(metadata[_KEY], parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: its description is not JSON ({error}).") from error
    version = header.get("format_version") if isinstance(header, dict) else None
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise InputError(f"{path}: its description names no format version.")
    if version > FORMAT_VERSION:
        raise InputError(
            f"{path}: is of format {version} and this program reads up to {FORMAT_VERSION}; "
            "upgrade neural_fields."
        )
    missing = [key for key in _ENTRIES if key not in header]
    if missing:
        raise InputError(f"{path}: its description lacks {', '.join(missing)}.")
    for key in _ENTRIES:
        if not isinstance(header[key], str if key == "kind" else dict):
            raise InputError(f"{path}: {key} in its description is of the wrong type.")
    return dict(header)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _guess(path: Path) -> str:
    """What a file that is no safetensors file looks like; it is never unpickled."""
    try:
        with path.open("rb") as stream:
            start = stream.read(4)
    except OSError:
        return "a file that cannot be read"
    if start[:2] == b"\x80\x02" or (start[:1] == b"\x80" and start[1:2] in b"\x03\x04\x05"):
        return "a pickle, which is never opened"
    if start == b"PK\x03\x04":
        return "a zip archive (a pickled torch file?), which is never opened"
    return "something else or a truncated file"


def tensor_of(
    content: FieldFile,
    path: str | os.PathLike[str],
    name: str,
    shape: torch.Size | tuple[int, ...],
    dtype: torch.dtype | None = None,
) -> Tensor:
    """A tensor of a file.

    Raises:
        InputError: it is missing, of another shape or type, or not finite.
    """
    tensor = content.tensors.get(name)
    if tensor is None:
        raise InputError(f"{path}: lacks the tensor {name}; fit the field again.")
    if tuple(tensor.shape) != tuple(shape):
        raise InputError(
            f"{path}: {name} needs shape {list(shape)} by its own config, got {list(tensor.shape)}."
        )
    if dtype is not None and tensor.dtype != dtype:
        raise InputError(f"{path}: {name} needs {dtype}, got {tensor.dtype}.")
    if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
        raise InputError(f"{path}: {name} holds NaN or infinity; fit the field again.")
    return tensor
