"""Sine networks of variable period (FINER, Liu et al. 2024)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

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
from neural_fields.architectures._network import NetworkTrunk, deep_rates, draw_uniform
from neural_fields.ops import MlpSpec, mlp


@register
@dataclass(frozen=True)
class Finer(Architecture):
    """Frequencies and layers.

    Attributes:
        first_omega: of the first layer.
        omega: of the other hidden layers.
        first_bias: k: the first layer's biases start in +-k; None: torch's +-1 / sqrt(n_in).
        hidden: widths of the hidden layers, sin(omega (|z| + 1) z).
        detached: whether |z| + 1 counts as a constant in the parameters' derivatives, as in the
            released code; where positions ask for theirs, nothing does.
    """

    first_omega: float = 30.0
    omega: float = 30.0
    first_bias: float | None = None
    hidden: tuple[int, ...] = (128, 128, 128, 128)
    detached: bool = True

    name = "finer"
    summary = "a sine network whose frequencies grow with its biases"

    def trunk(self, n_dims: int, n_output: int, network: NetworkOptions) -> Trunk:
        """Layers; bf16 is refused by the operation."""
        spec = MlpSpec(
            (n_dims, *self.hidden, n_output),
            hidden="finer-detached" if self.detached else "finer",
            biases=True,
            **network._asdict(),
            omega=self.omega,
            first_omega=self.first_omega,
        )
        return FinerTrunk(self, spec)

    @classmethod
    def sized(cls, target: Target, preset: str = "default") -> Finer:
        """Images: 3 x 256 behind the first layer. Others: 4 x 128."""
        return cls(hidden=(256, 256, 256, 256)) if target.kind == "image" else cls()

    @classmethod
    def rates(cls, kind: Kind, preset: str = "default") -> Rates:
        """As for sine networks."""
        return deep_rates(kind, 5e-4)

    def spectral(self) -> tuple[Spectral, ...]:
        """FreSh's candidates: k, whose default is about 0.7 in the plane, and the first omega."""
        omegas = tuple(10.0 * k for k in range(1, 21))
        biases = tuple(round(0.1 * k, 1) for k in range(31))
        return (
            Spectral("first_bias", self.first_bias, biases),
            Spectral("first_omega", self.first_omega, omegas, lowest=1.0),
        )


class FinerTrunk(NetworkTrunk):
    """See `Finer`."""

    def __init__(self, config: Finer, spec: MlpSpec) -> None:
        super().__init__(spec)
        self._config = config
        self._whole = replace(spec, hidden="finer")

    def reset(self, generator: torch.Generator) -> None:
        """First matrix in +-1 / n_in, others in +-sqrt(6 / n_in) / omega."""
        omega, k = self._config.omega, self._config.first_bias
        draw_uniform(
            self.mlp,
            generator,
            lambda layer, n_in: math.sqrt(6 / n_in) / omega if layer else 1 / n_in,
        )
        if k is not None:
            _, bias = next(self.mlp.layers())
            assert bias is not None
            bias.uniform_(-k, k, generator=generator)

    def forward(
        self, positions: Tensor, scale: Tensor | None = None, shift: Tensor | None = None
    ) -> Tensor:
        """Once continuously differentiable in positions, with the derivatives of the values."""
        spec = self._whole if positions.requires_grad else self.mlp.spec
        return mlp(self.encode(positions), self.mlp.params, spec, scale, shift)
