"""Dense voxels in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

from neural_fields.ops.reference.lattice import interpolate
from neural_fields.ops.reference.spherical_harmonics import spherical_harmonics
from neural_fields.ops.voxels import VoxelsSpec


def voxels(
    positions: Tensor, grid: Tensor, spec: VoxelsSpec, directions: Tensor | None = None
) -> Tensor:
    """The values of `neural_fields.ops.voxels`.

    Example:
        >>> spec = VoxelsSpec((8, 8), n_channels=2)
        >>> voxels(torch.rand(5, 2), torch.ones(64, 2), spec).shape
        torch.Size([5, 2])
    """
    shaped = grid.reshape(*reversed(spec.resolution), spec.n_channels)
    channels = interpolate(positions, shaped, spec.interpolation)
    if spec.n_harmonics == 0:
        return channels
    if directions is None:
        basis = channels.new_zeros(len(positions), spec.n_harmonics)
    else:
        basis = spherical_harmonics(directions, round(spec.n_harmonics**0.5))
    coefficients = channels[:, 1:].reshape(-1, 3, spec.n_harmonics)
    return torch.cat((channels[:, :1], torch.einsum("nck,nk->nc", coefficients, basis)), 1)
