"""Where `nf render` puts its cameras."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from neural_fields.api import load_for
from neural_fields.errors import InputError
from neural_fields.fields import DynamicField, FieldFile, RadianceField, SdfField
from neural_fields.rendering.camera_json import read_json
from neural_fields.rendering.cameras import Cameras
from neural_fields.rendering.orbits import around, as_trained, resized


@dataclass(frozen=True)
class CameraPath:
    """Cameras, a name for each picture, and the frame rate that the file asks for."""

    cameras: Cameras
    names: list[str]
    fps: float | None = None


def plan(
    content: FieldFile,
    field: RadianceField | SdfField,
    orbit: int | None,
    cameras: Path | None,
    data: Path | None,
    split: str,
    size: tuple[int, int] | None,
    time: float | None = None,
) -> CameraPath:
    """The cameras that the options ask for; raises InputError where they cannot be had.

    Of what moves, cameras without times see it from its first moment to its last one, or at `time`.
    """
    if orbit is not None and not 1 <= orbit <= 100_000:
        raise InputError(f"--orbit: needs 1 to 100000 views, got {orbit}.")
    if data is not None:
        if isinstance(field, SdfField):
            raise InputError("--data: an SDF was fitted without cameras; use --orbit or --cameras.")
        views = load_for(content.protocol, data, split, field)
        path = CameraPath(views.cameras, list(views.names))
    elif cameras is not None:
        path = _from_file(cameras)
    else:
        assert orbit is not None
        orbits = (
            around(field, orbit) if isinstance(field, SdfField) else _orbit(content, field, orbit)
        )
        path = CameraPath(orbits, [f"{index:05d}" for index in range(orbit)])
    path = replace(path, cameras=_timed(path.cameras, field, time))
    return path if size is None else replace(path, cameras=resized(path.cameras, *size))


def _timed(cameras: Cameras, field: RadianceField | SdfField, time: float | None) -> Cameras:
    if not isinstance(field, DynamicField):
        if time is not None:
            raise InputError(f"--time: does not apply to a field of kind {field.kind}.")
        return replace(cameras, times=None)
    if time is not None and not 0 <= time <= 1:
        raise InputError(f"--time: needs a number in [0, 1], got {time}.")
    if time is None and cameras.times is not None:
        return cameras
    n = len(cameras)
    times = torch.linspace(0, 1, n) if time is None else torch.full((n,), float(time))
    return replace(cameras, times=times)


def _from_file(source: Path) -> CameraPath:
    content = read_json(source)
    cameras = Cameras.from_json(content, str(source))
    fps = content.get("fps")
    if fps is not None and not (isinstance(fps, int | float) and 0 < fps <= 1000):
        raise InputError(f"{source}: fps needs a positive number, got {fps!r}.")
    names = [f"{index:05d}" for index in range(len(cameras))]
    return CameraPath(cameras, names, None if fps is None else float(fps))


def _orbit(content: FieldFile, field: RadianceField, n: int) -> Cameras:
    """A circle at the training cameras' typical distance and height."""
    stored = content.scene.get("cameras")
    if not isinstance(stored, dict):
        raise InputError("--orbit: the field's file lists no training cameras; use --cameras.")
    training = Cameras.from_json(stored, "the field's own cameras")
    return as_trained(field, training, n)
