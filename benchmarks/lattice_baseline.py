"""Plain PyTorch over dense grids with aligned corners, for the benchmarks.

`embedding_bag` over channels-last vertices, in pieces that the cache holds, and `index_add_` for
gradients are faster than `grid_sample`, which reads every channel from a plane of its own.
"""

from __future__ import annotations

import torch
from torch import Tensor


def corners(positions: Tensor, resolution: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Vertices and weights [n, 2**n_dims] around every position, the first axis the fastest."""
    index = weight = None
    stride = 1
    for axis, size in enumerate(resolution):
        place = positions[:, axis].clamp(0, 1) * (size - 1)
        lower = place.long().clamp(max=size - 2)
        t = place - lower
        vertices = torch.stack((lower, lower + 1), 1) * stride
        sides = torch.stack((1 - t, t), 1)
        if index is None or weight is None:
            index, weight = vertices, sides
        else:
            index = (vertices[:, :, None] + index[:, None]).flatten(1)
            weight = (sides[:, :, None] * weight[:, None]).flatten(1)
        stride *= size
    assert index is not None
    assert weight is not None
    return index, weight
