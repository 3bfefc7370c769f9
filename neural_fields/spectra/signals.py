"""Signals as FreSh looks at them, and untrained fields at the same places."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from neural_fields.architectures import Architecture
from neural_fields.data.dataset import Dataset
from neural_fields.data.distance import Distances
from neural_fields.data.mesh import Mesh
from neural_fields.data.picture import Picture
from neural_fields.fields import (
    ImageConfig,
    ImageField,
    RadianceConfig,
    RadianceField,
    Samples,
    SdfConfig,
    SdfField,
)
from neural_fields.fields.image import to_curve
from neural_fields.spectra.spectrum import MAX_SIDE
from neural_fields.training.state import stream_seed

# Of 130 samples a side, as 64 bins need, sine networks on photographs choose an omega of 160 where
# all samples choose 140; of 160 they choose 150, the next in the list.
ENOUGH = 160
VOLUME_SIDE, VOLUME_BINS = 64, 20  # samples of a distance along a side, and cycles
BAND = 0.01  # units: distances beyond it count as it
_STREAM = -3  # of the starts that are measured and of the views that are drawn
_CHUNK = 1 << 16


class PictureSignal:
    """Pictures of one size; the field with seed s is compared with one of them, the same for all.

    All pixels of one whose smaller side has at most 1024, or as many samples as are wanted.
    Deviation from FreSh's code, which resizes larger pictures: samples are pixels, so that picture
    and field alias alike.
    """

    def __init__(self, pictures: Sequence[Picture], config: ImageConfig) -> None:
        self.name = pictures[0].name
        self._pictures, self._config = pictures, config

    def bins(self, wanted: int) -> int:
        """All of them."""
        return wanted

    def enough(self, n_bins: int) -> int:
        """Twice the bins, or `ENOUGH`."""
        return max(2 * n_bins + 2, ENOUGH)

    def side(self, n_points: int | None) -> int:
        """At most the smaller side of the pictures."""
        return min(self._config.width, self._config.height, MAX_SIDE, n_points or MAX_SIDE)

    def target(self, seed: int, n_points: int | None) -> Tensor:
        """What is fitted [c, h, w], at the sampled pixels."""
        picture = self._pictures[_drawn(len(self._pictures), seed)]
        rows, columns = self._pixels(n_points)
        index = rows[:, None] * self._config.width + columns
        values = picture.at(index.reshape(-1))
        values = values if picture.color_space == "srgb" else to_curve(values)
        return values.T.reshape(-1, len(rows), len(columns))

    def untrained(
        self, architecture: Architecture, seed: int, gain: float, n_points: int | None
    ) -> Tensor:
        """The same of an untrained field."""
        config = replace(self._config, architecture=architecture)
        field = ImageField(config, stream_seed(seed, _STREAM))
        _enlarge(field, gain)
        rows, columns = self._pixels(n_points)
        y, x = torch.meshgrid(rows + 0.5, columns + 0.5, indexing="ij")
        values = _in_chunks(field.encoded, torch.stack([x.reshape(-1), y.reshape(-1)], 1))
        return values.T.reshape(-1, len(rows), len(columns))

    def _pixels(self, n_points: int | None) -> tuple[Tensor, Tensor]:
        return _pixels(self._config.height, self._config.width, self.side(n_points), n_points)


class ViewsSignal:
    """Photographs of a scene; the field with seed s is compared with one, the same for all.

    Of the field, which has no surface yet, colours without a direction at the cameras' distance
    from the box's centre; photographs are over black.
    """

    def __init__(self, data: Dataset, config: RadianceConfig) -> None:
        self.name = "training views"
        self._data, self._config = data, config

    def bins(self, wanted: int) -> int:
        """Half of what pictures take, as FreSh's."""
        return max(1, wanted // 2)

    def enough(self, n_bins: int) -> int:
        """As of pictures."""
        return max(2 * n_bins + 2, ENOUGH)

    def side(self, n_points: int | None) -> int:
        """At most the smaller side of the photographs."""
        cameras = self._data.cameras
        return min(cameras.width, cameras.height, MAX_SIDE, n_points or MAX_SIDE)

    def target(self, seed: int, n_points: int | None) -> Tensor:
        """Colours [3, h, w] over black, at the sampled pixels."""
        rows, columns = self._pixels(n_points)
        color, _ = self._data.image(_drawn(len(self._data), seed))
        return color[rows][:, columns].permute(2, 0, 1)

    def untrained(
        self, architecture: Architecture, seed: int, gain: float, n_points: int | None
    ) -> Tensor:
        """The same of an untrained field."""
        config = replace(self._config, architecture=architecture)
        field = RadianceField(config, stream_seed(seed, _STREAM))
        _enlarge(field, gain)
        rows, columns = self._pixels(n_points)
        y, x = torch.meshgrid(rows + 0.5, columns + 0.5, indexing="ij")
        pixels = torch.stack([x.reshape(-1), y.reshape(-1)], 1)
        view = torch.full((len(pixels),), _drawn(len(self._data), seed))
        origins, directions = self._data.cameras.rays(view, pixels)
        away = (origins - origins.new_tensor(field.center)).norm(dim=1, keepdim=True)

        def color(part: Tensor) -> Tensor:
            # Colours of harmonics are zero without a direction.
            seen = part[:, 3:] if field.color_head is None else None
            return cast(Tensor, field.evaluate(Samples(part[:, :3], seen), ("color",)).color)

        places = torch.cat([origins + away * directions, directions], 1)
        return _in_chunks(color, places).T.reshape(3, len(rows), len(columns))

    def _pixels(self, n_points: int | None) -> tuple[Tensor, Tensor]:
        cameras = self._data.cameras
        return _pixels(cameras.height, cameras.width, self.side(n_points), n_points)


class ShapeSignal:
    """The distances to a mesh over its box, whose sides count alike.

    FreSh has no release for shapes. Distances are cut off at `BAND`: whole ones are smooth all over
    the box, and what is asked of a field is where the surface is. The armadillo's best omega of
    sine networks is near 30; whole distances choose 5, the band 20 to 30.
    """

    def __init__(self, mesh: Mesh, config: SdfConfig) -> None:
        self.name = "distances"
        self._mesh, self._config = mesh, config
        self._found: dict[int, Tensor] = {}

    def bins(self, wanted: int) -> int:
        """At most `VOLUME_BINS`, since samples grow with their cube."""
        return min(VOLUME_BINS, wanted)

    def enough(self, n_bins: int) -> int:
        """Twice the bins."""
        return 2 * n_bins + 2

    def side(self, n_points: int | None) -> int:
        """At most `VOLUME_SIDE`."""
        return min(VOLUME_SIDE, n_points or VOLUME_SIDE)

    def target(self, seed: int, n_points: int | None) -> Tensor:
        """Distances [1, side, side, side] within the band."""
        side = self.side(n_points)
        if side not in self._found:
            low, high = self._config.box
            band = BAND * max(b - a for a, b in zip(low, high, strict=True)) / 2
            distances = Distances(self._mesh).signed(self._positions(side))
            self._found[side] = distances.clamp(-band, band)
        return self._found[side].view(1, side, side, side)

    def untrained(
        self, architecture: Architecture, seed: int, gain: float, n_points: int | None
    ) -> Tensor:
        """The same of an untrained field."""
        config = replace(self._config, architecture=architecture)
        field = SdfField(config, stream_seed(seed, _STREAM))
        _enlarge(field, gain)
        side = self.side(n_points)
        cube = field.to_cube(self._positions(side)).float()
        return _in_chunks(field.encoded, cube).view(1, side, side, side)

    def _positions(self, side: int) -> Tensor:
        """World positions [side^3, 3], in the middle of equal parts of the box."""
        low, high = torch.tensor(self._config.box, dtype=torch.float64)
        share = (torch.arange(side, dtype=torch.float64) + 0.5) / side
        return torch.cartesian_prod(*(low + share[:, None] * (high - low)).T.unbind())


def _pixels(height: int, width: int, side: int, n_points: int | None) -> tuple[Tensor, Tensor]:
    """Rows and columns that are sampled: all where nothing else is wanted and they are not many."""
    if n_points is None and side == min(height, width):
        return torch.arange(height), torch.arange(width)
    share = (torch.arange(side, dtype=torch.float64) + 0.5) / side
    return (share * height).long(), (share * width).long()


def _drawn(n: int, seed: int) -> int:
    """One of n, the same for every field with this seed."""
    generator = torch.Generator().manual_seed(stream_seed(seed, _STREAM))
    return int(torch.randint(n, (), generator=generator))


@torch.no_grad()
def _enlarge(field: ImageField | RadianceField | SdfField, gain: float) -> None:
    for name in field.trunk.grids:
        field.trunk.get_parameter(name).mul_(gain)


@torch.no_grad()
def _in_chunks(ask: Callable[[Tensor], Tensor], positions: Tensor) -> Tensor:
    return torch.cat([ask(part) for part in torch.split(positions, _CHUNK)])
