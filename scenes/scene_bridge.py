"""A suspension bridge with a trussed deck, and a sailing boat under it: thin bars and wires."""

from __future__ import annotations

import math

from neural_fields.scenes.model import Material, Scene, turn

SUMMARY = "suspension bridge with a lattice deck and a sailing boat: cables, ropes, thin bars"

ORANGE = Material((0.86, 0.27, 0.13), specular=0.2, gloss=40)
CABLE = Material((0.72, 0.20, 0.11), specular=0.25, gloss=40)
STEEL = Material((0.42, 0.46, 0.52), specular=0.35, gloss=60)
ROAD = Material((0.30, 0.31, 0.34), specular=0.05)
LINE = Material((0.97, 0.93, 0.80), specular=0.05)
STONE = Material((0.66, 0.60, 0.52), (0.45, 0.40, 0.35), "panels", 14.0, 0.03)
GRASS = Material((0.42, 0.62, 0.22), (0.28, 0.48, 0.16), "noise", 16.0, 0.02)
WATER = Material((0.10, 0.42, 0.60), (0.14, 0.52, 0.66), "noise", 9.0, 0.7, 160, 0.04)
HULL = Material((0.13, 0.22, 0.45), specular=0.4, gloss=80)
TEAK = Material((0.66, 0.44, 0.22), (0.52, 0.32, 0.15), "stripes", 40.0, 0.1)
ROPE = Material((0.86, 0.76, 0.56), specular=0.05)
SAIL = Material((0.97, 0.95, 0.90), specular=0.03)
RED = Material((0.85, 0.10, 0.12), specular=0.3)
YELLOW = Material((0.98, 0.80, 0.16), specular=0.3)
LEAF = Material((0.16, 0.46, 0.20), (0.10, 0.34, 0.15), "noise", 40.0, 0.03)

DECK, TOP, SPAN, SIDE = -0.17, 0.58, 0.52, 0.11


def build() -> Scene:
    """The scene, about 2.2 long in x, centred near the origin."""
    scene = Scene()
    scene.box((0, 0, -0.56), (1.06, 0.44, 0.03), WATER, rounding=0.01)
    scene.box((0, 0, -0.61), (1.08, 0.46, 0.025), STONE, rounding=0.01)
    _towers(scene)
    _deck(scene)
    _cables(scene)
    _shores(scene)
    with scene.moved((0.02, -0.27, -0.53), turn("z", 14.0)):
        _boat(scene)
    return scene


def _towers(scene: Scene) -> None:
    """Two portal towers with crossed bracing."""
    for x in (-SPAN, SPAN):
        scene.box((x, 0, -0.48), (0.075, 0.19, 0.07), STONE, rounding=0.01)
        for y in (-SIDE, SIDE):
            scene.box((x, y, 0.08), (0.026, 0.020, 0.52), ORANGE)
            scene.box((x, y, 0.60), (0.034, 0.028, 0.014), ORANGE)
            scene.sphere((x, y, 0.635), 0.018, RED)
        for z in (-0.28, -0.06, 0.12, 0.30, 0.48, 0.56):
            scene.box((x, 0, z), (0.016, SIDE, 0.013), ORANGE)
        for low, high in ((-0.06, 0.12), (0.12, 0.30), (0.30, 0.48)):
            for dx in (-0.014, 0.014):
                scene.rod((x + dx, -SIDE, low), (x + dx, SIDE, high), 0.006, ORANGE)
                scene.rod((x + dx, SIDE, low), (x + dx, -SIDE, high), 0.006, ORANGE)


def _deck(scene: Scene) -> None:
    """Road on a truss of thin bars, with railing, lamps and cars."""
    scene.box((0, 0, DECK), (1.04, 0.095, 0.010), ROAD)
    for k in range(17):
        scene.box((0.12 * (k - 8), 0, DECK + 0.0105), (0.03, 0.004, 0.002), LINE, rounding=0.001)
    n, step = 26, 0.08
    for y in (-0.1, 0.1):
        for z in (DECK, DECK - 0.075):
            scene.rod((-1.04, y, z), (1.04, y, z), 0.0065, ORANGE)
        scene.rod((-1.04, y, DECK + 0.045), (1.04, y, DECK + 0.045), 0.0035, STEEL)
        for k in range(n):
            x, low, high = -1.04 + step * k, DECK - 0.075, DECK
            scene.rod((x, y, low), (x, y, high + 0.045), 0.0042, ORANGE)
            ends = (low, high) if k % 2 else (high, low)
            scene.rod((x, y, ends[0]), (x + step, y, ends[1]), 0.0042, ORANGE)
    for k in range(n + 1):
        x = -1.04 + step * k
        scene.rod((x, -0.1, DECK - 0.075), (x, 0.1, DECK - 0.075), 0.0045, STEEL)
        if k < n:
            scene.rod((x, -0.1, DECK - 0.075), (x + step, 0.1, DECK - 0.075), 0.0035, STEEL)
    for k in range(7):
        x, y = 0.27 * (k - 3) + 0.06, 0.088 * (-1) ** k
        scene.rod((x, y, DECK), (x, y, DECK + 0.12), 0.0045, STEEL)
        scene.sphere((x, 0.7 * y, DECK + 0.12), 0.011, YELLOW)
        scene.rod((x, y, DECK + 0.12), (x, 0.7 * y, DECK + 0.122), 0.0045, STEEL)
    for x, y, paint in (
        (-0.75, 0.05, RED),
        (-0.2, -0.05, YELLOW),
        (0.15, 0.05, HULL),
        (0.7, -0.05, RED),
    ):
        scene.box((x, y, DECK + 0.028), (0.045, 0.021, 0.013), paint, rounding=0.007)
        scene.box((x - 0.005, y, DECK + 0.048), (0.025, 0.018, 0.011), SAIL, rounding=0.006)
        for dx in (-0.026, 0.026):
            scene.cylinder((x + dx, y, DECK + 0.017), 0.010, 0.023, ROAD, axis="y")


def _height(x: float) -> float:
    """Height of the main cable at x."""
    if abs(x) <= SPAN:
        return DECK + 0.09 + (TOP + 0.03 - DECK - 0.09) * (x / SPAN) ** 2
    along = (abs(x) - SPAN) / (1.02 - SPAN)
    return (TOP + 0.03) * (1 - along) + (DECK + 0.02) * along - 0.30 * along * (1 - along)


def _cables(scene: Scene) -> None:
    """Main cables in short chords, and a hanger every few centimetres."""
    for y in (-SIDE, SIDE):
        xs = [0.04 * k - 1.02 + 0.0 for k in range(52)]
        xs = sorted({*xs, -SPAN, SPAN, 1.02})
        scene.path([(x, y, _height(x)) for x in xs], 0.0085, CABLE)
        for k in range(-24, 25):
            x = 0.04 * k
            if abs(abs(x) - SPAN) > 0.03:
                scene.rod((x, y, DECK), (x, y, _height(x)), 0.003, STEEL)


def _shores(scene: Scene) -> None:
    """Abutments, banks and trees at both ends."""
    for side in (-1, 1):
        scene.box((side * 0.98, 0, -0.375), (0.09, 0.14, 0.155), STONE, rounding=0.008)
        scene.box((side * 0.94, 0, -0.50), (0.125, 0.44, 0.05), GRASS, rounding=0.03)
        for k, (x, y, size) in enumerate(
            ((0.96, 0.3, 1.0), (0.90, 0.37, 0.7), (0.97, -0.32, 0.85))
        ):
            foot = (side * x, side * y, -0.46)
            with scene.moved(foot):
                scene.cylinder((0, 0, 0.05 * size), 0.012, 0.06 * size, TEAK)
                for layer in range(3):
                    z = (0.12 + 0.07 * layer) * size
                    radius = (0.045 - 0.009 * layer) * size
                    scene.cylinder((0, 0, z), radius, 0.045 * size, LEAF, taper=0.9 + 0.01 * k)


def _boat(scene: Scene) -> None:
    """A two-master: planked hull, masts, yards, stays, shrouds with ratlines, and furled sails."""
    stations = [-0.24 + 0.03 * k for k in range(17)]
    for side in (-1, 1):
        for row in range(6):
            z = 0.012 + 0.016 * row
            line = [
                (x, side * _beam(x) * (0.55 + 0.09 * row), z + 0.16 * x * x * row / 4)
                for x in stations
            ]
            scene.path(line, 0.0105, RED if row < 2 else HULL)
        rail = [(x, side * _beam(x) * 1.06, 0.118 + 0.2 * x * x) for x in stations]
        scene.path(rail, 0.005, TEAK)
        for x in stations[1::2]:
            top = 0.118 + 0.2 * x * x
            scene.rod(
                (x, side * _beam(x) * 1.04, 0.09), (x, side * _beam(x) * 1.06, top), 0.003, TEAK
            )
    for x in stations:
        scene.box((x, 0, 0.078), (0.0155, _beam(x) * 0.92, 0.006), TEAK, rounding=0.001)
    scene.box((-0.13, 0, 0.105), (0.045, 0.028, 0.024), SAIL)
    scene.rod((0.22, 0, 0.105), (0.33, 0, 0.15), 0.005, TEAK)
    for x, height in ((0.07, 0.33), (-0.09, 0.29)):
        scene.rod((x, 0, 0.06), (x, 0, height), 0.006, TEAK)
        for z, half in ((0.58 * height, 0.085), (0.84 * height, 0.06)):
            scene.rod((x + 0.008, -half, z), (x + 0.008, half, z), 0.004, TEAK)
            scene.rod(
                (x + 0.012, -half * 0.9, z - 0.008), (x + 0.012, half * 0.9, z - 0.008), 0.008, SAIL
            )
            scene.rod((x, 0, height), (x + 0.008, -half, z), 0.0018, ROPE)
            scene.rod((x, 0, height), (x + 0.008, half, z), 0.0018, ROPE)
        for side in (-1, 1):
            for dx in (-0.025, 0.0, 0.025):
                scene.rod((x + dx, side * 0.075, 0.1), (x, 0, 0.8 * height), 0.0018, ROPE)
            for k in range(1, 6):
                t = k / 7
                y, z = side * 0.075 * (1 - t), 0.1 + (0.8 * height - 0.1) * t
                width = 0.025 * (1 - t)
                scene.rod((x - width, y, z), (x + width, y, z), 0.0016, ROPE)
    scene.rod((0.33, 0, 0.15), (0.07, 0, 0.33), 0.002, ROPE)
    scene.rod((0.30, 0, 0.14), (0.07, 0, 0.25), 0.002, ROPE)
    scene.rod((-0.24, 0, 0.12), (-0.09, 0, 0.29), 0.002, ROPE)
    scene.rod((0.07, 0, 0.33), (-0.09, 0, 0.29), 0.002, ROPE)
    scene.box((-0.105, 0, 0.30), (0.015, 0.0025, 0.010), RED, rounding=0.001)


def _beam(x: float) -> float:
    """Half width of the hull at x in [-0.24, 0.24]."""
    return 0.078 * math.sqrt(max(0.03, 1 - ((x + 0.02) / 0.27) ** 2))
