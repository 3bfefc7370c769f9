"""Hash grid in plain torch."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import torch
from torch import Tensor

from neural_fields.ops.hash_grid import HashGridSpec

PRIMES = (1, 2654435761, 805459861, 3674653429)
MAX_DENSE_RESOLUTION = {2: 65535, 3: 1625, 4: 255}  # its power still fits 32 bits
WORD = 0xFFFFFFFF


class Level(NamedTuple):
    """Geometry of one level, from the formulas."""

    scale: float
    resolution: int
    side: int  # vertices per axis that have an entry where the level is dense
    n_entries: int
    is_dense: bool


def float32(x: float) -> float:
    """The nearest single-precision number."""
    return float(torch.tensor(x, dtype=torch.float32))


def level(spec: HashGridSpec, index: int) -> Level:
    """Scale, resolution and size of a level."""
    scale = float32(spec.base_resolution * 2.0 ** (index * math.log2(spec.growth)) - 1)
    resolution = math.ceil(scale) + 1
    side = resolution + 1 if spec.convention == "torch-ngp" else resolution
    fits = side <= MAX_DENSE_RESOLUTION[spec.n_dims]
    n_vertices = side**spec.n_dims if fits else WORD
    cap = 2**spec.log2_table_size
    n_entries = math.ceil(n_vertices / 8) * 8
    if spec.convention == "torch-ngp":  # caps, then rounds
        n_entries = math.ceil(min(n_vertices, cap) / 8) * 8
    elif spec.grid_type == "hash":
        n_entries = min(n_entries, cap)
    elif spec.grid_type == "tiled":
        n_entries = min(n_entries, math.ceil(spec.base_resolution**spec.n_dims / 8) * 8)
    return Level(scale, resolution, side, n_entries, n_entries >= n_vertices)


def entry(spec: HashGridSpec, geometry: Level, vertex: Tensor) -> Tensor:
    """The table entries, within a level, of vertices [n, n_dims] of int64."""
    if spec.grid_type == "hash" and not geometry.is_dense:
        index = torch.zeros_like(vertex[:, 0])
        for axis in range(spec.n_dims):
            index = index ^ ((vertex[:, axis] * PRIMES[axis]) & WORD)
    else:
        strides = [geometry.side**axis & WORD for axis in range(spec.n_dims)]
        index = sum(
            (vertex[:, axis] * strides[axis] for axis in range(spec.n_dims)), 0 * vertex[:, 0]
        )
    return (index & WORD) % geometry.n_entries


def hash_grid(positions: Tensor, table: Tensor, spec: HashGridSpec) -> Tensor:
    """The features of `neural_fields.ops.hash_grid`, level by level and corner by corner.

    Mueller et al. 2022, equations 1 to 4, in the convention of tiny-cuda-nn or torch-ngp.

    Example:
        >>> spec = HashGridSpec(n_levels=2, n_features=1, base_resolution=4)
        >>> hash_grid(torch.rand(5, 3), torch.ones(spec.n_entries, 1), spec).shape
        torch.Size([5, 2])
    """
    inside = positions.clamp(0, 1)
    features, offset = [], 0
    for index in range(spec.n_levels):
        geometry = level(spec, index)
        scaled = inside * geometry.scale + 0.5
        cell = scaled.detach().floor()
        t = scaled - cell
        upper = t**2 * (3 - 2 * t) if spec.interpolation == "smoothstep" else t
        total = torch.zeros_like(table[:1]).expand(len(positions), spec.n_features)
        for corner in itertools.product((0, 1), repeat=spec.n_dims):
            weight = torch.ones_like(positions[:, 0])
            for axis, side in enumerate(corner):
                weight = weight * (upper[:, axis] if side else 1 - upper[:, axis])
            vertex = cell.long() + torch.tensor(corner, device=cell.device)
            values = table[offset + entry(spec, geometry, vertex)]
            total = total + weight[:, None] * values
        features.append(total)
        offset += geometry.n_entries
    return torch.cat(features, dim=1)
