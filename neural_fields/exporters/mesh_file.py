"""Triangles as bytes of a file, by trimesh."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neural_fields.errors import InputError, library, unknown_value

SUFFIXES = (".ply", ".obj", ".glb", ".stl", ".off")
_LACKS = {
    ".stl": "stl holds neither colours nor the normals of vertices",
    ".off": "off holds neither colours nor normals",
}
_BINARY = (".ply", ".glb", ".stl")  # of float32


@dataclass(frozen=True)
class Triangles:
    """What is written.

    Attributes:
        vertices: float64 [n, 3].
        faces: int64 [m, 3], counter-clockwise seen from outside.
        normals: float64 [n, 3], unit length, outward.
        colors: uint8 [n, 3], sRGB, or None.
    """

    vertices: NDArray[np.float64]
    faces: NDArray[np.int64]
    normals: NDArray[np.float64]
    colors: NDArray[np.uint8] | None = None

    def trimesh(self) -> Any:
        """As trimesh's own object."""
        return library("trimesh", "mesh").Trimesh(
            self.vertices,
            self.faces,
            vertex_normals=self.normals,
            vertex_colors=self.colors,
            process=False,
        )


def checked_output(path: str | os.PathLike[str]) -> Path:
    """A file that a mesh can be written to; raises InputError before any work."""
    path = Path(path)
    if path.is_dir():
        raise InputError(f"-o {path}: needs a file name, got a folder.")
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(unknown_value(f"-o {path}: suffix", path.suffix.lower(), SUFFIXES))
    if not path.parent.is_dir():
        raise InputError(f"-o {path}: its folder {path.parent} does not exist; create it first.")
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"-o {path}: is not writable; choose another place.")
    library("trimesh", "mesh")
    return path


def mesh_bytes(triangles: Triangles, suffix: str, spacing: float) -> bytes:
    """The content of a file.

    Args:
        triangles: at least one.
        suffix: one of `SUFFIXES`.
        spacing: side of a cell, which says how many decimals a text needs.
    """
    decimals = max(8, 6 - math.floor(math.log10(spacing)))
    options: dict[str, dict[str, Any]] = {
        ".ply": {"vertex_normal": True},
        ".obj": {"include_normals": True, "digits": decimals},
        ".glb": {"include_normals": True},
        ".stl": {},
        ".off": {"digits": decimals},
    }
    data = triangles.trimesh().export(file_type=suffix[1:], **options[suffix])
    return data.encode() if isinstance(data, str) else bytes(data)


def format_notes(triangles: Triangles, suffix: str, spacing: float) -> list[str]:
    """What a format cannot keep of a mesh, in words."""
    notes = []
    if suffix in _LACKS:
        notes.append(_LACKS[suffix])
    rounding = float(np.abs(triangles.vertices).max()) * 2.0**-24
    if suffix in _BINARY and rounding > 1e-2 * spacing:
        notes.append(
            f"{suffix[1:]} keeps seven digits, so that vertices so far from the origin are off "
            f"by up to {rounding:.1g}; obj keeps more"
        )
    return notes
