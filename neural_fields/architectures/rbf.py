"""Gaussian neurons in the feature space of a grid (Gaussian RBFNet / GNF, 2025)."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, cast

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
    checked_keys,
    register,
)
from neural_fields.architectures.hash import Hash, grid_spectral
from neural_fields.architectures.planes import Planes
from neural_fields.decoders import Rbf as Layer
from neural_fields.encodings import DifEncoding, HashEncoding, PlanesEncoding
from neural_fields.errors import InputError, unknown_value
from neural_fields.ops import HashGridSpec, spherical_harmonics

START_STEP = 30  # when features tell places apart
N_HARMONICS = 16  # of degree 3, as the paper's
# With the paper's periods no feature tells the halves of the box apart.
WHOLE_FIRST = (1.0, 3.2, 4.4, 5.6, 6.8, 8.0)


@dataclass(frozen=True)
class HashSizes:
    """A hash grid; see `neural_fields.ops.HashGridSpec`."""

    kind: Literal["hash"] = "hash"
    n_levels: int = 16
    n_features: int = 2
    log2_table_size: int = 17
    base_resolution: int = 16
    finest_resolution: int = 2048
    interpolation: Literal["linear", "smoothstep"] = "linear"

    def encoding(self, n_dims: int) -> HashEncoding:
        """The module."""
        spec = HashGridSpec(
            n_dims=n_dims,
            n_levels=self.n_levels,
            n_features=self.n_features,
            log2_table_size=self.log2_table_size,
            base_resolution=self.base_resolution,
            finest_resolution=self.finest_resolution,
            interpolation=self.interpolation,
        )
        return HashEncoding(spec)


@dataclass(frozen=True)
class DifSizes:
    """Grids that repeat; see `DifEncoding`.

    `periods` are those of the paper's configuration; its code takes the sides for them. Its
    `deviation` of the start is 1, where features are noise that neurons hardly see.
    """

    kind: Literal["dif"] = "dif"
    sides: tuple[int, ...] = (32, 51, 70, 89, 108, 128)
    channels: tuple[int, ...] = (4, 4, 4, 2, 2, 2)
    periods: tuple[float, ...] = (2.0, 3.2, 4.4, 5.6, 6.8, 8.0)
    deviation: float = 0.01

    def encoding(self, n_dims: int) -> DifEncoding:
        """The module."""
        return DifEncoding(n_dims, self.sides, self.channels, self.periods, self.deviation)


@dataclass(frozen=True)
class PlanesSizes:
    """Products of planes; see `PlanesEncoding`."""

    kind: Literal["planes"] = "planes"
    resolutions: tuple[int, ...] = (64, 128, 256)
    rank: int = 8

    def encoding(self, n_dims: int) -> PlanesEncoding:
        """The module."""
        return PlanesEncoding(n_dims, self.resolutions, self.rank)


Sizes = HashSizes | DifSizes | PlanesSizes
_SIZES: dict[str, type[Any]] = {"hash": HashSizes, "dif": DifSizes, "planes": PlanesSizes}


@register
@dataclass(frozen=True)
class Rbf(Architecture):
    """The encoding's sizes and the neurons behind it.

    Attributes:
        encoding: positions to features.
        n_kernels: Gaussian neurons.
        isotropic: one width per neuron instead of one per neuron and feature.
        affine: whether a matrix times the features is added, as the paper's first version draws it
            and its code does not have it.
        head: of radiance fields: `shared`, features for the colour head that all architectures
            share; or `sh`, the paper's density and 16 harmonics per colour.
        start: of the neurons: `paper`, near 0; or `data`, where the features are after a few steps.
    """

    encoding: Sizes = field(default_factory=HashSizes)
    n_kernels: int = 64
    isotropic: bool = False
    affine: bool = True
    head: Literal["shared", "sh"] = "shared"
    start: Literal["data", "paper"] = "data"

    name = "rbf"
    summary = "a grid and one layer of Gaussian neurons: little work per point"
    presets = MappingProxyType(
        {
            "plain": "the default sizes without the linear term beside the neurons",
            "sh": "the default sizes, colours of radiance fields by harmonics",
            "planes": "neurons behind products of planes",
            "dif": "neurons behind DiF-Grid's repeated grids",
            "dif-whole": "the same with a first grid that is not repeated, as shapes need",
            "dif-sides": "the same with as many periods as vertices, as the paper's code has it",
            "paper": "the paper's: repeated grids, its start, colours by harmonics",
        }
    )

    def __post_init__(self) -> None:
        if isinstance(self.encoding, dict):  # of a file
            kind = self.encoding.get("kind")
            if kind not in _SIZES:
                raise InputError(unknown_value("config: encoding.kind", str(kind), [*_SIZES]))
            owner = _SIZES[kind]
            sizes = owner(**checked_keys(owner, self.encoding))
            object.__setattr__(self, "encoding", sizes)
        for name, known in (("head", ("shared", "sh")), ("start", ("data", "paper"))):
            if getattr(self, name) not in known:
                raise InputError(unknown_value(f"config: {name}", str(getattr(self, name)), known))

    @property
    def has_color(self) -> bool:
        """Harmonics are colours."""
        return self.head == "sh"

    def trunk(self, n_dims: int, n_output: int, network: NetworkOptions) -> Trunk:
        """Encoding and neurons; `precision` is of networks, which this one has none of."""
        return RbfTrunk(self, n_dims, n_output or 1 + 3 * N_HARMONICS)

    @classmethod
    def sized(cls, target: Target, preset: str = "default") -> Rbf:
        """Default: the sizes of `hash`, and 16 x 2 features with 2^17 entries for SDFs."""
        encoding: Sizes = _hash_sizes(target)
        if preset.startswith("dif"):
            sides = tuple(map(float, DifSizes().sides))
            periods = {"dif-whole": WHOLE_FIRST, "dif-sides": sides}.get(preset, DifSizes().periods)
            encoding = DifSizes(periods=periods)
        elif preset == "paper":
            encoding = DifSizes(deviation=1.0)
        elif preset == "planes":
            encoding = PlanesSizes(resolutions=Planes.sized(target).resolutions)
        n_kernels = 32 if preset == "paper" and target.kind == "radiance" else 64
        head: Literal["shared", "sh"] = "shared"
        if target.kind == "radiance" and preset in ("sh", "paper"):
            head = "sh"
        return cls(
            encoding,
            n_kernels,
            affine=preset not in ("plain", "paper"),
            head=head,
            start="paper" if preset == "paper" else "data",
        )

    @classmethod
    def rates(cls, kind: Kind, preset: str = "default") -> Rates:
        """The paper's, or those of `hash`."""
        if preset == "paper":
            rate = {"image": 1e-2, "sdf": 5e-3, "radiance": 2e-2}[kind]
            return Rates(rate, rate, final=0.1, batch=1 << 17)
        if kind == "radiance":
            return Rates(network=2e-2, grid=4e-2, final=0.03, matrices=1e-2)
        # Of pictures: 1e-2 keeps neurons from settling, 2 dB after 3000 steps on kodim23.
        return Rates(network=5e-3 if kind == "image" else 1e-2, grid=1e-2, final=0.03)

    def spectral(self) -> tuple[Spectral, ...]:
        """The finest level's vertices of a hash grid; other encodings have none."""
        sizes = self.encoding
        if not isinstance(sizes, HashSizes):
            return ()
        path = "encoding.finest_resolution"
        return grid_spectral(path, sizes.finest_resolution, sizes.base_resolution)


def _hash_sizes(target: Target) -> HashSizes:
    if target.kind == "sdf":
        return HashSizes()
    like = Hash.sized(target)
    assert like.finest_resolution is not None
    return HashSizes(
        "hash",
        like.n_levels,
        like.n_features,
        like.log2_table_size,
        like.base_resolution,
        like.finest_resolution,
    )


class RbfTrunk(Trunk):
    """See `Rbf`."""

    def __init__(self, config: Rbf, n_dims: int, n_output: int) -> None:
        super().__init__()
        self.encoding = config.encoding.encoding(n_dims)
        names = [name for name, _ in cast(nn.Module, self.encoding).named_parameters()]
        self.grids = frozenset(f"encoding.{name}" for name in names)
        self.layer = Layer(
            self.encoding.n_output,
            config.n_kernels,
            n_output,
            isotropic=config.isotropic,
            affine=config.affine,
        )
        self._config = config
        self.start_step = START_STEP if config.start == "data" else None

    @property
    def smoothness(self) -> Smoothness:
        """That of the encoding: neurons are smooth."""
        encoding = self._config.encoding
        if isinstance(encoding, HashSizes):
            return Smoothness.of_grid(encoding.interpolation)
        return Smoothness.of_grid()

    def reset(self, generator: torch.Generator) -> None:
        """Grids as their encoding has it, neurons as the paper."""
        self.encoding.reset(generator)
        self.layer.reset(generator)

    def start(
        self, positions: Tensor, targets: Tensor | None, generator: torch.Generator
    ) -> frozenset[str]:
        """Neurons where the features are, see `neural_fields.decoders.Rbf.start_from`.

        Without targets the values stay near what they are.
        """
        with torch.no_grad():
            features = self.encoding.forward(positions)
            targets = self.layer.forward(features) if targets is None else targets
        self.layer.start_from(features, targets, generator)
        return frozenset(f"layer.{name}" for name, _ in self.layer.named_parameters())

    def forward(
        self, positions: Tensor, scale: Tensor | None = None, shift: Tensor | None = None
    ) -> Tensor:
        """Smooth but for the grid's kinks; twice differentiable in positions as far as it is."""
        return self.layer.forward(self.encoding.forward(positions))

    def density_and_color(self, positions: Tensor, directions: Tensor | None) -> Tensor:
        """[n, 4]: log-density and colours before the sigmoid, 0 without directions.

        Deviation from the paper's code: density is the exponential of its logit, as in all our
        fields, instead of softplus(logit - 10).
        """
        values = self.forward(positions)
        if directions is None:
            return torch.cat([values[:, :1], torch.zeros_like(values[:, :3])], 1)
        bands = values[:, 1:].view(-1, 3, N_HARMONICS)
        color = (bands * spherical_harmonics(directions)[:, None]).sum(2)
        return torch.cat([values[:, :1], color], 1)
