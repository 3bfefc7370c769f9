"""Low-rank tensors in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

from neural_fields.ops.reference.lattice import interpolate
from neural_fields.ops.tensor_planes import TensorPlanesSpec


def tensor_planes(positions: Tensor, table: Tensor, spec: TensorPlanesSpec) -> Tensor:
    """The features of `neural_fields.ops.tensor_planes`, term by term and factor by factor.

    Chen et al. 2022 and Fridovich-Keil et al. 2023.

    Example:
        >>> spec = TensorPlanesSpec.cp((8, 8, 8), rank=4)
        >>> tensor_planes(torch.rand(5, 3), torch.ones(spec.n_params), spec).shape
        torch.Size([5, 4])
    """
    products, offset = [], 0
    for term in spec.terms:
        product = torch.ones_like(positions[:, :1])
        for axes in term:
            shape = [*(spec.resolution[axis] for axis in reversed(axes)), spec.rank]
            size = torch.Size(shape).numel()
            grid = table[offset : offset + size].reshape(shape)
            product = product * interpolate(positions[:, list(axes)], grid, spec.interpolation)
            offset += size
        products.append(product)
    return torch.cat(products, dim=1)
