"""Where photographs have edges."""

from __future__ import annotations

import torch
from torch import Tensor

from neural_fields.data.dataset import Dataset

_STEP = 0.05  # between neighbours, in a channel, of what is an edge


def edge_pixels(data: Dataset) -> Tensor:
    """Pixels in use on either side of a step in colour or alpha.

    Returns:
        int32 [n]: (image * height + row) * width + column, ascending; none where photographs are
        plain.

    Example:
        >>> edge_pixels(data)  # doctest: +SKIP
        tensor([ 1203,  1204,  1602], dtype=torch.int32)
    """
    parts = []
    for image in range(len(data)):
        color, alpha = data.image(image)
        values = torch.cat([color, alpha[..., None]], 2)
        edge = torch.zeros(values.shape[:2], dtype=torch.bool)
        across, down = (values.diff(dim=axis).abs().amax(2) > _STEP for axis in (1, 0))
        edge[:, 1:] |= across
        edge[:, :-1] |= across
        edge[1:] |= down
        edge[:-1] |= down
        if data.masks is not None:
            edge &= data.masks[image]
        parts.append(edge.view(-1).nonzero()[:, 0] + image * edge.numel())
    return torch.cat(parts).int()
