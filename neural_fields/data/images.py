"""Image files to uint8 arrays: decoding, box-average downscaling, masks."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from neural_fields.errors import InputError

# Everything else (16-bit grey, float, Lab) would lose its range on the way to 8 bits.
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
_EXIF_ORIENTATION = 0x0112
_ORIENTATIONS_THAT_SWAP = (5, 6, 7, 8)


class ImageHeader:
    """What an image file says of itself before any pixel is decoded.

    Attributes:
        size: width and height of the stored pixels.
        has_alpha: whether it has an alpha channel or a transparent colour.
        swaps: whether its EXIF orientation exchanges width and height.

    Raises:
        InputError: the file is no image that can be decoded safely.

    Example:
        >>> ImageHeader(Path("r_0.png")).size  # doctest: +SKIP
        (400, 400)
    """

    def __init__(self, path: Path) -> None:
        # Pillow guards against decompression bombs with a warning below twice its limit.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            try:
                with Image.open(path) as image:
                    self.size: tuple[int, int] = image.size
                    mode = image.mode
                    self.has_alpha = mode in ("RGBA", "LA", "PA") or "transparency" in image.info
                    self.swaps = _orientation(image) in _ORIENTATIONS_THAT_SWAP
            except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
                raise InputError(
                    f"{path}: needs an image of at most {Image.MAX_IMAGE_PIXELS} pixels, but its "
                    "header declares more; make it smaller, or replace it if it is corrupt."
                ) from error
            except Exception as error:  # Pillow's readers raise many types on corrupt files
                raise _undecodable(path, error) from error
        if mode not in _MODES:
            raise InputError(
                f"{path}: needs 8 bits per channel, got Pillow mode {mode!r}; convert it to an "
                "8-bit RGB or RGBA PNG."
            )


def read_image(path: Path, channels: int, transpose: bool = False) -> NDArray[np.uint8]:
    """Decode an image.

    Args:
        path: the file.
        channels: 3 (alpha is dropped) or 4 (opaque where the file has no alpha).
        transpose: whether to apply its EXIF orientation.

    Returns:
        uint8 [height, width, channels], sRGB with straight alpha.

    Raises:
        InputError: the file is cut short or corrupt.

    Example:
        >>> read_image(Path("r_0.png"), channels=4).shape  # doctest: +SKIP
        (400, 400, 4)
    """
    try:
        with Image.open(path) as image:
            turned = ImageOps.exif_transpose(image) if transpose else image
            return np.array(turned.convert("RGB" if channels == 3 else "RGBA"))
    except Exception as error:  # Pillow's readers raise many types on corrupt files
        raise _undecodable(path, error) from error


def read_mask(path: Path, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Where a mask is not black.

    Args:
        path: the file; grey, palette or colour, alpha is ignored.
        size: the width and height it needs: those of its image.

    Returns:
        bool [height, width], True where any colour channel is nonzero.

    Raises:
        InputError: it is no image, or of another size.

    Example:
        >>> read_mask(Path("mask.png"), (540, 960)).dtype  # doctest: +SKIP
        dtype('bool')
    """
    header = ImageHeader(path)
    if header.size != size:
        raise InputError(
            f"{path}: needs the size of its image, {size[0]}x{size[1]}, got "
            f"{header.size[0]}x{header.size[1]}; resize the mask (nearest)."
        )
    return np.asarray(read_image(path, 3).max(axis=2) > 0)


def downscale_image(image: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Average blocks of factor x factor pixels, in floating point on premultiplied colour.

    Args:
        image: uint8 [height, width, 3 or 4], straight alpha.
        factor: at least 1; rows and columns at the bottom and right that fill no block are
            cropped.

    Returns:
        uint8 [height // factor, width // factor, 3 or 4], straight alpha, rounded. Pixels that
        are transparent throughout are black.

    Example:
        >>> downscale_image(np.full((5, 4, 3), 7, np.uint8), 2).shape
        (2, 2, 3)
    """
    if factor == 1:
        return image
    if image.shape[2] == 3:
        return _to_uint8(_block_mean(image.astype(np.float32), factor))
    alpha = image[..., 3:].astype(np.float32)
    color = _block_mean(image[..., :3] * alpha, factor)
    alpha = _block_mean(alpha, factor)
    straight = np.divide(color, alpha, out=np.zeros_like(color), where=alpha > 0)
    return _to_uint8(np.concatenate((straight, alpha), axis=2))


def downscale_mask(mask: NDArray[np.bool_], factor: int) -> NDArray[np.bool_]:
    """Blocks of factor x factor pixels all of which are True.

    Args:
        mask: bool [height, width], True = use the pixel.
        factor: at least 1; remainders are cropped as by `downscale_image`.

    Returns:
        bool [height // factor, width // factor].

    Example:
        >>> downscale_mask(np.ones((5, 4), bool), 2).shape
        (2, 2)
    """
    height, width = (side // factor for side in mask.shape)
    blocks = mask[: height * factor, : width * factor].reshape(height, factor, width, factor)
    return np.asarray(blocks.all(axis=(1, 3)))


def _to_uint8(image: NDArray[np.float32]) -> NDArray[np.uint8]:
    rounded: NDArray[np.uint8] = np.rint(image).astype(np.uint8)
    return rounded


def _block_mean(image: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    height, width = image.shape[0] // factor, image.shape[1] // factor
    cropped = image[: height * factor, : width * factor]
    blocks = cropped.reshape(height, factor, width, factor, -1)
    mean: NDArray[np.float32] = blocks.mean(axis=(1, 3), dtype=np.float32)
    return mean


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:  # a damaged EXIF block does not spoil the pixels
        return 1


def _undecodable(path: Path, error: Exception) -> InputError:
    return InputError(
        f"{path}: needs an image that can be decoded, but it is no image, cut short or corrupt "
        f"({type(error).__name__}); copy or export it again."
    )
