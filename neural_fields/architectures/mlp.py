"""Frequency encoding and a deep network (NeRF, Mildenhall et al. 2020)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

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
from neural_fields.architectures._network import draw_uniform, linear_bound
from neural_fields.decoders import Mlp as Network
from neural_fields.errors import InputError, unknown_value
from neural_fields.ops import MlpSpec, frequency, mlp


@register
@dataclass(frozen=True)
class Mlp(Architecture):
    """Octaves and layers.

    Attributes:
        octaves: of the encoding.
        hidden: widths of the hidden layers, relu.
        skip: the encoding is given again to the layer after this many; 0 = to none.
        convention: `nerf`: the position in [-1, 1] and sin, cos of 2^k times it, layers with
            biases; `tiny-cuda-nn`: sin, cos of 2^k pi times the position in [0, 1], axis by axis,
            layers without.
    """

    octaves: int = 10
    hidden: tuple[int, ...] = (128, 128, 128, 128)
    skip: int = 0
    convention: Literal["nerf", "tiny-cuda-nn"] = "nerf"

    name = "mlp"
    summary = "frequency encoding and a deep relu network: small, slow to fit"
    presets = MappingProxyType({"nerf": "NeRF's trunk, 8 layers of 256, the input again after 5"})

    def __post_init__(self) -> None:
        known = ("nerf", "tiny-cuda-nn")
        if self.convention not in known:
            raise InputError(unknown_value("config: convention", str(self.convention), known))

    def trunk(self, n_dims: int, n_output: int, network: NetworkOptions) -> Trunk:
        """Encoding and layers."""
        return MlpTrunk(self, n_dims, n_output, network)

    @classmethod
    def sized(cls, target: Target, preset: str = "default") -> Mlp:
        """Images: 3 x 256, octaves up to four pixels a wave. Radiance: 4 x 128."""
        if preset == "nerf":
            return cls(10, (256,) * 8, skip=5)
        if target.kind == "image":
            return cls(max(4, round(math.log2(target.finest))), (256, 256, 256))
        return cls()

    @classmethod
    def rates(cls, kind: Kind, preset: str = "default") -> Rates:
        """NeRF's own, or more for short runs."""
        usual = 2e-3 if kind == "image" else 5e-3
        rate = 5e-4 if preset == "nerf" else usual
        return Rates(rate, rate, final=0.05, batch=1 << (12 if kind == "image" else 13))


class MlpTrunk(Trunk):
    """See `Mlp`."""

    def __init__(self, config: Mlp, n_dims: int, n_output: int, network: NetworkOptions) -> None:
        super().__init__()
        self.octaves = config.octaves
        self.as_nerf = config.convention == "nerf"
        n_input = n_dims * (2 * config.octaves + self.as_nerf)
        before, after = config.hidden[: config.skip], config.hidden[config.skip :]
        options: dict[str, Any] = {"biases": self.as_nerf, **network._asdict()}
        self.first = (
            Network(MlpSpec((n_input, *before), output="relu", **options)) if before else None
        )
        n_joined = n_input + before[-1] if before else n_input
        self.last = Network(MlpSpec((n_joined, *after, n_output), **options))
        self.n_modulated = 0 if before else len(after)

    def reset(self, generator: torch.Generator) -> None:
        """As `torch.nn.Linear`, or as tiny-cuda-nn, whose start is that of our `Network`.

        He et al.'s wider start gains nothing and costs images 2 dB.
        """
        for network in (self.first, self.last):
            if network is None:
                continue
            if self.as_nerf:
                draw_uniform(network, generator, linear_bound)
            else:
                network.reset(generator)

    def encode(self, positions: Tensor) -> Tensor:
        """What the first layer gets of positions [n, n_dims]."""
        inside = positions.clamp(0, 1)
        if self.as_nerf:
            return frequency(inside * 2 - 1, self.octaves)
        n, n_dims = positions.shape
        waves = frequency(inside, self.octaves, identity=False, include_pi=True)
        return waves.view(n, 2 * self.octaves, n_dims).transpose(1, 2).flatten(1)

    def forward(
        self, positions: Tensor, scale: Tensor | None = None, shift: Tensor | None = None
    ) -> Tensor:
        """Infinitely smooth in positions but for relu's kinks."""
        encoded = self.encode(positions)
        if self.first is None:
            return mlp(encoded, self.last.params, self.last.spec, scale, shift)
        return self.last.forward(torch.cat([self.first.forward(encoded), encoded], 1))
