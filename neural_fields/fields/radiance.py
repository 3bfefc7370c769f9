"""Radiance fields: a box, an architecture's trunk, and a colour head."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple, Self

import torch
from torch import Tensor, nn

from neural_fields import architectures
from neural_fields.architectures import Architecture, NetworkOptions, checked_keys
from neural_fields.architectures.hash import Hash
from neural_fields.decoders import (
    ColorHead,
    Head,
    Modulate,
    Modulation,
    camera_coordinates,
    direction_coordinates,
)
from neural_fields.errors import InputError
from neural_fields.fields.modulated import trunk_modulation
from neural_fields.fields.quantize import check_weight_bits
from neural_fields.ops import (
    MarchScene,
    OccupancySpec,
    Precision,
    RadianceParams,
    RadianceSpec,
    vector,
)

Corner = tuple[float, float, float]
LOG_DENSITY_MIN = math.log(1e-9)
Level = Literal["features", "log_density", "color"]


class Samples(NamedTuple):
    """What a field is asked.

    positions [n, d]; unit directions [n, 3] or None; variances [n, d] of what a position stands
    for along the axes, which only some architectures look at, or None; camera_ids int64 [n], of
    training cameras, which only modulation by camera looks at, or None; times [n] in [0, 1], which
    only fields that move look at, or None.
    """

    positions: Tensor
    directions: Tensor | None = None
    variances: Tensor | None = None
    camera_ids: Tensor | None = None
    times: Tensor | None = None


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
        architecture: what makes features from positions, with its sizes.
        head: the colour branch behind the trunk, unless that makes colours itself.
        sampling: how rays are sampled.
        precision: of the networks' products, float32 or bf16 (see `MlpSpec`).
        modulate: coordinate-aware modulation by anything but `xy`, or None.
        weight_bits: 32, or 8: trained, evaluated and kept with 255 levels per matrix or grid.
    """

    box: tuple[Corner, Corner] = ((-1.0, -1.0, -1.0), (1.0, 1.0, 1.0))
    architecture: Architecture = field(default_factory=Hash)
    head: Head = field(default_factory=Head)
    sampling: Sampling = field(default_factory=Sampling)
    precision: Precision = "float32"
    modulate: Modulate | None = None
    weight_bits: int = 32

    MODULATIONS: ClassVar[tuple[str, ...]] = ("xyz", "direction", "direction-trunk", "camera")

    def __post_init__(self) -> None:
        cam, known = self.modulate, self.MODULATIONS
        if cam is not None and cam.coordinates not in known:
            raise InputError(
                f"--modulate: a field of this kind needs {', '.join(known[:-1])} or {known[-1]}, "
                f"got {cam.coordinates}."
            )
        check_weight_bits(self.weight_bits)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**asdict(self), "architecture": self.architecture.to_dict()}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The inverse of `to_dict`; unknown or missing keys raise InputError."""
        return cls(**cls._parts(data))

    @classmethod
    def _parts(cls, data: dict[str, Any]) -> dict[str, Any]:
        """What the constructor takes."""
        parts = checked_keys(cls, data)
        parts["architecture"] = architectures.from_dict(data["architecture"])
        parts["box"] = tuple(tuple(float(x) for x in corner) for corner in parts["box"])
        parts["head"] = Head(**checked_keys(Head, parts["head"]))
        parts["sampling"] = Sampling(**checked_keys(Sampling, parts["sampling"]))
        if parts["modulate"] is not None:
            parts["modulate"] = Modulate(**checked_keys(Modulate, data["modulate"]))
        return parts


class RadianceField(nn.Module):
    """Density and view-dependent colour inside a box.

    Positions are in the world frame; density() is per world length and 0 outside the box. The
    trunk sees the cube around the box as [0, 1]^3. Once differentiable in parameters, twice in
    positions as far as the trunk is (`hash` with linear interpolation: mixed terms only).

    Example:
        >>> config = RadianceConfig(architecture=Hash(log2_table_size=12))
        >>> field = RadianceField(config, seed=1)
        >>> field.density(torch.zeros(4, 3)).shape
        torch.Size([4])
    """

    kind = "radiance"
    needs: tuple[str, ...] = ("positions", "directions")
    n_dims = 3  # of what the trunk sees
    # The cells that rays visit, in the order of csrc/ops/occupancy; all of them at first.
    occupancy: Tensor

    def __init__(self, config: RadianceConfig, seed: int | None = 0) -> None:
        """`seed` of the start; with None the parameters have no values yet."""
        super().__init__()
        check_box(config.box)
        self.config = config
        self._make_parts()
        if seed is not None:
            generator = torch.Generator().manual_seed(seed)
            self._reset(generator)
        words = torch.full(self._occupancy_shape, -1, dtype=torch.int64)
        self.register_buffer("occupancy", words, persistent=False)

    @property
    def _occupancy_shape(self) -> tuple[int, ...]:
        return (self.config.sampling.grid.n_words,)

    def _reset(self, generator: torch.Generator) -> None:
        """Draw all parameters."""
        for part in (self.trunk, self.color_head):
            if part is not None:
                part.reset(generator)
        if self.modulation is not None:
            self.modulation.reset()

    def _make_parts(self) -> None:
        """Trunk, colour head (where the trunk has no colours) and modulation of one of them."""
        config, cam = self.config, self.config.modulate
        of_head = cam is not None and cam.of_head
        normalize = cam is not None and cam.normalize
        options = NetworkOptions(config.precision, normalize and not of_head)
        has_color = config.architecture.has_color
        n_output = 0 if has_color else config.head.n_features
        self.trunk = config.architecture.trunk(self.n_dims, n_output, options)
        self.color_head: ColorHead | None = None
        self.modulation: Modulation | None = None
        if not has_color:
            self.color_head = ColorHead(config.head, config.precision, normalize and of_head)
        if cam is None or not of_head:
            self.modulation = trunk_modulation(cam, self.trunk, self.architecture)
        elif has_color or not config.head.hidden:
            raise InputError(
                f"--modulate {cam.coordinates}: {self.architecture} has no colour network; "
                "choose another --field or leave it out."
            )
        else:
            self.modulation = Modulation(cam, len(config.head.hidden))

    @property
    def levels(self) -> tuple[Level, ...]:
        """What `evaluate` can answer: no features where the trunk makes colours itself."""
        all_levels: tuple[Level, ...] = ("features", "log_density", "color")
        return all_levels[1:] if self.color_head is None else all_levels

    @property
    def architecture(self) -> str:
        """The architecture's name."""
        return self.config.architecture.name

    @property
    def view_dependent_density(self) -> bool:
        """Whether density depends on where it is seen from; without directions it is a mean."""
        cam = self.config.modulate
        return cam is not None and cam.coordinates == "direction-trunk"

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
        """World positions [n, 3] in the trunk's coordinates: [0, 1] in the box's cube."""
        center = vector(self.center, positions)
        return (positions - center) / (2 * self.unit) + 0.5

    def inside(self, positions: Tensor) -> Tensor:
        """Which world positions [n, 3] lie in the box: bool [n]."""
        low, high = (vector(corner, positions) for corner in self.config.box)
        inside: Tensor = ((positions >= low) & (positions <= high)).all(dim=1)
        return inside

    def evaluate(
        self, samples: Samples, levels: Sequence[Level] = ("log_density", "color")
    ) -> Levels:
        """Run the trunk once and answer the levels that are asked for (see `Levels`)."""
        variances = samples.variances
        if variances is not None:
            variances = variances / (2 * self.unit) ** 2
        cube = samples._replace(positions=self.to_cube(samples.positions), variances=variances)
        return self.evaluate_cube(cube, levels)

    def evaluate_cube(self, samples: Samples, levels: Sequence[Level]) -> Levels:
        """The same at positions [n, 3], and variances, in the trunk's coordinates."""
        cube, directions = samples.positions, samples.directions
        head = self.color_head
        if head is None:
            values = self.trunk.density_and_color(cube, directions)
            return Levels(
                None,
                values[:, 0].clamp(min=LOG_DENSITY_MIN) if "log_density" in levels else None,
                values[:, 1:].sigmoid() if "color" in levels else None,
            )
        seen = (samples.variances,) if self.trunk.sees_variances else ()
        features = self.trunk(cube, *self._scale_and_shift(samples, "trunk"), *seen)
        log_density: Tensor | None = None
        color: Tensor | None = None
        if "log_density" in levels:
            log_density = features[:, 0].clamp(min=LOG_DENSITY_MIN)
        if "color" in levels:
            color = head.forward(features, directions, *self._scale_and_shift(samples, "head"))
        return Levels(features if "features" in levels else None, log_density, color)

    def _scale_and_shift(
        self, cube: Samples, of: Literal["trunk", "head"]
    ) -> tuple[Tensor | None, Tensor | None]:
        """For the hidden layers of the trunk or of the colour head, None where not modulated."""
        cam = self.config.modulate
        if self.modulation is None or cam is None:
            return None, None
        if cam.of_head != (of == "head"):
            return None, None
        at = self._coordinates(cam, cube)
        if at is None:
            return self.modulation.mean(cube.positions.shape[0])
        scale, shift = self.modulation(at)
        return scale, shift

    def _coordinates(self, cam: Modulate, cube: Samples) -> Tensor | None:
        """Where the modulation's grid is looked up; None where the samples do not say."""
        if cam.coordinates == "xyz":
            return cube.positions
        if cam.coordinates == "time":
            return None if cube.times is None else cube.times[:, None]
        if cam.coordinates == "camera":
            ids = cube.camera_ids
            return None if ids is None else camera_coordinates(ids, cam.resolution[0])
        return None if cube.directions is None else direction_coordinates(cube.directions)

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

    def occupancy_tensors(self) -> dict[str, Tensor]:
        """What a file keeps besides the parameters."""
        return {"words": self.occupancy}

    def fused_spec(self) -> RadianceSpec | None:
        """The hot path's description of this field; None where it has no fused form."""
        fused = None if self.modulation is not None else self.trunk.fused()
        if fused is None or self.color_head is None:
            return None
        head = self.config.head
        if any(width % 16 for width in head.hidden):
            return None
        if not head.sees_density or head.directions != "harmonics" or head.biases:
            return None
        return RadianceSpec(fused.grid, fused.network, self.color_head.mlp.spec)

    def fused_params(self) -> RadianceParams:
        """The parameters as the hot path takes them; only where `fused_spec` is not None."""
        fused = self.trunk.fused()
        assert fused is not None
        assert self.color_head is not None
        return RadianceParams(
            fused.table.detach(), fused.params.detach(), self.color_head.mlp.params.detach()
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
