"""Connected parts of a mesh."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neural_fields.errors import library


def components(faces: NDArray[np.int64], n_vertices: int) -> NDArray[np.int64]:
    """Which connected part each vertex belongs to.

    Args:
        faces: int64 [m, 3].
        n_vertices: how many there are.

    Returns:
        [n_vertices]: a number per part.

    Example:
        >>> components(np.array([[0, 2, 4], [4, 2, 5]]), 6).tolist()
        [0, 1, 0, 2, 0, 0]
    """
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]]])
    graph = library("trimesh", "mesh").graph
    labels: NDArray[np.int64] = graph.connected_component_labels(edges, node_count=n_vertices)
    return labels


def without_small(
    vertices: NDArray[np.float64], faces: NDArray[np.int64], share: float
) -> tuple[NDArray[np.float64], NDArray[np.int64], int]:
    """A mesh without the parts whose volume is below a share of the largest part's.

    Args:
        vertices: float64 [n, 3].
        faces: int64 [m, 3], closed.
        share: in [0, 1].

    Returns:
        Vertices and faces that are kept, in their order, and how many parts are not.
    """
    parts, part = np.unique(components(faces, len(vertices)), return_inverse=True)
    part = part.reshape(-1)
    center = vertices.mean(0)
    a, b, c = (vertices[faces[:, i]] - center for i in range(3))
    volume = np.einsum("ij,ij->i", a, np.cross(b, c)) / 6
    volumes = np.abs(np.bincount(part[faces[:, 0]], volume, len(parts)))
    keep = volumes >= share * volumes.max()
    kept = keep[part]
    number = np.cumsum(kept) - 1
    return vertices[kept], number[faces[keep[part[faces[:, 0]]]]], int((~keep).sum())
