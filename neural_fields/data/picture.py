"""Single pictures of any depth: files to pixels, for image fields."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neural_fields.errors import InputError
from neural_fields.fields.image import to_curve, to_linear

MIN_SIDE = 11  # pixels: the window of SSIM
MAX_PIXELS = 1 << 30
_BITS = {"uint8": 8, "uint16": 16, "half": 32, "float": 32, "double": 32}
_LARGEST = {8: 255.0, 16: 65535.0, 32: 1.0}
# EXIF orientation: whether rows become columns first, then the directions of both.
_TURNS = {
    2: (False, 1, -1),
    3: (False, -1, -1),
    4: (False, -1, 1),
    5: (True, 1, 1),
    6: (True, 1, -1),
    7: (True, -1, -1),
    8: (True, -1, 1),
}


@dataclass(frozen=True)
class Picture:
    """A decoded picture.

    Attributes:
        pixels: [height, width, channels], uint8, uint16 or float32 as in the file; alpha is
            straight for integers and premultiplied for floats.
        name: of the file.
        color_space: `srgb`, or `linear` for floats.
        bits: per channel: 8, 16 or 32 (float).
        protocol: how it was read and is scored.
        fingerprint: of its pixels.
    """

    pixels: Tensor
    name: str
    color_space: str
    bits: int
    protocol: dict[str, Any]
    fingerprint: str

    def to(self, device: torch.device | str) -> Picture:
        """The same picture with its pixels on another device."""
        return replace(self, pixels=self.pixels.to(device))

    @property
    def has_alpha(self) -> bool:
        """Whether the last channel is alpha."""
        return self.pixels.shape[2] in (2, 4)

    def values(self, pixels: Tensor) -> Tensor:
        """Stored pixels [..., channels] as float32, premultiplied; integers in [0, 1]."""
        values = pixels.to(torch.float32) / _LARGEST[self.bits]
        if self.has_alpha and self.bits < 32:
            values[..., :-1] *= values[..., -1:]
        return values

    def at(self, index: Tensor) -> Tensor:
        """`values` [n, channels] of pixels by number [n], row by row."""
        flat = self.pixels.view(-1, self.pixels.shape[2])
        return self.values(flat.index_select(0, index))


def load_picture(path: str | os.PathLike[str], downscale: int = 1) -> Picture:
    """Read a picture: PNG, JPEG, EXR, HDR, TIFF, WebP and what else OpenImageIO reads.

    Args:
        path: the file.
        downscale: box-average (premultiplied) by this factor; remainders are cropped.

    Raises:
        InputError: the file is missing, empty, cut short, no picture, smaller than 11 pixels a
            side, of more than 2^30 pixels or 4 channels, or holds NaN or infinity.

    Example:
        >>> load_picture("photo.png").pixels.shape  # doctest: +SKIP
        torch.Size([512, 768, 3])
    """
    path = Path(path)
    array, kind = _decoded(path)
    bits = _BITS[kind]
    if downscale > 1:
        array = _averaged(path, array, downscale)
    _check_finite(path, array)
    pixels = torch.from_numpy(array)
    color_space = "linear" if bits == 32 else "srgb"
    alpha = "premultiplied" if pixels.shape[2] in (2, 4) else "none"
    return Picture(
        pixels=pixels,
        name=path.name,
        color_space=color_space,
        bits=bits,
        protocol={"color_space": color_space, "alpha": alpha, "downscale": downscale},
        fingerprint=hashlib.sha256(array.data).hexdigest(),
    )


def _decoded(path: Path) -> tuple[NDArray[Any], str]:
    """Pixels [h, w, c] as the file has them, turned as its orientation says, and their type."""
    if not path.is_file():
        raise InputError(f"{path}: needs a picture file, but there is none.")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: needs a picture, got an empty file; copy or export it again.")
    import OpenImageIO

    hints = OpenImageIO.ImageSpec()
    hints.attribute("oiio:UnassociatedAlpha", 1)
    with _quiet():
        stream = OpenImageIO.ImageInput.open(str(path), hints)
        if stream is None:
            raise _undecodable(path, OpenImageIO.geterror())
        spec = stream.spec()
        kind = _checked_kind(path, spec)
        data = stream.read_image(0, 0, 0, spec.nchannels, "float" if _BITS[kind] == 32 else kind)
        problem = stream.geterror()
        stream.close()
    if data is None or problem:
        raise _undecodable(path, problem)
    data = np.asarray(data).reshape(spec.height, spec.width, spec.nchannels)
    return np.ascontiguousarray(_turned(data, spec.get_int_attribute("Orientation", 1))), kind


def _checked_kind(path: Path, spec: Any) -> str:
    width, height, n = spec.width, spec.height, spec.nchannels
    if min(width, height) < MIN_SIDE or width * height > MAX_PIXELS:
        raise InputError(
            f"{path}: needs {MIN_SIDE} pixels a side or more and at most {MAX_PIXELS} in all, "
            f"got {width}x{height}."
        )
    if spec.depth > 1 or not 1 <= n <= 4:
        raise InputError(f"{path}: needs 1 to 4 channels, got {n} in {spec.depth} slices.")
    kind = str(spec.format)
    if kind not in _BITS:
        raise InputError(f"{path}: needs 8 or 16 bits or floats per channel, got {kind}.")
    return kind


def _turned(data: NDArray[Any], orientation: int) -> NDArray[Any]:
    """The picture as its EXIF orientation wants it shown."""
    transpose, rows, columns = _TURNS.get(orientation, (False, 1, 1))
    data = data.transpose(1, 0, 2) if transpose else data
    return data[::rows, ::columns]


def _averaged(path: Path, array: NDArray[Any], factor: int) -> NDArray[Any]:
    height, width = array.shape[0] // factor, array.shape[1] // factor
    if min(height, width) < MIN_SIDE:
        raise InputError(
            f"{path}: --downscale {factor} leaves {width}x{height} pixels; {MIN_SIDE} a side are "
            "needed."
        )
    result = np.empty((height, width, array.shape[2]), array.dtype)
    weigh = array.shape[2] in (2, 4) and array.dtype.kind == "u"
    for row in range(height):  # a large picture fits memory once
        block = array[row * factor : (row + 1) * factor, : width * factor].astype(np.float64)
        if weigh:
            block[..., :-1] *= block[..., -1:]
        mean = block.reshape(factor, width, factor, -1).mean(axis=(0, 2))
        if weigh:
            alpha = mean[..., -1:]
            mean[..., :-1] = np.divide(
                mean[..., :-1], alpha, out=np.zeros_like(mean[..., :-1]), where=alpha > 0
            )
        result[row] = np.rint(mean) if array.dtype.kind == "u" else mean
    return result


def _check_finite(path: Path, array: NDArray[Any]) -> None:
    if array.dtype.kind == "u":
        return
    for row in range(array.shape[0]):
        bad = ~np.isfinite(array[row]).all(axis=1)
        if bad.any():
            column = int(bad.argmax())
            raise InputError(
                f"{path}: needs finite numbers, got {array[row, column].tolist()} at column "
                f"{column}, row {row}; repair the picture first."
            )


WRITTEN = {".png": 16, ".jpg": 8, ".jpeg": 8, ".tif": 32, ".exr": 32, ".hdr": 32, ".webp": 8}


def save_picture(path: Path, values: Tensor, bits: int, color_space: str) -> None:
    """Write a picture, atomically.

    Args:
        path: its suffix is the format: one of `WRITTEN`, whose numbers are its most bits.
        values: float32 [height, width, 1 to 4], premultiplied where the last channel is alpha.
        bits: per channel as far as the format goes; integers are clamped to [0, 1] and rounded.
        color_space: of the values; floats are written as linear, integers as sRGB.

    Raises:
        InputError: the file cannot be written.

    Example:
        >>> save_picture(Path("grey.png"), torch.rand(9, 12, 1), 8, "srgb")  # doctest: +SKIP
    """
    import OpenImageIO

    suffix = path.suffix.lower()
    bits = min(bits, WRITTEN[suffix]) if suffix not in (".exr", ".hdr") else 32
    if suffix in (".jpg", ".jpeg", ".hdr") and values.shape[2] in (2, 4):
        values = values[..., :-1] + (1 - values[..., -1:])  # formats without alpha: over white
    array = _as_stored(values, bits, color_space).numpy()
    kind = {8: "uint8", 16: "uint16", 32: "float"}[bits]
    spec = OpenImageIO.ImageSpec(array.shape[1], array.shape[0], array.shape[2], kind)
    spec.attribute("oiio:UnassociatedAlpha", int(bits < 32))
    spec.attribute("oiio:ColorSpace", "sRGB" if bits < 32 else "lin_rec709")
    handle, name = tempfile.mkstemp(prefix=".", suffix=suffix, dir=path.parent)
    os.close(handle)
    try:
        stream = OpenImageIO.ImageOutput.create(name)
        assert stream is not None, suffix
        written = stream.open(name, spec) and stream.write_image(array) and stream.close()
        if not written:
            raise InputError(f"{path}: cannot be written ({stream.geterror()}).")
        os.chmod(name, 0o644)
        os.replace(name, path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}).") from error
    finally:
        with contextlib.suppress(OSError):
            os.unlink(name)


def _as_stored(values: Tensor, bits: int, color_space: str) -> Tensor:
    """Linear floats with premultiplied alpha, or sRGB integers with straight alpha."""
    n_colors = values.shape[2] - (values.shape[2] in (2, 4))
    color, alpha = values[..., :n_colors], values[..., n_colors:]
    if bits == 32:
        color = color if color_space == "linear" else to_linear(color)
        return torch.cat([color, alpha], -1)
    alpha = alpha.clamp(0, 1)
    if alpha.numel() > 0:
        color = torch.where(alpha > 0, color / alpha.clamp(min=1e-9), 0.0)
    color = (color if color_space == "srgb" else to_curve(color)).clamp(0, 1)
    largest, kind = (255, torch.uint8) if bits == 8 else (65535, torch.uint16)
    return (torch.cat([color, alpha], -1) * largest).round().to(kind)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Decoders write to the process's stderr what we say in our own words."""
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


def _undecodable(path: Path, reason: str) -> InputError:
    first = reason.strip().splitlines()[0] if reason.strip() else "it holds no pixels"
    return InputError(
        f"{path}: needs a picture that can be decoded ({first}); copy or export it again."
    )
