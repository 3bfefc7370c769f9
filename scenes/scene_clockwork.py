"""A wooden bench of mechanisms that move and come back: a scene with a time axis."""

from __future__ import annotations

import math

from neural_fields.scenes.model import Light, Material, Scene, turn

SUMMARY = "moving: a pendulum, gears, a piston, a bouncing ball and a box whose lid opens"

WOOD = Material((0.62, 0.42, 0.24), (0.50, 0.32, 0.17), "rings", 14.0, 0.2, 30)
OAK = Material((0.46, 0.30, 0.17), (0.38, 0.24, 0.13), "stripes", 16.0, 0.2, 30)
BRASS = Material((0.86, 0.66, 0.28), specular=0.9, gloss=90)
STEEL = Material((0.62, 0.65, 0.70), specular=0.8, gloss=120)
RED = Material((0.82, 0.12, 0.10), (0.95, 0.90, 0.82), "stripes", 12.0, 0.5, 80)
BLUE = Material((0.10, 0.26, 0.68), (0.88, 0.90, 0.96), "checker", 9.0, 0.4, 60)
GREEN = Material((0.12, 0.48, 0.24), (0.86, 0.88, 0.60), "panels", 11.0, 0.3, 60)
BALL = Material((0.95, 0.72, 0.10), (0.80, 0.12, 0.16), "stripes", 11.0, 0.6, 90)

_TOP = -0.42  # of the bench
_TEETH, _MODULE = 12, 0.17  # of a gear: teeth, and radius at their middle


def build_at(time: float) -> Scene:
    """The scene at a time in [0, 1], about 1.8 across; it ends as it began."""
    phase = 2 * math.pi * time
    scene = Scene(light=Light(sky=(0.56, 0.60, 0.68)))
    scene.box((0, 0, _TOP - 0.06), (0.92, 0.68, 0.06), WOOD, rounding=0.03)
    scene.box((0, 0, _TOP - 0.15), (0.84, 0.60, 0.03), OAK, rounding=0.02)
    _pendulum(scene, 34.0 * math.cos(phase))
    _gears(scene, 40.0 * math.sin(phase))
    _piston(scene, phase)
    _ball(scene, time)
    _box(scene, 48.0 * (1 - math.cos(phase)))
    return scene


def _pendulum(scene: Scene, degrees: float) -> None:
    """A striped bob that swings across a frame at the back."""
    with scene.moved((-0.10, 0.44, _TOP)):
        for x in (-0.42, 0.42):
            scene.box((x, 0, 0.44), (0.035, 0.05, 0.44), OAK, rounding=0.01)
        scene.box((0, 0, 0.90), (0.50, 0.06, 0.035), OAK, rounding=0.012)
        with scene.moved((0, 0, 0.84), turn("y", degrees)):
            scene.cylinder((0, 0, 0), 0.04, 0.08, BRASS, axis="y", rounding=0.01)
            scene.rod((0, 0, 0), (0, 0, -0.50), 0.016, STEEL)
            scene.sphere((0, 0, -0.56), 0.11, RED)


def _gears(scene: Scene, degrees: float) -> None:
    """Two gears that mesh and rock against each other, on the right."""
    apart = 2 * _MODULE
    for x, turned, color in ((0.40, degrees, BLUE), (0.40 + apart, -degrees, GREEN)):
        offset = 0.0 if color is BLUE else 180.0 / _TEETH
        with scene.moved((x, -0.28, _TOP + 0.24), turn("y", turned + offset)):
            scene.cylinder((0, 0, 0), 0.035, 0.085, BRASS, axis="y", rounding=0.01)
            scene.cylinder((0, 0, 0), _MODULE - 0.025, 0.035, color, axis="y", rounding=0.008)
            for k in range(_TEETH):
                spin = turn("y", 360.0 * k / _TEETH)
                where = (spin[:, 0] * _MODULE).tolist()
                scene.box(where, (0.034, 0.035, 0.020), BRASS, rotation=spin, rounding=0.008)
    for x in (0.40, 0.40 + apart):
        scene.box((x, -0.19, _TOP + 0.13), (0.03, 0.02, 0.13), OAK, rounding=0.006)


def _piston(scene: Scene, phase: float) -> None:
    """A crank wheel that lifts a plunger through its guide, on the left."""
    reach, length = 0.10, 0.34
    pin = (reach * math.sin(phase), 0.0, reach * math.cos(phase))
    top = pin[2] + math.sqrt(length**2 - pin[0] ** 2)
    with scene.moved((-0.62, -0.10, _TOP + 0.20)):
        scene.box((0, 0.10, -0.02), (0.05, 0.03, 0.18), OAK, rounding=0.01)
        with scene.moved((0, 0.02, 0), turn("y", math.degrees(phase))):
            scene.cylinder((0, 0, 0), 0.15, 0.025, RED, axis="y", rounding=0.01)
            scene.box((0, -0.03, reach), (0.022, 0.02, 0.022), BRASS, rounding=0.008)
        scene.rod((pin[0], -0.05, pin[2]), (0, -0.05, top), 0.018, STEEL)
        scene.cylinder((0, -0.05, top + 0.12), 0.045, 0.13, BRASS, rounding=0.012)
        scene.ring((0, -0.05, 0.44), 0.085, 0.025, 0.05, BLUE, rounding=0.012)
        scene.box((0, 0.04, 0.30), (0.03, 0.03, 0.18), OAK, rounding=0.008)


def _ball(scene: Scene, time: float) -> None:
    """A ball that bounces twice and turns a quarter."""
    share = 2 * time % 1.0
    height = 0.60 * 4 * share * (1 - share)
    scene.cylinder((0.02, -0.36, _TOP + 0.015), 0.17, 0.02, STEEL, rounding=0.01)
    spin = turn("x", 90.0 * math.sin(2 * math.pi * time)) @ turn("y", 20.0)
    with scene.moved((0.02, -0.36, _TOP + 0.145 + height), spin):
        scene.sphere((0, 0, 0), 0.11, BALL)


def _box(scene: Scene, degrees: float) -> None:
    """A box whose lid opens by up to 96 degrees, with a figure that rises."""
    rise = 0.16 * degrees / 96.0
    with scene.moved((0.62, 0.34, _TOP)):
        for y in (-0.15, 0.15):
            scene.box((0, y, 0.13), (0.17, 0.02, 0.13), GREEN, rounding=0.008)
        for x in (-0.15, 0.15):
            scene.box((x, 0, 0.13), (0.02, 0.15, 0.13), GREEN, rounding=0.008)
        with scene.moved((0, 0.17, 0.275), turn("x", -degrees)):
            scene.box((0, -0.17, 0), (0.175, 0.175, 0.016), BRASS, rounding=0.008)
        scene.cylinder((0, 0, 0.06 + rise), 0.05, 0.10, BLUE, rounding=0.02)
        scene.sphere((0, 0, 0.175 + rise), 0.065, RED)
