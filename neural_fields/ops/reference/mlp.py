"""Small networks in plain torch."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from neural_fields.ops.mlp import MlpSpec

EPSILON = 1e-5  # added to a row's variance


def activate(kind: str, z: Tensor, beta: float) -> Tensor:
    """One of the activations by name that need no frequency."""
    if kind == "relu":
        return torch.relu(z)
    if kind == "softplus":
        return torch.logaddexp(beta * z, torch.zeros_like(z)) / beta
    if kind == "sigmoid":
        return torch.sigmoid(z)
    return z


def wave(kind: str, z: Tensor, omega: float, gabor_scale: float) -> Tensor:
    """One of the activations by name that have a frequency."""
    if kind == "sine":
        return torch.sin(omega * z)
    if kind in ("finer", "finer-detached"):
        stretch = z.abs() + 1
        stretch = stretch.detach() if kind == "finer-detached" else stretch
        return torch.sin(omega * stretch * z)
    real, imaginary = z.chunk(2, dim=1)
    number = torch.complex(real, imaginary)
    square = (gabor_scale * real) ** 2 + (gabor_scale * imaginary) ** 2
    wavelet = torch.exp(1j * omega * number - square)
    return torch.cat([wavelet.real, wavelet.imag], dim=1)


def normalize(rows: Tensor) -> Tensor:
    """Rows with mean 0 and (biased) variance 1."""
    centered = rows - rows.mean(dim=1, keepdim=True)
    variance = centered.square().mean(dim=1, keepdim=True)
    return centered / torch.sqrt(variance + EPSILON)


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


def _hidden(
    values: Tensor, spec: MlpSpec, layer: int, scale: Tensor | None, shift: Tensor | None
) -> Tensor:
    if spec.normalize:
        values = normalize(values)
    if scale is not None and shift is not None:
        values = scale[:, layer : layer + 1] * values + shift[:, layer : layer + 1]
    if spec.hidden not in ("sine", "finer", "finer-detached", "gabor"):
        return activate(spec.hidden, values, spec.beta)
    first = layer == 0 and spec.first_omega is not None
    omega = spec.first_omega if first else spec.omega
    return wave(spec.hidden, values, cast(float, omega), spec.gabor_scale)


def mlp(
    inputs: Tensor,
    params: Tensor,
    spec: MlpSpec,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
) -> Tensor:
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
        if layer < n_layers - 1:
            values = _hidden(values, spec, layer, scale, shift)
    return activate(spec.output, values, spec.beta)
