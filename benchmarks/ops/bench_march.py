"""March: the stored batch's rays through the occupancy grid to packed samples."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from neural_fields import _core
from neural_fields.benchmarks.batch import stored_batch
from neural_fields.benchmarks.case import Case, Sizes


def cases(sizes: Sizes) -> Iterator[Case]:
    """Count and fill; items are the samples."""
    stored = stored_batch(sizes.n_samples, sizes.image_size)
    batch = stored.batch
    offsets, t_starts = torch.empty_like(batch.offsets), torch.empty_like(batch.t_starts)
    t_ends, rays = torch.empty_like(batch.t_ends), (stored.origins, batch.directions, None)

    def ours() -> None:
        _core.march_count(stored.scene, stored.words, *rays, offsets)
        _core.march_fill(stored.scene, stored.words, *rays, offsets, t_starts, t_ends)

    yield Case("march", batch.n_samples, "M samples/s", ours=ours)
