"""Fitting a surface to posed photographs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from neural_fields.architectures.hash import HashTrunk
from neural_fields.data.dataset import Dataset
from neural_fields.data.edges import edge_pixels
from neural_fields.errors import InputError, unknown_value
from neural_fields.fields import RadianceConfig, RadianceField, SurfaceConfig, SurfaceField
from neural_fields.ops import generator, occupancy_points, vector
from neural_fields.rendering.occupancy import OccupancyGrid, SurfaceOccupancy, cells_in_box
from neural_fields.training.ledger import Sums
from neural_fields.training.nerf import NerfOptions, NerfTrainer, StepReport, coarser
from neural_fields.training.radiance_step import Outcome
from neural_fields.training.state import stream_seed
from neural_fields.training.surface_step import EDGE_EVERY, Moment, Places, SurfaceStep
from neural_fields.training.visibility import looked_at

Slopes = Literal["analytic", "numerical"]
_NEAR, _FAR = 1 / 256, 1 / 24  # of the cube, between neighbours whose normals are compared
_ROOM, _ROOM_UNIT = 1.25, 2048  # see `SurfaceStep.room`
_GOLDEN = 0.618034  # its multiples fill [0, 1) evenly
_COARSEST, _FINEST = 32, 1024  # cells a side that differences are spaced by, first and last


@dataclass(frozen=True)
class SurfaceOptions(NerfOptions):
    """How a surface is trained: as a radiance field is, and by these.

    Attributes:
        batch_samples: marched samples per step that the number of rays is steered to; few of them
            are evaluated.
        slopes: `analytic`: derivatives; `numerical`: differences whose spacing falls.
        eikonal: weight of slopes of length 1.
        curvature: weight of normals that neighbours share.
        carved: weight of surfaces where photographs show that there are none.
        width: of the density around the surface, at the start, units.
        final_width: the same at the end.
        width_until: share of the budget by which it is that.
        first_levels: of a hash grid at the start.
        levels_until: share of the budget by which all levels are in use.
        places: random positions per step, of either kind.
    """

    batch_samples: int = 1 << 15
    final_rate: float = 0.003
    grid_decay: float = 0.7
    slopes: Slopes = "analytic"
    eikonal: float = 0.003
    curvature: float = 0.001
    carved: float = 1.0
    width: float = 0.1
    final_width: float = 0.0003
    width_until: float = 0.7
    first_levels: int = 3
    levels_until: float = 0.7
    places: int = 1 << 11

    ANY_NUMBER = NerfOptions.ANY_NUMBER | {"eikonal", "curvature", "carved"}

    def __post_init__(self) -> None:
        if self.slopes not in get_args(Slopes):
            raise InputError(unknown_value("options: slopes", str(self.slopes), get_args(Slopes)))
        if not self.final_width <= self.width:
            raise InputError(
                f"options: final_width needs at most width {self.width:g}, "
                f"got {self.final_width:g}."
            )

    def width_at(self, progress: float) -> float:
        """Width of the density: falls exponentially."""
        share = min(1.0, progress / self.width_until)
        return float(self.width * (self.final_width / self.width) ** share)


class SurfaceTrainer(NerfTrainer):
    """See `NerfTrainer`; the field is a surface."""

    field: SurfaceField
    options: SurfaceOptions

    def __init__(
        self,
        config: SurfaceConfig,
        data: Dataset,
        options: SurfaceOptions | None = None,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(config, data, options or SurfaceOptions(), seed, device)

    def _field_of(self, config: RadianceConfig, seed: int) -> SurfaceField:
        assert isinstance(config, SurfaceConfig)
        field = SurfaceField(config, seed)
        self._n_levels: int | None = None  # of a grid whose finer levels come into use one by one
        if field.slope_spec() is not None and isinstance(field.trunk, HashTrunk):
            levels = field.trunk.encoding.spec.levels
            self._n_levels = len(levels)
            with torch.no_grad():  # what is not in use yet is nothing
                for level in levels[self.options.first_levels :][:1]:
                    field.trunk.encoding.table[level.offset :].zero_()
        return field

    def _looked_at(self, field: RadianceField, data: Dataset) -> Tensor:
        possible, seen = looked_at(field, data)
        carved = cells_in_box(field) & ~possible
        self._carved = carved.nonzero()[:, 0].contiguous().to(self.device)
        self._edges = edge_pixels(data).to(self.device)
        return possible & seen

    def _grid_of(self, field: RadianceField, visible: Tensor) -> OccupancyGrid:
        assert isinstance(field, SurfaceField)
        return SurfaceOccupancy(field, visible, self.seed)

    def _start(self) -> None:
        once = self.options.slopes == "numerical" or self.field.slope_spec() is not None
        self.state = self._state_of(self.field, sparse=once)
        self._surface_step = SurfaceStep(self.field, self.state, self.options.batch_samples)

    def _outcome(self, progress: float) -> Outcome:
        self.field.width.fill_(self.options.width_at(progress))
        scene = coarser(self.field.march_scene(), progress, self.options.coarse_step)
        places, moment = self._somewhere(), self._moment(progress)
        return self._surface_step(self._draw_rays(), scene, places, moment)

    def _moment(self, progress: float) -> Moment:
        options, share = self.options, min(1.0, progress / self.options.levels_until)
        n, first = self._n_levels, options.first_levels
        n_levels = None if n is None else min(n, first + int(max(0, n + 1 - first) * share))
        spacing = 1 / (_COARSEST * (_FINEST / _COARSEST) ** share)
        return Moment(
            n_levels=n_levels,
            spacing=spacing if options.slopes == "numerical" else 0.0,
            reach=_NEAR * (_FAR / _NEAR) ** (self.step_number * _GOLDEN % 1),
            eikonal=options.eikonal,
            curvature=options.curvature,
            carved=options.carved,
            huber=options.huber,
        )

    def _learn(self, known: Sums) -> StepReport:
        step = self._surface_step
        if step.room is not None:  # as many as lately, and some more, in few different sizes
            wanted = known.n_kept // known.n_steps * _ROOM
            most = self.options.batch_samples * 9 // 8
            step.room = min(most, max(_ROOM_UNIT, math.ceil(wanted / _ROOM_UNIT) * _ROOM_UNIT))
        return super()._learn(known)

    def _pixels(self, n: int, draw: torch.Generator) -> Tensor:
        index = super()._pixels(n, draw)
        if len(self._edges):
            some = self._numbers(len(self._edges), len(index[::EDGE_EVERY]), draw)
            index[::EDGE_EVERY] = self._edges[some].long()
        return index

    def _somewhere(self) -> Places:
        draw = generator(self.device, stream_seed(self.seed, -2 - self.step_number))
        n, spec = self.options.places, self.field.config.sampling.grid
        anywhere = torch.rand(n, 3, generator=draw, device=self.device)
        low, high = (vector(corner, anywhere) for corner in self.field.config.box)
        low, high = self.field.to_cube(torch.stack([low, high]))
        anywhere = low + anywhere * (high - low)
        if not len(self._carved):
            return Places(anywhere, anywhere[:0])
        cells = self._carved[self._numbers(len(self._carved), n, draw)]
        points = occupancy_points(cells, spec, seed=self.seed, stream=self.step_number)
        return Places(anywhere, points.mul_(0.5).add_(0.5))

    @torch.no_grad()
    def restore(self, tensors: dict[str, Tensor], state: dict[str, int]) -> None:
        """See `NerfTrainer.restore`."""
        super().restore(tensors, state)
        self.field.width.copy_(tensors["field.width"])


def first_radius(data: Dataset, unit: float, center: Tensor) -> float:
    """Of a sphere at the middle of the box that no camera is in, units."""
    away = (data.cameras.camera_to_world[:, :3, 3] - center).norm(dim=1)
    return max(0.05, min(0.5, 0.6 * float(away.min()) / unit))
