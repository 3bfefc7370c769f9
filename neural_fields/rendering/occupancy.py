"""Keeping a field's occupancy grid true while the field changes."""

from __future__ import annotations

import torch
from torch import Tensor

from neural_fields import _core
from neural_fields.fields import RadianceField, Samples

THRESHOLD = 0.01  # optical thickness of one step
DECAY = 0.95


class OccupancyGrid:
    """Estimates of optical thickness per cell, and the field's grid of occupied cells.

    Cells that no ray can see, or that are known to be empty, are excluded once and stay so. An
    update evaluates a share of the other cells at random points; `n_sweeps` updates see them all.

    Attributes:
        values: float32 [cells]; negative where excluded.

    Source: Mueller et al. 2022, appendix E; deviations are listed in docs/ops/occupancy.md.
    """

    def __init__(self, field: RadianceField, visible: Tensor | None = None, seed: int = 0) -> None:
        """`visible`: bool [cells], which cells may ever hold anything; None = those in the box."""
        sampling = field.config.sampling
        self.field = field
        self.seed = seed
        self.values = torch.zeros(sampling.n_words * 64)
        mask = cells_in_box(field) if visible is None else visible
        self.values[~mask] = -1.0
        self._candidates = mask.nonzero()[:, 0].contiguous()
        # The first bits: everything that may hold something.
        _core.occupancy_words(*self._shape, self.values + mask.float(), THRESHOLD, field.occupancy)

    @property
    def _shape(self) -> tuple[int, int]:
        return self.field.config.sampling.resolution, self.field.config.sampling.n_cascades

    @torch.no_grad()
    def update(self, index: int, share: int = 1, decay: float = DECAY) -> None:
        """Evaluate every share-th candidate, beginning with number index % share.

        Args:
            index: number of the update; names the random points too.
            share: 1 evaluates all candidates.
            decay: factor of an evaluated cell's old estimate.
        """
        cells = self._candidates[index % share :: share].contiguous()
        points = torch.empty(cells.numel(), 3)
        _core.occupancy_points(*self._shape, cells, self.seed, index, points)
        log_density = _log_density(self.field, points.mul_(0.5).add_(0.5))
        thickness = log_density.clamp_(max=20.0).exp_() * self.field.config.sampling.step
        _core.occupancy_update(*self._shape, self.values, cells, thickness, decay)
        _core.occupancy_words(*self._shape, self.values, THRESHOLD, self.field.occupancy)

    @property
    def n_candidates(self) -> int:
        """Cells that updates look at."""
        return self._candidates.numel()


def _log_density(field: RadianceField, cube: Tensor) -> Tensor:
    """Log-density per unit [n] at cube coordinates [n, 3]."""
    shape = field.fused_shape()
    if shape is None:
        world = (cube - 0.5) * (2 * field.unit) + cube.new_tensor(field.center)
        log_density = field.evaluate(Samples(world), ("log_density",)).log_density
        assert log_density is not None
        return log_density
    out = torch.empty(cube.shape[0])
    trunk, color = field.trunk.params, field.color_head.mlp.params
    _core.radiance_density(shape, field.encoding.table, trunk, color, cube, out)
    return out


def cell_centers(field: RadianceField) -> Tensor:
    """World positions [cells, 3] of the cells' centres, in the grid's order."""
    sampling = field.config.sampling
    resolution, blocks = sampling.resolution, sampling.resolution // 4
    cell = torch.arange(sampling.n_words * 64)
    block, bit = cell >> 6, cell & 63
    axes = torch.stack(
        [
            (block % blocks) * 4 + (bit & 3),
            (block // blocks % blocks) * 4 + (bit >> 2 & 3),
            (block // blocks**2 % blocks) * 4 + (bit >> 4),
        ],
        dim=1,
    )
    half = 0.5 ** (sampling.n_cascades - 1 - block // blocks**3).float()
    unit = ((axes.float() + 0.5) / resolution * 2 - 1) * half[:, None]
    return unit * field.unit + torch.tensor(field.center)


def cell_sizes(field: RadianceField) -> Tensor:
    """World side [cells] of the cells."""
    sampling = field.config.sampling
    cell = torch.arange(sampling.n_words * 64)
    cascade = cell // sampling.resolution**3
    return field.unit * 2 / sampling.resolution * 0.5 ** (sampling.n_cascades - 1 - cascade).float()


def cells_in_box(field: RadianceField) -> Tensor:
    """Which cells touch the field's box: bool [cells]."""
    centers, half = cell_centers(field), cell_sizes(field)[:, None] / 2
    low, high = torch.tensor(field.config.box)
    return ((centers + half >= low) & (centers - half <= high)).all(dim=1)
