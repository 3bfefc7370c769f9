"""Glossy and metallic shapes on a polished stand: colours that change with the view."""

from __future__ import annotations

import math

from neural_fields.scenes.model import Light, Material, Scene, turn

SUMMARY = "polished balls, rings, gears and a vase on a stand: reflections and highlights"

CHROME = Material((0.92, 0.93, 0.95), specular=1.2, gloss=400, mirror=0.86, tint=True)
GOLD = Material((1.00, 0.78, 0.34), specular=1.0, gloss=240, mirror=0.80, tint=True)
COPPER = Material((0.95, 0.56, 0.42), specular=1.0, gloss=240, mirror=0.75, tint=True)
RUBY = Material((0.80, 0.03, 0.10), specular=1.4, gloss=500, mirror=0.10)
COBALT = Material((0.04, 0.16, 0.70), specular=1.4, gloss=500, mirror=0.10)
JADE = Material((0.05, 0.52, 0.36), (0.02, 0.36, 0.30), "noise", 9.0, 1.0, 300, 0.07)
PORCELAIN = Material((0.95, 0.94, 0.90), (0.10, 0.22, 0.62), "stripes", 16.0, 1.0, 300, 0.05)
MARBLE = Material((0.90, 0.88, 0.85), (0.22, 0.22, 0.26), "checker", 5.0, 0.8, 200, 0.06)
EBONY = Material((0.06, 0.06, 0.08), specular=0.8, gloss=160, mirror=0.06)
AMBER = Material((0.96, 0.55, 0.06), specular=1.4, gloss=500, mirror=0.08)


def build() -> Scene:
    """The scene, about 1.8 across, centred near the origin."""
    scene = Scene(light=Light(sky=(0.58, 0.60, 0.66), ground=(0.30, 0.28, 0.26)))
    with scene.moved((0, 0, -0.38)):
        scene.cylinder((0, 0, -0.08), 0.98, 0.05, EBONY, rounding=0.02)
        scene.ring((0, 0, -0.035), 0.955, 0.018, 0.012, GOLD, rounding=0.01)
        scene.cylinder((0, 0, -0.03), 0.93, 0.03, MARBLE, rounding=0.01)
        _orrery(scene)
        _vase(scene)
        _gears(scene)
        _balls(scene)
    return scene


def _orrery(scene: Scene) -> None:
    """A chrome ball inside three tilted rings, with a planet on each."""
    scene.cylinder((0, 0, 0.025), 0.17, 0.025, GOLD, rounding=0.012)
    scene.cylinder((0, 0, 0.12), 0.035, 0.09, GOLD, rounding=0.01)
    scene.torus((0, 0, 0.10), 0.045, 0.016, COPPER, "z")
    with scene.moved((0, 0, 0.56)):
        scene.sphere((0, 0, 0), 0.21, CHROME)
        for tilt, radius, metal, ball in (
            (25.0, 0.30, GOLD, RUBY),
            (-40.0, 0.36, COPPER, COBALT),
            (75.0, 0.42, CHROME, AMBER),
        ):
            with scene.moved((0, 0, 0), turn("z", 2.3 * tilt) @ turn("x", tilt)):
                scene.ring((0, 0, 0), radius, 0.009, 0.022, metal, rounding=0.006)
                for k in range(12):
                    a = math.pi * k / 6
                    scene.sphere((radius * math.cos(a), radius * math.sin(a), 0), 0.018, metal)
                scene.sphere((radius, 0, 0), 0.062, ball)


def _vase(scene: Scene) -> None:
    """Stacked porcelain rings that follow a vase's outline."""
    with scene.moved((-0.58, -0.36, 0.0)):
        for k in range(13):
            z = 0.03 + 0.035 * k
            radius = 0.11 + 0.055 * math.sin(0.44 * k - 0.3) - 0.0035 * k
            glaze = COBALT if k in (2, 6, 10) else PORCELAIN
            scene.cylinder((0, 0, z), radius, 0.022, glaze, rounding=0.018)
        scene.torus((0, 0, 0.475), 0.062, 0.016, GOLD, "z")


def _gears(scene: Scene) -> None:
    """Two meshing gears standing on edge."""
    for x, y, radius, teeth, metal, phase in (
        (0.52, -0.46, 0.17, 16, COPPER, 0.0),
        (0.70, -0.20, 0.12, 12, GOLD, 0.12),
    ):
        with scene.moved((x, y, 0.025 + 0.06 * (teeth == 12))):
            scene.cylinder((0, 0, 0), 0.03, 0.09, CHROME, rounding=0.01)
            scene.ring((0, 0, 0.03), radius - 0.03, 0.03, 0.03, metal, rounding=0.006)
            for k in range(teeth):
                a = phase + 2 * math.pi * k / teeth
                where = (radius * math.cos(a), radius * math.sin(a), 0.03)
                spin = turn("z", math.degrees(a))
                scene.box(where, (0.026, 0.016, 0.03), metal, rotation=spin, rounding=0.006)
            for k in range(5):
                a = 2 * math.pi * k / 5
                reach = radius - 0.04
                end = (reach * math.cos(a), reach * math.sin(a), 0.03)
                scene.rod((0, 0, 0.03), end, 0.014, metal)


def _balls(scene: Scene) -> None:
    """Balls, a cube and cones around the stand."""
    for degrees, radius, reach, material in (
        (75.0, 0.15, 0.66, RUBY),
        (112.0, 0.11, 0.72, GOLD),
        (140.0, 0.15, 0.64, COBALT),
        (172.0, 0.09, 0.74, AMBER),
        (48.0, 0.09, 0.76, CHROME),
        (262.0, 0.13, 0.60, JADE),
        (22.0, 0.12, 0.62, PORCELAIN),
    ):
        a = math.radians(degrees)
        scene.sphere((reach * math.cos(a), reach * math.sin(a), radius), radius, material)
    spin = turn("z", 30.0)
    scene.box((-0.05, -0.74, 0.085), (0.085, 0.085, 0.085), COBALT, rotation=spin, rounding=0.02)
    scene.cylinder((0.20, -0.74, 0.13), 0.05, 0.13, JADE, taper=0.36)
    scene.torus((-0.26, 0.42, 0.03), 0.08, 0.03, JADE, "z")
    scene.sphere((-0.26, 0.42, 0.07), 0.06, CHROME)
