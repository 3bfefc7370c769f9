"""Chess pieces on a board: plain turned surfaces, of which all is seen but undersides."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

from neural_fields.scenes.model import Light, Material, Scene, turn

SUMMARY = "turned chess pieces on a board: plain surfaces whose exact shape is known"

MAPLE = Material((0.86, 0.70, 0.48), specular=0.25, gloss=30)
WALNUT = Material((0.36, 0.21, 0.12), specular=0.25, gloss=30)
IVORY = Material((0.93, 0.88, 0.77), specular=0.25, gloss=30)
OXBLOOD = Material((0.55, 0.12, 0.10), specular=0.25, gloss=30)
LIGHT = Material((0.90, 0.82, 0.66), specular=0.08, gloss=20)
DARK = Material((0.36, 0.26, 0.19), specular=0.08, gloss=20)
RIM = Material((0.48, 0.28, 0.15), specular=0.10, gloss=20)

_N = 3  # squares a side
_SQUARE = 0.5
_SIZE = 1.45  # of the pieces
_CONES = 5  # of a stem


def build() -> Scene:
    """The scene, about 1.7 across, centred near the origin."""
    scene = Scene(light=Light(sky=(0.60, 0.62, 0.66), ground=(0.34, 0.31, 0.28)))
    with scene.moved((0, 0, -0.48)):
        _board(scene)
        _king(scene, (1, 2))
        _rook(scene, (2, 0))
        _bishop(scene, (0, 0))
        _pawn(scene, (2, 2), OXBLOOD)
        _pawn(scene, (0, 1), WALNUT)
    return scene


def _square(column: int, row: int) -> tuple[float, float]:
    middle = (_N - 1) / 2
    return ((column - middle) * _SQUARE, (row - middle) * _SQUARE)


def _board(scene: Scene) -> None:
    """Squares of two woods in a frame; their top is at height 0."""
    half = _N * _SQUARE / 2
    scene.box((0, 0, -0.075), (half + 0.09, half + 0.09, 0.055), RIM, rounding=0.03)
    for column in range(_N):
        for row in range(_N):
            x, y = _square(column, row)
            wood = (DARK, LIGHT)[(column + row) % 2]
            scene.box((x, y, -0.05), (_SQUARE / 2, _SQUARE / 2, 0.05), wood, rounding=0.0)


@dataclass(frozen=True)
class _Lathe:
    """Parts about the vertical axis of one piece, in its own measure."""

    scene: Scene
    wood: Material

    def disc(self, height: float, radius: float, half: float, rounding: float) -> None:
        sizes = (_SIZE * radius, _SIZE * half)
        place = (0, 0, _SIZE * height)
        self.scene.cylinder(place, *sizes, self.wood, rounding=_SIZE * rounding)

    def cone(self, low: float, high: float, wide: float, slim: float) -> None:
        place = (0, 0, _SIZE * (low + high) / 2)
        sizes = (_SIZE * (wide + slim) / 2, _SIZE * (high - low) / 2)
        taper = (wide - slim) / (high - low)
        self.scene.cylinder(place, *sizes, self.wood, taper=taper)

    def torus(self, height: float, radius: float, tube: float) -> None:
        self.scene.torus((0, 0, _SIZE * height), _SIZE * radius, _SIZE * tube, self.wood, "z")

    def ball(self, height: float, radius: float) -> None:
        self.scene.sphere((0, 0, _SIZE * height), _SIZE * radius, self.wood)

    def foot(self, radius: float) -> None:
        self.disc(0.025, radius, 0.025, 0.02)
        self.torus(0.065, 0.78 * radius, 0.026)
        self.disc(0.06, 0.78 * radius, 0.03, 0.01)

    def stem(self, low: float, high: float, wide: float, slim: float) -> None:
        """Cones end to end along a quarter of a sine."""
        shares = [k / _CONES for k in range(_CONES + 1)]
        outline = [
            (low + (high - low) * x, slim + (wide - slim) * (1 - math.sin(0.5 * math.pi * x)))
            for x in shares
        ]
        for (below, first), (above, last) in itertools.pairwise(outline):
            self.cone(below, above, first, last)

    def collar(self, height: float, radius: float) -> None:
        self.disc(height, radius, 0.014, 0.013)
        self.torus(height + 0.024, 0.68 * radius, 0.018)
        self.disc(height + 0.02, 0.68 * radius, 0.018, 0.01)


def _pawn(scene: Scene, square: tuple[int, int], wood: Material) -> None:
    with scene.moved((*_square(*square), 0.0)):
        lathe = _Lathe(scene, wood)
        lathe.foot(0.115)
        lathe.stem(0.08, 0.235, 0.082, 0.042)
        lathe.collar(0.245, 0.078)
        lathe.ball(0.335, 0.072)


def _rook(scene: Scene, square: tuple[int, int]) -> None:
    with scene.moved((*_square(*square), 0.0)):
        lathe = _Lathe(scene, MAPLE)
        lathe.foot(0.135)
        lathe.stem(0.09, 0.30, 0.10, 0.068)
        lathe.disc(0.35, 0.105, 0.055, 0.012)
        for k in range(4):
            angle = math.pi * (k / 2 + 0.25)
            where = [_SIZE * x for x in (0.07 * math.cos(angle), 0.07 * math.sin(angle), 0.42)]
            half = [_SIZE * x for x in (0.026, 0.036, 0.03)]
            spin = turn("z", math.degrees(angle))
            scene.box(where, half, MAPLE, rotation=spin, rounding=0.012)


def _bishop(scene: Scene, square: tuple[int, int]) -> None:
    with scene.moved((*_square(*square), 0.0)):
        lathe = _Lathe(scene, IVORY)
        lathe.foot(0.13)
        lathe.stem(0.085, 0.34, 0.094, 0.044)
        lathe.collar(0.35, 0.086)
        lathe.ball(0.425, 0.068)
        lathe.cone(0.435, 0.555, 0.071, 0.021)
        lathe.ball(0.545, 0.026)


def _king(scene: Scene, square: tuple[int, int]) -> None:
    with scene.moved((*_square(*square), 0.0)):
        lathe = _Lathe(scene, WALNUT)
        lathe.foot(0.15)
        lathe.stem(0.09, 0.48, 0.112, 0.052)
        lathe.collar(0.49, 0.098)
        lathe.cone(0.51, 0.65, 0.05, 0.09)
        lathe.disc(0.655, 0.088, 0.016, 0.014)
        lathe.ball(0.66, 0.05)
        for center, half in (
            ((0, 0, 0.755), (0.02, 0.022, 0.06)),
            ((0, 0, 0.77), (0.02, 0.055, 0.022)),
        ):
            where, sizes = ([_SIZE * x for x in part] for part in (center, half))
            scene.box(where, sizes, WALNUT, rounding=0.014)
