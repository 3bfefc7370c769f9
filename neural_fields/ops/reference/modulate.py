"""Coordinate-aware modulation in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

from neural_fields.ops.modulate import ModulationSpec
from neural_fields.ops.reference.lattice import interpolate

EPS = 1e-5


def modulation(coordinates: Tensor, grid: Tensor, spec: ModulationSpec) -> tuple[Tensor, Tensor]:
    """The scales and shifts of `neural_fields.ops.modulation`.

    Example:
        >>> spec = ModulationSpec((5,), n_layers=2)
        >>> modulation(torch.rand(3, 1), spec.initial(), spec)[1].shape
        torch.Size([3, 2])
    """
    shaped = grid.reshape(*reversed(spec.resolution), spec.n_channels)
    values = interpolate(coordinates, shaped, wrap=spec.wrap or None)
    return values[:, : spec.n_layers], values[:, spec.n_layers :]


def modulate(features: Tensor, scale: Tensor, shift: Tensor, normalize: bool) -> Tensor:
    """The values of `neural_fields.ops.modulate`.

    Example:
        >>> modulate(torch.rand(3, 8), torch.ones(3), torch.zeros(3), normalize=True).shape
        torch.Size([3, 8])
    """
    if normalize:
        centered = features - features.mean(1, keepdim=True)
        features = centered / torch.sqrt(centered.square().mean(1, keepdim=True) + EPS)
    return scale[:, None] * features + shift[:, None]
