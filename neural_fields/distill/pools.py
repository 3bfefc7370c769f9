"""What PVD-AL shows again: rays and cameras that the student found hard."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from neural_fields.distill.cameras import shaken, with_poses
from neural_fields.ops import hardest
from neural_fields.rendering.cameras import Cameras

HARD = 0.1  # of a batch's rays, or of an epoch's cameras
RAY_CAPACITY = 4096 * 150
CAMERA_CAPACITY = 100  # cameras are added while there are no more than that
CAMERA_ANGLE = math.pi / 20  # radians by which a camera that comes again is turned
OLDEST = 20  # times that a ray comes again


class RayPool:
    """Rays that were hard, each in a slot of its own.

    Until it is full or closed the hardest rays of a batch are added, and none come again. Then
    `draw` takes rays out of slots, and `put` fills those slots with the hardest of the whole batch.

    Deviations from PVD-AL's code: slots are drawn without repetition, so that no ray is there
    twice; rays that came again `OLDEST` times are not put back.

    Attributes:
        closed: whether rays come again although there is room for more, as after a while in runs
            of small batches.

    Example:
        >>> pool = RayPool(capacity=4)
        >>> pool.draw(2, torch.Generator())[1].numel()  # not full
        0
    """

    def __init__(self, capacity: int = RAY_CAPACITY) -> None:
        self.rays = torch.zeros(capacity, 7)  # origin, direction, pixel width
        self.ages = torch.zeros(capacity, dtype=torch.int32)
        self.n_filled = 0
        self.closed = False

    @property
    def is_full(self) -> bool:
        """Whether rays come again."""
        return self.n_filled > 0 and (self.closed or self.n_filled == len(self.rays))

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint keeps, besides `n_filled`."""
        return {"rays": self.rays, "ages": self.ages}

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Rays [n, 7] and their slots [n], one of each n-th of the pool; none before it is full."""
        n = min(n, self.n_filled)
        if not self.is_full or n == 0:
            return self.rays[:0], torch.empty(0, dtype=torch.long)
        edges = torch.arange(n + 1) * self.n_filled // n
        share = torch.rand(n, generator=generator, dtype=torch.float64)
        slots = edges[:-1] + (share * edges.diff()).long()
        return self.rays[slots], slots

    def put(self, rays: Tensor, difficulty: Tensor, slots: Tensor) -> None:
        """Keep the hardest of a batch [n, 7] whose last rays came out of `slots`."""
        n_new = len(rays) - len(slots)
        ages = torch.cat([self.ages.new_zeros(n_new), self.ages[slots] + 1])
        difficulty = torch.where(ages >= OLDEST, 0.0, difficulty)
        if self.is_full:
            chosen = hardest(difficulty, len(slots))
        else:
            n = min(int(HARD * n_new), len(self.rays) - self.n_filled)
            chosen = hardest(difficulty, n)
            slots = torch.arange(self.n_filled, self.n_filled + n)
            self.n_filled += n
        self.rays[slots] = rays[chosen]
        self.ages[slots] = ages[chosen]


class CameraPool:
    """Cameras of past epochs whose pictures differed most.

    Deviation from PVD-AL's code, which pairs errors with cameras in another order: errors are kept
    by camera.
    """

    def __init__(self, per_epoch: int, capacity: int = CAMERA_CAPACITY) -> None:
        """`per_epoch`: cameras that are looked from."""
        self._n, self._capacity = int(HARD * per_epoch), capacity
        self.poses = torch.zeros(capacity + self._n, 4, 4, dtype=torch.float64)
        self.n_filled = 0

    @property
    def is_full(self) -> bool:
        """Whether cameras come again."""
        return self.n_filled > self._capacity

    def renewed(
        self, last: Cameras, errors: Tensor, fresh: Cameras, generator: torch.Generator
    ) -> Cameras:
        """The cameras of the next epoch: fresh ones, a tenth of which are hard ones of the past.

        Args:
            last: the cameras of the epoch that is over.
            errors: mean squared error [n] of each; negative where it was not seen. Where too few
                were, nothing is kept.
            fresh: what would be looked from next.
            generator: of the draws.
        """
        if int((errors >= 0).sum()) < self._n:
            return fresh
        worst = last.camera_to_world[errors.topk(self._n).indices].double()
        if not self.is_full:
            self.poses[self.n_filled : self.n_filled + self._n] = worst
            self.n_filled += self._n
            return fresh
        drawn = torch.randperm(self.n_filled, generator=generator)[: self._n]
        places = torch.randperm(len(fresh), generator=generator)[: self._n]
        poses = fresh.camera_to_world.double()
        poses[places] = shaken(self.poses[drawn], CAMERA_ANGLE, generator)
        self.poses[drawn] = worst
        return with_poses(fresh, poses)
