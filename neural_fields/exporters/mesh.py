"""Fields to triangle meshes."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neural_fields.errors import InputError, library
from neural_fields.exporters.components import components, without_small
from neural_fields.exporters.density import falling, into_box, log_density, surface_level
from neural_fields.exporters.frame import Frame, Similarity, output_frame
from neural_fields.exporters.mesh_file import Triangles, checked_output, format_notes, mesh_bytes
from neural_fields.fields import RadianceField, Samples, SdfField, SurfaceField
from neural_fields.fields.derivatives import gradient
from neural_fields.fields.file import write_atomically
from neural_fields.fields.load import Field
from neural_fields.fields.radiance import Corner
from neural_fields.rendering.marching import MARGIN, Lattice, Values, marching_cubes
from neural_fields.training.evaluate_sdf import SLOPE

FINEST = 2048  # cells along the longest side
MIN_VOLUME = 1e-3  # of the largest part's: smaller ones of a density are floaters
_CHUNK = 1 << 17


@dataclass(frozen=True)
class MeshReport:
    """What was written; lengths are in the mesh's units.

    Attributes:
        output: the file.
        vertices: how many.
        faces: how many.
        components: connected parts.
        open_edges: edges of one face only.
        watertight: whether trimesh calls the mesh so.
        euler: vertices - edges + faces: 2 per part without handles.
        distance_to_zero: mean of |value - level| / |gradient| at the vertices, about how far they
            are from the field's own surface. Of a density its logarithm counts. Vertices that close
            the mesh at the box do not.
        distance_to_zero_max: the largest of them.
        level: distance, or density per world length, that the surface is taken at, in the field's
            units.
        resolution: cells along the box's longest side.
        seconds: that it took.
        notes: what there is to know besides.
    """

    output: str
    vertices: int
    faces: int
    components: int
    open_edges: int
    watertight: bool
    euler: int
    distance_to_zero: float
    distance_to_zero_max: float
    level: float
    resolution: int
    seconds: float
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Surface:
    """What is meshed: values that are smaller inside.

    Attributes:
        box: lowest and highest corner.
        values: [n] at positions [n, 3], differentiable.
        fast: the same without gradients.
        outward: directions [n, 3], of any length, that normals point in.
        zero: the value on the surface.
        level: the same as people know it.
        lipschitz: see `marching_cubes`.
        refine: see `marching_cubes`.
        min_volume: see `export_mesh`.
        note: how the level was found.
    """

    box: tuple[Corner, Corner]
    values: Values
    fast: Values
    outward: Values
    zero: float
    level: float
    lipschitz: float | None = None
    refine: int = 2
    min_volume: float = 0.0
    note: str = ""


def export_mesh(
    field: Field,
    path: str | os.PathLike[str],
    *,
    resolution: int = 256,
    threshold: float | None = None,
    frame: Frame = "input",
    scene: Mapping[str, Any] | None = None,
    on_block: Callable[[int, int], None] | None = None,
    min_volume: float | None = None,
) -> MeshReport:
    """Write the surface of a field as a triangle mesh, closed, with normals.

    Args:
        field: a signed distance field; or a surface or a radiance field: then with colours, each
            seen from straight above.
        path: PLY, OBJ, GLB, STL or OFF by its name.
        resolution: cells along the longest side of the field's box, 2 to 2048.
        threshold: where the surface is: a distance (0 if None), or a density per world length (if
            None, see `surface_level`), in the field's own units.
        frame: `input` applies the scene's `to_input`; `field` keeps the field's own frame.
        scene: of the field's file: `to_input` (4x4 similarity) and `cameras` are read.
        on_block: called with (parts done, parts in all).
        min_volume: parts of less than this share of the largest part's volume are left out, in
            [0, 1]; None: 0 for an SDF, a thousandth for what photographs show.

    Returns:
        What was written, and how good it is.

    Raises:
        InputError: the field has no surface there, or the path, an option, the scene or a missing
            package is at fault.

    Example:
        >>> export_mesh(nf.load("shape.nf"), "shape.ply", resolution=512)  # doctest: +SKIP
    """
    began = time.perf_counter()
    path = checked_output(path)
    _check_numbers(resolution, threshold, min_volume)
    to_output = output_frame(frame, scene or {})
    surface = _surface(field, threshold, scene or {})
    lattice = Lattice.over(torch.tensor(surface.box, dtype=torch.float64), resolution)
    vertices, faces = marching_cubes(
        surface.fast,
        lattice,
        surface.zero,
        lipschitz=surface.lipschitz,
        refine=surface.refine,
        on_block=on_block,
    )
    share = surface.min_volume if min_volume is None else min_volume
    vertices, faces, n_dropped = without_small(vertices, faces, share)
    triangles, distances, closes = _finished(field, surface, lattice, vertices, faces)
    triangles = _moved(triangles, to_output)
    spacing, suffix = lattice.spacing * to_output.scale, path.suffix.lower()
    write_atomically(path, mesh_bytes(triangles, suffix, spacing))
    notes = [surface.note] if surface.note else []
    if n_dropped:
        notes.append(f"left out {n_dropped} parts below {share:g} of the largest one's volume")
    if closes:
        notes.append("the surface reaches the box and is closed there")
    return MeshReport(
        output=str(path),
        **_topology(triangles),
        distance_to_zero=float(distances.mean()) * to_output.scale,
        distance_to_zero_max=float(distances.max()) * to_output.scale,
        level=surface.level,
        resolution=resolution,
        seconds=time.perf_counter() - began,
        notes=(*notes, *format_notes(triangles, suffix, spacing)),
    )


def _check_numbers(resolution: int, threshold: float | None, min_volume: float | None) -> None:
    if not 2 <= resolution <= FINEST:
        raise InputError(
            f"--resolution: needs a whole number from 2 to {FINEST}, got {resolution}."
        )
    if threshold is not None and not math.isfinite(threshold):
        raise InputError(f"--threshold: needs a finite number, got {threshold}.")
    if min_volume is not None and not 0 <= min_volume <= 1:
        raise InputError(f"--min-volume: needs a number in [0, 1], got {min_volume}.")


def _surface(field: Field, threshold: float | None, scene: Mapping[str, Any]) -> _Surface:
    if isinstance(field, SdfField):
        return _of_distance(field, threshold or 0.0)
    if isinstance(field, SurfaceField):
        return _of_seen(field, threshold or 0.0)
    if not isinstance(field, RadianceField):
        raise InputError(
            "export: needs a field with a surface, sdf, surface or radiance, got kind "
            f"{field.kind!r}; nf render draws pictures."
        )
    if field.view_dependent_density:
        raise InputError(
            "export: needs a density that is the same from everywhere, got one modulated by "
            "direction-trunk; fit the field with another --modulate."
        )
    return _of_density(field, threshold, scene)


def _of_distance(field: SdfField, level: float) -> _Surface:
    def values(positions: Tensor) -> Tensor:
        return field.distance(Samples(positions))

    def outward(positions: Tensor) -> Tensor:
        return gradient(values, positions)

    box = field.config.box
    return _Surface(box, values, values, outward, level, level, lipschitz=SLOPE)


def _of_seen(field: SurfaceField, level: float) -> _Surface:
    """Distances as photographs left them: anything where none of them looked, and floaters."""

    def values(positions: Tensor) -> Tensor:
        return field.distance(Samples(positions))

    def fast(positions: Tensor) -> Tensor:
        with torch.no_grad():
            return values(positions)

    def outward(positions: Tensor) -> Tensor:
        return falling(field, positions)

    return _Surface(field.config.box, values, fast, outward, level, level, min_volume=MIN_VOLUME)


def _of_density(
    field: RadianceField, threshold: float | None, scene: Mapping[str, Any]
) -> _Surface:
    """By the logarithm, which is nearer to linear between nodes than density is."""
    if threshold is None:
        level, how = surface_level(field, scene)
        note = f"density {level:.4g}: {how}"
    else:
        level, note = threshold, ""
    if not level > 0:
        raise InputError(f"--threshold: needs a density above 0, got {level:g}.")

    def values(positions: Tensor) -> Tensor:
        answer = field.evaluate(Samples(into_box(field, positions)), ("log_density",))
        assert answer.log_density is not None
        return -answer.log_density

    def fast(positions: Tensor) -> Tensor:
        return -log_density(field, into_box(field, positions))

    def outward(positions: Tensor) -> Tensor:
        return falling(field, positions)

    zero = -math.log(level * field.unit)
    # Density jumps from nothing to much: the ends of an edge say little of what is between them.
    parts = field.config.box, values, fast, outward, zero, level
    return _Surface(*parts, refine=5, min_volume=MIN_VOLUME, note=note)


def _finished(
    field: Field,
    surface: _Surface,
    lattice: Lattice,
    vertices: NDArray[np.float64],
    faces: NDArray[np.int64],
) -> tuple[Triangles, NDArray[np.float64], bool]:
    """Normals and colours; distances to the zero set; whether the box closes the surface."""
    closing = _closing(vertices, lattice)
    positions = torch.from_numpy(vertices).float()
    distances = _distances(surface, positions)
    outward = torch.cat([surface.outward(part) for part in torch.split(positions, _CHUNK)]).double()
    normals = _normals(vertices, faces, np.where(closing[:, None], 0, outward.numpy()))
    colors = _colors(field, vertices, normals) if isinstance(field, RadianceField) else None
    # Where the box closes the surface, the values pass no level.
    counted = distances[~closing] if not closing.all() else np.full(1, np.nan)
    return Triangles(vertices, faces, normals, colors), counted, bool(closing.any())


def _closing(vertices: NDArray[np.float64], lattice: Lattice) -> NDArray[np.bool_]:
    """Which vertices close the surface at the lattice's border, bool [n]."""
    low, high = lattice.box
    margin = 2 * MARGIN * lattice.spacing
    closing: NDArray[np.bool_] = ((vertices < low + margin) | (vertices > high - margin)).any(1)
    return closing


def _distances(surface: _Surface, positions: Tensor) -> NDArray[np.float64]:
    """About how far positions [n, 3] are from the values' own surface, [n]."""
    with torch.no_grad():
        values = torch.cat([surface.values(part) for part in torch.split(positions, _CHUNK)])
    slope = gradient(surface.values, positions).double().norm(dim=1)
    off = (values.double() - surface.zero).abs() / slope.clamp(min=1e-12)
    distances: NDArray[np.float64] = off.numpy()
    return distances


def _normals(
    vertices: NDArray[np.float64], faces: NDArray[np.int64], directions: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The directions, of unit length; those of the faces around where one points inward."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    across, corners = np.cross(b - a, c - a), faces.ravel()
    around = np.stack(
        [np.bincount(corners, np.repeat(x, 3), len(vertices)) for x in across.T], axis=1
    )
    outward = (directions * around).sum(1, keepdims=True) > 0
    chosen = np.where(outward, directions, around)
    normals: NDArray[np.float64] = chosen / np.linalg.norm(chosen, axis=1, keepdims=True)
    return normals


@torch.no_grad()
def _colors(
    field: RadianceField, vertices: NDArray[np.float64], normals: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """Colours [n, 3] seen from straight above."""
    positions, directions = (torch.from_numpy(array).float() for array in (vertices, -normals))
    positions = into_box(field, positions)
    pairs = zip(torch.split(positions, _CHUNK), torch.split(directions, _CHUNK), strict=True)
    color = torch.cat([field.color(at, along) for at, along in pairs])
    colors: NDArray[np.uint8] = (color.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    return colors


def _moved(triangles: Triangles, to_output: Similarity) -> Triangles:
    faces = triangles.faces[:, ::-1] if to_output.mirrors else triangles.faces
    return Triangles(
        to_output.positions(triangles.vertices),
        faces,
        to_output.directions(triangles.normals),
        triangles.colors,
    )


def _topology(triangles: Triangles) -> dict[str, Any]:
    """Counts for the report, by trimesh but for the parts."""
    mesh = triangles.trimesh()
    single = library("trimesh", "mesh").grouping.group_rows(mesh.edges_sorted, require_count=1)
    parts = components(triangles.faces, len(triangles.vertices))
    return {
        "vertices": len(triangles.vertices),
        "faces": len(triangles.faces),
        "components": len(np.unique(parts)),
        "open_edges": len(single),
        "watertight": bool(mesh.is_watertight),
        "euler": int(mesh.euler_number),
    }
