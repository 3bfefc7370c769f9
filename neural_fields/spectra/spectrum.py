"""Spectra of signals as FreSh takes them (Kania et al. 2025), and how far two are apart."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from neural_fields.errors import InputError

MAX_SIDE = 1024  # larger signals are resized first
FLAT = 1e-5  # of the mean's share: below it a signal is constant but for rounding


def largest_bin(n_bins: int, side: int) -> int:
    """How many bins a signal of `side` samples has, at most `n_bins`: fewer than half its side.

    Example:
        >>> largest_bin(64, 768), largest_bin(64, 100)
        (64, 49)
    """
    return n_bins if n_bins < side / 2 else side // 2 - 1


def as_cube(signal: Tensor) -> Tensor:
    """A signal [c, *sides] with equal sides of at most `MAX_SIDE`, in float64.

    Resized (bi-, trilinearly; in the plane with antialiasing) only where it has to be.
    """
    sides = signal.shape[1:]
    side = min(*sides, MAX_SIDE) if len(sides) > 1 else sides[0]
    if all(length == side for length in sides):
        return signal.double()
    mode = {2: "bilinear", 3: "trilinear"}[len(sides)]
    new = [side] * len(sides)
    resized: Tensor = F.interpolate(
        signal.double()[None], new, mode=mode, align_corners=False, antialias=len(sides) == 2
    )[0]
    return resized


def spectrum(signal: Tensor, n_bins: int = 64, *, both_quadrants: bool = False) -> Tensor:
    """Where a signal's frequencies lie, as a distribution over cycles per side.

    Args:
        signal: [c, n], [c, h, w] or [c, d, h, w], of any range; offset and scale do not matter.
        n_bins: 1 to `n_bins` cycles are counted; fewer than half of the side.
        both_quadrants: in the plane, also count waves whose components have opposite signs, which
            the paper's code leaves out below half the side.

    Returns:
        float64 [n_bins] with sum 1: magnitudes of the discrete Fourier transform, summed over
        channels and over all indices whose sum is the bin's number. The mean is left out.

    Raises:
        InputError: the signal is constant, not finite, or too small.

    Source: Kania et al., FreSh, 2025, as its code has it: no window, magnitudes, sums, cropped
    before it is normalised.

    Example:
        >>> x = torch.arange(64) * (2 * torch.pi / 64)
        >>> wave = torch.cos(3 * x[:, None] + 4 * x[None])
        >>> int(spectrum(wave[None], 16).argmax()) + 1
        7
    """
    cube = as_cube(signal)
    side, n_axes = cube.shape[-1], cube.dim() - 1
    if n_bins < 1 or largest_bin(n_bins, side) != n_bins:
        raise InputError(f"spectrum: {side} samples a side have fewer than {n_bins} bins.")
    size = torch.fft.fftn(cube, dim=[*range(1, n_axes + 1)]).abs().sum(0)
    total = float(size.reshape(-1)[0])
    low = size[(slice(0, n_bins + 1),) * n_axes]
    sums = _by_sum(low, n_bins)
    if both_quadrants and n_axes == 2:
        mirrored = size.flip(1).roll(1, 1)[: n_bins + 1, : n_bins + 1].clone()
        mirrored[0], mirrored[:, 0] = 0, 0  # those on the axes were counted
        sums = sums + _by_sum(mirrored, n_bins)
    found = float(sums.sum())
    if not math.isfinite(found) or found <= FLAT * total or found == 0:
        raise InputError("spectrum: needs a finite signal that is not constant.")
    return sums / found


def _by_sum(size: Tensor, n_bins: int) -> Tensor:
    """Sums [n_bins] of entries whose indices sum to 1 ... n_bins."""
    axes = torch.meshgrid(*(torch.arange(length) for length in size.shape), indexing="ij")
    index = torch.stack(axes).sum(0)
    kept = (index >= 1) & (index <= n_bins)
    return size.new_zeros(n_bins).index_add_(0, index[kept] - 1, size[kept])


def wasserstein(p: Tensor, q: Tensor) -> float:
    """The distance of two distributions over bins, in bins: the earth mover's.

    Example:
        >>> wasserstein(torch.eye(8)[2], torch.eye(8)[5])
        3.0
    """
    return float((p.cumsum(0) - q.cumsum(0))[:-1].abs().sum())


def centroid(p: Tensor) -> float:
    """The mean bin, counted from 1.

    Example:
        >>> centroid(torch.tensor([0.5, 0.0, 0.5]))
        2.0
    """
    return float((p * torch.arange(1, len(p) + 1)).sum())
