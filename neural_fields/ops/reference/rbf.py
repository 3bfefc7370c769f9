"""Gaussian neurons as the paper has them, with every difference written out."""

from __future__ import annotations

from torch import Tensor


def rbf(
    features: Tensor, centers: Tensor, log_precision: Tensor, weight: Tensor, bias: Tensor
) -> Tensor:
    """The values of `neural_fields.ops.rbf`; O(n * n_kernels * n_features) memory.

    Example:
        >>> import torch
        >>> neurons = torch.rand(8, 3), torch.zeros(8, 3), torch.rand(2, 8), torch.rand(2)
        >>> rbf(torch.rand(5, 3), *neurons).shape
        torch.Size([5, 2])
    """
    precision = log_precision.exp()
    if precision.dim() == 1:
        precision = precision[:, None]
    squares = (precision * (features[:, None] - centers).square()).sum(2)
    return (-0.5 * squares).exp() @ weight.T + bias
