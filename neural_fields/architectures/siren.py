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
    Target,
    Trunk,
    register,
)
from neural_fields.architectures._network import NetworkTrunk, draw_uniform, layer_factors
from neural_fields.ops import MlpSpec


@register
@dataclass(frozen=True)
class Siren(Architecture):
    """Frequencies and layers.

    Attributes:
        first_omega: factor of the first layer's matrix: the field's frequencies.
        omega: the same of the other layers.
        hidden: widths of the hidden layers, sine.
    """

    first_omega: float = 30.0
    omega: float = 30.0
    hidden: tuple[int, ...] = (128, 128, 128, 128)

    name = "siren"
    summary = "a deep sine network: smooth, with derivatives of any order"

    def trunk(self, n_dims: int, n_output: int, network: NetworkOptions) -> Trunk:
        """Layers of sin(omega W x + b); bf16 is refused by the operation."""
        widths = (n_dims, *self.hidden, n_output)
        return SirenTrunk(self, MlpSpec(widths, hidden="sine", biases=True, **network._asdict()))

    @classmethod
    def sized(cls, target: Target, preset: str = "default") -> Siren:
        """Images: 3 x 256 behind the first layer. Radiance: 4 x 128."""
        if target.kind == "image":
            return cls(first_omega=60.0, hidden=(256, 256, 256, 256))
        return cls()

    @classmethod
    def rates(cls, kind: Kind, preset: str = "default") -> Rates:
        """Of what the layers' factors multiply."""
        return Rates(5e-4, 5e-4, final=0.05, batch=1 << (12 if kind == "image" else 13))


class SirenTrunk(NetworkTrunk):
    """See `Siren`. Deviation from Sitzmann et al.: biases are not multiplied by omega."""

    factors: Tensor

    def __init__(self, config: Siren, spec: MlpSpec) -> None:
        super().__init__(spec)
        self._omega = config.omega
        matrices = [config.first_omega] + [config.omega] * (len(spec.widths) - 2)
        self.register_buffer("factors", layer_factors(spec, matrices), persistent=False)

    def reset(self, generator: torch.Generator) -> None:
        """First matrix in +-1 / n_in, others in +-sqrt(6 / n_in) / omega."""
        draw_uniform(
            self.mlp,
            generator,
            lambda layer, n_in: math.sqrt(6 / n_in) / self._omega if layer else 1 / n_in,
        )

    def effective_params(self) -> Tensor:
        """Matrices times omega."""
        return self.mlp.params * self.factors
