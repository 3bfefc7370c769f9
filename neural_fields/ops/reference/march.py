"""Ray marching in plain torch: every step of the lattice is looked at."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from neural_fields.ops.march import MarchScene, PackedSamples
from neural_fields.ops.reference.occupancy import cell_of, half_side, smallest_cascade


def distance_at(scene: MarchScene, index: Tensor) -> Tensor:
    """t(n): linear, then exponential, then linear again, with steps of t growing by 1 + cone."""
    if scene.cone == 0:
        return index * scene.step
    rate = math.log(1 + scene.cone)
    t_log, t_far = scene.step / rate, scene.max_step / rate
    n_log = 1 / rate
    n_far = n_log + math.log(t_far / t_log) / rate
    middle = t_log * torch.exp((index - n_log) * rate)
    last = t_far + (index - n_far) * scene.max_step
    return torch.where(
        index <= n_log, index * scene.step, torch.where(index <= n_far, middle, last)
    )


def index_at(scene: MarchScene, distance: Tensor) -> Tensor:
    """n(t), the inverse."""
    if scene.cone == 0:
        return distance / scene.step
    rate = math.log(1 + scene.cone)
    t_log, t_far = scene.step / rate, scene.max_step / rate
    n_log = 1 / rate
    n_far = n_log + math.log(t_far / t_log) / rate
    middle = n_log + torch.log(distance / t_log) / rate
    last = n_far + (distance - t_far) / scene.max_step
    return torch.where(
        distance <= t_log, distance / scene.step, torch.where(distance <= t_far, middle, last)
    )


def interval(scene: MarchScene, origin: Tensor, direction: Tensor) -> tuple[float, float]:
    """Entry into and exit from the box; entry >= exit where it is missed."""
    low, high = scene.near, scene.far
    for o, d, a, b in zip(
        origin.tolist(), direction.tolist(), scene.box_min, scene.box_max, strict=True
    ):
        if d == 0:
            low, high = (low, high) if a <= o <= b else (0.0, 0.0)
            continue
        first, last = sorted(((a - o) / d, (b - o) / d))
        low, high = max(low, first), min(high, last)
    return low, high


def occupied(scene: MarchScene, words: Tensor, positions: Tensor, lengths: Tensor) -> Tensor:
    """Whether the cell of each position [n, 3] is occupied, for steps of these lengths [n]."""
    grid = scene.grid
    unit_positions = (positions - torch.tensor(scene.center).double()) / scene.unit
    cascade = smallest_cascade(grid, unit_positions)
    for k in range(grid.n_cascades - 1):  # cells of at least half the step
        cells = 2 * half_side(grid, k) / grid.resolution
        too_fine = (cascade == k) & (lengths / scene.unit / 2 > cells)
        cascade = torch.where(too_fine, k + 1, cascade)
    index = cell_of(grid, cascade, unit_positions)
    return (words[index // 64] >> (index % 64) & 1).bool()


def march(
    scene: MarchScene,
    words: Tensor,
    origins: Tensor,
    directions: Tensor,
    jitter: Tensor | None = None,
) -> PackedSamples:
    """The samples of `neural_fields.ops.march` in float64, ray by ray and step by step.

    Mueller et al. 2022, appendix E.1. A midpoint within rounding of a cell's border, of the end of
    the box or of a length at which cells get coarser may fall on the other side of it.

    Example:
        >>> scene = MarchScene((-1, -1, -1), (1, 1, 1), (0, 0, 0), unit=1.0, step=0.5)
        >>> full = torch.full((scene.grid.n_words,), -1)
        >>> rays = torch.tensor([[-2.0, 0, 0]]), torch.tensor([[1.0, 0, 0]])
        >>> march(scene, full, *rays).t_starts
        tensor([1.2500, 1.7500, 2.2500], dtype=torch.float64)
    """
    starts, ends, counts = [], [], [0]
    for ray in range(origins.shape[0]):
        origin, direction = origins[ray].double(), directions[ray].double()
        t_start = t_end = origin.new_empty(0)
        finite = origin.isfinite().all() and direction.isfinite().all()
        if finite and direction.abs().max() > 0:
            low, high = interval(scene, origin, direction)
            if low < high:
                both = index_at(scene, torch.tensor([low, high]).double())
                first = both[0] + (0.5 if jitter is None else jitter[ray].double())
                lattice = first + torch.arange(math.ceil(both[1] - both[0]) + 2)
                t = distance_at(scene, lattice)
                middle = (t[:-1] + t[1:]) / 2
                positions = origin + middle[:, None] * direction
                kept = (middle < high) & occupied(scene, words, positions, t[1:] - t[:-1])
                t_start, t_end = (x[kept][: scene.max_samples] for x in (t[:-1], t[1:]))
        starts.append(t_start)
        ends.append(t_end)
        counts.append(len(t_start))
    none = torch.empty(0, dtype=torch.float64)
    offsets = torch.tensor(counts).cumsum(0)
    return PackedSamples(offsets, torch.cat([none, *starts]), torch.cat([none, *ends]))
