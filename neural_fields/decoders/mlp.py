"""A small network as a module that owns its parameters."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from neural_fields.ops import MlpSpec, mlp


class Mlp(nn.Module):
    """Fully connected layers with one flat parameter tensor.

    Example:
        >>> network = Mlp(MlpSpec((32, 64, 16)))
        >>> network.reset(torch.Generator().manual_seed(1))
        >>> network(torch.rand(5, 32)).shape
        torch.Size([5, 16])
    """

    def __init__(self, spec: MlpSpec) -> None:
        super().__init__()
        self.spec = spec
        self.params = nn.Parameter(torch.empty(spec.n_params))

    @torch.no_grad()
    def reset(self, generator: torch.Generator) -> None:
        """Matrices uniform in +-sqrt(6 / (n_in + n_out)) (Glorot and Bengio 2010), biases 0."""
        for matrix, bias in self.layers():
            bound = math.sqrt(6 / (matrix.shape[0] + matrix.shape[1]))
            matrix.uniform_(-bound, bound, generator=generator)
            if bias is not None:
                bias.zero_()

    def split(self, params: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Views of the matrices and of the biases in a tensor like `params`."""
        matrices, biases = zip(*self.layers(params), strict=True)
        return list(matrices), [bias for bias in biases if bias is not None]

    def layers(self, params: Tensor | None = None) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Views of each layer's matrix [n_out, n_in] and bias [n_out], None without.

        Of the parameters, or of another tensor like them.
        """
        params = self.params.detach() if params is None else params
        at = 0
        for n_in, n_out in zip(self.spec.widths[:-1], self.spec.widths[1:], strict=True):
            matrix = params[at : at + n_out * n_in].view(n_out, n_in)
            at += n_out * n_in
            if self.spec.biases:
                yield matrix, params[at : at + n_out]
                at += n_out
            else:
                yield matrix, None

    def forward(
        self, inputs: Tensor, scale: Tensor | None = None, shift: Tensor | None = None
    ) -> Tensor:
        """[n, n_output] from [n, n_input]; scale and shift [n, n_hidden_layers] as in `mlp`."""
        return mlp(inputs, self.params, self.spec, scale, shift)
