"""Video fields: pixels as a function of position and time."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from neural_fields import architectures
from neural_fields.architectures import Architecture, FrameTrunk, NetworkOptions, checked_keys
from neural_fields.architectures.pyramid import Pyramid, around
from neural_fields.decoders import Modulate, Modulation
from neural_fields.errors import InputError
from neural_fields.fields.image import MAX_SIDE, MIDDLE
from neural_fields.fields.modulated import trunk_modulation
from neural_fields.fields.quantize import check_weight_bits
from neural_fields.fields.radiance import Samples
from neural_fields.ops import (
    FrameSpec,
    MlpSpec,
    Place,
    Precision,
    Slice,
    VoxelsSpec,
    frame,
    frame_lattice,
    vector,
    voxels,
)

MAX_FRAMES = 1 << 20
_MAX_MOTION = 1 << 12  # vertices per axis of the displacement's grid


@dataclass(frozen=True)
class VideoConfig:
    """Everything that rebuilds a video field, as plain data.

    Attributes:
        width: of a frame, pixels.
        height: of a frame, pixels.
        n_frames: the first is at time 0, the last at 1, the others evenly between.
        architecture: what makes values from positions and times, with its sizes.
        motion: vertices of the displacement's grid along x, y and time; None: nothing moves.
        tempo: share of the third coordinate that time runs over, about its middle: less is slower.
            Architectures that have slices of time, such as `pyramid`, do not look at it.
        margin: pixels on the left and right, and above and below, that the architecture covers
            besides a frame's, so that what is displaced has a place.
        precision: of the networks' products, float32 or bf16 (see `MlpSpec`).
        modulate: coordinate-aware modulation by `time`, or None.
        weight_bits: as in `RadianceConfig`.
    """

    width: int
    height: int
    n_frames: int
    architecture: Architecture = field(default_factory=Pyramid)
    motion: tuple[int, int, int] | None = None
    tempo: float = 1.0
    margin: tuple[int, int] = (0, 0)
    precision: Precision = "float32"
    modulate: Modulate | None = None
    weight_bits: int = 32

    def __post_init__(self) -> None:
        if self.modulate is not None and self.modulate.coordinates != "time":
            raise InputError(
                f"--modulate: a video field needs time, got {self.modulate.coordinates}."
            )
        check_weight_bits(self.weight_bits)
        limits = {"width": MAX_SIDE, "height": MAX_SIDE, "n_frames": MAX_FRAMES}
        for name, most in limits.items():
            value = getattr(self, name)
            if not isinstance(value, int) or not 1 <= value <= most:
                raise InputError(f"config: {name} needs 1 to {most}, got {value!r}.")
        if not 0 < self.tempo <= 1:
            raise InputError(f"config: tempo needs a number above 0 and up to 1, got {self.tempo}.")
        if self.motion is not None and not (
            len(self.motion) == 3 and all(2 <= side <= _MAX_MOTION for side in self.motion)
        ):
            raise InputError(
                f"config: motion needs three sides of 2 to {_MAX_MOTION}, got {self.motion}."
            )
        if len(self.margin) != 2 or not all(0 <= side <= MAX_SIDE for side in self.margin):
            raise InputError(f"config: margin needs 0 to {MAX_SIDE} pixels, got {self.margin}.")

    @property
    def covered(self) -> tuple[int, int]:
        """Width and height of what the architecture covers, pixels."""
        return self.width + 2 * self.margin[0], self.height + 2 * self.margin[1]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**asdict(self), "architecture": self.architecture.to_dict()}

    @staticmethod
    def from_dict(data: dict[str, Any]) -> VideoConfig:
        """The inverse of `to_dict`; unknown or missing keys raise InputError."""
        parts = checked_keys(VideoConfig, data)
        parts["architecture"] = architectures.from_dict(data["architecture"])
        if parts["modulate"] is not None:
            parts["modulate"] = Modulate(**checked_keys(Modulate, data["modulate"]))
        return VideoConfig(**parts)


class VideoField(nn.Module):
    """A video that can be asked anywhere in a frame at any time in [0, 1].

    Positions are in pixels of a frame, (0, 0) the upper left corner of the first pixel and its
    centre at (0.5, 0.5); positions outside take the nearest edge. What lies at p at a time is what
    the trunk has at p + motion(p, time), where motion is a coarse grid of pixels' lengths, so that
    the trunk need not learn again what merely moved. Values are sRGB in [0, 1], not clamped.

    Modulated by time, every hidden channel of a `pyramid` has a scale and a shift, as in the
    published video network (Lee et al. 2024, section 3.4) but without its normalisation over a
    whole frame, which would need one for each pixel; other architectures have one per layer.

    Once differentiable in the parameters.

    Example:
        >>> video = VideoField(VideoConfig(64, 36, 8, Pyramid(((32, 18, 4), (8, 6, 8)), (4, 4))))
        >>> corners = torch.tensor([[0.5, 0.5], [63.5, 35.5]])
        >>> video.value(Samples(corners, times=torch.tensor([0.0, 1.0]))).shape
        torch.Size([2, 3])
    """

    kind = "video"
    levels: tuple[Literal["pixels"], ...] = ("pixels",)
    needs = ("positions", "times")

    def __init__(self, config: VideoConfig, seed: int | None = 0) -> None:
        """`seed` of the start; with None the parameters have no values yet."""
        super().__init__()
        self.config = config
        cam = config.modulate
        options = NetworkOptions(config.precision, cam is not None and cam.normalize)
        self.trunk = config.architecture.trunk(3, 3, options)
        framed = self.trunk.hidden_channels > 0 and config.precision == "float32"
        self.modulation: Modulation | None
        if cam is not None and framed and not cam.normalize:
            self.modulation = Modulation(cam, self.trunk.hidden_channels)
        else:
            self.modulation = trunk_modulation(cam, self.trunk, self.architecture)
        self.motion: nn.Parameter | None = None
        if config.motion is not None:
            wide, high, moments = config.motion
            self.motion = nn.Parameter(torch.empty(moments, high, wide, 2))
        if seed is not None:
            self._reset(seed)

    def _reset(self, seed: int) -> None:
        self.trunk.reset(torch.Generator().manual_seed(seed))
        if self.modulation is not None:
            self.modulation.reset()
        if self.motion is not None:
            nn.init.zeros_(self.motion)

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

    def at(self, time: float) -> Moment:
        """The picture at a time in [0, 1].

        Raises:
            InputError: the time is not in [0, 1].
        """
        if not 0 <= time <= 1:
            raise InputError(f"time: needs a number in [0, 1], got {time}.")
        return Moment(self, time)

    def time_of(self, index: int) -> float:
        """The time of a frame by its number."""
        return index / max(1, self.config.n_frames - 1)

    def to_cube(self, positions: Tensor) -> Tensor:
        """Positions and times [n, 3] in the trunk's coordinates, as long as nothing moves.

        Every side of what the trunk covers is [0, 1], or the square around it.
        """
        covered = vector(self.config.covered, positions)
        places = positions[:, :2] + vector(self.config.margin, positions)
        if self.trunk.hidden_channels > 0:
            return torch.cat([places / covered, positions[:, 2:]], 1)
        side = float(max(self.config.covered))
        times = 0.5 + self.config.tempo * (positions[:, 2:] - 0.5)
        return torch.cat([(places + (side - covered) / 2) / side, times], 1)

    def encoded(self, positions: Tensor, times: Tensor) -> Tensor:
        """Values [n, 3] at positions [n, 2] in pixels and times [n]: `value`."""
        moments, counts = torch.unique_consecutive(times, return_counts=True)
        if len(moments) > len(moments.unique()):
            order = times.argsort(stable=True)
            return self.encoded(positions[order], times[order])[order.argsort()]
        parts = torch.split(positions, counts.tolist())
        pairs = zip(moments.tolist(), parts, strict=True)
        return torch.cat([self.at(time).value(part) for time, part in pairs])

    def value(self, samples: Samples) -> Tensor:
        """Values [n, 3] at samples.positions [n, 2] in pixels and samples.times [n] in [0, 1]."""
        if samples.times is None:
            raise InputError("value: a video field needs times.")
        return self.encoded(samples.positions, samples.times)


class Moment:
    """A video field at one time: what is the same for all pixels is computed once."""

    def __init__(self, of: VideoField, time: float, trunk: FrameTrunk | None = None) -> None:
        """`trunk`: at this time, where it is not what `of` has itself."""
        self._of, self._time = of, time
        config = of.config
        size = torch.tensor([config.width, config.height], dtype=torch.float32)
        covered = torch.tensor(config.covered, dtype=torch.float32)
        margin = torch.tensor(config.margin, dtype=torch.float32)
        place = torch.cat([size / covered, margin / covered])
        self._place: Place = tuple(place.tolist())
        like = next(of.parameters())
        self._size, self._covered = (vector(pair.tolist(), like) for pair in (size, covered))
        wide, high = (1 / covered).tolist()
        self._unit = wide, high
        self._motion = None if of.motion is None else _around(of.motion, time)
        self._scale_shift: tuple[Tensor, Tensor] | None = None
        if of.modulation is not None:
            self._scale_shift = of.modulation(like.new_full((1, 1), time))
        self._frame = self._framed(of.trunk.frame(time) if trunk is None else trunk)

    def value(self, positions: Tensor) -> Tensor:
        """Values [n, 3] at positions [n, 2] in pixels of the frame."""
        inside = torch.minimum(positions.clamp(min=0), self._size)
        if self._frame is not None:
            spec, _, params = self._frame
            grids = self._frame.grids
            motion = None if self._motion is None else self._motion.between / self._covered
            return frame(inside / self._size, grids, params, spec, motion, self._place)
        if self._motion is not None:
            inside = inside + self._displacement(inside)
        times = inside.new_full((len(inside), 1), self._time)
        cube = self._of.to_cube(torch.cat([inside, times], 1))
        modulation = () if self._scale_shift is None else self._scale_shift
        by_sample = (part.expand(len(cube), -1).contiguous() for part in modulation)
        values: Tensor = self._of.trunk(cube, *by_sample)
        return values + MIDDLE

    @torch.no_grad()
    def lattice(self, x: Tensor, y: Tensor) -> Tensor:
        """Values [height, width, 3] at columns x [width] and rows y [height] in pixels."""
        if self._frame is None:
            positions = torch.cartesian_prod(y, x).flip(1)
            return self.value(positions).view(len(y), len(x), 3)
        spec, slices, params = self._frame
        wide, high = float(self._of.config.width), float(self._of.config.height)
        return frame_lattice(
            x.clamp(0, wide) / wide,
            y.clamp(0, high) / high,
            slices,
            params,
            spec,
            self._motion,
            self._place,
            self._unit,
        )

    def _displacement(self, inside: Tensor) -> Tensor:
        """[n, 2] pixels."""
        assert self._motion is not None
        motion = self._motion.between
        high, wide = motion.shape[:2]
        grid = motion.reshape(-1, 2)
        return voxels(inside / self._size, grid, VoxelsSpec((wide, high), 2))

    def _framed(self, trunk: FrameTrunk | None) -> FrameTrunk | None:
        """With what moves; modulation and the middle of values are in the network's parameters."""
        if trunk is None:
            return None
        spec, slices, params = trunk
        if self._motion is not None:
            high, wide = self._motion.moments.shape[1:3]
            spec = FrameSpec(spec.levels, spec.network, (wide, high))
        if self._scale_shift is not None:
            scale, shift = self._scale_shift
            params = modulated_params(params, spec.network, scale[0], shift[0])
        n = spec.network.n_output
        params = torch.cat([params[:-n], params[-n:] + MIDDLE])
        return FrameTrunk(spec, slices, params)


def modulated_params(params: Tensor, network: MlpSpec, scale: Tensor, shift: Tensor) -> Tensor:
    """Parameters of a network with biases whose hidden channels are scaled and shifted.

    Args:
        params: [network.n_params].
        network: with biases and without normalisation.
        scale: [channels of all hidden layers].
        shift: the same.

    Returns:
        [network.n_params]: act(scale (W x + b) + shift) = act((scale W) x + (scale b + shift)).

    Example:
        >>> network = MlpSpec((2, 3, 1), biases=True)
        >>> params = torch.rand(network.n_params)
        >>> same = modulated_params(params, network, torch.ones(3), torch.zeros(3))
        >>> torch.equal(params, same)
        True
    """
    parts: list[Tensor] = []
    at = begun = 0
    for n_in, n_out in zip(network.widths[:-2], network.widths[1:-1], strict=True):
        factor, addend = scale[begun : begun + n_out], shift[begun : begun + n_out]
        matrix = params[at : at + n_in * n_out].view(n_out, n_in)
        bias = params[at + n_in * n_out : at + (n_in + 1) * n_out]
        parts += [(factor[:, None] * matrix).reshape(-1), factor * bias + addend]
        at += (n_in + 1) * n_out
        begun += n_out
    return torch.cat([*parts, params[at:]])


def _around(grid: Tensor, time: float) -> Slice:
    """A grid [moments, height, width, 2] at a time in [0, 1]."""
    lower, share = around(grid.shape[0], time)
    return Slice(grid[lower : lower + 2], share)
