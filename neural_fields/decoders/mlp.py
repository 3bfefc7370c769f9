"""A small network as a module that owns its parameters."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from neural_fields.ops import MlpSpec, mlp


class Mlp(nn.Module):
    """Fully connected layers with one flat parameter tensor.

    Matrices start uniform in +-sqrt(6 / (n_in + n_out)) (Glorot and Bengio 2010), biases at zero.

    Example:
        >>> network = Mlp(MlpSpec((32, 64, 16)))
        >>> network(torch.rand(5, 32)).shape
        torch.Size([5, 16])
    """

    def __init__(self, spec: MlpSpec, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.spec = spec
        parts: list[Tensor] = []
        for n_in, n_out in zip(spec.widths[:-1], spec.widths[1:], strict=True):
            bound = math.sqrt(6 / (n_in + n_out))
            parts.append(torch.empty(n_out * n_in).uniform_(-bound, bound, generator=generator))
            if spec.biases:
                parts.append(torch.zeros(n_out))
        self.params = nn.Parameter(torch.cat(parts))

    def forward(self, inputs: Tensor) -> Tensor:
        """[n, n_output] from [n, n_input]."""
        return mlp(inputs, self.params, self.spec)
