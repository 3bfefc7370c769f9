"""What the viewer can look at: every kind of field as something that rays see."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from neural_fields.codec.decoder import CodedVideo
from neural_fields.data.dataset import Dataset
from neural_fields.data.picture import Picture
from neural_fields.fields import (
    AnyVideo,
    DynamicField,
    FieldFile,
    ImageField,
    RadianceField,
    Samples,
    SdfField,
)
from neural_fields.fields.image import to_curve
from neural_fields.fields.load import Field
from neural_fields.fields.radiance import Corner
from neural_fields.ops import device_of
from neural_fields.rendering.cameras import Cameras
from neural_fields.rendering.orbits import around, upward
from neural_fields.rendering.poses import looking_at
from neural_fields.rendering.seen import MODES, seen_by_rays
from neural_fields.rendering.slices import Slice, slice_rays
from neural_fields.rendering.volume import Box, Mode
from neural_fields.viewer.truth import Photographs, picture_errors

_GREY = 0.22  # around a picture
_SUPERSAMPLES = 4  # per axis, of a pixel that covers many of a picture's
_NEAR = 1e-9


class Rays(NamedTuple):
    """origins and unit directions [n, 3]; pixel_widths [n] at unit distance."""

    origins: Tensor
    directions: Tensor
    pixel_widths: Tensor


@dataclass(frozen=True)
class Look:
    """How something is looked at.

    Attributes:
        mode: one of its modes.
        background: sRGB in [0, 1]; None: its own.
        box: lowest and highest corner of the part that is seen, world; None: all of it.
        plane: where a shape is cut in the mode `slice`.
        time: in [0, 1], of what moves.
    """

    mode: str = "rgb"
    background: tuple[float, float, float] | None = None
    box: Box | None = None
    plane: Slice | None = None
    time: float = 0.0


@dataclass(frozen=True)
class Start:
    """Where a visitor begins: places and directions [3], and the vertical field of view."""

    position: Corner
    look_at: Corner
    up: Corner
    fov_rad: float


class Shown(Protocol):
    """Something to look at."""

    @property
    def kind(self) -> str:
        """Of the field, or `scene`."""
        ...

    @property
    def work(self) -> Hashable:
        """The same for what costs about the same per pixel."""
        ...

    @property
    def moves(self) -> bool:
        """Whether it has a time axis."""
        ...

    @property
    def modes(self) -> tuple[str, ...]:
        """What a `Look` may ask for; the first is the usual one."""
        ...

    @property
    def box(self) -> Box:
        """What there is to see lies in it, world."""
        ...

    @property
    def start(self) -> Start:
        """A good first view."""
        ...

    def pixels(self, rays: Rays, look: Look) -> Tensor:
        """What rays see: float32 [n, 3], or [n] of depth and opacity."""
        ...


def shown(field: Field, content: FieldFile, truth: Dataset | Picture | None = None) -> Shown:
    """A field, what its file says of it and what it was fitted to as something to look at."""
    if isinstance(field, ImageField):
        return ShownPicture(field, truth if isinstance(truth, Picture) else None)
    if isinstance(field, AnyVideo):
        return ShownVideo(field)
    return ShownSolid(field, content, truth if isinstance(truth, Dataset) else None)


class ShownSolid:
    """A radiance field or a shape."""

    def __init__(
        self, field: RadianceField | SdfField, content: FieldFile, data: Dataset | None = None
    ) -> None:
        self.field: RadianceField | SdfField = field
        self.work, self.kind = _work(field), field.kind
        self.moves = isinstance(field, DynamicField)
        self.cameras = _training_cameras(content)
        self.data = data
        self._photographs = None if data is None else Photographs(data)
        self.modes: tuple[str, ...] = MODES
        if isinstance(field, SdfField):
            self.modes += ("slice",)
        if data is not None and not self.moves:  # the nearest photograph is of another moment
            self.modes += ("error",)
        is_shape = isinstance(field, SdfField)
        self._own = (1.0, 1.0, 1.0) if is_shape else _own_background(content)

    @property
    def box(self) -> Box:
        """The field's."""
        return self.field.config.box

    @property
    def start(self) -> Start:
        """The first training camera's, or from a little above."""
        if self.cameras is not None and len(self.cameras):
            return start_at(self.cameras[0], self.box, upward(self.cameras))
        cameras = around(self.field, 1)
        return start_at(cameras, self.box, torch.tensor([0.0, 0.0, 1.0]))

    def pixels(self, rays: Rays, look: Look) -> Tensor:
        """See `Shown.pixels`."""
        background, field = torch.tensor(look.background or self._own), self.at(look.time)
        if look.mode == "slice" and isinstance(field, SdfField):
            plane = look.plane or Slice(1, sum(corner[1] for corner in self.box) / 2)
            return slice_rays(field, *rays, plane, background, look.box)
        if look.mode == "error" and isinstance(field, RadianceField):
            assert self._photographs is not None
            return self._photographs.errors(field, *rays, look.box)
        mode: Mode = look.mode  # type: ignore[assignment]
        return seen_by_rays(field, *rays, mode=mode, background=background, box=look.box)

    def at(self, time: float) -> RadianceField | SdfField:
        """The field as it is at a time."""
        if not isinstance(self.field, DynamicField):
            return self.field
        return self.field.at(min(1.0, max(0.0, time)))


class _Sheet(ABC):
    """A picture in the plane z = 0, its longer side from -1 to 1, y up."""

    moves = False

    def __init__(self, width: int, height: int) -> None:
        """Sides in pixels."""
        self._size = float(width), float(height)
        self._scale = max(width, height) / 2  # pixels per world length

    @property
    def box(self) -> Box:
        """Of the sheet."""
        x, y = (side / (2 * self._scale) for side in self._size)
        return (-x, -y, 0.0), (x, y, 0.0)

    @property
    def start(self) -> Start:
        """From where all of it is seen, if the window is no narrower than it."""
        fov = math.radians(40)
        _, (x, y, _) = self.box
        distance = 1.05 * max(y, x / 1.6) / math.tan(fov / 2)
        return Start((0.0, 0.0, distance), (0.0, 0.0, 0.0), (0.0, 1.0, 0.0), fov)

    @torch.no_grad()
    def pixels(self, rays: Rays, look: Look) -> Tensor:
        """See `Shown.pixels`; a pixel that covers several of the picture's is their mean."""
        toward = rays.directions[:, 2]
        depth = -rays.origins[:, 2] / torch.where(toward.abs() < _NEAR, _NEAR, toward)
        at = (rays.origins + depth[:, None] * rays.directions)[:, :2] * self._scale
        size = at.new_tensor(self._size)
        positions = at * at.new_tensor([1.0, -1.0]) + size / 2
        seen = (depth > 0) & ((positions >= 0) & (positions <= size)).all(1)
        result = torch.full((len(depth), 3), _GREY)
        width_px = depth * rays.pixel_widths * self._scale
        result[seen] = self._means(positions[seen], width_px[seen], look)
        return result

    def _means(self, positions: Tensor, width_px: Tensor, look: Look) -> Tensor:
        if not len(positions):
            return positions.new_zeros(0, 3)
        n = min(_SUPERSAMPLES, max(1, math.ceil(float(width_px.median()) - 0.01)))
        steps = (torch.arange(n) + 0.5) / n - 0.5
        parts = []
        for x, y in torch.cartesian_prod(steps, steps).view(-1, 2).tolist():
            offset = positions.new_tensor([x, y]) * width_px[:, None]
            parts.append(self._values(positions + offset, look))
        return self._seen(torch.stack(parts).mean(0), positions, look)

    @abstractmethod
    def _values(self, positions: Tensor, look: Look) -> Tensor:
        """Values [n, channels] at positions [n, 2] in pixels."""

    @abstractmethod
    def _seen(self, values: Tensor, positions: Tensor, look: Look) -> Tensor:
        """Colours [n, 3] of values."""


class ShownPicture(_Sheet):
    """An image field as a sheet."""

    kind = "image"

    def __init__(self, field: ImageField, picture: Picture | None = None) -> None:
        super().__init__(field.config.width, field.config.height)
        self._field, self._picture, self.work = field, picture, _work(field)
        self.modes: tuple[str, ...] = ("rgb",) if picture is None else ("rgb", "error")

    def _values(self, positions: Tensor, look: Look) -> Tensor:
        values = self._field.value(Samples(positions.to(device_of(self._field))))
        return values.to(positions.device)

    def _seen(self, values: Tensor, positions: Tensor, look: Look) -> Tensor:
        if look.mode == "error":
            assert self._picture is not None
            return picture_errors(self._picture, values, positions)
        linear = self._field.config.color_space == "linear"
        return self._in_color(to_curve(values) if linear else values, look)

    def _in_color(self, values: Tensor, look: Look) -> Tensor:
        """Any number of channels as RGB, over the background where there is alpha."""
        config = self._field.config
        if config.has_alpha:
            background = values.new_tensor(look.background or (1.0, 1.0, 1.0))
            values, alpha = values[:, :-1], values[:, -1:].clamp(0, 1)
            values = values + (1 - alpha) * background[: values.shape[1]]
        return values.expand(-1, 3)


class ShownVideo(_Sheet):
    """A video field, or a coded video, as a sheet that plays."""

    kind = "video"
    moves = True
    modes = ("rgb",)

    def __init__(self, video: AnyVideo | CodedVideo) -> None:
        of = video.config if isinstance(video, AnyVideo) else video.header
        super().__init__(of.width, of.height)
        self._video = video
        self.work: Hashable = self.kind, of.width, of.height

    def _values(self, positions: Tensor, look: Look) -> Tensor:
        time = min(1.0, max(0.0, look.time))
        if isinstance(self._video, AnyVideo):
            values = self._video.at(time).value(positions.to(device_of(self._video)))
            return values.to(positions.device)
        return self._video.moment(round(time * (len(self._video) - 1))).value(positions)

    def _seen(self, values: Tensor, positions: Tensor, look: Look) -> Tensor:
        return values


def _work(field: Field) -> Hashable:
    return field.kind, field.architecture, field.n_params


def _training_cameras(content: FieldFile) -> Cameras | None:
    stored = content.scene.get("cameras")
    if not isinstance(stored, dict):
        return None
    return Cameras.from_json(stored, "the field's own cameras")


def _own_background(content: FieldFile) -> tuple[float, float, float]:
    """The one it was fitted over; black where that was any."""
    numbers = content.scene.get("background")
    if not isinstance(numbers, list) or len(numbers) != 3:
        return 0.0, 0.0, 0.0
    if not all(isinstance(x, int | float) and 0 <= x <= 1 for x in numbers):
        return 0.0, 0.0, 0.0
    return float(numbers[0]), float(numbers[1]), float(numbers[2])


def start_at(camera: Cameras, box: Box, up: Tensor | None = None) -> Start:
    """One camera's view, turning around the point of its axis that is nearest to the box's middle.

    `up` is the direction [3] that stays up while turning; None: the camera's own.
    """
    pose = camera.camera_to_world[0]
    position, forward = pose[:3, 3], -pose[:3, 2]
    up = pose[:3, 1] if up is None else up
    low, high = torch.tensor(box)
    distance = float(((low + high) / 2 - position) @ forward)
    distance = distance if distance > 0 else float((high - low).norm()) / 2
    fov = 2 * math.atan(camera.height / 2 / float(camera.focal[0, 1]))
    look_at = position + distance * forward
    return Start(_corner(position), _corner(look_at), _corner(up), fov)


def _corner(point: Tensor) -> Corner:
    x, y, z = point.tolist()
    return x, y, z


def camera_of(start: Start, width: int, height: int) -> Cameras:
    """The camera of a first view, at a size in pixels."""
    position, at, up = (torch.tensor([x]) for x in (start.position, start.look_at, start.up))
    pose = looking_at(at[0], position, up[0])
    focal = height / 2 / math.tan(start.fov_rad / 2)
    cameras = Cameras.orbit((0, 0, 0), 1, 0, 1, focal=focal, width=width, height=height)
    return replace(cameras, camera_to_world=pose.float())
