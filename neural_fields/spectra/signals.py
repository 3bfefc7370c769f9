"""Signals as FreSh looks at them, and untrained fields at the same places."""

from __future__ import annotations

from collections.abc import Callable
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
    VideoField,
)
from neural_fields.fields.image import to_curve
from neural_fields.spectra.choice import Signal
from neural_fields.spectra.spectrum import MAX_SIDE
from neural_fields.training.state import stream_seed

# Of 130 samples a side, as 64 bins need, sine networks on photographs choose an omega of 160 where
# all samples choose 140; of 160 they choose 150, the next in the list.
ENOUGH = 160
VOLUME_SIDE, VOLUME_BINS = 64, 20  # samples of a distance along a side, and cycles
BAND = 0.01  # units: distances beyond it count as it
_STREAM = -3  # of the starts that are measured and of the views that are drawn
_CHUNK = 1 << 16


class PlaneSignal:
    """Samples of pictures of one size: all pixels of those whose smaller side has at most 1024, or
    as many as are wanted.

    Deviation from FreSh's code, which resizes larger pictures: samples are pixels, so that picture
    and field alias alike.
    """

    def __init__(self, height: int, width: int) -> None:
        self._height, self._width = height, width

    def enough(self, n_bins: int) -> int:
        """Twice the bins, or `ENOUGH`."""
        return max(2 * n_bins + 2, ENOUGH)

    def side(self, n_points: int | None) -> int:
        """At most the smaller side of the pictures."""
        return min(self._width, self._height, MAX_SIDE, n_points or MAX_SIDE)

    def sampled(self, n_points: int | None) -> tuple[Tensor, Tensor]:
        """Rows and columns."""
        side = self.side(n_points)
        if n_points is None and side == min(self._height, self._width):
            return torch.arange(self._height), torch.arange(self._width)
        share = (torch.arange(side, dtype=torch.float64) + 0.5) / side
        return (share * self._height).long(), (share * self._width).long()

    def _positions(self, n_points: int | None) -> Tensor:
        """Centres [n, 2] of the sampled pixels, (x, y), row by row."""
        rows, columns = self.sampled(n_points)
        y, x = torch.meshgrid(rows + 0.5, columns + 0.5, indexing="ij")
        return torch.stack([x.reshape(-1), y.reshape(-1)], 1)

    def _planes(self, values: Tensor, n_points: int | None) -> Tensor:
        """Values [n, c] of those as [c, h, w]."""
        rows, columns = self.sampled(n_points)
        return values.T.reshape(-1, len(rows), len(columns))


class PictureSignal(PlaneSignal):
    """A picture."""

    def __init__(self, picture: Picture, config: ImageConfig) -> None:
        super().__init__(config.height, config.width)
        self.name = picture.name
        self._picture, self._config = picture, config

    def bins(self, wanted: int) -> int:
        """All of them."""
        return wanted

    def target(self, seed: int, n_points: int | None) -> Tensor:
        """What is fitted [c, h, w], at the sampled pixels."""
        picture = self._picture
        rows, columns = self.sampled(n_points)
        values = picture.at((rows[:, None] * self._width + columns).reshape(-1))
        values = values if picture.color_space == "srgb" else to_curve(values)
        return self._planes(values, n_points)

    def untrained(
        self, architecture: Architecture, seed: int, gain: float, n_points: int | None
    ) -> Tensor:
        """The same of an untrained field."""
        config = replace(self._config, architecture=architecture)
        field = ImageField(config, start_of(seed))
        enlarge(field, gain)
        return self.of(field, n_points)

    def of(self, field: ImageField, n_points: int | None) -> Tensor:
        """The same of any field."""
        return self._planes(_in_chunks(field.encoded, self._positions(n_points)), n_points)


class ViewsSignal(PlaneSignal):
    """Photographs of a scene; the field with seed s is compared with one, the same for all.

    Of the field, which has no surface yet, colours without a direction at the cameras' distance
    from the box's centre; photographs are over black.
    """

    def __init__(self, data: Dataset, config: RadianceConfig) -> None:
        super().__init__(data.cameras.height, data.cameras.width)
        self.name = "training views"
        self._data, self._config = data, config

    def bins(self, wanted: int) -> int:
        """Half of what pictures take, as FreSh's."""
        return max(1, wanted // 2)

    def target(self, seed: int, n_points: int | None) -> Tensor:
        """Colours [3, h, w] over black, at the sampled pixels."""
        rows, columns = self.sampled(n_points)
        color, _ = self._data.image(drawn(len(self._data), seed))
        return color[rows][:, columns].permute(2, 0, 1)

    def untrained(
        self, architecture: Architecture, seed: int, gain: float, n_points: int | None
    ) -> Tensor:
        """The same of an untrained field."""
        config = replace(self._config, architecture=architecture)
        field = RadianceField(config, start_of(seed))
        enlarge(field, gain)
        pixels = self._positions(n_points)
        view = torch.full((len(pixels),), drawn(len(self._data), seed))
        origins, directions = self._data.cameras.rays(view, pixels)
        away = (origins - origins.new_tensor(field.center)).norm(dim=1, keepdim=True)

        def color(part: Tensor) -> Tensor:
            # Colours of harmonics are zero without a direction.
            seen = part[:, 3:] if field.color_head is None else None
            return cast(Tensor, field.evaluate(Samples(part[:, :3], seen), ("color",)).color)

        places = torch.cat([origins + away * directions, directions], 1)
        return self._planes(_in_chunks(color, places), n_points)


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
        field = SdfField(config, start_of(seed))
        enlarge(field, gain)
        side = self.side(n_points)
        cube = field.to_cube(self._positions(side)).float()
        return _in_chunks(field.encoded, cube).view(1, side, side, side)

    def _positions(self, side: int) -> Tensor:
        """World positions [side^3, 3], in the middle of equal parts of the box."""
        low, high = torch.tensor(self._config.box, dtype=torch.float64)
        share = (torch.arange(side, dtype=torch.float64) + 0.5) / side
        return torch.cartesian_prod(*(low + share[:, None] * (high - low)).T.unbind())


def signal_of(
    data: Picture | Dataset | Mesh, config: ImageConfig | RadianceConfig | SdfConfig
) -> Signal:
    """What a field of this configuration is compared with.

    Raises:
        TypeError: the configuration is of another kind of field.
    """
    if isinstance(data, Dataset) and isinstance(config, RadianceConfig):
        return ViewsSignal(data, config)
    if isinstance(data, Mesh) and isinstance(config, SdfConfig):
        return ShapeSignal(data, config)
    if isinstance(data, Picture) and isinstance(config, ImageConfig):
        return PictureSignal(data, config)
    raise TypeError(f"signal_of: {type(config).__name__} is not for a {type(data).__name__}.")


def start_of(seed: int) -> int:
    """The seed that the untrained field of a seed starts from."""
    return stream_seed(seed, _STREAM)


def drawn(n: int, seed: int) -> int:
    """One of n, the same for every field with this seed."""
    generator = torch.Generator().manual_seed(start_of(seed))
    return int(torch.randint(n, (), generator=generator))


@torch.no_grad()
def enlarge(field: ImageField | RadianceField | SdfField | VideoField, gain: float) -> None:
    """Multiply its grids."""
    for name in field.trunk.grids:
        field.trunk.get_parameter(name).mul_(gain)


@torch.no_grad()
def _in_chunks(ask: Callable[[Tensor], Tensor], positions: Tensor) -> Tensor:
    return torch.cat([ask(part) for part in torch.split(positions, _CHUNK)])
