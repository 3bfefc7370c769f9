"""Scoring a signed distance field against the mesh that it was fitted to."""

from __future__ import annotations

import math
import time
from typing import Any, NamedTuple

import torch
from torch import Tensor

from neural_fields.data.distance import Distances
from neural_fields.data.mesh import Mesh, mesh_of
from neural_fields.errors import InputError
from neural_fields.fields import Samples, SdfField
from neural_fields.ops import device_of
from neural_fields.rendering.marching import Lattice, marching_cubes

IOU_POINTS = 1 << 21
SURFACE_POINTS = 10**6  # of either surface
F_THRESHOLD = 1e-3  # box diagonals within which a point counts as found
RESOLUTION = 256  # cells along the longest side of the mesh that stands for the field
REFINE = 2  # halvings of an edge that find a vertex on it
SLOPE = 2.0  # of a fitted field, at most; blocks that are far from 0 by that are not looked into
_CHUNK = 1 << 17
_SEED = 1


def distances_at(field: SdfField, positions: Tensor) -> Tensor:
    """Distances [n] at world positions [n, 3] without gradients, however many."""
    with torch.no_grad():
        at = positions.float().to(device_of(field))
        parts = [field.distance(Samples(part)) for part in torch.split(at, _CHUNK)]
    return torch.cat(parts).to(positions.device)


def field_mesh(field: SdfField, resolution: int = RESOLUTION) -> Mesh:
    """The surface of a field as triangles; raises InputError where it has none."""
    box = torch.tensor(field.config.box, dtype=torch.float64)
    lattice = Lattice.over(box, resolution)
    vertices, faces = marching_cubes(
        lambda positions: distances_at(field, positions), lattice, lipschitz=SLOPE, refine=REFINE
    )
    return mesh_of(vertices, faces, "the field's mesh")


def iou(
    field: SdfField, data: Mesh, n: int = IOU_POINTS, distances: Distances | None = None
) -> float:
    """Intersection over union of the insides, at uniform points of the mesh's tight box.

    `distances` are the mesh's, where they are there already.
    """
    generator = torch.Generator().manual_seed(_SEED)
    low, high = data.box
    positions = low + torch.rand(n, 3, generator=generator, dtype=torch.float64) * (high - low)
    inside = (distances or Distances(data)).inside(positions)
    found = distances_at(field, positions) < 0
    union = int((inside | found).sum())
    return int((inside & found).sum()) / union if union else 1.0


class SurfaceScores(NamedTuple):
    """How two surfaces differ, both directions; lengths in diagonals of the second one's box.

    chamfer is the mean distance of a surface's points to the other surface, normal_error_deg the
    mean angle between their normals there, f_score the harmonic mean of the shares of points that
    have the other surface within `F_THRESHOLD`.
    """

    chamfer: float
    normal_error_deg: float
    f_score: float


def compare_surfaces(
    found: Mesh, truth: Mesh, n: int = SURFACE_POINTS, distances: Distances | None = None
) -> SurfaceScores:
    """Score one surface against another by `n` uniform points of either.

    `distances` are the second one's, where they are there already.
    """
    generator = torch.Generator().manual_seed(_SEED)
    diagonal = float((truth.box[1] - truth.box[0]).norm())
    means, angles, shares = [], [], []
    pairs = ((found, truth, distances or Distances(truth)), (truth, found, Distances(found)))
    for one, other, of_other in pairs:
        positions, face = one.surface(n, generator)
        distance, nearest = of_other.nearest(positions)
        cosine = (one.normals[face] * other.normals[nearest]).sum(1).clamp(-1, 1)
        means.append(float(distance.mean()) / diagonal)
        angles.append(math.degrees(float(cosine.acos().mean())))
        shares.append(float((distance < F_THRESHOLD * diagonal).double().mean()))
    total = sum(shares)
    score = 2 * shares[0] * shares[1] / total if total else 0.0
    return SurfaceScores(sum(means) / 2, sum(angles) / 2, score)


def evaluate_sdf(field: SdfField, data: Mesh, resolution: int = RESOLUTION) -> dict[str, Any]:
    """IoU, Chamfer distance, normal error and F-score of a field.

    Args:
        field: the field.
        data: the mesh that was fitted.
        resolution: cells along the longest side of the box, of the field's own mesh.

    Returns:
        `iou, chamfer, normal_error_deg, f_score, n_points, seconds, protocol`; see `iou` and
        `SurfaceScores`. Of a field without a surface all but iou are NaN.
    """
    began = time.perf_counter()
    truth = Distances(data)
    share = iou(field, data, distances=truth)
    try:
        scores = compare_surfaces(field_mesh(field, resolution), data, distances=truth)
    except InputError:
        scores = SurfaceScores(math.nan, math.nan, math.nan)
    return {
        "iou": share,
        **scores._asdict(),
        "n_points": IOU_POINTS,
        "seconds": time.perf_counter() - began,
        "protocol": {
            "sign": truth.sign,
            "iou_points": IOU_POINTS,
            "surface_points": SURFACE_POINTS,
            "f_threshold": F_THRESHOLD,
            "mesh_resolution": resolution,
        },
    }
