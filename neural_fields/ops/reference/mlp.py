"""Small networks in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

from neural_fields.ops.mlp import MlpSpec


def activate(kind: str, z: Tensor, beta: float) -> Tensor:
    """One of the activations by name."""
    if kind == "relu":
        return torch.relu(z)
    if kind == "softplus":
        return torch.logaddexp(beta * z, torch.zeros_like(z)) / beta
    if kind == "sigmoid":
        return torch.sigmoid(z)
    return z


def mlp(inputs: Tensor, params: Tensor, spec: MlpSpec) -> Tensor:
    """The network of `neural_fields.ops.mlp`, layer by layer.

    Example:
        >>> spec = MlpSpec((2, 4, 1), biases=True)
        >>> mlp(torch.zeros(3, 2), torch.ones(spec.n_params), spec).squeeze(1)
        tensor([5., 5., 5.])
    """
    values, start = inputs, 0
    n_layers = len(spec.widths) - 1
    for layer in range(n_layers):
        n_in, n_out = spec.widths[layer], spec.widths[layer + 1]
        values = values @ params[start : start + n_out * n_in].view(n_out, n_in).T
        start += n_out * n_in
        if spec.biases:
            values = values + params[start : start + n_out]
            start += n_out
        last = layer == n_layers - 1
        values = activate(spec.output if last else spec.hidden, values, spec.beta)
    return values
