"""Keeping a field's occupancy grid true while the field changes."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from neural_fields.fields import DynamicField, RadianceField, Samples, SurfaceField
from neural_fields.ops import (
    generator,
    occupancy_centers,
    occupancy_points,
    occupancy_update,
    occupancy_words,
    radiance_density,
    vector,
)

THRESHOLD = 0.01  # optical thickness of one step
DECAY = 0.95
_MOVING_THRESHOLD = 0.003  # 0.01 empties cells before what moves is found: 0.3 dB less
_CHUNK = 1 << 17
_WIDTHS = 6.0  # of its density, within which a surface takes nearly all light
_LOOKS = 2  # moments of a span at which an update looks at a cell


class OccupancyGrid:
    """Estimates of optical thickness per cell, and the field's grid of occupied cells.

    Cells that no ray can see, or that are known to be empty, are excluded once and stay so. An
    update evaluates a share of the other cells at random points; `n_sweeps` updates see them all.

    Attributes:
        values: float32 [cells]; negative where excluded.

    Source: Mueller et al. 2022, appendix E; deviations are listed in docs/ops/occupancy.md.
    """

    def __init__(
        self,
        field: RadianceField,
        visible: Tensor | None = None,
        seed: int = 0,
        span: tuple[float, float] | None = None,
        threshold: float = THRESHOLD,
    ) -> None:
        """Begin with all cells occupied.

        `visible`: bool [cells], which cells may ever hold anything; None = those in the box.
        `span` of time, of a moment of a field that moves: cells count that are occupied at any time
        in it. `threshold` is what counts as occupied.
        """
        self.field = field
        self._span, self._threshold = span, threshold
        self.seed = seed
        self._spec = field.config.sampling.grid
        device = field.occupancy.device
        mask = (cells_in_box(field) if visible is None else visible).to(device)
        self.values = torch.zeros(self._spec.n_cells, device=device)
        self.values[~mask] = -1.0
        self._candidates = mask.nonzero()[:, 0].contiguous()
        # The first bits: everything that may hold something.
        field.occupancy.copy_(occupancy_words(mask.float() * 2 - 1, self._spec))

    @torch.no_grad()
    def update(self, index: int, share: int = 1, decay: float = DECAY) -> None:
        """Evaluate every share-th candidate, beginning with number index % share.

        Args:
            index: number of the update; names the random points too.
            share: 1 evaluates all candidates.
            decay: factor of an evaluated cell's old estimate.
        """
        cells = self._candidates[index % share :: share].contiguous()
        points = occupancy_points(cells, self._spec, seed=self.seed, stream=index)
        thickness = self._thickness(points.mul_(0.5).add_(0.5), index)
        occupancy_update(self.values, cells, thickness, self._spec, decay=decay)
        words = occupancy_words(self.values, self._spec, threshold=self._threshold)
        self.field.occupancy.copy_(words)

    def _thickness(self, cube: Tensor, index: int) -> Tensor:
        """Optical thickness [n] of a step at cube coordinates [n, 3]."""
        density = self._log_density(cube, index).clamp_(max=20.0).exp_()
        return density * self.field.config.sampling.step

    def _log_density(self, cube: Tensor, index: int) -> Tensor:
        """Log-density per unit [n] at cube coordinates [n, 3]; the highest of a few times."""
        if self._span is None:
            return _log_density(self.field, cube)
        draw, n = generator(cube.device, self.seed * 1_000_003 + index), cube.shape[0]
        first, last = self._span
        highest = cube.new_full((n,), -torch.inf)
        for look in range(_LOOKS):
            share = (torch.rand(n, generator=draw, device=cube.device) + look) / _LOOKS
            log_density = _log_density(self.field, cube, first + (last - first) * share)
            highest = torch.maximum(highest, log_density)
        return highest

    def sample(self, n: int, draw: torch.Generator) -> Tensor:
        """Cube coordinates [n, 3] of points in cells that hold something, or in any candidates."""
        cells = (self.values > THRESHOLD).nonzero()[:, 0]
        cells = cells if cells.numel() else self._candidates
        chosen = cells[torch.randint(cells.numel(), (n,), generator=draw).to(cells.device)]
        stream = int(torch.randint(1 << 31, (1,), generator=draw))
        points = occupancy_points(chosen, self._spec, seed=self.seed, stream=stream)
        return points.mul_(0.5).add_(0.5)

    @property
    def n_candidates(self) -> int:
        """Cells that updates look at."""
        return self._candidates.numel()


class SurfaceOccupancy(OccupancyGrid):
    """The same for a surface: what lies near it, outside and within, is occupied.

    Rays that got through the cells around it have lost all their light.
    """

    field: SurfaceField

    def _thickness(self, cube: Tensor, index: int) -> Tensor:
        """Twice what counts as occupied, or 0, so that what is left soon is empty."""
        reach = 1.5 * math.sqrt(3) / self._spec.resolution  # of half the largest cell's diagonal
        parts = [self.field.encoded(Samples(part))[0] for part in torch.split(cube, _CHUNK)]
        near = torch.cat(parts).abs() < reach + _WIDTHS * self.field.width
        return near.float() * (2 * THRESHOLD)


class MovingOccupancy:
    """The same for a field that moves: a grid per span of time.

    An update is of one span.

    Attributes:
        values: float32 [spans, cells].
    """

    def __init__(self, field: DynamicField, visible: Tensor | None = None, seed: int = 0) -> None:
        """As of `OccupancyGrid`."""
        n = field.config.n_spans
        self._grids = [
            OccupancyGrid(
                field.at((k + 0.5) / n),
                visible,
                seed * n + k,
                span=(k / n, (k + 1) / n),
                threshold=_MOVING_THRESHOLD,
            )
            for k in range(n)
        ]
        self.values = torch.stack([grid.values for grid in self._grids])
        for grid, values in zip(self._grids, self.values, strict=True):
            grid.values = values

    def update(self, index: int, share: int = 1, decay: float = DECAY) -> None:
        """As of `OccupancyGrid`, where `share` counts the candidates of all spans."""
        n = len(self._grids)
        self._grids[index % n].update(index // n, max(1, share // n), decay)

    def sample(self, n: int, draw: torch.Generator) -> Tensor:
        """As of `OccupancyGrid`, from all spans."""
        parts = [grid.sample(-(-n // len(self._grids)), draw) for grid in self._grids]
        return torch.cat(parts)[:n]

    @property
    def n_candidates(self) -> int:
        """Cells that updates look at, of all spans."""
        return sum(grid.n_candidates for grid in self._grids)


def _log_density(field: RadianceField, cube: Tensor, times: Tensor | None = None) -> Tensor:
    """Log-density per unit [n] at cube coordinates [n, 3]."""
    spec = field.fused_spec()
    if spec is None:
        world = (cube - 0.5) * (2 * field.unit) + vector(field.center, cube)
        log_density = field.evaluate(Samples(world, times=times), ("log_density",)).log_density
        assert log_density is not None
        return log_density
    out = cube.new_empty(cube.shape[0])
    radiance_density(spec, field.fused_params(), cube, out)
    return out


def occupied(field: RadianceField) -> Tensor:
    """Which cells rays visit: bool [cells], in the grid's order."""
    bits = torch.arange(64, device=field.occupancy.device)
    return ((field.occupancy[:, None] >> bits) & 1).bool().view(-1)


def cell_centers(field: RadianceField) -> Tensor:
    """World positions [cells, 3] of the cells' centres, in the grid's order."""
    spec = field.config.sampling.grid
    device = field.occupancy.device
    unit = occupancy_centers(torch.arange(spec.n_cells, device=device), spec)
    return unit * field.unit + vector(field.center, unit)


def cell_sizes(field: RadianceField) -> Tensor:
    """World side [cells] of the cells."""
    spec = field.config.sampling.grid
    device = field.occupancy.device
    cascade = torch.arange(spec.n_cells, device=device) // spec.resolution**3
    largest = field.unit * 2 / spec.resolution
    return largest * torch.exp2((cascade - (spec.n_cascades - 1)).float())


def cells_in_box(field: RadianceField) -> Tensor:
    """Which cells touch the field's box: bool [cells]."""
    centers, half = cell_centers(field), cell_sizes(field)[:, None] / 2
    low, high = (vector(corner, centers) for corner in field.config.box)
    inside: Tensor = ((centers + half >= low) & (centers - half <= high)).all(dim=1)
    return inside
