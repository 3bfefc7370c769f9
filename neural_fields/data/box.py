"""The scene box: which part of the world a field covers, when nobody says."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from neural_fields.errors import InputError
from neural_fields.rendering.camera_json import number
from neural_fields.rendering.cameras import Cameras

# instant-ngp maps a world position to position * scale + offset, and its smallest box is [0, 1]^3.
NGP_SCALE = 0.33
NGP_OFFSET = 0.5
NGP_MAX_AABB_SCALE = 128

_MIN_SPREAD = 0.01  # mean squared sine between the optical axes and their main direction
_MIN_INWARD_SHARE = 0.9
_INSIDE_NEAREST_CAMERA = 0.9
_FALLBACK_BASELINES = 8.0

_CARVE_RESOLUTION = 64
_CARVE_CHUNK = 32768  # small enough that torch stays on one thread, which suits a busy machine
_CARVE_MAX_CAMERAS = 64
_CARVE_MIN_SEEN = 0.1
_CARVE_MIN_SHARE = 0.95


@dataclass(frozen=True)
class SceneBox:
    """A box and the rule that gave it.

    Attributes:
        aabb: float32 [2, 3], the lowest and the highest corner in world units.
        rule: `"argument"`, `"aabb_scale"`, `"silhouettes"`, `"focus"` or `"positions"`.
        aabb_scale: the JSON's, a power of two; 1 where it has none.
    """

    aabb: Tensor
    rule: str
    aabb_scale: int = 1


def scene_box(
    cameras: Cameras, alpha: Tensor | None, shared: Mapping[str, Any], source: str
) -> SceneBox:
    """The box of a data set, from its JSON, its silhouettes or its cameras.

    Args:
        cameras: at least one.
        alpha: uint8 [n, height, width], or None where the images have no alpha.
        shared: the JSON object; `aabb_scale`, `scale` and `offset` are read.
        source: what an error calls it.

    Returns:
        instant-ngp's box where the JSON has `aabb_scale`; else, where the cameras look at a
        common point, a cube around it that they all stand outside of, tightened to the
        silhouettes where there is alpha and no time; else a cube around the camera positions, 8
        times as far to each side as the farthest camera.

    Raises:
        InputError: a key of the JSON is wrong.

    Example:
        >>> cameras = Cameras.orbit((0, 0, 0), radius=4, elevation_deg=20, n=8)
        >>> scene_box(cameras, None, {"aabb_scale": 2}, "x").aabb[1]
        tensor([3.0303, 3.0303, 3.0303])
    """
    if shared.get("aabb_scale") is not None:
        return _ngp_box(shared, source)
    cube = _focus_cube(cameras)
    if cube is None:
        return SceneBox(_positions_cube(cameras), "positions")
    if alpha is not None and cameras.times is None:  # a silhouette is of one moment
        carved = _carve(cameras, alpha, cube)
        if carved is not None:
            return SceneBox(carved, "silhouettes")
    return SceneBox(cube, "focus")


def check_aabb(aabb: object) -> Tensor:
    """A box that the user gave, as a tensor.

    Args:
        aabb: two corners of three numbers each, as nested sequences, an array or a tensor.

    Returns:
        float32 [2, 3].

    Raises:
        InputError: it is something else, or has no volume.

    Example:
        >>> check_aabb([[-1, -1, -1], [1, 1, 1]]).shape
        torch.Size([2, 3])
    """
    try:
        box = torch.as_tensor(aabb, dtype=torch.float32).cpu()
    except (TypeError, ValueError, RuntimeError):
        box = torch.empty(0)
    if tuple(box.shape) != (2, 3) or not bool(box.isfinite().all() and (box[0] < box[1]).all()):
        raise InputError(
            "aabb: needs two corners of three finite numbers, the lower one first and smaller on "
            f"every axis, such as [[-1,-1,-1],[1,1,1]]; got {aabb!r:.100}."
        )
    return box


def _ngp_box(shared: Mapping[str, Any], source: str) -> SceneBox:
    """instant-ngp's training box, in the input's frame."""
    where = f"{source}: aabb_scale"
    scale = number(shared["aabb_scale"], where, 1, NGP_MAX_AABB_SCALE)
    if math.log2(scale) % 1:
        raise InputError(f"{where}: needs a power of two from 1 to 128, got {scale:g}.")
    world_scale = number(shared.get("scale", NGP_SCALE), f"{source}: scale", 1e-6, 1e6)
    offset = shared.get("offset", [NGP_OFFSET] * 3)
    if not isinstance(offset, list) or len(offset) != 3:
        raise InputError(f"{source}: offset needs three numbers, got {offset!r:.80}.")
    offsets = [number(value, f"{source}: offset[{i}]") for i, value in enumerate(offset)]
    center = (0.5 - np.array(offsets)) / world_scale
    half = 0.5 * scale / world_scale
    return SceneBox(_cube(center, half), "aabb_scale", int(scale))


def _focus_cube(cameras: Cameras) -> Tensor | None:
    """A cube around the point that the cameras look at, or None where there is no such point."""
    positions = cameras.camera_to_world[:, :3, 3].double().numpy()
    forward = -cameras.camera_to_world[:, :3, 2].double().numpy()
    # The point nearest to all optical axes: mean(I - d d^T) (x - o) = 0.
    across = np.eye(3) - forward[:, :, None] * forward[:, None, :]
    system = across.mean(0)
    if np.linalg.eigvalsh(system)[0] < _MIN_SPREAD:
        return None  # nearly parallel axes: their crossing point says nothing
    focus = np.linalg.solve(system, (across @ positions[:, :, None]).mean(0)[:, 0])
    offset = focus - positions
    depth = (offset * forward).sum(1)
    tangent = _view_tangent(cameras)
    miss = np.linalg.norm(offset - depth[:, None] * forward, axis=1)
    inward = (depth > 0) & (miss < depth * tangent)
    if inward.mean() < _MIN_INWARD_SHARE:
        return None
    half = float(np.median((depth * tangent)[inward]))
    nearest = float(np.abs(offset[inward]).max(1).min())
    return _cube(focus, min(half, _INSIDE_NEAREST_CAMERA * nearest))


def _view_tangent(cameras: Cameras) -> NDArray[np.float64]:
    """The tangent of half the wider field of view, per camera."""
    size = torch.tensor([cameras.width, cameras.height], dtype=torch.float64)
    half = (0.5 * size / cameras.focal.double()).max(1).values
    if cameras.model == "fisheye":  # the radius on its image plane is about an angle
        half = half.clamp(max=1.2).tan()
    tangent: NDArray[np.float64] = half.numpy()
    return tangent


def _positions_cube(cameras: Cameras) -> Tensor:
    """For cameras that look outward or all the same way: the scene is somewhere around them."""
    positions = cameras.camera_to_world[:, :3, 3].double().numpy()
    center = positions.mean(0)
    baseline = float(np.linalg.norm(positions - center, axis=1).max())
    return _cube(center, _FALLBACK_BASELINES * baseline if baseline > 1e-6 else 1.0)


def _cube(center: NDArray[np.float64], half: float) -> Tensor:
    return torch.from_numpy(np.stack((center - half, center + half)).astype(np.float32))


def _carve(cameras: Cameras, alpha: Tensor, cube: Tensor) -> Tensor | None:
    """The bounds of the cells of a coarse grid that lie inside the silhouettes.

    A cell goes where more than 5 % of the images that see it show it transparent, so a few wrong
    masks do no harm; cells that less than 10 % of the images see go too. None where no cell is
    left.
    """
    n = _CARVE_RESOLUTION
    cell = (cube[1] - cube[0]) / n
    axes = [cube[0, d] + (torch.arange(n) + 0.5) * cell[d] for d in range(3)]
    centers = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    n_seen = torch.zeros(len(centers))
    n_hit = torch.zeros(len(centers))
    n_chunks = len(centers) // _CARVE_CHUNK
    n_used = min(len(cameras), _CARVE_MAX_CAMERAS)
    for index in [i * len(cameras) // n_used for i in range(n_used)]:
        block, occupied = _dilated_silhouette(cameras, index, alpha[index], cube, float(cell[0]))
        parts = (values.chunk(n_chunks) for values in (centers, n_seen, n_hit))
        for points, seen_here, hit_here in zip(*parts, strict=True):
            pixels, depth = cameras.project(index, points)
            column, row = pixels.unbind(1)
            seen = (depth > 0) & (column >= 0) & (column < cameras.width)
            seen &= (row >= 0) & (row < cameras.height)
            rows, columns = (row[seen] / block).long(), (column[seen] / block).long()
            seen_here += seen
            hit_here[seen] += occupied[rows, columns]
    inside = (n_seen >= max(1.0, _CARVE_MIN_SEEN * n_used)) & (n_hit >= _CARVE_MIN_SHARE * n_seen)
    kept = centers[inside]
    if not len(kept):
        return None
    # One cell of margin beyond the outer faces of the kept cells.
    low = torch.maximum(kept.min(0).values - 1.5 * cell, cube[0])
    high = torch.minimum(kept.max(0).values + 1.5 * cell, cube[1])
    return torch.stack((low, high))


def _dilated_silhouette(
    cameras: Cameras, index: int, alpha: Tensor, cube: Tensor, cell: float
) -> tuple[int, Tensor]:
    """A block size in pixels, and float [rows, columns]: 1 where a cell there may be occupied.

    A cell is larger than a pixel: a block is at least half a cell's diagonal wide, and blocks
    next to an occupied one count as occupied.
    """
    distance = float((cameras.camera_to_world[index, :3, 3] - cube.mean(0)).norm())
    radius = float(cameras.focal[index].max()) * cell * math.sqrt(0.75) / max(distance, cell)
    block = min(max(1, math.ceil(radius)), cameras.width, cameras.height)
    occupied = (alpha > 0).float()[None, None]
    blocks = functional.max_pool2d(occupied, block, ceil_mode=True)
    return block, functional.max_pool2d(blocks, 3, stride=1, padding=1)[0, 0]
