"""Marching rays through an occupancy grid: packed samples on a lattice of steps."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

from neural_fields import _core
from neural_fields.ops._library import native
from neural_fields.ops.occupancy import OccupancySpec

Point = tuple[float, float, float]


class PackedSamples(NamedTuple):
    """Samples of many rays in a row; a sample's position is its midpoint."""

    offsets: Tensor  # [n_rays + 1] int64: ray r owns offsets[r] .. offsets[r + 1]
    t_starts: Tensor  # [n] distance along the ray, world
    t_ends: Tensor  # [n]


@dataclass(frozen=True)
class MarchScene:
    """Where rays are marched, and how. All lengths are in world units.

    Attributes:
        box_min: lowest corner of the box; outside the box there are no samples.
        box_max: its highest corner.
        center: of the cube of the occupancy grid.
        unit: half that cube's side.
        step: the smallest step.
        grid: the shape of the occupancy grid.
        cone: growth of the step per distance; 0 = constant steps.
        max_step: the largest step.
        near: distance along the ray where marching starts at the earliest.
        far: where it ends at the latest.
        max_samples: per ray, 1 to 65536; the first ones are kept.

    Example:
        >>> scene = MarchScene((-1, -1, -1), (1, 1, 1), (0, 0, 0), unit=1.0, step=0.01)
        >>> round(scene.distance_at(100), 6), round(scene.index_at(1.0), 4)
        (1.0, 100.0)
    """

    box_min: Point
    box_max: Point
    center: Point
    unit: float
    step: float
    grid: OccupancySpec = field(default_factory=OccupancySpec)
    cone: float = 0.0
    max_step: float = math.inf
    near: float = 0.0
    far: float = math.inf
    max_samples: int = 1024

    def __post_init__(self) -> None:
        native_scene(_core, self)

    def distance_at(self, index: float) -> float:
        """The distance t(n) of lattice index n: steps are clamp(cone * t, step, max_step)."""
        return _core.march_distance_at(native_scene(_core, self), index)

    def index_at(self, distance: float) -> float:
        """The lattice index n(t) of a distance, the inverse of `distance_at`."""
        return _core.march_index_at(native_scene(_core, self), distance)


@functools.lru_cache(maxsize=64)
def native_scene(module: ModuleType, scene: MarchScene) -> _core.MarchScene:
    """The scene as the native module takes it."""
    made: _core.MarchScene = module.MarchScene(
        box_min=scene.box_min,
        box_max=scene.box_max,
        center=scene.center,
        unit=scene.unit,
        step=scene.step,
        cone=scene.cone,
        max_step=scene.max_step,
        near=scene.near,
        far=scene.far,
        max_samples=scene.max_samples,
        resolution=scene.grid.resolution,
        n_cascades=scene.grid.n_cascades,
    )
    return made


def march(
    scene: MarchScene,
    words: Tensor,
    origins: Tensor,
    directions: Tensor,
    jitter: Tensor | None = None,
) -> PackedSamples:
    """List the steps of every ray whose midpoint lies in an occupied cell of the box.

    Args:
        scene: the box, the steps and the shape of the grid.
        words: [scene.grid.n_words] int64, as `occupancy_words` makes them.
        origins: [n_rays, 3] float32, world.
        directions: [n_rays, 3] float32, unit vectors (not checked). A ray that is not finite, or
            has no direction, gets no samples.
        jitter: [n_rays] float32 in [0, 1): where the first step starts, as a fraction of a step
            behind the entry into the box. None = 0.5 for all.

    Returns:
        The samples, by ray and distance. They depend on the grid only in which steps are listed,
        not in where steps begin: those lie on one lattice per ray. A point is looked up in the
        smallest cascade that holds it and whose cells are at least half as long as the step.

    Not differentiable: the results carry no gradient.

    Raises:
        TypeError: a tensor is not of the type above.
        ValueError: a shape is wrong.

    Source: Mueller et al., Instant Neural Graphics Primitives, 2022, appendix E.1. Deviations:
    steps are chosen by their midpoints; a ray ends after 2^24 steps of the lattice.

    Example:
        >>> scene = MarchScene((-1, -1, -1), (1, 1, 1), (0, 0, 0), 1.0, 0.5, OccupancySpec(4))
        >>> full = torch.full((scene.grid.n_words,), -1)
        >>> rays = torch.tensor([[-2.0, 0.0, 0.0]]), torch.tensor([[1.0, 0.0, 0.0]])
        >>> march(scene, full, *rays, jitter=torch.zeros(1)).t_starts
        tensor([1.0000, 1.5000, 2.0000, 2.5000])
    """
    module = native("march", origins)
    shape = native_scene(module, scene)
    inputs = (
        words.contiguous(),
        origins.detach().contiguous(),
        directions.detach().contiguous(),
        None if jitter is None else jitter.detach().contiguous(),
    )
    offsets = torch.empty((origins.shape[0] + 1,), dtype=torch.int64, device=origins.device)
    module.march_count(shape, *inputs, offsets)
    n_samples = int(offsets[-1])
    t_starts = torch.empty((n_samples,), dtype=torch.float32, device=origins.device)
    t_ends = torch.empty_like(t_starts)
    module.march_fill(shape, *inputs, offsets, t_starts, t_ends)
    return PackedSamples(offsets, t_starts, t_ends)


class RadianceSamples(NamedTuple):
    """Room for the samples of a batch of rays; `capacity` of them at most."""

    offsets: Tensor  # [n_rays + 1] int64
    t_starts: Tensor  # [capacity] distance along the ray, world
    t_ends: Tensor  # [capacity]
    positions: Tensor  # [capacity, 3] in [0, 1], the grid's coordinates

    @classmethod
    def empty(
        cls, n_rays: int, capacity: int, device: torch.device | str = "cpu"
    ) -> RadianceSamples:
        """Fresh ones of unspecified content."""
        return cls(
            torch.empty(n_rays + 1, dtype=torch.int64, device=device),
            torch.empty(capacity, device=device),
            torch.empty(capacity, device=device),
            torch.empty(capacity, 3, device=device),
        )


def march_into(
    scene: MarchScene,
    words: Tensor,
    origins: Tensor,
    directions: Tensor,
    jitter: Tensor,
    samples: RadianceSamples,
    grids: Tensor | None = None,
) -> Tensor:
    """March a batch of rays into a buffer, and place the samples in the grid's coordinates.

    All shapes are known beforehand, so that on a GPU nobody waits for the number of samples.

    Args:
        scene: see `march`.
        words: [scene.grid.n_words] int64, or [n_grids, n_words] with `grids`.
        origins: [n_rays, 3] float32, world.
        directions: [n_rays, 3] float32, unit vectors.
        jitter: [n_rays] float32 in [0, 1).
        samples: overwritten, up to offsets[-1]; what lies behind stays as it was.
        grids: [n_rays] int64, the grid that a ray is marched through; None: the only one.

    Returns:
        int64 [2] on the device of the rays: how many rays, from the first, fit with all their
        samples, and how many samples they have; later rays own none.

    Raises:
        TypeError: a tensor is of the wrong type.
        ValueError: a shape is wrong.
        IndexError: a grid does not exist (on the CPU; on a GPU such a ray has no samples).

    Example:
        >>> scene = MarchScene((-1, -1, -1), (1, 1, 1), (0, 0, 0), unit=1.0, step=0.5)
        >>> full = torch.full((scene.grid.n_words,), -1)
        >>> samples = RadianceSamples.empty(n_rays=2, capacity=5)
        >>> origins = torch.tensor([[-2.0, 0.0, 0.0]]).expand(2, 3).contiguous()
        >>> directions = torch.tensor([[1.0, 0.0, 0.0]]).expand(2, 3).contiguous()
        >>> march_into(scene, full, origins, directions, torch.zeros(2), samples)
        tensor([1, 4])
        >>> samples.offsets
        tensor([0, 4, 4])
    """
    module = native("march", origins)
    used = torch.empty(2, dtype=torch.int64, device=origins.device)
    rays = (origins, directions, jitter, grids)
    module.march_into(native_scene(module, scene), words, *rays, *samples, used)
    return used
