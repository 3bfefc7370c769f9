"""Which cells of an occupancy grid the photographs allow to hold anything."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from neural_fields.data.dataset import Dataset
from neural_fields.fields import DynamicField, RadianceField
from neural_fields.rendering.occupancy import cell_centers, cell_sizes, cells_in_box

_CHUNK = 1 << 18


def visible_cells(field: RadianceField, data: Dataset) -> Tensor:
    """Cells of the box that some camera sees and that no silhouette excludes: bool [cells]."""
    possible, seen = looked_at(field, data)
    return possible & seen


def looked_at(field: RadianceField, data: Dataset) -> tuple[Tensor, Tensor]:
    """Cells of the box that no silhouette excludes, and those that some camera sees.

    Both are bool [cells]. With alpha, a cell is excluded as soon as one image shows only
    transparent pixels around it; the cell's whole diameter and one pixel more count as around it,
    and have to be in the image.
    What moves is excluded by no image: it shows one moment.
    """
    visible = cells_in_box(field)
    centers, radii = cell_centers(field), cell_sizes(field) * (math.sqrt(3) / 2)
    seen = torch.zeros_like(visible)
    has_alpha = data.protocol["alpha"] == "straight" and not isinstance(field, DynamicField)
    for camera in range(len(data)):
        # Without alpha a cell that was seen once needs no second look.
        index = (visible if has_alpha else visible & ~seen).nonzero()[:, 0]
        for cells in torch.split(index, _CHUNK):
            inside, empty = _look(data, camera, centers[cells], radii[cells], has_alpha)
            seen[cells] |= inside
            visible[cells[empty]] = False
    return visible, seen


def _look(
    data: Dataset, camera: int, centers: Tensor, radii: Tensor, has_alpha: bool
) -> tuple[Tensor, Tensor]:
    """Which points an image sees, and which of them lie among transparent pixels alone."""
    pixels, depth = data.cameras.project(camera, centers)
    width, height = data.cameras.width, data.cameras.height
    column, row = pixels.unbind(1)
    inside = (depth > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    if not has_alpha or not bool(inside.any()):
        return inside, torch.zeros_like(inside)
    focal = float(data.cameras.focal[camera].max())
    near = float((depth - radii)[inside].clamp(min=1e-6).min())
    slant = math.hypot(1, math.hypot(width, height) / focal)  # spheres are longer in the corners
    radius = math.ceil(float(radii[inside].max()) * focal * slant / near) + 1
    if radius > max(width, height) // 4:  # cells as large as the picture: no decision
        return inside, torch.zeros_like(inside)
    opaque = (data.images[camera, :, :, 3] > 0).float()[None, None]
    opaque = functional.pad(opaque, [radius] * 4, value=1.0)  # beyond the border is unknown
    size = 2 * radius + 1  # a square's maximum is that of rows of maxima of columns
    rows_around = functional.max_pool2d(opaque, (size, 1), stride=1)
    around = functional.max_pool2d(rows_around, (1, size), stride=1)[0, 0]
    rows, columns = row.clamp(0, height - 1).long(), column.clamp(0, width - 1).long()
    return inside, inside & (around[rows, columns] == 0)
