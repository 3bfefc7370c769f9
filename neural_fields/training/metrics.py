"""Image metrics, each by one stated definition."""

from __future__ import annotations

import math

from torch import Tensor

_WINDOW = 11
_BAND = 1024


def psnr(image: Tensor, truth: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of images in [0, 1]; infinite where they are equal.

    Example:
        >>> import torch
        >>> round(psnr(torch.zeros(2, 2, 3), torch.full((2, 2, 3), 0.1)), 2)
        20.0
    """
    error = float((image.double() - truth.double()).square().mean())
    return math.inf if error == 0 else -10 * math.log10(error)


def ssim(image: Tensor, truth: Tensor) -> float:
    """Structural similarity of images [h, w, c] in [0, 1].

    11x11 Gaussian window (sigma 1.5), data range 1, mean over pixels and channels (Wang et al.
    2004), by pytorch-msssim. Images need at least 11 pixels per side. Computed in bands of rows,
    so that large pictures fit memory.
    """
    from pytorch_msssim import ssim as batch_ssim

    first, second = (x.permute(2, 0, 1)[None].float() for x in (image, truth))
    n_rows, total = image.shape[0] - _WINDOW + 1, 0.0  # rows that have a whole window
    for begin in range(0, n_rows, _BAND):
        count = min(_BAND, n_rows - begin)
        band = slice(begin, begin + count + _WINDOW - 1)
        value = batch_ssim(
            first[:, :, band], second[:, :, band], data_range=1.0, win_size=_WINDOW, win_sigma=1.5
        )
        total += float(value) * count
    return total / n_rows
