"""Integrated positional encoding: the mean of a frequency encoding over a Gaussian."""

from __future__ import annotations

import torch
from torch import Tensor

from neural_fields.ops import frequency


def integrated_frequency(positions: Tensor, variances: Tensor, n_octaves: int) -> Tensor:
    """Means of sin(2^k x) and cos(2^k x), k = 0 ... n_octaves - 1, over Gaussians of x.

    Args:
        positions: [n, n_dims] float32 or float64, means of the Gaussians.
        variances: [n, n_dims] of the same type, at least 0, the diagonals of their covariances.
        n_octaves: 1 to 24.

    Returns:
        [n, 2 * n_dims * n_octaves] in the order of `frequency` without the identity, which it
        equals where variances are 0. Differentiable twice in both.

    Source: Barron et al., Mip-NeRF, 2021, equation 14.

    Example:
        >>> x = torch.rand(5, 3)
        >>> integrated_frequency(x, torch.full((5, 3), 1e-4), n_octaves=16).shape
        torch.Size([5, 96])
    """
    n, n_dims = positions.shape
    waves = frequency(positions, n_octaves, identity=False).view(n, n_octaves, 2, n_dims)
    octaves = 4.0 ** torch.arange(n_octaves, dtype=positions.dtype, device=positions.device)
    left = torch.exp(-0.5 * octaves[:, None] * variances[:, None])
    return (waves * left[:, :, None]).reshape(n, -1)
