"""Random Fourier features and a relu network (Tancik et al. 2020)."""

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
    draw_uniform,
    linear_bound,
)
from neural_fields.ops import MlpSpec


@register
@dataclass(frozen=True)
class Fourier(Architecture):
    """Frequencies and layers.

    Attributes:
        sigma: standard deviation of the frequencies, cycles per unit of a cube [-1, 1]: half of
            the cycles across it.
        n_frequencies: how many; each gives a cosine and a sine.
        hidden: widths of the hidden layers, relu.
    """

    sigma: float = 1.0
    n_frequencies: int = 64
    hidden: tuple[int, ...] = (128, 128, 128, 128)

    name = "fourier"
    summary = "random Fourier features and a relu network"

    def trunk(self, n_dims: int, n_output: int, network: NetworkOptions) -> Trunk:
        """Features and layers."""
        widths = (2 * self.n_frequencies, *self.hidden, n_output)
        return FourierTrunk(self, n_dims, MlpSpec(widths, biases=True, **network._asdict()))

    @classmethod
    def sized(cls, target: Target, preset: str = "default") -> Fourier:
        """Images: 256 frequencies, 3 x 256, as CAM's and FreSh's. Others: 32 and 4 x 128."""
        if target.kind == "image":
            return cls(n_frequencies=256, hidden=(256, 256, 256))
        return cls(n_frequencies=32)

    @classmethod
    def rates(cls, kind: Kind, preset: str = "default") -> Rates:
        """FreSh's rate for images, three times that for scenes."""
        rate = 3e-3 if kind == "image" else 1e-2
        return deep_rates(kind, rate)

    def spectral(self) -> tuple[Spectral, ...]:
        """FreSh's candidates."""
        candidates = tuple(float(k) for k in range(1, 21))
        return (Spectral("sigma", self.sigma, candidates, lowest=0.05),)


class FourierTrunk(NetworkTrunk):
    """See `Fourier`; the frequencies are drawn once and kept."""

    frequencies: Tensor

    def __init__(self, config: Fourier, n_dims: int, spec: MlpSpec) -> None:
        super().__init__(spec)
        self._sigma = config.sigma
        self.register_buffer("frequencies", torch.empty(config.n_frequencies, n_dims))

    def reset(self, generator: torch.Generator) -> None:
        """Frequencies normal, layers as `torch.nn.Linear`."""
        self.frequencies.normal_(0, 4 * math.pi * self._sigma, generator=generator)
        draw_uniform(self.mlp, generator, linear_bound)

    def encode(self, positions: Tensor) -> Tensor:
        """Cosines, then sines."""
        phases = positions.clamp(0, 1) @ self.frequencies.T
        return torch.cat([phases.cos(), phases.sin()], 1)
