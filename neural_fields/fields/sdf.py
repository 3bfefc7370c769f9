"""Signed distance fields: how far the surface is, negative inside."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from neural_fields import architectures
from neural_fields.architectures import Architecture, NetworkOptions, checked_keys
from neural_fields.architectures.hash import Hash
from neural_fields.decoders import Modulate
from neural_fields.errors import InputError
from neural_fields.fields.modulated import trunk_modulation
from neural_fields.fields.quantize import check_weight_bits
from neural_fields.fields.radiance import Corner, Samples, check_box
from neural_fields.ops import Precision, vector


@dataclass(frozen=True)
class SdfConfig:
    """Everything that rebuilds a signed distance field, as plain data.

    Attributes:
        box: lowest and highest corner, world units: where distances are known.
        architecture: what makes distances from positions, with its sizes.
        precision: of the networks' products, float32 or bf16 (see `MlpSpec`).
        modulate: coordinate-aware modulation by `xyz`, or None.
        weight_bits: as in `RadianceConfig`.
    """

    box: tuple[Corner, Corner] = ((-1.0, -1.0, -1.0), (1.0, 1.0, 1.0))
    architecture: Architecture = field(default_factory=Hash)
    precision: Precision = "float32"
    modulate: Modulate | None = None
    weight_bits: int = 32

    def __post_init__(self) -> None:
        if self.modulate is not None and self.modulate.coordinates != "xyz":
            raise InputError(f"--modulate: an SDF needs xyz, got {self.modulate.coordinates}.")
        check_weight_bits(self.weight_bits)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**asdict(self), "architecture": self.architecture.to_dict()}

    @staticmethod
    def from_dict(data: dict[str, Any]) -> SdfConfig:
        """The inverse of `to_dict`; unknown or missing keys raise InputError."""
        parts = checked_keys(SdfConfig, data)
        parts["architecture"] = architectures.from_dict(data["architecture"])
        parts["box"] = tuple(tuple(float(x) for x in corner) for corner in parts["box"])
        if parts["modulate"] is not None:
            parts["modulate"] = Modulate(**checked_keys(Modulate, data["modulate"]))
        return SdfConfig(**parts)


class SdfField(nn.Module):
    """A shape that can be asked how far it is.

    Positions and distances are in the mesh's own frame and units; positions outside the box take
    the nearest place of it. The trunk sees the cube around the box as [0, 1]^3 and gives distances
    in units of half its side.

    Example:
        >>> shape = SdfField(SdfConfig(architecture=Hash(log2_table_size=12)))
        >>> shape.distance(Samples(torch.zeros(4, 3))).shape
        torch.Size([4])
    """

    kind = "sdf"
    levels: tuple[Literal["distance"], ...] = ("distance",)
    needs = ("positions",)

    def __init__(self, config: SdfConfig, seed: int | None = 0) -> None:
        """`seed` of the start; with None the parameters have no values yet."""
        super().__init__()
        check_box(config.box)
        self.config = config
        cam = config.modulate
        options = NetworkOptions(config.precision, cam is not None and cam.normalize)
        self.trunk = config.architecture.trunk(3, 1, options)
        self.modulation = trunk_modulation(cam, self.trunk, self.architecture)
        if seed is not None:
            self.trunk.reset(torch.Generator().manual_seed(seed))
            if self.modulation is not None:
                self.modulation.reset()

    @property
    def architecture(self) -> str:
        """The architecture's name."""
        return self.config.architecture.name

    @property
    def n_params(self) -> int:
        """Trainable numbers."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def unit(self) -> float:
        """World length of one unit: half the longest side of the box."""
        low, high = self.config.box
        return max(b - a for a, b in zip(low, high, strict=True)) / 2

    def occupancy_tensors(self) -> dict[str, Tensor]:
        """What a file keeps besides the parameters: nothing."""
        return {}

    def to_cube(self, positions: Tensor) -> Tensor:
        """World positions [n, 3] in the trunk's coordinates: [0, 1] in the box's cube."""
        low, high = (vector(corner, positions) for corner in self.config.box)
        cube: Tensor = (positions - (low + high) / 2) / (2 * self.unit) + 0.5
        return cube

    def encoded(self, cube: Tensor) -> Tensor:
        """Distances [n] in units at positions [n, 3] of the cube [0, 1]^3: what is fitted."""
        modulated = () if self.modulation is None else self.modulation(cube)
        values: Tensor = self.trunk(cube, *modulated)
        return values[:, 0]

    def distance(self, samples: Samples) -> Tensor:
        """Distances [n] at samples.positions [n, 3], negative inside.

        Twice differentiable in positions as far as the trunk is.
        """
        low, high = (vector(corner, samples.positions) for corner in self.config.box)
        inside = torch.minimum(torch.maximum(samples.positions, low), high)
        return self.encoded(self.to_cube(inside)) * self.unit
