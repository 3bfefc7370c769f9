"""Where the cameras stand: two low-discrepancy sequences on the upper hemisphere."""

from __future__ import annotations

import numpy as np

from neural_fields.scenes.model import Array

RADIUS = 4.03
ANGLE_X = 0.6911112  # horizontal field of view in radians, that of NeRF-Synthetic
_LOWEST, _HIGHEST = 0.03, 0.97  # sine of the elevation


def look_at_origin(position: Array) -> Array:
    """Camera-to-world [4, 4], OpenGL axes, z up, at ``position`` [3] and facing the origin.

    Example:
        >>> look_at_origin(np.array([0.0, -4.0, 0.0]))[:3, 2].tolist()
        [0.0, -1.0, 0.0]
    """
    back = position / np.linalg.norm(position)
    right = np.cross([0.0, 0.0, 1.0], back)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, 0], pose[:3, 1], pose[:3, 2] = right, np.cross(back, right), back
    pose[:3, 3] = position
    return pose


def poses(n: int, seed: int, *, test: bool) -> Array:
    """Camera poses [n, 4, 4], even over the hemisphere.

    Train views follow the R2 sequence, test views Halton's: they fall between the train views
    and never repeat them. The seed turns the sequences about the vertical and shifts them.
    """
    shift = np.random.default_rng([seed, int(test)]).random(2)
    index = np.arange(1, n + 1)
    if test:
        points = np.stack([_radical_inverse(index, 2), _radical_inverse(index, 3)], axis=1)
    else:
        golden = 1.32471795724474602596  # the R2 sequence's base: root of x^3 = x + 1
        points = index[:, None] / np.array([golden, golden**2])
    u, v = ((points + shift) % 1.0).T
    sine = _LOWEST + (_HIGHEST - _LOWEST) * v
    cosine, azimuth = np.sqrt(1.0 - sine**2), 2 * np.pi * u
    positions = RADIUS * np.stack([cosine * np.cos(azimuth), cosine * np.sin(azimuth), sine], 1)
    return np.stack([look_at_origin(p) for p in positions]) if n else np.empty((0, 4, 4))


def focal_length(size: int) -> float:
    """Focal length in pixels of a square picture of ``size`` pixels."""
    return float(0.5 * size / np.tan(0.5 * ANGLE_X))


def _radical_inverse(index: np.typing.NDArray[np.int64], base: int) -> Array:
    result, scale, rest = np.zeros(len(index)), 1.0 / base, index.copy()
    while rest.any():
        result += scale * (rest % base)
        rest //= base
        scale /= base
    return result
