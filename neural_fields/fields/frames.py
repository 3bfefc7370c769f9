"""Video fields that make whole frames: a convolutional network of time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from neural_fields.architectures import checked_keys
from neural_fields.decoders import Modulate
from neural_fields.decoders.frames import FrameDecoder, FrameNetwork, Raw, aggregated
from neural_fields.errors import InputError
from neural_fields.fields.image import MAX_SIDE
from neural_fields.fields.quantize import check_weight_bits
from neural_fields.fields.radiance import Samples
from neural_fields.fields.video import MAX_FRAMES, VideoField
from neural_fields.ops import device_of, vector


@dataclass(frozen=True)
class FramesConfig:
    """Everything that rebuilds a field of frames, as plain data.

    Attributes:
        width: of a frame, pixels; at most what the network makes, of which it is the middle.
        height: the same.
        n_frames: the first is at time 0, the last at 1, the others evenly between.
        architecture: the network's sizes.
        modulate: coordinate-aware modulation by `time`, or None.
        weight_bits: as in `RadianceConfig`.
    """

    width: int
    height: int
    n_frames: int
    architecture: FrameNetwork = field(default_factory=FrameNetwork)
    modulate: Modulate | None = None
    weight_bits: int = 32

    def __post_init__(self) -> None:
        if self.modulate is not None and (
            self.modulate.coordinates != "time" or not self.modulate.normalize
        ):
            raise InputError("--modulate: a field of frames needs time, of normalised channels.")
        check_weight_bits(self.weight_bits)
        for name, most in {"width": MAX_SIDE, "height": MAX_SIDE, "n_frames": MAX_FRAMES}.items():
            value = getattr(self, name)
            if not isinstance(value, int) or not 1 <= value <= most:
                raise InputError(f"config: {name} needs 1 to {most}, got {value!r}.")
        high, wide = self.architecture.size
        if self.width > wide or self.height > high:
            raise InputError(
                f"config: a network that makes {wide}x{high} pixels is too small for "
                f"{self.width}x{self.height}."
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**asdict(self), "architecture": self.architecture.to_dict()}

    @staticmethod
    def from_dict(data: dict[str, Any]) -> FramesConfig:
        """The inverse of `to_dict`; unknown or missing keys raise InputError."""
        parts = checked_keys(FramesConfig, data)
        parts["architecture"] = _sizes(data["architecture"])
        if parts["modulate"] is not None:
            parts["modulate"] = Modulate(**checked_keys(Modulate, data["modulate"]))
        return FramesConfig(**parts)


def _sizes(data: object) -> FrameNetwork:
    if not isinstance(data, dict) or data.get("name") != FrameNetwork.name:
        raise InputError(f"config: a field of frames needs the architecture {FrameNetwork.name}.")
    sizes = {key: value for key, value in data.items() if key != "name"}
    return FrameNetwork(**checked_keys(FrameNetwork, sizes))


class FramesField(nn.Module):
    """A video whose every frame is computed as a whole, by a convolutional network of time.

    A frame is a blend of what the network makes of its time alone and of the same pictures of the
    frames around it, moved as the network says. It can be asked between frames as well; between
    pixels it is linear.

    Once differentiable in the parameters.

    Source: see `FrameDecoder`. Deviations: frames that do not exist have no part in the blend,
    where the code blends in black, and flows are enlarged about the pixels' centres.

    Example:
        >>> sizes = FrameNetwork((3, 4), (2, 4), 8, (2, 2), narrowest=4)
        >>> video = FramesField(FramesConfig(16, 11, 8, sizes))
        >>> video.picture(0.5).shape
        torch.Size([11, 16, 3])
        >>> video.at(0.5).value(torch.tensor([[0.5, 0.5], [15.5, 10.5]])).shape
        torch.Size([2, 3])
    """

    kind = "frames"

    def __init__(self, config: FramesConfig, seed: int | None = 0) -> None:
        """`seed` of the start; with None the parameters have no values yet."""
        super().__init__()
        self.config = config
        moments = 0 if config.modulate is None else config.modulate.resolution[0]
        self.decoder = FrameDecoder(config.architecture, moments)
        self._seen: dict[tuple[float, tuple[int, ...], torch.device], Raw] = {}
        if seed is not None:
            self.decoder.reset(torch.Generator().manual_seed(seed))

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

    def time_of(self, index: int) -> float:
        """The time of a frame by its number."""
        return index / max(1, self.config.n_frames - 1)

    def at(self, time: float) -> Still:
        """The picture at a time in [0, 1].

        Raises:
            InputError: the time is not in [0, 1].
        """
        return Still(self.picture(time))

    def picture(self, time: float) -> Tensor:
        """The frame at a time in [0, 1], [height, width, 3], sRGB, in [0, 1].

        Raises:
            InputError: the time is not in [0, 1].
        """
        if not 0 <= time <= 1:
            raise InputError(f"time: needs a number in [0, 1], got {time}.")
        at = time * (self.config.n_frames - 1)
        _, frame = self.blended(at, self.raw(at), lambda other: self.raw(other).independent)
        return self.cropped(frame).permute(1, 2, 0)

    def raw(self, at: float) -> Raw:
        """What the network makes of a frame's number, which need not be whole.

        Without gradients the last few are remembered, as they are neighbours of the next.
        """
        time = at / self.config.n_frames
        if torch.is_grad_enabled():
            made: Raw = self.decoder(time)
            return made
        version = tuple(parameter._version for parameter in self.parameters())
        key = (at, version, device_of(self))
        if key not in self._seen:
            while len(self._seen) >= 2 * len(self.config.architecture.neighbours):
                del self._seen[next(iter(self._seen))]
            self._seen[key] = self.decoder(time)
        return self._seen[key]

    def blended(
        self, at: float, raw: Raw, independent: Callable[[float], Tensor | None]
    ) -> tuple[Tensor, Tensor]:
        """What neighbours show of a frame, and the frame, [3, height, width] of the network's size.

        `independent` gives the picture of a frame's number, or None where there is none yet.
        """
        last = self.config.n_frames - 1
        numbers = [at + offset for offset in self.config.architecture.neighbours]
        found = [independent(number) if 0 <= number <= last else None for number in numbers]
        blank = torch.zeros_like(raw.independent)
        pictures = torch.stack([blank if each is None else each for each in found])
        return aggregated(raw, pictures, [each is not None for each in found])

    def cropped(self, pictures: Tensor) -> Tensor:
        """The middle of [..., height, width] of the network's size, as large as a frame."""
        high, wide = self.config.architecture.size
        top, left = (high - self.config.height) // 2, (wide - self.config.width) // 2
        return pictures[..., top : top + self.config.height, left : left + self.config.width]

    def value(self, samples: Samples) -> Tensor:
        """Values [n, 3] at samples.positions [n, 2] in pixels and samples.times [n] in [0, 1]."""
        if samples.times is None:
            raise InputError("value: a video field needs times.")
        values = samples.positions.new_empty(len(samples.times), 3)
        for time in sorted(set(samples.times.tolist())):
            at_time = samples.times == time
            values[at_time] = self.at(time).value(samples.positions[at_time])
        return values


class Still:
    """A picture [height, width, 3] as a function of position, linear between pixels' centres."""

    def __init__(self, picture: Tensor) -> None:
        self._picture = picture

    def lattice(self, x: Tensor, y: Tensor) -> Tensor:
        """Values [height, width, 3] at columns x [width] and rows y [height] in pixels."""
        return self.value(torch.cartesian_prod(y, x).flip(1)).view(len(y), len(x), 3)

    def value(self, positions: Tensor) -> Tensor:
        """Values [n, 3] at positions [n, 2] in pixels; those outside take the nearest edge."""
        height, width = self._picture.shape[:2]
        places = 2 * positions / vector((width, height), positions) - 1
        found = functional.grid_sample(
            self._picture.permute(2, 0, 1)[None],
            places[None, None],
            padding_mode="border",
            align_corners=False,
        )
        return found[0, :, 0].T


AnyVideo = VideoField | FramesField
