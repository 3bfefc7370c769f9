"""Image fields: pixels as a function of position."""

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
from neural_fields.fields.radiance import Samples
from neural_fields.ops import Precision, vector

MAX_SIDE = 1 << 20  # pixels
MIDDLE = 0.5  # what a trunk's zero stands for
ColorSpace = Literal["srgb", "linear"]


@dataclass(frozen=True)
class ImageConfig:
    """Everything that rebuilds an image field, as plain data.

    Attributes:
        width: of the picture, pixels.
        height: of the picture, pixels.
        channels: 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha.
        color_space: of the values: `srgb` in [0, 1], or `linear`, where they may exceed 1.
        bits: per channel of the file that was fitted: 8, 16 or 32 (float).
        architecture: what makes values from positions, with its sizes.
        precision: of the networks' products, float32 or bf16 (see `MlpSpec`).
        modulate: coordinate-aware modulation by `xy`, or None.
        weight_bits: as in `RadianceConfig`.
    """

    width: int
    height: int
    channels: int = 3
    color_space: ColorSpace = "srgb"
    bits: int = 8
    architecture: Architecture = field(default_factory=Hash)
    precision: Precision = "float32"
    modulate: Modulate | None = None
    weight_bits: int = 32

    def __post_init__(self) -> None:
        if self.modulate is not None and self.modulate.coordinates != "xy":
            raise InputError(
                f"--modulate: an image field needs xy, got {self.modulate.coordinates}."
            )
        check_weight_bits(self.weight_bits)
        for name in ("width", "height"):
            side = getattr(self, name)
            if not isinstance(side, int) or not 1 <= side <= MAX_SIDE:
                raise InputError(f"config: {name} needs 1 to {MAX_SIDE} pixels, got {side!r}.")
        known = {"channels": (1, 2, 3, 4), "bits": (8, 16, 32), "color_space": ("srgb", "linear")}
        for name, values in known.items():
            if getattr(self, name) not in values:
                raise InputError(f"config: {name} needs one of {values}, got {self}.")

    @property
    def has_alpha(self) -> bool:
        """Whether the last channel is alpha; the others are then premultiplied by it."""
        return self.channels in (2, 4)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**asdict(self), "architecture": self.architecture.to_dict()}

    @staticmethod
    def from_dict(data: dict[str, Any]) -> ImageConfig:
        """The inverse of `to_dict`; unknown or missing keys raise InputError."""
        parts = checked_keys(ImageConfig, data)
        parts["architecture"] = architectures.from_dict(data["architecture"])
        if parts["modulate"] is not None:
            parts["modulate"] = Modulate(**checked_keys(Modulate, data["modulate"]))
        return ImageConfig(**parts)


class ImageField(nn.Module):
    """A picture that can be asked anywhere.

    Positions are in pixels of the picture that was fitted, (0, 0) the upper left corner of the
    first pixel and its centre at (0.5, 0.5); positions outside take the nearest edge. Inside,
    linear values pass through the sRGB curve, so that a network sees differences as eyes do.

    Example:
        >>> picture = ImageField(ImageConfig(64, 48, architecture=Hash(log2_table_size=12)))
        >>> picture.value(Samples(torch.tensor([[0.5, 0.5], [63.5, 47.5]]))).shape
        torch.Size([2, 3])
    """

    kind = "image"
    levels: tuple[Literal["pixels"], ...] = ("pixels",)
    needs = ("positions",)

    def __init__(self, config: ImageConfig, seed: int | None = 0) -> None:
        """`seed` of the start; with None the parameters have no values yet."""
        super().__init__()
        self.config = config
        cam = config.modulate
        options = NetworkOptions(config.precision, cam is not None and cam.normalize)
        self.trunk = config.architecture.trunk(2, config.channels, options)
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

    def occupancy_tensors(self) -> dict[str, Tensor]:
        """What a file keeps besides the parameters: nothing."""
        return {}

    def to_cube(self, positions: Tensor) -> Tensor:
        """Positions [n, 2] in the trunk's coordinates: the square around the picture as [0, 1]."""
        size = self._size(positions)
        side = float(max(self.config.width, self.config.height))
        return (self._inside(positions, size) + (side - size) / 2) / side

    def _size(self, like: Tensor) -> Tensor:
        return vector((self.config.width, self.config.height), like)

    @staticmethod
    def _inside(positions: Tensor, size: Tensor) -> Tensor:
        return torch.minimum(positions.clamp(min=0), size)

    def encoded(self, positions: Tensor) -> Tensor:
        """What is fitted, [n, channels] at [n, 2]: sRGB, or linear values through its curve."""
        cube = self.to_cube(positions)
        if self.modulation is None:
            values: Tensor = self.trunk(cube)
        else:
            size = self._size(positions)
            values = self.trunk(cube, *self.modulation(self._inside(positions, size) / size))
        return values + MIDDLE

    def value(self, samples: Samples) -> Tensor:
        """Values [n, channels] at samples.positions [n, 2] in pixels; differentiable like it."""
        values = self.encoded(samples.positions)
        return values if self.config.color_space == "srgb" else to_linear(values)


def to_curve(values: Tensor) -> Tensor:
    """Linear values through the sRGB curve, which goes on above 1 and mirrored below 0."""
    size = values.abs()
    bent = 1.055 * size.clamp(min=0.0031308) ** (1 / 2.4) - 0.055
    return torch.where(size <= 0.0031308, 12.92 * values, bent.copysign(values))


def to_linear(values: Tensor) -> Tensor:
    """The inverse of `to_curve`."""
    size = values.abs()
    bent = ((size.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4
    return torch.where(size <= 0.04045, values / 12.92, bent.copysign(values))
