"""A steam locomotive with its tender on a studded base plate: fine mechanics, saturated colours."""

from __future__ import annotations

import math

from neural_fields.scenes.model import Material, Scene, turn

SUMMARY = "steam locomotive and signal on a studded base plate: many small parts (the default)"

RED = Material((0.82, 0.10, 0.09), specular=0.35, gloss=70)
GREEN = Material((0.05, 0.40, 0.24), specular=0.40, gloss=80)
BLACK = Material((0.13, 0.13, 0.15), specular=0.30, gloss=50)
STEEL = Material((0.70, 0.72, 0.76), specular=0.55, gloss=90)
BRASS = Material((0.93, 0.70, 0.20), specular=0.60, gloss=60)
COPPER = Material((0.80, 0.42, 0.24), specular=0.55, gloss=60)
CREAM = Material((0.96, 0.90, 0.74), specular=0.2)
GLASS = Material((0.30, 0.56, 0.78), specular=0.8, gloss=150)
PLATE = Material((0.30, 0.66, 0.26), specular=0.12, gloss=30)
EDGE = Material((0.16, 0.36, 0.66), specular=0.2)
WOOD = Material((0.50, 0.31, 0.17), (0.38, 0.22, 0.12), pattern="noise", scale=22.0, specular=0.03)
GRAVEL = Material((0.62, 0.58, 0.53), (0.36, 0.33, 0.31), pattern="noise", scale=70.0, specular=0.0)
COAL = Material((0.10, 0.10, 0.11), specular=0.10, gloss=12)
WARNING = Material((0.95, 0.95, 0.93), (0.86, 0.10, 0.09), pattern="stripes", scale=14.0)
YELLOW = Material((0.98, 0.78, 0.10), specular=0.3)
BLUE = Material((0.12, 0.30, 0.72), specular=0.3)
BRICK = Material(
    (0.72, 0.33, 0.22), (0.88, 0.80, 0.70), pattern="panels", scale=16.0, specular=0.02
)

RAIL_TOP = -0.44
GAUGE = 0.165


def build() -> Scene:
    """The scene, about 2.2 long in x, centred near the origin."""
    scene = Scene()
    with scene.moved((0.0, 0.0, 0.15)):
        _ground(scene)
        _signal(scene)
        _yard(scene)
        with scene.moved((0.12, 0.0, RAIL_TOP)):
            _chassis(scene)
            _boiler(scene)
            _cab(scene)
        with scene.moved((-0.74, 0.0, RAIL_TOP)):
            _tender(scene)
    return scene


def _ground(scene: Scene) -> None:
    """Base plate with studs, ballast, sleepers and rails."""
    scene.box((0, 0, -0.60), (1.05, 0.63, 0.035), PLATE, rounding=0.012)
    scene.box((0, 0, -0.655), (1.07, 0.645, 0.02), EDGE, rounding=0.012)
    for i in range(21):
        for j in range(13):
            x, y = 0.1 * (i - 10), 0.1 * (j - 6)
            if abs(y) > 0.29:
                scene.cylinder((x, y, -0.555), 0.03, 0.014, PLATE, rounding=0.005)
    scene.box((0, 0, -0.555), (1.03, 0.27, 0.022), GRAVEL, rounding=0.01)
    for i in range(18):
        scene.box((0.118 * (i - 8.5), 0, -0.525), (0.028, 0.235, 0.022), WOOD, rounding=0.006)
        for side in (-1, 1):
            scene.box((0.118 * (i - 8.5), side * GAUGE, -0.5), (0.02, 0.03, 0.007), STEEL)
    for side in (-1, 1):
        scene.box((0, side * GAUGE, -0.492), (1.04, 0.018, 0.006), STEEL, rounding=0.002)
        scene.box((0, side * GAUGE, -0.472), (1.04, 0.005, 0.02), STEEL, rounding=0.002)
        scene.box((0, side * GAUGE, -0.449), (1.04, 0.011, 0.009), STEEL, rounding=0.003)


def _wheel(scene: Scene, x: float, side: int, radius: float, spokes: int, phase: float) -> None:
    """A spoked wheel standing on the rail, with tyre, flange, hub and counterweight."""
    y = side * GAUGE
    with scene.moved((x, y, radius)):
        scene.ring((0, 0, 0), radius - 0.012, 0.012, 0.016, STEEL, axis="y", rounding=0.003)
        scene.ring((0, 0, 0), radius - 0.032, 0.009, 0.013, RED, axis="y", rounding=0.003)
        scene.ring((0, -side * 0.017, 0), radius - 0.01, 0.018, 0.003, STEEL, axis="y")
        scene.cylinder((0, 0, 0), 0.2 * radius + 0.008, 0.024, RED, axis="y", rounding=0.006)
        scene.cylinder((0, side * 0.026, 0), 0.1 * radius + 0.004, 0.006, BRASS, axis="y")
        for k in range(spokes):
            angle = phase + 2 * math.pi * k / spokes
            c, s = math.cos(angle), math.sin(angle)
            scene.rod((0, 0, 0), ((radius - 0.03) * c, 0, (radius - 0.03) * s), 0.0065, RED)


def _chassis(scene: Scene) -> None:
    """Frame, driving wheels with rods, leading bogie, cylinders, buffers and cow catcher."""
    scene.box((0.06, 0, 0.17), (0.70, 0.13, 0.03), BLACK)
    scene.box((0.06, 0, 0.262), (0.72, 0.255, 0.012), RED)
    scene.box((0.06, 0, 0.246), (0.715, 0.245, 0.006), BRASS)
    scene.box((0.775, 0, 0.215), (0.018, 0.26, 0.05), RED, rounding=0.006)
    drive, phase = (-0.36, -0.10, 0.16), 0.7
    for side in (-1, 1):
        turned = phase + (math.pi / 2 if side > 0 else 0.0)
        pin = (0.055 * math.cos(turned), 0.055 * math.sin(turned))
        outside = side * (GAUGE + 0.045)
        for x in drive:
            _wheel(scene, x, side, 0.118, 12, turned)
            crank = (x + pin[0], outside - side * 0.012, 0.118 + pin[1])
            scene.cylinder(crank, 0.014, 0.03, STEEL, axis="y")
        first, last = drive[0] + pin[0], drive[-1] + pin[0]
        height = 0.118 + pin[1]
        scene.box(
            ((first + last) / 2, outside, height), ((last - first) / 2 + 0.02, 0.006, 0.013), STEEL
        )
        crosshead = (0.36 + pin[0], outside + side * 0.014, 0.13)
        main = (drive[1] + pin[0], outside + side * 0.014, height)
        scene.rod(main, crosshead, 0.011, STEEL)
        scene.box(crosshead, (0.024, 0.012, 0.022), BRASS)
        scene.rod(crosshead, (0.47, outside + side * 0.014, 0.13), 0.008, STEEL)
        for dz in (-0.03, 0.03):
            scene.box((0.37, outside + side * 0.014, 0.13 + dz), (0.10, 0.006, 0.005), STEEL)
        scene.cylinder((0.56, side * 0.212, 0.135), 0.062, 0.085, GREEN, axis="x", rounding=0.01)
        for x in (0.478, 0.642):
            scene.cylinder((x, side * 0.212, 0.135), 0.067, 0.01, BRASS, axis="x")
        scene.cylinder((0.56, side * 0.205, 0.215), 0.036, 0.075, BLACK, axis="x", rounding=0.01)
        for x in (0.44, 0.68):
            _wheel(scene, x, side, 0.066, 8, 0.3 * side)
        scene.cylinder((0.815, side * 0.16, 0.215), 0.02, 0.03, BLACK, axis="x")
        scene.cylinder((0.848, side * 0.16, 0.215), 0.04, 0.007, STEEL, axis="x")
        for x in (-0.42, -0.23, 0.03):
            scene.box((x, side * 0.262, 0.225), (0.02, 0.006, 0.03), BRASS)
        scene.path([(-0.5, side * 0.262, 0.20), (-0.5, side * 0.262, 0.06)], 0.007, STEEL)
        for z in (0.07, 0.12):
            scene.box((-0.55, side * 0.25, z), (0.045, 0.022, 0.005), STEEL)
    for x in (*drive, 0.44, 0.68):
        scene.cylinder((x, 0, 0.118 if x < 0.3 else 0.066), 0.014, 0.16, STEEL, axis="y")
    for i in range(-5, 6):
        reach = 0.10 - 0.011 * abs(i)
        scene.rod((0.79, 0.042 * i, 0.175), (0.81 + reach, 0.026 * i, 0.02), 0.008, RED)
    scene.rod((0.865, -0.15, 0.02), (0.92, 0, 0.02), 0.008, RED)
    scene.rod((0.865, 0.15, 0.02), (0.92, 0, 0.02), 0.008, RED)


def _boiler(scene: Scene) -> None:
    """Boiler with bands and rivets, smoke box, chimney, domes, pipes and hand rails."""
    axis_z, r = 0.46, 0.168
    scene.cylinder((0.10, 0, axis_z), r, 0.40, GREEN, axis="x")
    scene.cylinder((0.60, 0, axis_z), r + 0.006, 0.115, BLACK, axis="x", rounding=0.01)
    scene.cylinder((0.722, 0, axis_z), r - 0.022, 0.014, BLACK, axis="x", rounding=0.012)
    scene.cylinder((0.74, 0, axis_z), 0.028, 0.012, BRASS, axis="x")
    for degrees in (20, 200):
        c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        scene.rod((0.755, 0, axis_z), (0.755, 0.06 * c, axis_z + 0.06 * s), 0.006, STEEL)
    for z in (-0.07, 0.07):
        scene.box((0.737, 0.02, axis_z + z), (0.006, 0.125, 0.01), STEEL)
    for x in (-0.26, -0.12, 0.04, 0.20, 0.36, 0.482):
        scene.ring((x, 0, axis_z), r + 0.003, 0.005, 0.009, BRASS, axis="x", rounding=0.002)
    for x in (0.50, 0.70):
        for k in range(20):
            a = 2 * math.pi * k / 20
            rivet = (x, (r + 0.006) * math.cos(a), axis_z + (r + 0.006) * math.sin(a))
            scene.sphere(rivet, 0.008, STEEL)
    scene.box((0.58, 0, 0.30), (0.12, 0.10, 0.05), BLACK)
    scene.box((-0.18, 0, 0.33), (0.14, 0.15, 0.08), GREEN)
    _chimney(scene, 0.60, axis_z + r)
    for x, metal, radius in ((0.28, BRASS, 0.068), (-0.04, COPPER, 0.06)):
        scene.cylinder((x, 0, axis_z + r + 0.02), radius, 0.06, metal, rounding=0.01)
        scene.ring((x, 0, axis_z + r - 0.002), radius, 0.016, 0.014, metal, rounding=0.008)
        scene.sphere((x, 0, axis_z + r + 0.075), radius - 0.002, metal)
        scene.cylinder((x, 0, axis_z + r + 0.15), 0.01, 0.018, STEEL)
    for y in (-0.035, 0.035):
        scene.cylinder((-0.19, y, axis_z + r + 0.03), 0.012, 0.04, BRASS)
        scene.cylinder((-0.19, y, axis_z + r + 0.078), 0.018, 0.008, BRASS)
    for side in (-1, 1):
        y = side * (r + 0.035)
        scene.rod((-0.28, y, axis_z + 0.05), (0.70, y, axis_z + 0.05), 0.0065, STEEL)
        for x in (-0.2, 0.02, 0.24, 0.46, 0.68):
            scene.rod((x, side * (r - 0.01), axis_z + 0.045), (x, y, axis_z + 0.05), 0.006, BRASS)
        pipe = [(0.28, side * 0.06, axis_z + r), (0.34, side * 0.14, axis_z + 0.13)]
        pipe += [(0.44, side * 0.185, axis_z), (0.52, side * 0.205, 0.24)]
        scene.path(pipe, 0.014, COPPER)
        scene.cylinder((0.12, side * 0.205, 0.335), 0.045, 0.13, RED, axis="x", rounding=0.012)
        for x in (0.02, 0.22):
            scene.ring((x, side * 0.205, 0.335), 0.046, 0.004, 0.006, BRASS, axis="x")
    scene.cylinder((0.745, 0, axis_z + r + 0.03), 0.042, 0.03, BRASS, axis="x", rounding=0.008)
    scene.cylinder((0.776, 0, axis_z + r + 0.03), 0.032, 0.004, YELLOW, axis="x")
    scene.box((0.74, 0, axis_z + r - 0.03), (0.02, 0.03, 0.02), BLACK)
    scene.cylinder((0.12, 0, axis_z + r + 0.055), 0.006, 0.055, STEEL)
    scene.cylinder((0.12, 0, axis_z + r + 0.06), 0.036, 0.024, BRASS, taper=0.7)


def _chimney(scene: Scene, x: float, base: float) -> None:
    scene.ring((x, 0, base), 0.06, 0.016, 0.018, BLACK, rounding=0.01)
    scene.cylinder((x, 0, base + 0.075), 0.055, 0.085, BLACK, taper=-0.12)
    scene.ring((x, 0, base + 0.17), 0.062, 0.014, 0.018, COPPER, rounding=0.008)
    scene.ring((x, 0, base + 0.04), 0.055, 0.006, 0.008, BRASS, rounding=0.003)


def _cab(scene: Scene) -> None:
    """Cab with framed windows, arched roof and number plate."""
    x, half = -0.40, 0.125
    for side in (-1, 1):
        y = side * 0.235
        scene.box((x, y, 0.385), (half, 0.012, 0.115), GREEN)
        scene.box((x, y, 0.665), (half, 0.012, 0.03), GREEN)
        for dx in (-half + 0.014, 0.0, half - 0.014):
            scene.box((x + dx, y, 0.57), (0.014, 0.012, 0.09), GREEN)
        scene.box((x, y, 0.57), (half - 0.012, 0.004, 0.08), GLASS)
        scene.box((x, side * 0.249, 0.40), (0.062, 0.005, 0.032), BRASS)
        scene.box((x, side * 0.252, 0.40), (0.054, 0.005, 0.024), RED)
        for dx in (-0.03, 0.0, 0.03):
            scene.box((x + dx, side * 0.256, 0.40), (0.007, 0.004, 0.014), CREAM)
        scene.box((x, side * 0.249, 0.283), (half, 0.004, 0.006), BRASS)
        scene.box((x, side * 0.249, 0.49), (half, 0.006, 0.006), BRASS)
        scene.rod((x - half - 0.02, y, 0.30), (x - half - 0.02, y, 0.56), 0.0065, BRASS)
    front = x + half
    scene.box((front, 0, 0.46), (0.012, 0.235, 0.19), GREEN)
    for y in (-0.15, 0.15):
        scene.ring((front + 0.012, y, 0.60), 0.045, 0.008, 0.006, BRASS, axis="x")
        scene.cylinder((front + 0.01, y, 0.60), 0.042, 0.004, GLASS, axis="x")
    scene.box((front, 0, 0.665), (0.012, 0.235, 0.03), GREEN)
    for k in range(-4, 5):
        angle = 7.0 * k
        s, c = math.sin(math.radians(angle)), math.cos(math.radians(angle))
        where = (x - 0.01, 0.55 * s, 0.17 + 0.575 * c)
        scene.box(where, (half + 0.045, 0.036, 0.011), CREAM, rotation=turn("x", -angle))
    scene.box((x, 0, 0.765), (0.06, 0.06, 0.016), RED, rounding=0.006)
    for dx in (-0.13, 0.11):
        scene.rod((x + dx, -0.05, 0.757), (x + dx, 0.05, 0.757), 0.006, STEEL)
    scene.box((x, 0, 0.285), (half, 0.23, 0.01), WOOD)


def _tender(scene: Scene) -> None:
    """Coal tender: tank with panels and rivets, heap of coal, bogies."""
    scene.box((0, 0, 0.20), (0.24, 0.20, 0.022), BLACK)
    scene.box((0, 0, 0.235), (0.25, 0.24, 0.012), RED)
    scene.box((0, 0, 0.34), (0.235, 0.215, 0.095), GREEN, rounding=0.012)
    for side in (-1, 1):
        scene.box((0, side * 0.215, 0.455), (0.235, 0.01, 0.028), GREEN)
        scene.box((0, side * 0.22, 0.487), (0.24, 0.012, 0.006), BRASS)
        for z in (0.262, 0.42):
            scene.box((0, side * 0.218, z), (0.225, 0.004, 0.004), BRASS)
            for k in range(9):
                scene.sphere((0.052 * (k - 4), side * 0.217, z + 0.02), 0.0065, BRASS)
        for k in range(3):
            scene.box((0.13 * (k - 1), side * 0.218, 0.35), (0.045, 0.006, 0.036), CREAM)
            scene.box((0.13 * (k - 1), side * 0.221, 0.35), (0.038, 0.006, 0.029), RED)
        for x in (-0.15, 0.0, 0.15):
            _wheel(scene, x, side, 0.075, 8, 0.2 + x)
            scene.box((x, side * 0.21, 0.085), (0.026, 0.012, 0.03), BLACK, rounding=0.008)
            scene.box((x, side * 0.21, 0.125), (0.05, 0.008, 0.008), STEEL)
            scene.box((x, side * 0.21, 0.14), (0.036, 0.008, 0.007), STEEL)
        scene.box((0, side * 0.205, 0.165), (0.235, 0.008, 0.02), RED)
        scene.cylinder((-0.27, side * 0.15, 0.215), 0.018, 0.03, BLACK, axis="x")
        scene.cylinder((-0.30, side * 0.15, 0.215), 0.034, 0.006, STEEL, axis="x")
    scene.box((-0.252, 0, 0.21), (0.012, 0.24, 0.045), RED)
    for i in range(7):
        for j in range(6):
            number = 6 * i + j
            height = 0.44 + 0.035 * math.cos(0.5 * (i - 3)) * math.cos(0.55 * (j - 2.5))
            shake = 0.012 * math.sin(2.4 * number)
            where = (0.06 * (i - 3) + shake, 0.066 * (j - 2.5) - shake, height + shake)
            rotation = turn("x", 37.0 * number) @ turn("y", 53.0 * number)
            scene.box(where, (0.034, 0.03, 0.028), COAL, rotation=rotation, rounding=0.008)
    scene.box((0.27, 0, 0.19), (0.05, 0.03, 0.012), STEEL)


def _signal(scene: Scene) -> None:
    """Semaphore signal with ladder, arm and lamps."""
    with scene.moved((0.62, 0.47, -0.565)):
        scene.box((0, 0, 0.03), (0.06, 0.06, 0.03), BRICK)
        scene.cylinder((0, 0, 0.55), 0.016, 0.52, CREAM)
        scene.sphere((0, 0, 1.09), 0.03, RED)
        scene.cylinder((0, 0, 1.13), 0.012, 0.03, RED, taper=0.35)
        scene.box((0.0, -0.10, 1.0), (0.007, 0.13, 0.028), WARNING, rotation=turn("x", -22.0))
        scene.cylinder((0.012, 0.035, 0.985), 0.028, 0.012, RED, axis="x")
        scene.cylinder((0.012, 0.085, 0.955), 0.028, 0.012, PLATE, axis="x")
        for side in (-1, 1):
            scene.rod((-0.06, side * 0.03, 0.05), (-0.03, side * 0.03, 0.92), 0.006, STEEL)
        for k in range(14):
            z = 0.09 + 0.06 * k
            x = -0.0585 + 0.0021 * k
            scene.rod((x, -0.03, z), (x, 0.03, z), 0.005, STEEL)


def _yard(scene: Scene) -> None:
    """Crates, barrels, a lamp, a water crane and a buffer fence around the track."""
    barrels = ((-0.86, 0.45, BLUE), (-0.73, 0.48, YELLOW), (-0.80, 0.56, RED), (-0.62, 0.42, BLUE))
    for x, y, metal in barrels:
        scene.cylinder((x, y, -0.475), 0.052, 0.085, metal, rounding=0.01)
        for z in (-0.51, -0.44):
            scene.ring((x, y, z), 0.052, 0.005, 0.006, STEEL, rounding=0.002)
        scene.cylinder((x + 0.02, y, -0.388), 0.01, 0.006, STEEL, rounding=0.002)
    for x, y, z, angle in (
        (0.1, 0.48, -0.49, 12),
        (0.27, 0.46, -0.49, -8),
        (0.18, 0.47, -0.35, 30),
    ):
        spin = turn("z", angle)
        with scene.moved((x, y, z), spin):
            scene.box((0, 0, 0), (0.066, 0.066, 0.066), WOOD)
            for a in (-1, 1):
                for b in (-1, 1):
                    scene.box((0.06 * a, 0.06 * b, 0), (0.013, 0.013, 0.072), YELLOW)
                    scene.box((0.06 * a, 0, 0.06 * b), (0.013, 0.072, 0.013), YELLOW)
                    scene.box((0, 0.06 * a, 0.06 * b), (0.072, 0.013, 0.013), YELLOW)
    for x in (-0.35, 0.93):
        scene.cylinder((x, -0.50, -0.24), 0.012, 0.30, BLACK)
        scene.cylinder((x, -0.50, -0.54), 0.03, 0.03, BLACK, taper=0.3)
        scene.cylinder((x, -0.50, 0.10), 0.045, 0.045, YELLOW, taper=-0.35)
        scene.cylinder((x, -0.50, 0.165), 0.05, 0.02, BLACK, taper=1.4)
        scene.rod((x - 0.06, -0.5, 0.0), (x + 0.06, -0.5, 0.0), 0.007, BLACK)
    for k in range(9):
        x = -0.15 + 0.11 * k
        scene.box((x, -0.56, -0.49), (0.014, 0.012, 0.085), CREAM)
        scene.cylinder((x, -0.56, -0.395), 0.014, 0.012, RED, taper=0.8)
    for z in (-0.52, -0.45):
        scene.box((0.29, -0.56, z), (0.46, 0.007, 0.012), WARNING)
    scene.cylinder((-0.85, -0.47, -0.32), 0.05, 0.25, RED, taper=0.06)
    scene.ring((-0.85, -0.47, -0.55), 0.05, 0.025, 0.02, BLACK)
    scene.sphere((-0.85, -0.47, -0.06), 0.045, BRASS)
    scene.rod((-0.85, -0.47, -0.10), (-0.85, -0.24, -0.06), 0.018, RED)
    scene.rod((-0.85, -0.24, -0.06), (-0.85, -0.20, -0.13), 0.018, BLACK)
    scene.torus((-0.80, -0.47, -0.25), 0.035, 0.006, BRASS, "x")
