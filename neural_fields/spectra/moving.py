"""Videos as FreSh looks at them: frames for what changes in space, pixels for what does in time."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from neural_fields.architectures import Architecture, Spectral
from neural_fields.data.video import Video
from neural_fields.errors import InputError
from neural_fields.fields import VideoConfig, VideoField
from neural_fields.spectra.signals import PlaneSignal, drawn, enlarge, start_of

_PIXELS = 256  # whose courses are looked at
_SHARES = tuple(0.5**k for k in range(5, -1, -1))  # of the cube, by octaves


class FramesSignal(PlaneSignal):
    """Frames of a video; the field with seed s is compared with one, at its time."""

    def __init__(self, data: Video, config: VideoConfig, motion: Tensor | None = None) -> None:
        """`motion`: the displacements that fitting starts from, of the configuration's shape."""
        super().__init__(config.height, config.width)
        self.name = data.name
        self._data, self._config, self._motion = data, config, motion

    def bins(self, wanted: int) -> int:
        """All of them."""
        return wanted

    def target(self, seed: int, n_points: int | None) -> Tensor:
        """A frame [3, h, w], at the sampled pixels."""
        rows, columns = self.sampled(n_points)
        frame = self._data.frames[drawn(len(self._data), seed)]
        return frame[rows][:, columns].permute(2, 0, 1).float() / 255

    @torch.no_grad()
    def untrained(
        self, architecture: Architecture, seed: int, gain: float, n_points: int | None
    ) -> Tensor:
        """The same of an untrained field."""
        config = replace(self._config, architecture=architecture)
        field = _untrained(config, self._motion, seed, gain)
        moment = field.at(field.time_of(drawn(len(self._data), seed)))
        rows, columns = self.sampled(n_points)
        return moment.lattice(columns + 0.5, rows + 0.5).permute(2, 0, 1)


@dataclass(frozen=True)
class Tempo:
    """How much of the cube's side a video's time runs over, as what FreSh chooses.

    Attributes:
        value: the present one.
    """

    value: float

    name = "video"

    def spectral(self) -> tuple[Spectral, ...]:
        """The one parameter."""
        return (Spectral("tempo", self.value, _SHARES, lowest=_SHARES[0], highest=1.0),)

    def with_value(self, path: str, value: object) -> Tempo:
        """With another value."""
        if path != "tempo" or not isinstance(value, float):
            raise InputError(f"{path}: needs a number, got {value!r}.")
        return Tempo(value)


class CourseSignal:
    """How pixels of a video change: the field with seed s is compared at the same pixels."""

    def __init__(self, data: Video, config: VideoConfig, motion: Tensor | None = None) -> None:
        """As of `FramesSignal`."""
        self.name = f"{data.name}, time"
        self._data, self._config, self._motion = data, config, motion

    def bins(self, wanted: int) -> int:
        """All that there are."""
        return wanted

    def enough(self, n_bins: int) -> int:
        """All frames: a course is short."""
        return len(self._data)

    def side(self, n_points: int | None) -> int:
        """Frames."""
        return len(self._data)

    def target(self, seed: int, n_points: int | None) -> Tensor:
        """Courses [3 pixels, n_frames]."""
        columns, rows = self._pixels(seed).unbind(1)
        found = self._data.frames[:, rows, columns].float() / 255
        return found.permute(1, 2, 0).reshape(-1, len(self._data))

    @torch.no_grad()
    def untrained(self, tempo: Tempo, seed: int, gain: float, n_points: int | None) -> Tensor:
        """The same of an untrained field."""
        config = replace(self._config, tempo=tempo.value)
        field = _untrained(config, self._motion, seed, gain)
        places = self._pixels(seed) + 0.5
        times = [field.time_of(index) for index in range(len(self._data))]
        return torch.stack([field.at(time).value(places) for time in times], -1).flatten(0, 1)

    def _pixels(self, seed: int) -> Tensor:
        """[n, 2] columns and rows, drawn by the seed."""
        generator = torch.Generator().manual_seed(start_of(seed))
        size = torch.tensor([self._config.width, self._config.height])
        return (torch.rand(_PIXELS, 2, generator=generator) * size).long()


def _untrained(config: VideoConfig, motion: Tensor | None, seed: int, gain: float) -> VideoField:
    field = VideoField(config, start_of(seed))
    if field.motion is not None and motion is not None:
        field.motion.copy_(motion)
    enlarge(field, gain)
    return field
