"""Emission and absorption in plain torch."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from neural_fields.ops.composite import Composited


def composite(
    offsets: Tensor,
    t_starts: Tensor,
    t_ends: Tensor,
    density: Tensor,
    color: Tensor,
    stop: float = 0.0,
) -> Composited:
    """The sums of `neural_fields.ops.composite`, ray by ray; the distortion as its double sum.

    Mildenhall et al. 2020, equation 3; Barron et al. 2022, equation 15.

    Example:
        >>> t, one = torch.tensor([0.0, 1.0]), torch.ones(1)
        >>> composite(torch.tensor([0, 1]), t[:1], t[1:], one, torch.ones(1, 3)).opacity
        tensor([0.6321])
    """
    rays = []
    for begin, end in itertools.pairwise(offsets.tolist()):
        length = t_ends[begin:end] - t_starts[begin:end]
        middle = (t_ends[begin:end] + t_starts[begin:end]) / 2
        thickness = density[begin:end] * length
        transmittance = torch.exp(-(thickness.cumsum(0) - thickness))
        ended = (transmittance < stop).cumsum(0) > 0
        weights = torch.where(ended, 0.0, transmittance * (1 - torch.exp(-thickness)))
        pairs = weights[:, None] * weights * (middle[:, None] - middle).abs()
        rays.append(
            (
                (weights[:, None] * color[begin:end]).sum(0),
                weights.sum(),
                (weights * middle).sum(),
                pairs.sum() + (weights**2 * length).sum() / 3,
                weights,
            )
        )
    none = density[:0] + 0 * color[:0].sum(1)  # keeps the results part of the graph
    if not rays:
        return Composited(0 * color[:0] + none[:, None], none, none, none, none)
    *per_ray, weights_of = zip(*rays, strict=True)
    color_of, opacity, depth, distortion = (torch.stack(results) for results in per_ray)
    return Composited(color_of, opacity, depth, distortion, torch.cat([none, *weights_of]))
