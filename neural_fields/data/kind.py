"""What a path holds, by its name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from neural_fields.data.mesh import MESH_SUFFIXES
from neural_fields.data.video import VIDEO_SUFFIXES

DataKind = Literal["nerf", "sdf", "video", "image"]


def data_kind(path: str | os.PathLike[str]) -> DataKind:
    """Posed photographs (a folder, or a file of cameras), a mesh, a video, or else a picture.

    Example:
        >>> data_kind("bunny.ply"), data_kind("photo.png")
        ('sdf', 'image')
    """
    suffix = Path(path).suffix.lower()
    if os.path.isdir(path) or suffix == ".json":
        return "nerf"
    if suffix in MESH_SUFFIXES:
        return "sdf"
    return "video" if suffix in VIDEO_SUFFIXES else "image"
