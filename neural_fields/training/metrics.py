"""Image metrics, each by one stated definition."""

from __future__ import annotations

import math

import torch
from torch import Tensor

WINDOW = 11  # pixels along a side, of SSIM
_BAND = 1 << 20  # pixels of a whole picture that are scored at once


class Scores:
    """PSNR and SSIM of a picture that is given in bands of rows from the top.

    Pictures are float32 [h, w, c] in [0, 1]. SSIM: 11x11 Gaussian window (sigma 1.5), data range 1,
    mean over pixels and channels (Wang et al. 2004), by pytorch-msssim. It needs at least 11 pixels
    per side, which bands need not have.

    Example:
        >>> scores = Scores()
        >>> for band in torch.rand(5, 8, 20, 3):
        ...     scores.add(band, band)
        >>> scores.psnr, round(scores.ssim, 6)
        (inf, 1.0)
    """

    def __init__(self) -> None:
        self._error, self._n_numbers = 0.0, 0
        self._similar, self._n_rows = 0.0, 0
        self._above: tuple[Tensor, Tensor] | None = None

    def add(self, image: Tensor, truth: Tensor) -> None:
        """The next band, [rows, w, c]."""
        self._error += float((image - truth).double().square().sum())
        self._n_numbers += image.numel()
        if self._above is not None:
            image, truth = (
                torch.cat(pair) for pair in zip(self._above, (image, truth), strict=True)
            )
        count = image.shape[0] - WINDOW + 1  # rows with a whole window
        if count > 0:
            self._similar += count * _ssim(image, truth)
            self._n_rows += count
        kept = slice(max(0, count), None)
        self._above = image[kept].clone(), truth[kept].clone()

    @property
    def psnr(self) -> float:
        """In dB; infinite where nothing differs."""
        return _decibels(self._error / self._n_numbers)

    @property
    def ssim(self) -> float:
        """Structural similarity, at most 1."""
        return self._similar / self._n_rows


def _ssim(image: Tensor, truth: Tensor) -> float:
    from pytorch_msssim import ssim as batch_ssim

    first, second = (x.permute(2, 0, 1)[None].float() for x in (image, truth))
    return float(batch_ssim(first, second, data_range=1.0, win_size=WINDOW, win_sigma=1.5))


def _decibels(error: float) -> float:
    return math.inf if error == 0 else -10 * math.log10(error)


def psnr(image: Tensor, truth: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of images in [0, 1]; infinite where they are equal.

    Example:
        >>> import torch
        >>> round(psnr(torch.zeros(2, 2, 3), torch.full((2, 2, 3), 0.1)), 2)
        20.0
    """
    return _decibels(float((image.double() - truth.double()).square().mean()))


def bands(height: int, width: int) -> list[slice]:
    """Rows of a picture, about a million pixels at a time.

    Example:
        >>> bands(2000, 1 << 10)
        [slice(0, 1024, None), slice(1024, 2000, None)]
    """
    rows = max(1, _BAND // width)
    return [slice(begin, min(begin + rows, height)) for begin in range(0, height, rows)]


def ssim(image: Tensor, truth: Tensor) -> float:
    """Structural similarity of images [h, w, c] in [0, 1], see `Scores`."""
    scores = Scores()
    for rows in bands(*image.shape[:2]):
        scores.add(image[rows], truth[rows])
    return scores.ssim


def ms_ssim(image: Tensor, truth: Tensor) -> float | None:
    """MS-SSIM of images [h, w, c] in [0, 1]; None where a side has fewer than 161 pixels.

    Five scales, the window of `Scores`, mean over channels (Wang et al. 2003), by pytorch-msssim.

    Example:
        >>> import torch
        >>> ms_ssim(torch.zeros(20, 20, 3), torch.zeros(20, 20, 3)) is None
        True
    """
    if min(image.shape[:2]) <= (WINDOW - 1) * 16:
        return None
    from pytorch_msssim import ms_ssim as batch_ms_ssim

    first, second = (x.permute(2, 0, 1)[None].float() for x in (image, truth))
    return float(batch_ms_ssim(first, second, data_range=1.0, win_size=WINDOW, win_sigma=1.5))
