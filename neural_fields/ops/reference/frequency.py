"""Frequency encoding in plain torch."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def frequency(
    positions: Tensor, n_octaves: int, *, identity: bool = True, include_pi: bool = False
) -> Tensor:
    """The encoding of `neural_fields.ops.frequency`, term by term.

    Mildenhall et al. 2020, equation 4, in the order of their code.

    Example:
        >>> frequency(torch.zeros(1, 3), n_octaves=10).shape
        torch.Size([1, 63])
    """
    parts = [positions] if identity else []
    for octave in range(n_octaves):
        phase = (math.pi if include_pi else 1.0) * 2.0**octave * positions
        parts += [torch.sin(phase), torch.cos(phase)]
    return torch.cat(parts, dim=1) if parts else positions[:, :0]
