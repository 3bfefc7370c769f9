"""Occupancy grid: which cells of nested cubes may hold something."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from neural_fields.ops._library import check_integers, native


@dataclass(frozen=True)
class OccupancySpec:
    """The shape of an occupancy grid over the cube [-1, 1]^3 ("unit" coordinates).

    Nested cubes halve in side; cascade 0 is the innermost, the last is the whole cube. Cells are
    numbered by cascade, then by blocks of 4x4x4 cells (x fastest), then inside the block (x
    fastest). The 64 cells of a block are the bits of one word.

    Attributes:
        resolution: cells per axis and cascade; a multiple of 4 from 4 to 512.
        n_cascades: 1 to 8.

    Example:
        >>> OccupancySpec(resolution=128).n_cells
        2097152
    """

    resolution: int = 128
    n_cascades: int = 1

    def __post_init__(self) -> None:
        check_integers("OccupancySpec", resolution=self.resolution, n_cascades=self.n_cascades)
        if not 4 <= self.resolution <= 512 or self.resolution % 4:
            raise ValueError(
                "OccupancySpec: resolution needs a multiple of 4 from 4 to 512, "
                f"got {self.resolution}."
            )
        if not 1 <= self.n_cascades <= 8:
            raise ValueError(f"OccupancySpec: n_cascades needs 1 to 8, got {self.n_cascades}.")

    @property
    def n_cells(self) -> int:
        """Cells of all cascades: the values are [n_cells]."""
        return self.n_cascades * self.resolution**3

    @property
    def n_words(self) -> int:
        """Blocks of all cascades: the words are [n_words]."""
        return self.n_cells // 64


def occupancy_points(
    cells: Tensor, spec: OccupancySpec, *, seed: int = 0, stream: int = 0
) -> Tensor:
    """Draw one random point in each of the listed cells.

    Args:
        cells: [n] int64, each in 0 ... spec.n_cells - 1.
        spec: the shape of the grid.
        seed: 0 to 2^64 - 1.
        stream: 0 to 2^64 - 1; another stream of the same seed gives independent points.

    Returns:
        [n, 3] float32 in unit coordinates. A cell's point depends on seed, stream and cell only.

    Not differentiable.

    Raises:
        TypeError: cells are not int64.
        ValueError: the shape is wrong.
        IndexError: a cell does not exist.

    Source: Mueller et al., Instant Neural Graphics Primitives, 2022, appendix E. Deviation: the
    caller lists the cells; their code draws them at random.

    Example:
        >>> points = occupancy_points(torch.arange(64), OccupancySpec(resolution=4), seed=7)
        >>> points.shape, bool((points.abs() <= 1).all())
        (torch.Size([64, 3]), True)
    """
    positions = torch.empty((cells.shape[0], 3), dtype=torch.float32, device=cells.device)
    native("occupancy", cells).occupancy_points(
        spec.resolution, spec.n_cascades, cells.contiguous(), seed, stream, positions
    )
    return positions


def occupancy_centers(cells: Tensor, spec: OccupancySpec) -> Tensor:
    """The centres of the listed cells.

    Args:
        cells: [n] int64, each in 0 ... spec.n_cells - 1; not checked.
        spec: the shape of the grid.

    Returns:
        [n, 3] float32 in unit coordinates.

    Example:
        >>> occupancy_centers(torch.tensor([0, 1, 4]), OccupancySpec(resolution=4))
        tensor([[-0.7500, -0.7500, -0.7500],
                [-0.2500, -0.7500, -0.7500],
                [-0.7500, -0.2500, -0.7500]])
    """
    blocks = spec.resolution // 4
    block, bit = cells // 64, cells % 64
    axes = [block // blocks**d % blocks * 4 + bit // 4**d % 4 for d in range(3)]
    half_side = 0.5 ** (spec.n_cascades - 1 - block // blocks**3).float()
    scaled = (torch.stack(axes, dim=1).float() + 0.5) * (2 / spec.resolution) - 1
    return scaled * half_side[:, None]


def occupancy_update(
    values: Tensor, cells: Tensor, fresh: Tensor, spec: OccupancySpec, *, decay: float = 0.95
) -> None:
    """Let the listed cells become max(decay * value, fresh), in place.

    Args:
        values: [spec.n_cells] float32, contiguous: optical thickness of a step. Negative = outside
            of what any camera sees; such cells stay as they are.
        cells: [n] int64, each in 0 ... spec.n_cells - 1 and at most once (not checked).
        fresh: [n] float32, new estimates. NaN counts as nothing seen.
        spec: the shape of the grid.
        decay: of the old value, in [0, 1].

    Not differentiable.

    Raises:
        TypeError: a tensor is not of the type above.
        ValueError: a shape is wrong.
        IndexError: a cell does not exist.

    Source: Mueller et al., Instant Neural Graphics Primitives, 2022, appendix E. Deviation: only
    the listed cells decay, so that no cell starves for want of being drawn.

    Example:
        >>> spec = OccupancySpec(resolution=4)
        >>> values = torch.full((spec.n_cells,), 0.02)
        >>> occupancy_update(values, torch.tensor([1, 2]), torch.tensor([0.0, 0.5]), spec)
        >>> values[:4]
        tensor([0.0200, 0.0190, 0.5000, 0.0200])
    """
    native("occupancy", values).occupancy_update(
        spec.resolution, spec.n_cascades, values, cells.contiguous(), fresh.contiguous(), decay
    )
    torch.autograd.graph.increment_version(values)


def occupancy_words(values: Tensor, spec: OccupancySpec, *, threshold: float = 0.01) -> Tensor:
    """Turn values into occupancy bits.

    Args:
        values: [spec.n_cells] float32.
        spec: the shape of the grid.
        threshold: a cell is occupied above min(threshold, mean of max(value, 0) over cascade 0).

    Returns:
        [spec.n_words] int64, one bit per cell. A cell of an outer cascade is also occupied where
        any of the 8 cells that an inner cascade has in it is.

    Not differentiable.

    Raises:
        TypeError: values are not float32.
        ValueError: the shape is wrong.

    Source: Mueller et al., Instant Neural Graphics Primitives, 2022, appendix E.

    Example:
        >>> spec = OccupancySpec(resolution=4)
        >>> values = torch.zeros(spec.n_cells)
        >>> values[5] = 1.0
        >>> occupancy_words(values, spec)
        tensor([32])
    """
    words = torch.empty((spec.n_words,), dtype=torch.int64, device=values.device)
    native("occupancy", values).occupancy_words(
        spec.resolution, spec.n_cascades, values.contiguous(), threshold, words
    )
    return words


def occupied_cells(words: Tensor) -> Tensor:
    """List the occupied cells.

    Args:
        words: [n_words] int64, as `occupancy_words` makes them.

    Returns:
        [n] int64, ascending.

    Example:
        >>> occupied_cells(torch.tensor([0, 5]))
        tensor([64, 66])
    """
    bits = words[:, None] >> torch.arange(64, device=words.device) & 1
    return bits.flatten().nonzero()[:, 0]
