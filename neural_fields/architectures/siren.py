"""Sine networks (SIREN, Sitzmann et al. 2020), as FreSh uses them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from neural_fields.architectures import (
    Architecture,
    Kind,
    NetworkOptions,
    Rates,
    Spectral,
    Target,
    Trunk,
    register,
)
from neural_fields.architectures._network import (
    NetworkTrunk,
    deep_rates,
    draw_beta,
    draw_uniform,
    layer_factors,
)
from neural_fields.ops import MlpSpec


@register
@dataclass(frozen=True)
class Siren(Architecture):
    """Frequencies and layers.

    Attributes:
        first_omega: factor of the first layer's matrix: the field's frequencies.
        omega: the same of the other layers.
        hidden: widths of the hidden layers, sine.
        beta: the first matrix is drawn from a symmetric Beta distribution; 1 is uniform, more
            gathers the frequencies around 0, less at the ends.
    """

    first_omega: float = 30.0
    omega: float = 30.0
    hidden: tuple[int, ...] = (128, 128, 128, 128)
    beta: float = 1.0

    name = "siren"
    summary = "a deep sine network: smooth, with derivatives of any order"

    def trunk(self, n_dims: int, n_output: int, network: NetworkOptions) -> Trunk:
        """Layers of sin(omega W x + b); bf16 is refused by the operation."""
        widths = (n_dims, *self.hidden, n_output)
        return SirenTrunk(self, MlpSpec(widths, hidden="sine", biases=True, **network._asdict()))

    @classmethod
    def sized(cls, target: Target, preset: str = "default") -> Siren:
        """Images: 3 x 256 behind the first layer. Others: 4 x 128."""
        return cls(hidden=(256, 256, 256, 256)) if target.kind == "image" else cls()

    @classmethod
    def rates(cls, kind: Kind, preset: str = "default") -> Rates:
        """Of what the layers' factors multiply."""
        return deep_rates(kind, 5e-4)

    def spectral(self) -> tuple[Spectral, ...]:
        """FreSh's candidates; the shape of the first matrix after its factor."""
        omegas = tuple(10.0 * k for k in range(1, 21))
        betas = (0.25, 0.5, 1.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0, 16.0, 20.0)
        return (
            Spectral("first_omega", self.first_omega, omegas, n_bins=64, lowest=1.0),
            Spectral("beta", self.beta, betas, n_bins=64, lowest=0.05),
        )


class SirenTrunk(NetworkTrunk):
    """See `Siren`. Deviation from Sitzmann et al.: biases are not multiplied by omega."""

    factors: Tensor

    def __init__(self, config: Siren, spec: MlpSpec) -> None:
        super().__init__(spec)
        self._omega, self._beta = config.omega, config.beta
        matrices = [config.first_omega] + [config.omega] * (len(spec.widths) - 2)
        self.register_buffer("factors", layer_factors(spec, matrices), persistent=False)

    def reset(self, generator: torch.Generator) -> None:
        """First matrix in +-1 / n_in, others in +-sqrt(6 / n_in) / omega."""
        draw_uniform(
            self.mlp,
            generator,
            lambda layer, n_in: math.sqrt(6 / n_in) / self._omega if layer else 1 / n_in,
        )
        if self._beta != 1:
            matrix, _ = next(self.mlp.layers())
            share = draw_beta(matrix.numel(), self._beta, generator).view(matrix.shape)
            matrix.copy_((2 * share - 1) / matrix.shape[1])

    def effective_params(self) -> Tensor:
        """Matrices times omega."""
        return self.mlp.params * self.factors
