"""The batch that `step`, `render` and the rows along rays share: real rays through a real scene.

A procedural scene is rendered with depth from a few cameras; the cells around its surfaces are the
occupancy grid; random pixels' rays are marched through it until they have the wanted number of
samples exactly. The field is fresh (small features, Xavier matrices), so light passes through all
samples: none is dropped on either side, and both do the same work.
"""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from neural_fields import _core
from neural_fields.benchmarks.torch_baseline import Batch
from neural_fields.ops import HashGridSpec, huge_pages_empty
from neural_fields.scenes import render_view
from neural_fields.scenes.cameras import focal_length, poses

RESOLUTION = 128  # of the occupancy grid
UNIT = 1.0  # half the side of its cube, which is centred at the origin
STEP = 2 * math.sqrt(3) / 1024 * UNIT
_SCENE = "locomotive"
_N_VIEWS = 6
_NEAR, _FAR, _MAX_SAMPLES = 0.05, 1e6, 1024


@dataclass(frozen=True)
class StoredBatch:
    """A packed batch, and the rays and the grid that it comes from.

    Attributes:
        batch: the samples.
        origins: [n_rays, 3].
        scene: geometry of the march.
        words: the occupancy grid's bits.
    """

    batch: Batch
    origins: Tensor
    scene: _core.MarchScene
    words: Tensor


@dataclass(frozen=True)
class FieldParams:
    """A fresh field of the default architecture."""

    spec: HashGridSpec
    table: Tensor
    density: Tensor
    color: Tensor


def fresh_field(spec: HashGridSpec) -> FieldParams:
    """Features in +-1e-4, and Xavier matrices."""
    generator = torch.Generator().manual_seed(0)
    table = huge_pages_empty((spec.n_entries, spec.n_features))
    table.uniform_(-1e-4, 1e-4, generator=generator)
    return FieldParams(
        spec,
        table,
        xavier((spec.n_output, 64, 16), generator),
        xavier((32, 64, 64, 3), generator),
    )


def xavier(widths: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Flat matrices without biases."""
    parts = [
        (2 * torch.rand(n_out * n_in, generator=generator) - 1) * math.sqrt(6 / (n_in + n_out))
        for n_in, n_out in itertools.pairwise(widths)
    ]
    return torch.cat(parts)


@functools.lru_cache(maxsize=2)
def stored_batch(n_samples: int, image_size: int) -> StoredBatch:
    """The batch of so many samples; rendering the pictures takes a few seconds."""
    origins, directions, colors, words = _picture_rays(image_size)
    scene = _core.MarchScene(
        [-UNIT] * 3, [UNIT] * 3, [0.0] * 3, UNIT, STEP, 0.0, STEP, _NEAR, _FAR, _MAX_SAMPLES,
        RESOLUTION, 1,
    )  # fmt: skip
    counts = _sample(scene, words, origins, directions)[0].diff()
    chosen = _rays_with(counts, n_samples)
    origins, directions = origins[chosen].contiguous(), directions[chosen].contiguous()
    offsets, t_starts, t_ends, positions = _sample(scene, words, origins, directions)
    generator = torch.Generator().manual_seed(1)
    background = torch.rand(len(chosen), 3, generator=generator)
    rgba = colors[chosen]
    batch = Batch(
        offsets,
        t_starts,
        t_ends,
        positions,
        directions,
        (rgba[:, :3] + (1 - rgba[:, 3:]) * background).contiguous(),
        background,
        UNIT,
    )
    return StoredBatch(batch, origins, scene, words)


def _picture_rays(size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Origins, directions and premultiplied colours of all pixels in random order, and the grid."""
    focal = focal_length(size)
    pixel = torch.arange(size) + 0.5 - size / 2
    y, x = torch.meshgrid(-pixel / focal, pixel / focal, indexing="ij")
    local = F.normalize(torch.stack((x, y, -torch.ones_like(x)), 2).view(-1, 3), dim=1)
    origins, directions, colors, surfaces = [], [], [], []
    for pose in poses(_N_VIEWS, 0, test=False):
        view = render_view(_SCENE, pose, focal, size, size)
        matrix = torch.from_numpy(pose).float()
        direction = local @ matrix[:3, :3].T
        origin = matrix[:3, 3].expand(len(local), 3)
        depth = view.depth.view(-1, 1)
        hit = depth[:, 0] > 0
        surfaces.append((origin + depth * direction)[hit])
        origins.append(origin)
        directions.append(direction)
        colors.append(view.rgba.view(-1, 4))
    order = torch.randperm(len(local) * _N_VIEWS, generator=torch.Generator().manual_seed(0))
    columns = [torch.cat(parts)[order] for parts in (origins, directions, colors)]
    return columns[0], columns[1], columns[2], _occupied(torch.cat(surfaces))


def _occupied(points: Tensor) -> Tensor:
    """Bits of the cells with a surface point in them or beside them."""
    n = RESOLUTION
    cell = ((points / UNIT + 1) / 2 * n).long()
    x, y, z = cell[((cell >= 0) & (cell < n)).all(1)].unbind(1)
    grid = torch.zeros(1, 1, n, n, n)
    grid[0, 0, z, y, x] = 1
    grid = F.max_pool3d(grid, 3, 1, 1)[0, 0]
    # Cells are stored in blocks of 4 x 4 x 4, x fastest in and among them.
    blocks = grid.view(n // 4, 4, n // 4, 4, n // 4, 4).permute(0, 2, 4, 1, 3, 5)
    words = torch.empty(n**3 // 64, dtype=torch.int64)
    _core.occupancy_words(n, 1, blocks.reshape(-1).contiguous(), 0.01, words)
    return words


def _sample(
    scene: _core.MarchScene, words: Tensor, origins: Tensor, directions: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    n = len(origins)
    middle = torch.full((n,), 0.5)  # where rendering starts, too
    offsets = torch.empty(n + 1, dtype=torch.int64)
    _core.march_count(scene, words, origins.contiguous(), directions.contiguous(), middle, offsets)
    room = int(offsets[-1])
    t_starts, t_ends, positions = torch.empty(room), torch.empty(room), torch.empty(room, 3)
    _core.march_into(
        scene, words, origins.contiguous(), directions.contiguous(), middle, None,
        offsets, t_starts, t_ends, positions, torch.empty(2, dtype=torch.int64),
    )  # fmt: skip
    return offsets, t_starts, t_ends, positions


def _rays_with(counts: Tensor, n_samples: int) -> Tensor:
    """Rays that have samples, in order, as many as have `n_samples` together."""
    rays = counts.nonzero()[:, 0]
    total = counts[rays].cumsum(0)
    if len(rays) == 0 or int(total[-1]) < n_samples:
        raise RuntimeError(f"the scene's rays have fewer than {n_samples} samples.")
    first = rays[total <= n_samples]
    missing = n_samples - int(counts[first].sum())
    # One further ray fills the rest; where none fits, the batch gets along without it.
    fitting = [ray for ray in rays[len(first) :].tolist() if int(counts[ray]) == missing]
    return torch.cat((first, torch.tensor(fitting[:1], dtype=torch.int64)))
