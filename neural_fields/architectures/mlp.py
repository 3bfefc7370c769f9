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
    Smoothness,
    Spectral,
    Target,
    Trunk,
    register,
)
from neural_fields.architectures._network import (
    N_TIME_WAVES,
    deep_rates,
    draw_uniform,
    linear_bound,
    time_waves,
)
from neural_fields.decoders import Head
from neural_fields.decoders import Mlp as Network
from neural_fields.encodings import integrated_frequency
from neural_fields.errors import InputError, unknown_value
from neural_fields.ops import MlpSpec, frequency, modulate


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
        neck: widths of a network without biases behind the layers: its input, its hidden layers;
            empty for none.
        integrated: 0, or the encoding is the mean of sin and cos alone over what a position stands
            for, a cell of 1 / integrated of the cube's side where nothing else is known.
    """

    octaves: int = 10
    hidden: tuple[int, ...] = (128, 128, 128, 128)
    skip: int = 0
    convention: Literal["nerf", "tiny-cuda-nn"] = "nerf"
    neck: tuple[int, ...] = ()
    integrated: int = 0

    name = "mlp"
    sees_time = True
    summary = "frequency encoding and a deep relu network: small, slow to fit"
    presets = MappingProxyType(
        {
            "ipe": "the default sizes with Mip-NeRF's integrated encoding",
            "nerf": "NeRF's, 8 layers of 256, the input again after 5",
            "paper": "Mip-NeRF's, as coordinate-aware modulation was published on it",
            "pvd": "PVD's, 7 layers of 256 and the network of its hash grid",
        }
    )

    def __post_init__(self) -> None:
        known = ("nerf", "tiny-cuda-nn")
        if self.convention not in known:
            raise InputError(unknown_value("config: convention", str(self.convention), known))
        if self.integrated and self.convention != "nerf":
            raise InputError("config: integrated needs the convention nerf, got tiny-cuda-nn.")

    def trunk(self, n_dims: int, n_output: int, network: NetworkOptions) -> Trunk:
        """Encoding and layers."""
        return MlpTrunk(self, n_dims, n_output, network)

    @classmethod
    def sized(cls, target: Target, preset: str = "default") -> Mlp:
        """Images: 3 x 256, octaves up to four pixels a wave. Radiance: 4 x 128."""
        if preset == "nerf":
            return cls(10, (256,) * 8, skip=5)
        if preset == "pvd":
            return cls(10, (256,) * 7, skip=4, neck=(28, 64))
        if preset == "paper":
            return cls(16, (256,) * 8, skip=5, integrated=max(64, target.finest))
        if preset == "ipe":
            return cls(16, integrated=max(64, target.finest))
        if target.kind == "image":
            return cls(max(4, round(math.log2(target.finest))), (256, 256, 256))
        return cls()

    @classmethod
    def color_head(cls, preset: str = "default") -> Head:
        """NeRF's and Mip-NeRF's have a bottleneck, frequencies of directions and 1 x 128."""
        if preset in ("nerf", "paper"):
            return Head(257, (128,), sees_density=False, directions="frequency", biases=True)
        return Head(sees_density=preset != "pvd")

    @classmethod
    def rates(cls, kind: Kind, preset: str = "default") -> Rates:
        """NeRF's own, or more for short runs."""
        usual = 2e-3 if kind == "image" else 5e-3
        if preset in ("nerf", "paper"):
            return deep_rates(kind, 5e-4)._replace(taught=2.0)
        rates = deep_rates(kind, usual)._replace(taught=2.0)
        if kind == "radiance" and preset != "pvd":
            return rates._replace(matrices=6e-3, final=0.01)
        return rates

    def spectral(self) -> tuple[Spectral, ...]:
        """The number of octaves."""
        octaves = tuple(float(k) for k in range(1, 17))
        return (Spectral("octaves", self.octaves, octaves, lowest=1, highest=24, whole=True),)


class MlpTrunk(Trunk):
    """See `Mlp`."""

    def __init__(self, config: Mlp, n_dims: int, n_output: int, network: NetworkOptions) -> None:
        super().__init__()
        self.sees_variances = config.integrated > 0
        self._config, self._normalize = config, network.normalize
        self.as_nerf = config.convention == "nerf"
        n_waves = 2 * config.octaves + (self.as_nerf and not self.sees_variances)
        n_input = min(n_dims, 3) * n_waves + (N_TIME_WAVES if n_dims == 4 else 0)
        plain: dict[str, Any] = network._asdict()
        options = {"biases": self.as_nerf, **plain}
        before, after = config.hidden[: config.skip], config.hidden[config.skip :]
        self.first = self.neck = None
        if before:
            self.first = Network(MlpSpec((n_input, *before), **options))
            n_input += before[-1]
        if config.neck:
            self.neck = Network(MlpSpec((*config.neck, n_output), **plain))
            n_output = config.neck[0]
        self.last = Network(MlpSpec((n_input, *after, n_output), **options))
        self.n_modulated = len(config.hidden) + max(0, len(config.neck) - 1)

    @property
    def smoothness(self) -> Smoothness:
        """That of relu behind sines."""
        return Smoothness(0)

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
        if self.neck is not None:
            self.neck.reset(generator)

    def forward(
        self,
        positions: Tensor,
        scale: Tensor | None = None,
        shift: Tensor | None = None,
        variances: Tensor | None = None,
    ) -> Tensor:
        """Infinitely smooth in positions but for relu's kinks.

        Variances [n, n_dims] are those of positions in the cube; see `integrated_frequency`.
        """
        hidden = encoded = self.encode(positions, variances)
        at = 0
        if self.first is not None:
            n = self.first.spec.n_hidden_layers
            hidden = self.first.forward(encoded, *_columns(scale, shift, 0, n))
            if scale is not None and shift is not None:
                hidden = modulate(hidden, scale[:, n], shift[:, n], self._normalize)
            hidden, at = torch.cat([hidden.relu(), encoded], 1), n + 1
        end = at + self.last.spec.n_hidden_layers
        hidden = self.last.forward(hidden, *_columns(scale, shift, at, end))
        if self.neck is not None:
            hidden = self.neck.forward(hidden, *_columns(scale, shift, end, None))
        return hidden

    def encode(self, positions: Tensor, variances: Tensor | None = None) -> Tensor:
        """What the first layer gets of positions [n, n_dims], the fourth of which is time."""
        if positions.shape[1] == 4:
            place = self.encode(positions[:, :3].contiguous(), variances)
            return torch.cat([place, time_waves(positions[:, 3:])], 1)
        inside, octaves = positions.clamp(0, 1), self._config.octaves
        if self.sees_variances:
            if variances is None:  # of a uniform draw from a cell
                variances = torch.full_like(positions, 1 / (12 * self._config.integrated**2))
            return integrated_frequency(inside * 2 - 1, 4 * variances, octaves)
        if self.as_nerf:
            return frequency(inside * 2 - 1, octaves)
        n, n_dims = positions.shape
        waves = frequency(inside, octaves, identity=False, include_pi=True)
        return waves.view(n, 2 * octaves, n_dims).transpose(1, 2).flatten(1)


def _columns(
    scale: Tensor | None, shift: Tensor | None, begin: int, end: int | None
) -> tuple[Tensor | None, Tensor | None]:
    """Those of some layers; None where nothing is modulated."""
    if scale is None or shift is None:
        return None, None
    return scale[:, begin:end].contiguous(), shift[:, begin:end].contiguous()
