"""Small networks in plain torch."""

from __future__ import annotations

from typing import Any, cast

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


def _round(values: Tensor) -> Tensor:
    return values.bfloat16().to(values.dtype)


def _through(values: Tensor) -> Tensor:
    """Rounded values, whose gradient passes as if they were not."""
    return values + (_round(values) - values).detach()


def _round_gradient(values: Tensor) -> Tensor:
    if values.requires_grad:
        cast(Any, values).register_hook(_round)  # in part without types
    return values


def _keep(values: Tensor) -> Tensor:
    return values


def mlp(inputs: Tensor, params: Tensor, spec: MlpSpec) -> Tensor:
    """The network of `neural_fields.ops.mlp`, layer by layer.

    In bf16 whatever is multiplied is rounded first: inputs, matrices, hidden activations, and on
    the way back the gradients of preactivations.

    Example:
        >>> spec = MlpSpec((2, 4, 1), biases=True)
        >>> mlp(torch.zeros(3, 2), torch.ones(spec.n_params), spec).squeeze(1)
        tensor([5., 5., 5.])
    """
    bf16 = spec.precision == "bf16"
    rounded, gradient_rounded = (_through, _round_gradient) if bf16 else (_keep, _keep)
    values, start = inputs, 0
    n_layers = len(spec.widths) - 1
    for layer in range(n_layers):
        n_in, n_out = spec.widths[layer], spec.widths[layer + 1]
        matrix = params[start : start + n_out * n_in].view(n_out, n_in)
        values = rounded(values) @ rounded(matrix).T
        start += n_out * n_in
        if spec.biases:
            values = values + params[start : start + n_out]
            start += n_out
        values = gradient_rounded(values)
        last = layer == n_layers - 1
        values = activate(spec.output if last else spec.hidden, values, spec.beta)
    return values
