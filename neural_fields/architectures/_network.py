"""What the deep networks share: an encoding of positions, and layers behind it."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from neural_fields.architectures._base import Kind, Rates, Smoothness, Trunk
from neural_fields.decoders import Mlp
from neural_fields.ops import MlpSpec, frequency, mlp

TIME_OCTAVES = 4  # T-NeRF's
N_TIME_WAVES = 1 + 2 * TIME_OCTAVES


def time_waves(times: Tensor) -> Tensor:
    """Times [n, 1] in [0, 1] as [n, N_TIME_WAVES] that a network can bend: few, and slow."""
    return frequency(times.contiguous() * 2 - 1, TIME_OCTAVES)


class NetworkTrunk(Trunk):
    """Encoded positions through one network.

    Subclasses give `encode` and draw the layers; `factors` are constants that the parameters are
    multiplied by before they are used (a SIREN's omega), which scales what a step changes.
    """

    def __init__(self, spec: MlpSpec) -> None:
        super().__init__()
        self.mlp = Mlp(spec)
        self.n_modulated = spec.n_hidden_layers

    @property
    def smoothness(self) -> Smoothness:
        """That of the layers: encodings are sines, or the positions themselves."""
        return Smoothness(math.inf).through(self.mlp.spec)

    def encode(self, positions: Tensor) -> Tensor:
        """What the first layer gets, [n, spec.n_input]; the cube as [-1, 1] by default."""
        return positions.clamp(0, 1) * 2 - 1

    def effective_params(self) -> Tensor:
        """The parameters as the layers use them."""
        return self.mlp.params

    def forward(
        self, positions: Tensor, scale: Tensor | None = None, shift: Tensor | None = None
    ) -> Tensor:
        """Twice differentiable in positions; scale and shift [n, n_modulated] as `ops.mlp`'s."""
        params = self.effective_params()
        return mlp(self.encode(positions), params, self.mlp.spec, scale, shift)


def draw_uniform(
    trunk: Mlp, generator: torch.Generator, bound: Callable[[int, int], float]
) -> None:
    """Matrices uniform in +-bound(layer, n_in), biases in +-1 / sqrt(n_in) as torch has them."""
    for layer, (matrix, bias) in enumerate(trunk.layers()):
        n_in = matrix.shape[1]
        limit = bound(layer, n_in)
        matrix.uniform_(-limit, limit, generator=generator)
        if bias is not None:
            bias.uniform_(-1 / math.sqrt(n_in), 1 / math.sqrt(n_in), generator=generator)


def draw_beta(n: int, beta: float, generator: torch.Generator) -> Tensor:
    """Float32 [n] in [0, 1] from the symmetric Beta distribution: shares of two gamma draws."""
    first, second = (
        torch._standard_gamma(torch.full((n,), beta), generator=generator) for _ in range(2)
    )
    return first / (first + second).clamp(min=torch.finfo(torch.float32).tiny)


def deep_rates(kind: Kind, network: float) -> Rates:
    """Of networks whose every step is a few hundred matrix products: small batches, more time."""
    if kind == "image":
        return Rates(network, network, final=0.05, batch=1 << 12, seconds=180.0)
    return Rates(network, network, final=0.05, batch=1 << 13)


def linear_bound(layer: int, n_in: int) -> float:
    """Of `torch.nn.Linear`'s matrices."""
    return 1 / math.sqrt(n_in)


def layer_factors(spec: MlpSpec, matrices: list[float]) -> Tensor:
    """One factor per parameter: that of its layer for matrices, 1 for biases."""
    parts = []
    for n_in, n_out, factor in zip(spec.widths[:-1], spec.widths[1:], matrices, strict=True):
        parts.append(torch.full((n_in * n_out,), factor))
        if spec.biases:
            parts.append(torch.ones(n_out))
    return torch.cat(parts)
