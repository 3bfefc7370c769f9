"""The camera part of transforms.json, checked: numbers, poses, intrinsics, lens models."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neural_fields.errors import InputError
from neural_fields.rendering.lens import LensModel

DISTORTION_KEYS = ("k1", "k2", "k3", "k4", "p1", "p2")
MAX_SIDE_PX = 65536

_PERSPECTIVE_MODELS = ("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV")
_RIGID_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Intrinsics:
    """One camera's lens, in pixels of an image of `width` x `height`."""

    width: int
    height: int
    focal: tuple[float, float]
    principal: tuple[float, float]
    distortion: tuple[float, ...]
    model: LensModel


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Args:
        path: the file.

    Returns:
        The object.

    Raises:
        InputError: the file cannot be read, is not JSON, or is not an object.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(
            f"{path}: could not be read ({error.strerror}); check the path and its permissions."
        ) from error
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path}: needs to be JSON, but line {error.lineno} column {error.colno} has: "
            f"{error.msg} (is the file cut short?); write it again with the tool that made it."
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path}: needs to be JSON text, but could not be decoded ({error}); write it again "
            "with the tool that made it."
        ) from error
    if not isinstance(data, dict):
        raise InputError(
            f"{path}: needs a JSON object with a list `frames`, got a {type(data).__name__}; "
            "give a transforms.json as nerfstudio, instant-ngp or Blender's NeRF sets write it."
        )
    return data


def frames_of(data: Mapping[str, Any], source: str) -> list[dict[str, Any]]:
    """The list `frames`: at least one object.

    Args:
        data: the JSON object.
        source: what an error calls it, such as the file's path.

    Returns:
        The frames.

    Raises:
        InputError: `frames` is missing, empty, or holds something else than objects.
    """
    frames = data.get("frames")
    if not isinstance(frames, list):
        came = "nothing" if frames is None else f"a {type(frames).__name__}"
        raise InputError(f"{source}: needs a list `frames`, one entry per image; got {came}.")
    if not frames:
        raise InputError(
            f"{source}: `frames` is empty; it needs one entry per image, so make the file again "
            "from a reconstruction that registered at least one image."
        )
    for index, frame in enumerate(frames):
        if not isinstance(frame, dict):
            raise InputError(
                f"{source}: frames[{index}] needs to be an object with a transform_matrix, got a "
                f"{type(frame).__name__}."
            )
    return frames


def number(value: object, where: str, low: float = -math.inf, high: float = math.inf) -> float:
    """A finite number within [low, high].

    Args:
        value: what the JSON holds.
        where: what an error calls it.
        low: smallest value allowed.
        high: largest value allowed.

    Returns:
        The number as a float.

    Raises:
        InputError: it is no number, not finite, or out of range.
    """
    result = math.nan
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            result = float(value)
        except OverflowError:  # an integer of hundreds of digits
            result = math.inf
    if not (math.isfinite(result) and low <= result <= high):
        bounds = "" if low == -math.inf else f" from {low:g}"
        bounds += "" if high == math.inf else f" to {high:g}"
        raise InputError(f"{where}: needs a finite number{bounds}, got {_short(value)}.")
    return result


def pose(frame: Mapping[str, Any], where: str) -> NDArray[np.float64]:
    """A frame's camera-to-world matrix, rigid.

    Args:
        frame: one entry of `frames`.
        where: what an error calls it.

    Returns:
        float64 [4, 4], OpenGL axes (x right, y up, looks along -z).

    Raises:
        InputError: it is missing, of another shape, not finite, or no rotation + translation.
    """
    rows = frame.get("transform_matrix")
    where = f"{where}: transform_matrix"
    if (
        not isinstance(rows, list)
        or len(rows) not in (3, 4)
        or not all(isinstance(row, list) and len(row) == 4 for row in rows)
    ):
        raise InputError(
            f"{where} needs four rows of four numbers (camera to world), got {_short(rows)}."
        )
    matrix = np.eye(4)
    for r, row in enumerate(rows):
        matrix[r] = [number(value, f"{where}[{r}][{c}]") for c, value in enumerate(row)]
    if np.abs(matrix[3] - (0, 0, 0, 1)).max() > _RIGID_TOLERANCE:
        raise InputError(f"{where} needs the last row 0 0 0 1, got {matrix[3].tolist()}.")
    rotation = matrix[:3, :3]
    with np.errstate(over="ignore", invalid="ignore"):
        skew = np.abs(rotation.T @ rotation - np.eye(3)).max()
    if not skew <= _RIGID_TOLERANCE:
        raise InputError(
            f"{where} needs a rotation in its first three columns (orthonormal within "
            f"{_RIGID_TOLERANCE:g}), got one that is off by {skew:.3g}; remove scale and shear "
            "from the poses."
        )
    if np.linalg.det(rotation) < 0:
        raise InputError(
            f"{where} needs a rotation, got a reflection (determinant -1); an axis is flipped: "
            "write OpenGL camera axes (x right, y up, looking along -z)."
        )
    return matrix


def intrinsics(
    frame: Mapping[str, Any],
    shared: Mapping[str, Any],
    source: str,
    where: str,
    image_size: tuple[int, int] | None = None,
) -> Intrinsics:
    """A frame's lens; its own keys go before those shared by the file.

    Args:
        frame: one entry of `frames`.
        shared: the whole JSON object.
        source: what an error calls the file.
        where: what an error calls the frame.
        image_size: width and height that stand in where the JSON has no `w` and `h`.

    Returns:
        The intrinsics, in pixels of `w` x `h` as the JSON declares them.

    Raises:
        InputError: a value is missing or wrong, or the camera model is not supported.
    """

    def value(key: str, low: float = -math.inf, high: float = math.inf) -> float | None:
        if frame.get(key) is not None:
            return number(frame[key], f"{where}: {key}", low, high)
        if shared.get(key) is not None:
            return number(shared[key], f"{source}: {key}", low, high)
        return None

    def focal(axis: str, side: int) -> float | None:
        length = value(f"fl_{axis}", 1e-6)
        angle = value(f"camera_angle_{axis}", 1e-6, math.pi - 1e-6)
        if length is not None or angle is None:
            return length
        return 0.5 * side / math.tan(0.5 * angle)

    width, height = value("w", 1, MAX_SIDE_PX), value("h", 1, MAX_SIDE_PX)
    if width is None or height is None:
        if image_size is None:
            raise InputError(f"{source}: needs `w` and `h`, the image size in pixels.")
        width, height = image_size
    width, height = round(width), round(height)
    model = lens_model(frame, shared, where)
    focal_x = focal("x", width)
    focal_y = focal("y", height)
    if focal_x is None:
        raise InputError(
            f"{source}: has no intrinsics; it needs `fl_x` (focal length in pixels) or "
            f"`camera_angle_x` (field of view in radians), for the file or for {where}."
        )
    center_x, center_y = value("cx"), value("cy")
    return Intrinsics(
        width,
        height,
        (focal_x, focal_x if focal_y is None else focal_y),
        (
            0.5 * width if center_x is None else center_x,
            0.5 * height if center_y is None else center_y,
        ),
        tuple(value(key) or 0.0 for key in DISTORTION_KEYS),
        model,
    )


def lens_model(frame: Mapping[str, Any], shared: Mapping[str, Any], where: str) -> LensModel:
    """The lens model that `camera_model` (nerfstudio) or `is_fisheye` (instant-ngp) asks for.

    Args:
        frame: one entry of `frames`.
        shared: the whole JSON object.
        where: what an error calls the frame.

    Returns:
        `"perspective"` or `"fisheye"`.

    Raises:
        InputError: it is another model.
    """
    name = frame.get("camera_model", shared.get("camera_model", "OPENCV"))
    unsupported = [key for key in ("ftheta_p0", "latlong", "equirectangular") if shared.get(key)]
    if unsupported:
        name = unsupported[0]
    if name == "OPENCV_FISHEYE" or (name == "OPENCV" and shared.get("is_fisheye")):
        return "fisheye"
    if name in _PERSPECTIVE_MODELS:
        return "perspective"
    raise InputError(
        f"{where}: camera_model needs to be one of {', '.join(_PERSPECTIVE_MODELS)} or "
        f"OPENCV_FISHEYE, got {_short(name)}; undistort the images to a perspective camera first."
    )


def frame_times(frames: list[dict[str, Any]], source: str) -> list[float] | None:
    """The frames' `time`, or None where no frame has one.

    Args:
        frames: entries of `frames`.
        source: what an error calls the file.

    Returns:
        One time in [0, 1] per frame, or None.

    Raises:
        InputError: only some frames have a time, or one is outside [0, 1].
    """
    timed = [frame.get("time") is not None for frame in frames]
    if not any(timed):
        return None
    if not all(timed):
        raise InputError(
            f"{source}: frames[{timed.index(False)}] has no `time` while others have one; give "
            "every frame a time in [0, 1], or none."
        )
    return [
        number(frame["time"], f"{source}: frames[{index}]: time", 0, 1)
        for index, frame in enumerate(frames)
    ]


def _short(value: object) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
