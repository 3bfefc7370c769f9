"""Triangle meshes and oriented point clouds: files to triangles."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neural_fields.errors import InputError, library, unknown_value

MESH_SUFFIXES = (".obj", ".ply", ".stl", ".glb", ".gltf", ".off")
FARTHEST = 1e4  # sizes of the mesh that it may lie away from the origin: float32 has seven digits
POISSON_DEPTH = 9  # of the octree that a point cloud's surface is found on


@dataclass(frozen=True)
class Mesh:
    """Triangles in the file's own frame and units.

    Attributes:
        vertices: float64 [n_vertices, 3], each of them once.
        faces: int64 [n_faces, 3], counter-clockwise seen from outside.
        watertight: whether every edge joins two faces that agree on what is outside.
        origin: `mesh`, or `points` for the surface of a point cloud.
        name: of the file.
        fingerprint: of vertices and faces.
    """

    vertices: Tensor
    faces: Tensor
    watertight: bool
    origin: str
    name: str
    fingerprint: str

    @property
    def box(self) -> Tensor:
        """The tight box, float64 [2, 3]."""
        return torch.stack([self.vertices.amin(0), self.vertices.amax(0)])

    @property
    def areas(self) -> Tensor:
        """Of the faces, float64 [n_faces]."""
        return _normals(self.vertices.numpy(), self.faces.numpy())[1]

    @property
    def normals(self) -> Tensor:
        """Unit normals of the faces, float64 [n_faces, 3]."""
        return _normals(self.vertices.numpy(), self.faces.numpy())[0]

    def surface(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Uniform points [n, 3] of the surface, float64, and their faces [n]."""
        cumulative = self.areas.cumsum(0)
        draws = torch.rand(n, generator=generator, dtype=torch.float64) * cumulative[-1]
        face = torch.searchsorted(cumulative, draws).clamp(max=len(self.faces) - 1)
        a, b = torch.rand(2, n, 1, generator=generator, dtype=torch.float64)
        root = a.sqrt()
        corners = self.vertices[self.faces[face]]
        weights = torch.stack([1 - root, root * (1 - b), root * b], 1)
        return (weights * corners).sum(1), face


def load_mesh(path: str | os.PathLike[str]) -> Mesh:
    """Read triangles, or the surface of an oriented point cloud: OBJ, PLY, STL, GLB, GLTF or OFF.

    Vertices at the same place become one, and faces without area are dropped.

    Raises:
        InputError: the file is missing, empty, of another format or no mesh, has NaN, infinite or
            missing vertices, no area, points without normals, or lies so far from the origin that
            float32 cannot tell its vertices apart.

    Example:
        >>> load_mesh("armadillo.obj").watertight  # doctest: +SKIP
        True
    """
    path = Path(path)
    triangles = _read(path)
    if triangles is None:
        return mesh_of(*_surface_of_points(path), name=str(path), origin="points")
    return mesh_of(*triangles, name=str(path))


def mesh_of(
    vertices: NDArray[np.float64], faces: NDArray[np.int64], name: str, origin: str = "mesh"
) -> Mesh:
    """A mesh of arrays [n, 3], checked and cleaned as `load_mesh` does it.

    Example:
        >>> corners = np.eye(4, 3)
        >>> mesh_of(corners, np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]]), "a").watertight
        True
    """
    _check(vertices, faces, name)
    vertices, first = np.unique(vertices[faces.ravel()], axis=0, return_inverse=True)
    faces = first.reshape(-1, 3)
    _, areas = _normals(vertices, faces)
    longest = np.ptp(vertices, axis=0).max()
    faces = faces[areas.numpy() > 1e-16 * longest**2]
    if len(faces) == 0:
        raise InputError(f"{name}: needs triangles with an area, got none; export it again.")
    digest = hashlib.sha256(vertices.tobytes() + faces.tobytes()).hexdigest()
    return Mesh(
        torch.from_numpy(vertices),
        torch.from_numpy(np.ascontiguousarray(faces, np.int64)),
        _is_watertight(faces),
        origin,
        name,
        digest,
    )


def _read(path: Path) -> tuple[NDArray[np.float64], NDArray[np.int64]] | None:
    """Vertices and faces; None where the file has points alone."""
    if not path.is_file():
        raise InputError(f"{path}: needs a mesh file, but there is none.")
    if path.suffix.lower() not in MESH_SUFFIXES:
        raise InputError(unknown_value(f"{path}: suffix", path.suffix.lower(), MESH_SUFFIXES))
    if path.stat().st_size == 0:
        raise InputError(f"{path}: needs a mesh, got an empty file; copy or export it again.")
    trimesh = library("trimesh", "mesh")
    try:
        scene = trimesh.load_scene(str(path), process=False)
        parts = scene.dump()
    except Exception as error:  # a parser may raise anything on a broken file
        raise _unreadable(path, str(error)) from error
    meshes = [part for part in parts if isinstance(part, trimesh.Trimesh) and len(part.faces)]
    if meshes:
        first = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
        faces = [mesh.faces + at for mesh, at in zip(meshes, first, strict=False)]
        vertices = np.concatenate([mesh.vertices for mesh in meshes])
        return np.asarray(vertices, np.float64), np.concatenate(faces).astype(np.int64)
    if any(isinstance(part, trimesh.PointCloud) and len(part.vertices) for part in parts):
        return None
    raise _unreadable(path, "no triangles and no points")


def _unreadable(path: Path, problem: str) -> InputError:
    said = problem.strip().splitlines()
    why = f" ({said[0][:200]})" if said else ""
    return InputError(f"{path}: needs a mesh, but it cannot be read as one{why}; export it again.")


def _surface_of_points(path: Path) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Screened Poisson reconstruction (Kazhdan and Hoppe 2013), of Open3D."""
    open3d = library("open3d", "mesh")
    with open3d.utility.VerbosityContextManager(open3d.utility.VerbosityLevel.Error):
        cloud = open3d.io.read_point_cloud(str(path))
        if not cloud.has_normals():
            raise InputError(
                f"{path}: a point cloud needs normals (nx, ny, nz), which say what is outside; "
                "estimate them first, or give a mesh."
            )
        places = np.asarray(cloud.points)
        if not np.isfinite(places).all() or not np.isfinite(np.asarray(cloud.normals)).all():
            raise InputError(f"{path}: needs finite points and normals, got NaN or infinity.")
        if len(places) < 4:
            raise InputError(f"{path}: needs at least 4 points, got {len(places)}.")
        surface, _ = open3d.geometry.TriangleMesh.create_from_point_cloud_poisson(
            cloud, depth=POISSON_DEPTH, n_threads=1
        )
    return np.asarray(surface.vertices), np.asarray(surface.triangles).astype(np.int64)


def _check(vertices: NDArray[Any], faces: NDArray[Any], name: str) -> None:
    if len(faces) == 0 or len(vertices) == 0:
        raise InputError(f"{name}: needs triangles, got none; export it again.")
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise InputError(f"{name}: a face names a vertex that is not there; export it again.")
    used = vertices[np.unique(faces)]
    if not np.isfinite(used).all():
        raise InputError(f"{name}: needs finite vertices, got NaN or infinity; export it again.")
    size, distance = np.ptp(used, axis=0).max(), np.abs(used).max()
    if not size > 0:
        raise InputError(f"{name}: needs triangles with an area, got a single point.")
    if distance > FARTHEST * size:
        raise InputError(
            f"{name}: lies {distance:.3g} from the origin and is {size:.3g} large; needs to lie "
            f"within {FARTHEST:.0e} times its size, so move it there first."
        )


def _normals(vertices: NDArray[Any], faces: NDArray[Any]) -> tuple[Tensor, Tensor]:
    """Unit normals and areas of faces."""
    a, b, c = (torch.from_numpy(vertices[faces[:, i]]) for i in range(3))
    across = torch.linalg.cross(b - a, c - a)
    length = across.norm(dim=1)
    return across / length.clamp(min=1e-300)[:, None], length / 2


def _is_watertight(faces: NDArray[Any]) -> bool:
    """Whether every edge occurs once in either direction."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    number = faces.max() + 1
    there, back = edges[:, 0] * number + edges[:, 1], edges[:, 1] * number + edges[:, 0]
    return len(np.unique(there)) == len(there) and bool(np.isin(there, back).all())
