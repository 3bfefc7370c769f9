"""Radiance fields: a box, an encoding, a trunk and a colour head."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from neural_fields.decoders import ColorHead, Mlp
from neural_fields.decoders.color import color_spec
from neural_fields.encodings import HashConfig, HashEncoding
from neural_fields.errors import InputError
from neural_fields.ops import (
    MarchScene,
    MlpSpec,
    OccupancySpec,
    Precision,
    RadianceParams,
    RadianceSpec,
)

Corner = tuple[float, float, float]
LOG_DENSITY_MIN = math.log(1e-9)
Level = Literal["features", "log_density", "color"]


class Samples(NamedTuple):
    """What a field is asked: world positions [n, 3], and unit directions [n, 3] or None."""

    positions: Tensor
    directions: Tensor | None = None


class Levels(NamedTuple):
    """What a radiance field answers; levels that were not asked for are None.

    features [n, n_features]; log_density [n], log(max(sigma, 1e-9)) with sigma per unit;
    color [n, 3], sRGB in [0, 1].
    """

    features: Tensor | None = None
    log_density: Tensor | None = None
    color: Tensor | None = None


@dataclass(frozen=True)
class Sampling:
    """How rays are sampled; lengths in units (half the longest box side) unless they say _world.

    Attributes:
        step: smallest step.
        cone: growth of the step per distance, 0 for constant steps.
        max_step: largest step.
        near_world: distance along the ray where samples may begin, world units.
        max_samples: per ray.
        stop: transmittance below which a ray ends.
        resolution: cells of the occupancy grid per axis and cascade.
        n_cascades: nested cubes of the occupancy grid.
    """

    step: float = 2 * math.sqrt(3) / 1024
    cone: float = 0.0
    max_step: float = 2 * math.sqrt(3) / 1024
    near_world: float = 0.0
    max_samples: int = 1024
    stop: float = 1e-4
    resolution: int = 128
    n_cascades: int = 1

    def __post_init__(self) -> None:
        MarchScene(  # raises where a number is out of range
            box_min=(-1.0, -1.0, -1.0),
            box_max=(1.0, 1.0, 1.0),
            center=(0.0, 0.0, 0.0),
            unit=1.0,
            step=self.step,
            grid=self.grid,
            cone=self.cone,
            max_step=self.max_step,
            near=self.near_world,
            max_samples=self.max_samples,
        )
        if not 0 <= self.stop <= 1:
            raise InputError(f"config: stop needs a number in [0, 1], got {self.stop}.")

    @property
    def grid(self) -> OccupancySpec:
        """The shape of the occupancy grid."""
        return OccupancySpec(self.resolution, self.n_cascades)


@dataclass(frozen=True)
class RadianceConfig:
    """Everything that rebuilds a radiance field, as plain data.

    Attributes:
        box: lowest and highest corner, world units; density is 0 outside.
        architecture: the encoding's name; `hash`.
        encoding: its configuration.
        n_features: of the trunk; the first is log-density.
        trunk_hidden: widths of the trunk's hidden layers.
        color_hidden: widths of the colour head's hidden layers.
        sampling: how rays are sampled.
        precision: of the networks' products, float32 or bf16 (see `MlpSpec`).
    """

    box: tuple[Corner, Corner] = ((-1.0, -1.0, -1.0), (1.0, 1.0, 1.0))
    architecture: Literal["hash"] = "hash"
    encoding: HashConfig = field(default_factory=HashConfig)
    n_features: int = 16
    trunk_hidden: tuple[int, ...] = (64,)
    color_hidden: tuple[int, ...] = (64, 64)
    sampling: Sampling = field(default_factory=Sampling)
    precision: Precision = "float32"

    @property
    def trunk(self) -> MlpSpec:
        """The network from the encoding to the features."""
        widths = (self.encoding.spec.n_output, *self.trunk_hidden, self.n_features)
        return MlpSpec(widths, precision=self.precision)

    @property
    def color(self) -> MlpSpec:
        """The network of the colour head."""
        return color_spec(self.n_features, self.color_hidden, self.precision)

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of a field's parameters, without making any."""
        grid = self.encoding.spec
        return {
            "encoding.table": (grid.n_entries, grid.n_features),
            "trunk.params": (self.trunk.n_params,),
            "color_head.mlp.params": (self.color.n_params,),
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    @staticmethod
    def from_dict(data: dict[str, Any]) -> RadianceConfig:
        """The inverse of `to_dict`; unknown or missing keys raise InputError."""
        if isinstance(data, dict):  # files from before the choice
            data = {"precision": "float32", **data}
        parts = _checked(RadianceConfig, data)
        parts["box"] = tuple(tuple(float(x) for x in corner) for corner in parts["box"])
        parts["encoding"] = HashConfig(**_checked(HashConfig, parts["encoding"]))
        parts["sampling"] = Sampling(**_checked(Sampling, parts["sampling"]))
        for name in ("trunk_hidden", "color_hidden"):
            parts[name] = tuple(int(width) for width in parts[name])
        if parts["architecture"] != "hash":
            raise InputError(
                f"config: architecture needs hash, got {parts['architecture']!r}; "
                "was the file made by a newer version?"
            )
        return RadianceConfig(**parts)


def _checked(owner: type, data: object) -> dict[str, Any]:
    names = {entry.name for entry in fields(owner)}
    if not isinstance(data, dict) or set(data) != names:
        got = sorted(data) if isinstance(data, dict) else type(data).__name__
        raise InputError(f"config: {owner.__name__} needs the keys {sorted(names)}, got {got}.")
    return dict(data)


class RadianceField(nn.Module):
    """Density and view-dependent colour inside a box.

    Positions are in the world frame; density() is per world length and 0 outside the box. The
    encoding sees the cube around the box as [0, 1]^3. Once differentiable in parameters, twice in
    positions as far as the encoding is (`hash` with linear interpolation: mixed terms only).

    Example:
        >>> config = RadianceConfig(encoding=HashConfig(log2_table_size=12))
        >>> field = RadianceField(config, seed=1)
        >>> field.density(torch.zeros(4, 3)).shape
        torch.Size([4])
    """

    kind = "radiance"
    levels: tuple[Level, ...] = ("features", "log_density", "color")
    needs = ("positions", "directions")
    # The cells that rays visit, in the order of csrc/ops/occupancy; all of them at first.
    occupancy: Tensor

    def __init__(self, config: RadianceConfig, seed: int = 0) -> None:
        super().__init__()
        check_box(config.box)
        generator = torch.Generator().manual_seed(seed)
        self.config = config
        self.encoding = HashEncoding(config.encoding, generator)
        self.trunk = Mlp(config.trunk, generator)
        self.color_head = ColorHead(
            config.n_features, config.color_hidden, generator, config.precision
        )
        words = torch.full((config.sampling.grid.n_words,), -1, dtype=torch.int64)
        self.register_buffer("occupancy", words, persistent=False)

    @property
    def architecture(self) -> str:
        """The encoding's name."""
        return self.config.architecture

    @property
    def n_params(self) -> int:
        """Trainable numbers."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def unit(self) -> float:
        """World length of one unit: half the longest side of the box."""
        low, high = self.config.box
        return max(b - a for a, b in zip(low, high, strict=True)) / 2

    @property
    def center(self) -> Corner:
        """World position of the box's middle."""
        low, high = self.config.box
        x, y, z = ((a + b) / 2 for a, b in zip(low, high, strict=True))
        return x, y, z

    def to_cube(self, positions: Tensor) -> Tensor:
        """World positions [n, 3] in the encoding's coordinates: [0, 1] in the box's cube."""
        center = positions.new_tensor(self.center)
        return (positions - center) / (2 * self.unit) + 0.5

    def inside(self, positions: Tensor) -> Tensor:
        """Which world positions [n, 3] lie in the box: bool [n]."""
        low, high = positions.new_tensor(self.config.box)
        inside: Tensor = ((positions >= low) & (positions <= high)).all(dim=1)
        return inside

    def evaluate(
        self, samples: Samples, levels: Sequence[Level] = ("log_density", "color")
    ) -> Levels:
        """Run the trunk once and answer the levels that are asked for (see `Levels`)."""
        features = self.trunk(self.encoding(self.to_cube(samples.positions)))
        return Levels(
            features=features if "features" in levels else None,
            log_density=features[:, 0].clamp(min=LOG_DENSITY_MIN)
            if "log_density" in levels
            else None,
            color=self.color_head(features, samples.directions) if "color" in levels else None,
        )

    def density(self, positions: Tensor) -> Tensor:
        """Density [n] per world length at world positions [n, 3]; 0 outside the box."""
        log_density = self.evaluate(Samples(positions), ("log_density",)).log_density
        assert log_density is not None
        inside: Tensor = self.inside(positions)  # a product would turn overflow outside into NaN
        density: Tensor = torch.where(inside, log_density.exp() / self.unit, 0.0)
        return density

    def color(self, positions: Tensor, directions: Tensor | None = None) -> Tensor:
        """Colour [n, 3] at world positions [n, 3] seen along unit directions [n, 3]."""
        color = self.evaluate(Samples(positions, directions), ("color",)).color
        assert color is not None
        return color

    def fused_spec(self) -> RadianceSpec | None:
        """The hot path's description of this field; None where it has no fused form."""
        if self.config.n_features % 16 or self.encoding.n_output % 16:
            return None
        if any(width % 16 for width in (*self.config.trunk_hidden, *self.config.color_hidden)):
            return None
        return RadianceSpec(self.encoding.spec, self.trunk.spec, self.color_head.mlp.spec)

    def fused_params(self) -> RadianceParams:
        """The parameters as the hot path takes them."""
        return RadianceParams(
            self.encoding.table.detach(),
            self.trunk.params.detach(),
            self.color_head.mlp.params.detach(),
        )

    def march_scene(self) -> MarchScene:
        """The box, steps and grid that rays are marched through, in world units."""
        sampling, unit = self.config.sampling, self.unit
        return MarchScene(
            box_min=self.config.box[0],
            box_max=self.config.box[1],
            center=self.center,
            unit=unit,
            step=sampling.step * unit,
            grid=sampling.grid,
            cone=sampling.cone,
            max_step=sampling.max_step * unit,
            near=sampling.near_world,
            max_samples=sampling.max_samples,
        )


def check_box(box: tuple[Corner, Corner]) -> None:
    """Raise InputError unless these are two finite corners, the lower one first."""
    low, high = box
    finite = all(math.isfinite(x) for x in (*low, *high))
    if not finite or not all(a < b for a, b in zip(low, high, strict=True)):
        raise InputError(f"box: needs two finite corners, the lower one first, got {box}.")
