"""Real spherical harmonics in plain torch."""

from __future__ import annotations

from math import pi, sqrt

import torch
from torch import Tensor


def spherical_harmonics(directions: Tensor, degree: int = 4) -> Tensor:
    """The values of `neural_fields.ops.spherical_harmonics`, with their normalisation as roots.

    Real harmonics with the Condon-Shortley sign, orthonormal on the sphere, band by band.

    Example:
        >>> spherical_harmonics(torch.eye(3), degree=3).shape
        torch.Size([3, 9])
    """
    x, y, z = directions.unbind(1)
    values = [
        sqrt(1 / (4 * pi)) + 0 * x,
        -sqrt(3 / (4 * pi)) * y,
        sqrt(3 / (4 * pi)) * z,
        -sqrt(3 / (4 * pi)) * x,
        sqrt(15 / (4 * pi)) * x * y,
        -sqrt(15 / (4 * pi)) * y * z,
        sqrt(5 / (16 * pi)) * (3 * z**2 - 1),
        -sqrt(15 / (4 * pi)) * x * z,
        sqrt(15 / (16 * pi)) * (x**2 - y**2),
        -sqrt(35 / (32 * pi)) * y * (3 * x**2 - y**2),
        sqrt(105 / (4 * pi)) * x * y * z,
        -sqrt(21 / (32 * pi)) * y * (5 * z**2 - 1),
        sqrt(7 / (16 * pi)) * z * (5 * z**2 - 3),
        -sqrt(21 / (32 * pi)) * x * (5 * z**2 - 1),
        sqrt(105 / (16 * pi)) * z * (x**2 - y**2),
        -sqrt(35 / (32 * pi)) * x * (x**2 - 3 * y**2),
    ]
    return torch.stack(values[: degree**2], dim=1)
