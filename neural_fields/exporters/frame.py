"""From a field's frame to that of what it was fitted to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from neural_fields.errors import InputError

Frame = Literal["input", "field"]
_TOLERANCE = 1e-4  # of a similarity's columns, as a share of its scale


@dataclass(frozen=True)
class Similarity:
    """Turn, uniform scale, shift, and perhaps a mirror.

    Attributes:
        matrix: float64 [4, 4].

    Example:
        >>> round(Similarity(np.diag([2.0, 2, 2, 1])).scale, 6)
        2.0
    """

    matrix: NDArray[np.float64]

    @property
    def scale(self) -> float:
        """Length in the new frame of what is 1 long in the old one."""
        return float(np.cbrt(abs(np.linalg.det(self.matrix[:3, :3]))))

    @property
    def mirrors(self) -> bool:
        """Whether left and right change places."""
        return bool(np.linalg.det(self.matrix[:3, :3]) < 0)

    def positions(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Moved positions [n, 3]."""
        moved: NDArray[np.float64] = positions @ self.matrix[:3, :3].T + self.matrix[:3, 3]
        return moved

    def directions(self, directions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Turned directions [n, 3] of the same length."""
        turned: NDArray[np.float64] = directions @ (self.matrix[:3, :3] / self.scale).T
        return turned


def output_frame(frame: Frame, scene: Mapping[str, Any]) -> Similarity:
    """What takes positions of a field to a mesh.

    Args:
        frame: `input` for the scene's `to_input`, `field` for nothing.
        scene: of the field's file.

    Raises:
        InputError: the frame is unknown, or `to_input` is no similarity.
    """
    if frame not in ("input", "field"):
        raise InputError(f"--frame: needs input or field, got {frame!r}.")
    stored = scene.get("to_input")
    if frame == "field" or stored is None:
        return Similarity(np.eye(4))
    try:
        matrix = np.array(stored, np.float64)
    except (TypeError, ValueError):
        matrix = np.empty(0)
    if not _is_similarity(matrix):
        raise InputError(
            "scene: the field's to_input needs four rows of four numbers that turn, scale and "
            f"shift, got {str(stored)[:80]}; use --frame field."
        )
    return Similarity(matrix)


def _is_similarity(matrix: NDArray[np.float64]) -> bool:
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        return False
    product = matrix[:3, :3].T @ matrix[:3, :3]
    square = product.trace() / 3
    straight = np.abs(product - square * np.eye(3)).max() <= _TOLERANCE * square
    return bool(square > 0 and straight and np.array_equal(matrix[3], [0, 0, 0, 1]))
