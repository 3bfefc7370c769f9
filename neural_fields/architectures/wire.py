"""Gabor wavelet networks (WIRE, Saragadam et al. 2023)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from neural_fields.architectures import (
    Architecture,
    Kind,
    NetworkOptions,
    Rates,
    Smoothness,
    Spectral,
    Target,
    Trunk,
    register,
)
from neural_fields.architectures._network import deep_rates
from neural_fields.ops import MlpSpec, mlp


@register
@dataclass(frozen=True)
class Wire(Architecture):
    """Frequencies, width of the wavelets and layers.

    Attributes:
        first_omega: of the first layer.
        omega: of the other hidden layers.
        scale: s of exp(i omega z - |s z|^2).
        hidden: complex widths of the hidden layers.
    """

    first_omega: float = 20.0
    omega: float = 10.0
    scale: float = 10.0
    hidden: tuple[int, ...] = (70, 70, 70, 70)

    name = "wire"
    summary = "a complex Gabor wavelet network: sharp in space and frequency"

    def trunk(self, n_dims: int, n_output: int, network: NetworkOptions) -> Trunk:
        """Layers; bf16 is refused by the operation."""
        return WireTrunk(self, n_dims, n_output, network)

    @classmethod
    def sized(cls, target: Target, preset: str = "default") -> Wire:
        """Complex widths: a layer costs as much as a real one of twice the width.

        Scenes take half the frequencies of images: 2 dB more after 20 s on lego at 100 x 100.
        """
        if target.kind == "image":
            return cls(hidden=(181, 181, 181))
        return cls(first_omega=10.0, omega=5.0, scale=5.0)

    @classmethod
    def rates(cls, kind: Kind, preset: str = "default") -> Rates:
        """FreSh's rate for images, twice that for scenes."""
        rate = 1e-3 if kind == "image" else 2e-3
        return deep_rates(kind, rate)

    def spectral(self) -> tuple[Spectral, ...]:
        """The first layer's omega; FreSh compares with WIRE and does not choose for it."""
        omegas = (5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 40.0, 50.0, 60.0, 80.0, 100.0)
        return (Spectral("first_omega", self.first_omega, omegas, lowest=1.0),)


class _Layers(nn.ParameterList):
    """The last column of each is its bias."""

    def split(self, layer: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Views of the real and imaginary matrices, and of the biases."""
        return [*layer[..., :-1]], [layer[..., -1]]


class WireTrunk(Trunk):
    """See `Wire`.

    A complex matrix A + iB acts on [re | im] as [[A, -B], [B, A]]; the first layer's is real, and
    of the last layer the real part counts.
    """

    def __init__(self, config: Wire, n_dims: int, n_output: int, network: NetworkOptions) -> None:
        super().__init__()
        self._widths = (n_dims, *config.hidden, n_output)
        self.spec = MlpSpec(
            (n_dims, *(2 * width for width in config.hidden), n_output),
            hidden="gabor",
            biases=True,
            **network._asdict(),
            omega=config.omega,
            first_omega=config.first_omega,
            gabor_scale=config.scale,
        )
        pairs = zip(self._widths[:-1], self._widths[1:], strict=True)
        # Per layer the real and the imaginary part of [n_out, n_in + 1], the bias last.
        self.layers = _Layers(
            torch.empty(1 if layer == 0 else 2, n_out, n_in + 1)
            for layer, (n_in, n_out) in enumerate(pairs)
        )
        self.n_modulated = len(config.hidden)

    @property
    def smoothness(self) -> Smoothness:
        """That of the wavelets."""
        return Smoothness(math.inf).through(self.spec)

    @torch.no_grad()
    def reset(self, generator: torch.Generator) -> None:
        """All parts as `torch.nn.Linear`."""
        for layer in self.layers:
            bound = 1 / math.sqrt(layer.shape[2] - 1)
            layer.uniform_(-bound, bound, generator=generator)

    def forward(
        self, positions: Tensor, scale: Tensor | None = None, shift: Tensor | None = None
    ) -> Tensor:
        """Infinitely smooth in positions; natively twice differentiable."""
        return mlp(positions.clamp(0, 1) * 2 - 1, self._real_params(), self.spec, scale, shift)

    def _real_params(self) -> Tensor:
        parts = []
        last = len(self.layers) - 1
        for index, layer in enumerate(self.layers):
            if index == 0:
                real = layer[0]
                full = torch.cat([real, torch.zeros_like(real)])
                matrix, bias = full[:, :-1], full[:, -1]
            else:
                a, b = layer[0], layer[1]
                matrix, bias = torch.cat([a[:, :-1], -b[:, :-1]], 1), a[:, -1]
                if index < last:
                    lower = torch.cat([b[:, :-1], a[:, :-1]], 1)
                    matrix, bias = torch.cat([matrix, lower]), torch.cat([bias, b[:, -1]])
            parts += [matrix.reshape(-1), bias]
        return torch.cat(parts)
