"""What a procedural scene is made of: posed primitives, materials and a light."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Vector = Sequence[float]
Array = npt.NDArray[np.float64]

#: Rows of a part table: world-to-local rotation (9) and offset (3); ring, 1 - ring, radius,
#: rounding; then per axis the half size, the growth along local z, and the scale of the distance.
N_ROWS = 25
_TINY = 1e-14  # keeps sqrt differentiable at 0; moves a surface by at most 1e-7
_UNBOUNDED = 1e3


@dataclass(frozen=True)
class Material:
    """How a surface looks; colours are sRGB in [0, 1].

    Attributes:
        color: Base colour.
        accent: Second colour of the pattern.
        pattern: One of plain, stripes, checker, rings, panels, noise, in the part's own frame.
        scale: Pattern repeats per unit of length.
        specular: Strength of the sun's highlight.
        gloss: Blinn-Phong exponent of the highlight.
        mirror: Reflectance at normal incidence of a traced reflection, in [0, 1]; 0 = none.
        tint: Whether reflections take the base colour (metals).

    Example:
        >>> Material((0.8, 0.1, 0.1), (1, 1, 1), pattern="stripes", scale=8.0).pattern
        'stripes'
    """

    color: tuple[float, float, float]
    accent: tuple[float, float, float] = (1.0, 1.0, 1.0)
    pattern: str = "plain"
    scale: float = 10.0
    specular: float = 0.15
    gloss: float = 40.0
    mirror: float = 0.0
    tint: bool = False


PATTERNS = ("plain", "stripes", "checker", "rings", "panels", "noise")


@dataclass(frozen=True)
class Light:
    """A sun and a sky; strengths are linear."""

    sun_direction: tuple[float, float, float] = (0.45, -0.55, 0.70)
    sun: tuple[float, float, float] = (1.55, 1.47, 1.32)
    sky: tuple[float, float, float] = (0.50, 0.56, 0.66)
    ground: tuple[float, float, float] = (0.24, 0.21, 0.18)


@dataclass
class Scene:
    """A union of posed primitives, each with a material.

    Methods add parts; every part is a rounded or tapered box or a ring swept about its z axis
    (discs, cylinders, tubes, tori, spheres and cones are rings), all 1-Lipschitz distances.

    Attributes:
        light: Sun and sky.
        materials: The distinct materials, in order of first use.
        material_ids: Per part, an index into ``materials``.

    Example:
        >>> scene = Scene()
        >>> scene.sphere((0, 0, 0), 0.5, Material((1, 0, 0)))
        >>> len(scene.material_ids)
        1
    """

    light: Light = field(default_factory=Light)
    materials: list[Material] = field(default_factory=list)
    material_ids: list[int] = field(default_factory=list)
    _rows: list[list[float]] = field(default_factory=list)
    _bounds: list[tuple[Array, Array]] = field(default_factory=list)
    _frame: Array = field(default_factory=lambda: np.eye(4))

    @contextmanager
    def moved(self, offset: Vector = (0, 0, 0), rotation: Array | None = None) -> Iterator[None]:
        """Places the parts added inside the block in a frame moved by rotation, then offset."""
        outer = self._frame
        self._frame = outer @ _rigid(offset, rotation)
        try:
            yield
        finally:
            self._frame = outer

    def box(
        self,
        center: Vector,
        half: Vector,
        material: Material,
        *,
        rounding: float = 0.004,
        rotation: Array | None = None,
        taper: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        """Adds a box of the given half sizes; ``taper`` narrows x and y per unit of local z."""
        a, b, c = (float(value) for value in half)
        self._add(center, rotation, material, (0.0, 0.0, a, b, c), rounding, taper, (a, b, c))

    def ring(
        self,
        center: Vector,
        radius: float,
        half_width: float,
        half_height: float,
        material: Material,
        *,
        rounding: float = 0.004,
        axis: Vector | str = "z",
        taper: float = 0.0,
    ) -> None:
        """Adds the rectangle (half_width, half_height) swept about ``axis`` at ``radius``."""
        shape = (1.0, radius, half_width, _UNBOUNDED, half_height)
        reach = radius + half_width + abs(taper) * half_height
        extent = (reach, reach, half_height)
        self._add(center, turn_to(axis), material, shape, rounding, (taper, 0.0), extent)

    def cylinder(
        self,
        center: Vector,
        radius: float,
        half_height: float,
        material: Material,
        *,
        rounding: float = 0.004,
        axis: Vector | str = "z",
        taper: float = 0.0,
    ) -> None:
        """Adds a cylinder, or a cone whose radius falls by ``taper`` per unit along ``axis``."""
        self.ring(
            center,
            0.0,
            radius,
            half_height,
            material,
            rounding=rounding,
            axis=axis,
            taper=taper,
        )

    def torus(
        self, center: Vector, radius: float, tube: float, material: Material, axis: Vector | str
    ) -> None:
        """Adds a torus about ``axis``."""
        self.ring(center, radius, tube, tube, material, rounding=tube, axis=axis)

    def sphere(self, center: Vector, radius: float, material: Material) -> None:
        """Adds a sphere."""
        self.ring(center, 0.0, radius, radius, material, rounding=radius)

    def rod(self, start: Vector, end: Vector, radius: float, material: Material) -> None:
        """Adds a round bar with round ends from ``start`` to ``end``."""
        a, b = np.asarray(start, float), np.asarray(end, float)
        half = float(np.linalg.norm(b - a)) / 2 + radius
        self.ring((a + b) / 2, 0.0, radius, half, material, rounding=radius, axis=b - a)

    def path(self, points: Sequence[Vector], radius: float, material: Material) -> None:
        """Adds a chain of rods through ``points``."""
        for start, end in itertools.pairwise(points):
            self.rod(start, end, radius, material)

    def _add(
        self,
        center: Vector,
        rotation: Array | None,
        material: Material,
        shape: tuple[float, float, float, float, float],
        rounding: float,
        taper: tuple[float, float],
        extent: Vector,
    ) -> None:
        pose = self._frame @ _rigid(center, rotation)
        turn, offset = pose[:3, :3], pose[:3, 3]
        sharp = taper != (0.0, 0.0)
        ring, radius, a, b, c = shape
        r = 0.0 if sharp else min(rounding, a, b, c)
        inverse = [*turn.T.ravel().tolist(), *(-turn.T @ offset).tolist()]
        grow = [-taper[0], -taper[1], 0.0]
        scale = [1.0 / math.hypot(1.0, k) for k in grow]
        # A sharp part's distance is the largest of its planes' (still 1-Lipschitz): its rounding
        # is stored as -1, which `local_distance` reads as that choice.
        stored = -1.0 if sharp else r
        half = (a - r, b - r, c - r)
        self._rows.append([*inverse, ring, 1.0 - ring, radius, stored, *half, *grow, *scale])
        reach = np.abs(turn) @ (
            np.asarray(extent, float) + np.abs([*taper, 0.0]) * float(extent[2]) * (1 - ring)
        )
        self._bounds.append((offset - reach, offset + reach))
        if material not in self.materials:
            self.materials.append(material)
        self.material_ids.append(self.materials.index(material))

    def table(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The parts as one table [N_ROWS, n_parts]."""
        return torch.tensor(self._rows, dtype=dtype).t().contiguous()

    def bounds(self) -> tuple[Array, Array]:
        """Lower and upper corner of a box around every part."""
        lows, highs = zip(*self._bounds, strict=True)
        return np.min(lows, axis=0), np.max(highs, axis=0)

    def distance(self, points: Tensor) -> Tensor:
        """Signed distance [n] (negative inside) of points [n, 3], by brute force over all parts.

        The reference for the renderer, which looks only at the parts near a point.
        """
        table = self.table(points.dtype)
        result = torch.full(points.shape[:1], math.inf, dtype=points.dtype)
        for part in range(table.shape[1]):
            rows = table[:, part, None]
            local = to_local(points.t(), rows)
            result = torch.minimum(result, local_distance(local, rows))
        return result


def to_local(points: Tensor, rows: Tensor) -> Tensor:
    """Points [3, n] in the frames of the parts whose table columns are rows [N_ROWS, n or 1]."""
    return (rows[:9].reshape(3, 3, -1) * points).sum(1) + rows[9:12]


def local_distance(local: Tensor, rows: Tensor) -> Tensor:
    """Signed distance [n] of local points [3, n] to the parts of rows [N_ROWS, n or 1].

    Boxes and rings share one formula: a ring replaces x by the distance to its circle and drops y.
    """
    x, y, z = local.unbind(0)
    ring, flat, radius, rounding = rows[12:16].unbind(0)
    across = (torch.sqrt(torch.addcmul(x * x, ring * y, y) + _TINY) - radius).abs()
    folded = torch.stack([across, flat * y.abs(), z.abs()])
    beyond = (folded - torch.addcmul(rows[16:19], rows[19:22], z)) * rows[22:25]
    inner = beyond.amax(0)
    outer = beyond.clamp_min(0.0).square().sum(0)
    exact = torch.sqrt(outer + _TINY) + inner.clamp_max(0.0) - rounding
    return torch.where(rounding < 0.0, inner, exact)


def turn(axis: str, degrees: float) -> Array:
    """Rotation matrix [3, 3] about the x, y or z axis.

    Example:
        >>> turn("z", 90.0).round()[0].tolist()
        [0.0, -1.0, 0.0]
    """
    i = "xyz".index(axis)
    j, k = (i + 1) % 3, (i + 2) % 3
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    matrix = np.eye(3)
    matrix[j, j], matrix[j, k], matrix[k, j], matrix[k, k] = c, -s, s, c
    return matrix


def turn_to(axis: Vector | str) -> Array:
    """A rotation [3, 3] that takes the z axis to ``axis`` (a name or any non-zero vector)."""
    if isinstance(axis, str):
        target = np.eye(3)["xyz".index(axis)]
    else:
        target = np.asarray(axis, float) / np.linalg.norm(axis)
    helper = np.eye(3)[int(np.argmin(np.abs(target)))]
    side = np.cross(helper, target)
    side /= np.linalg.norm(side)
    return np.stack([side, np.cross(target, side), target], axis=1)


def _rigid(offset: Vector, rotation: Array | None) -> Array:
    pose = np.eye(4)
    pose[:3, 3] = np.asarray(offset, float)
    if rotation is not None:
        pose[:3, :3] = rotation
    return pose
