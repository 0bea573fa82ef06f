"""Houses, castle towers, windmills, lighthouses."""

from __future__ import annotations

import numpy as np

from fsd_gs.catalogue.mesh import Part, box, cone, cylinder, dome, ellipsoid, extrude, hull, lathe, merge, mirrored, ring, tube
from fsd_gs.catalogue.palette import BRICK, CREAM, DARK_LEAF, DARK_WOOD, GLASS, GLOW, IRON, LEAF, RED, STONE, WHITE, WOOD, Palette, mix
from fsd_gs.catalogue.shapes.common import azimuth, between

GRASS = (0.45, 0.68, 0.30)
THATCH = (0.84, 0.66, 0.34)
ROOF = (0.62, 0.28, 0.22)
WINDOW = (0.98, 0.86, 0.48)


def _roof(depth: float, width: float, height: float, color: tuple[float, float, float], overhang: float = 0.12) -> Part:
    """A gable roof whose ridge runs along y; bottom at z = 0."""
    x, y = depth / 2 + overhang, width / 2 + overhang
    slab = [(sx * x, sy * y, dz) for sx in (-1, 1) for sy in (-1, 1) for dz in (0, 0.08)]
    return hull([*slab, (0, -y, height + 0.08), (0, y, height + 0.08)], color)


def _window(width: float, height: float, frame: tuple[float, float, float] = WHITE) -> Part:
    """A lit window on the plane x = 0 that looks towards +x."""
    pane = [box((0.05, width, height), frame), box((0.07, width * 0.78, height * 0.8), WINDOW)]
    return merge([*pane, box((0.085, 0.04, height * 0.8), frame), box((0.085, width * 0.78, 0.04), frame)])


def house(rng: np.random.Generator, design: str, palette: Palette) -> list[Part]:
    width, depth, height = between(rng, 1.15, 1.4), between(rng, 0.85, 1.0), between(rng, 0.74, 0.86)
    wall = palette.main
    roof_color = {"red": (0.40, 0.28, 0.26), "brown": (0.52, 0.20, 0.16), "black": RED}.get(palette.name, ROOF)
    if design == "with two floors":
        height, width = height * 1.55, width * 0.85
    lawn = box((depth + 0.44, width + 0.3, 0.08), GRASS, 0.03).move(0.06, 0, -0.04)
    front = depth / 2
    parts = [lawn, box((depth, width, height), wall).move(0, 0, height / 2), box((depth + 0.04, width + 0.04, 0.1), STONE).move(0, 0, 0.05)]
    door_y = -width * 0.22
    door = merge(
        [
            box((0.06, 0.3, 0.46), WHITE),
            box((0.09, 0.24, 0.42), palette.accent if palette.name != "white" else RED),
            ellipsoid(0.03, GLOW, 6).move(0.05, 0.07, 0),
        ]
    )
    parts += [door.move(front, door_y, 0.25), box((0.3, 0.34, 0.05), STONE).move(front + 0.16, door_y, 0.02)]
    floors = 2 if design == "with two floors" else 1
    for floor in range(floors):
        z = 0.4 + floor * 0.62
        parts.append(_window(0.28, 0.26).move(front, width * 0.22, z))
        if floor:
            parts.append(_window(0.28, 0.26).move(front, door_y, z))
        parts += [mirrored(_window(0.26, 0.26).turn("z", 90).move(x, width / 2, z)) for x in (-depth * 0.22, depth * 0.22)]
        parts.append(_window(0.3, 0.26).turn("z", 180).move(-front, 0, z))
    if design == "with a thatched roof":
        cross = [
            (-depth / 2 - 0.2, -0.08),
            (depth / 2 + 0.2, -0.08),
            (depth / 2 + 0.18, 0.1),
            (0.16, 0.62),
            (-0.16, 0.62),
            (-depth / 2 - 0.18, 0.1),
        ]
        thatch = extrude(cross, width + 0.34, THATCH, "y").move(0, 0, height)
        ridge = cylinder(0.13, width + 0.36, mix(THATCH, DARK_WOOD, 0.3), "y", sections=12).move(0, 0, height + 0.58)
        bushes = [ellipsoid((0.16, 0.2, 0.15), LEAF, 12).move(front + 0.14, y, 0.1) for y in (width * 0.12, width * 0.36)]
        beams = [
            box((0.03, 0.05, height * 0.95), DARK_WOOD).move(front + 0.005, y, height / 2) for y in (-width * 0.47, 0.02, width * 0.47)
        ]
        return [*parts, thatch, ridge, *bushes, *beams, box((0.2, 0.2, 0.5), STONE, 0.02).move(-0.15, -width * 0.34, height + 0.6)]
    rise = between(rng, 0.38, 0.5)
    if design == "with a porch":
        parts += [
            _roof(depth, width, rise, roof_color).move(0, 0, height),
            box((0.42, width * 0.95, 0.08), WOOD).move(front + 0.22, 0, 0.06),
        ]
        parts += [mirrored(cylinder(0.045, 0.52, WHITE, sections=10).move(front + 0.38, y, 0.34)) for y in (width * 0.44, width * 0.02)]
        awning = hull(
            [(front + x, s * (width / 2 + 0.04), z) for s in (-1, 1) for x, z in ((-0.02, 0.76), (-0.02, 0.84), (0.5, 0.6), (0.5, 0.67))],
            roof_color,
        )
        return [*parts, awning, box((0.2, 0.2, 0.5), BRICK, 0.02).move(-0.2, width * 0.3, height + rise * 0.8)]
    if design == "with two floors":
        peak = _roof(width, depth, rise * 1.1, roof_color).turn("z", 90).move(0, 0, height)
        gable = hull(
            [
                (front - 0.03 + dx, y, z)
                for dx in (0, 0.04)
                for y, z in ((-width * 0.42, height), (width * 0.42, height), (0, height + rise * 0.95))
            ],
            wall,
        )
        garage = [
            box((depth * 0.8, 0.6, 0.6), mix(wall, WHITE, 0.25)).move(-0.05, -width / 2 - 0.3, 0.3),
            box((depth * 0.9, 0.7, 0.08), roof_color, 0.02).move(-0.05, -width / 2 - 0.3, 0.63),
        ]
        garage.append(box((0.06, 0.42, 0.42), WHITE).move(front * 0.72, -width / 2 - 0.3, 0.24))
        round_window = merge([cylinder(0.12, 0.08, WHITE, "x", sections=16), cylinder(0.085, 0.1, WINDOW, "x", sections=14)]).move(
            front + 0.13, 0, height + rise * 0.36
        )
        return [
            *parts,
            peak,
            gable,
            *garage,
            round_window.move(-0.02, 0, 0),
            box((0.18, 0.18, 0.55), BRICK).move(-0.2, width * 0.25, height + rise * 0.7),
            box((depth + 0.6, 0.75, 0.08), GRASS, 0.03).move(0.06, -width / 2 - 0.55, -0.04),
        ]
    smoke = [
        ellipsoid(r, (0.88, 0.89, 0.91), 10).move(-0.18 + dx, -width * 0.28, height + z)
        for r, dx, z in ((0.09, 0, 0.95), (0.12, -0.08, 1.1), (0.15, -0.2, 1.28))
    ]
    stack = [
        box((0.22, 0.22, 0.75), BRICK, 0.01).move(-0.18, -width * 0.28, height + 0.42),
        box((0.28, 0.28, 0.08), STONE).move(-0.18, -width * 0.28, height + 0.8),
    ]
    bush = mirrored(ellipsoid((0.15, 0.15, 0.16), DARK_LEAF, 12).move(front + 0.16, width * 0.46, 0.12))
    return [*parts, _roof(depth, width, rise, roof_color).move(0, 0, height), *stack, *smoke, bush]


def _merlons(radius: float, count: int, size: float, color: tuple[float, float, float]) -> Part:
    return ring(box((size * 0.8, size, size), color).move(radius, 0, size / 2), count)


def castle_tower(rng: np.random.Generator, design: str, palette: Palette) -> list[Part]:
    radius, height = between(rng, 0.42, 0.5), between(rng, 1.25, 1.5)
    stone = STONE if palette.name != "white" else (0.95, 0.94, 0.90)
    if palette.name in ("gray", "brown", "black"):
        stone = {"gray": (0.60, 0.62, 0.66), "brown": (0.70, 0.54, 0.38), "black": (0.30, 0.30, 0.34)}[palette.name]
    if palette.name in ("red", "green", "blue", "purple", "pink"):
        stone = mix(stone, palette.main, 0.28)
    roof = palette.main if palette.name not in ("gray", "brown", "black", "white") else (0.28, 0.42, 0.68)
    hill = lathe([(radius + 0.55, -0.14), (radius + 0.45, 0), (0, 0.06)], GRASS, 24)
    wall = lathe([(radius * 1.12, 0), (radius, 0.3), (radius, height)], stone, 24)
    bricks = [
        box((0.04, 0.15, 0.08), mix(stone, DARK_WOOD, 0.28), 0.01)
        .move(radius + 0.005, 0, 0)
        .turn("z", 137.5 * k)
        .move(0, 0, 0.35 + (height - 0.5) * k / 14)
        for k in range(14)
    ]
    gate = merge(
        [
            box((0.2, 0.3, 0.32), DARK_WOOD).move(0, 0, 0.16),
            cylinder(0.15, 0.2, DARK_WOOD, "x").move(0, 0, 0.32),
            box((0.22, 0.04, 0.4), IRON).move(0, 0, 0.2),
        ]
    ).move(radius, 0, 0)
    slit = merge([box((0.08, 0.12, 0.24), (0.2, 0.18, 0.2)), cylinder(0.06, 0.08, (0.2, 0.18, 0.2), "x").move(0, 0, 0.12)])
    slits = [
        slit.move(radius, 0, 0).turn("z", a).move(0, 0, height * z)
        for a, z in ((0, 0.68), (120, 0.5), (240, 0.62), (60, 0.78), (180, 0.35))
    ]
    top = lathe([(radius, height - 0.1), (radius + 0.12, height), (radius + 0.12, height + 0.16), (radius, height + 0.16)], stone, 24)
    parts = [hill, wall, *bricks, gate, *slits, top]
    pole = height + 0.16
    if design == "with a flag":
        flag = extrude(
            [(0, 0), (0, 0.3), (0.5, 0.24), (0.38, 0.15), (0.5, 0.06)],
            0.05,
            palette.main if palette.name not in ("gray", "white") else RED,
            "x",
        ).move(0, 0.02, pole + 0.42)
        walkway = lathe([(radius + 0.13, 0), (radius + 0.13, 0.1), (radius + 0.02, 0.1)], roof, 24).move(0, 0, height - 0.02)
        return [
            *parts,
            walkway,
            _merlons(radius + 0.06, 10, 0.17, stone).move(0, 0, pole),
            cylinder(0.03, 0.75, IRON, sections=6).move(0, 0, pole + 0.37),
            flag,
            *([ring(box((0.03, 0.28, 0.42), roof, 0.01).move(radius + 0.03, 0, height * 0.42).turn("z", 30), 3)]),
        ]
    if design == "with a pointed roof":
        cap = merge([cone(radius + 0.24, 0.85, roof, sections=20).move(0, 0, 0.42), ellipsoid(0.06, GLOW, 8).move(0, 0, 0.87)])
        return [*parts, cap.move(0, 0, pole), ring(_window(0.2, 0.2, stone).move(radius + 0.1, 0, height + 0.02), 4, 45)]
    side = merge(
        [
            cylinder(radius * 0.55, height * 0.62, stone, sections=18).move(0, 0, height * 0.31),
            cone(radius * 0.75, 0.5, roof, sections=16).move(0, 0, height * 0.62 + 0.25),
        ]
    )
    walls = mirrored(
        merge(
            [
                box((0.2, 0.6, 0.52), stone).move(0, radius + 0.28, 0.26),
                *(box((0.22, 0.12, 0.12), stone).move(0, radius + y, 0.56) for y in (0.16, 0.36)),
                side.move(0, radius + 0.62, 0),
            ]
        )
    )
    return [*parts, walls, cone(radius + 0.2, 0.72, roof, sections=20).move(0, 0, pole + 0.36), hill.scale(1, 1.55, 1)]


def windmill(rng: np.random.Generator, design: str, palette: Palette) -> list[Part]:
    height, spin = between(rng, 1.15, 1.35), between(rng, 15, 75)
    wall = palette.main
    lawn = lathe([(0.7, -0.08), (0.64, 0), (0, 0.04)], GRASS, 24)
    top_color = (0.55, 0.27, 0.20) if palette.name not in ("red", "brown") else (0.35, 0.30, 0.30)
    door = merge([box((0.1, 0.24, 0.4), DARK_WOOD).move(0, 0, 0.2), cylinder(0.12, 0.1, DARK_WOOD, "x").move(0, 0, 0.4)])
    if design == "with a wooden frame":
        legs = ring(tube([(0.5, 0.5, 0), (0.12, 0.12, height)], 0.05, wall, 8), 4)
        braces = []
        for z in (0.3, 0.62, 0.92):
            half = 0.5 - 0.38 * z * 1.0
            braces.append(ring(tube([(half, -half, z * height), (half, half, z * height)], 0.035, wall, 6), 4))
        blade = hull(
            [(dx, y, z) for dx, lean in ((0, 0), (0.04, 0)) for y, z in ((-0.05 + lean, 0.1), (0.07, 0.1), (0.15, 0.66), (-0.13, 0.66))],
            wall,
        )
        fan = merge([ring(blade.turn("y", 90), 10).turn("y", -90), cylinder(0.1, 0.12, palette.accent, "x")])
        tail = extrude([(-0.2, -0.03), (-0.75, -0.18), (-0.85, 0.2), (-0.2, 0.06)], 0.06, palette.accent, "y")
        return [
            lawn,
            legs,
            *braces,
            fan.turn("x", spin).move(0.24, 0, height + 0.12),
            box((0.4, 0.2, 0.2), IRON, 0.04).move(0, 0, height + 0.1),
            tail.move(0, 0, height + 0.12),
        ]
    body = lathe([(0.5, 0), (0.33, height)], wall, 8 if design == "with a stone base" else 22)
    parts = [lawn, body, dome((0.38, 0.38, 0.32), top_color, 20).move(0, 0, height), door.move(0.44, 0, 0)]
    parts += [
        _window(0.16, 0.18).move(0.4, 0, height * 0.55),
        *(_window(0.16, 0.18).move(0.36, 0, 0).turn("z", a).move(0, 0, height * 0.62) for a in (110, 250)),
    ]
    cloth = merge(
        [
            box((0.04, 0.05, 0.95), DARK_WOOD).move(0, 0, 0.5),
            box((0.045, 0.24, 0.68), CREAM).move(0.01, 0.13, 0.6),
            *(box((0.06, 0.26, 0.035), DARK_WOOD).move(0.01, 0.13, z) for z in (0.28, 0.5, 0.72, 0.93)),
        ]
    )
    sails = merge([cloth.turn("x", 90 * k + spin) for k in range(4)] + [cylinder(0.09, 0.16, DARK_WOOD, "x")])
    if design == "with a stone base":
        parts += [
            lathe([(0.62, 0), (0.56, 0.42), (0.5, 0.44)], STONE, 8),
            lathe([(0.74, 0.42), (0.74, 0.5), (0.4, 0.5)], WOOD, 16),
            door.move(0.56, 0, 0),
            ring(cylinder(0.03, 0.2, DARK_WOOD, sections=6).move(0.7, 0, 0.58), 10),
        ]
        return [*parts, sails.move(0.46, 0, height + 0.1)]
    stripe = [
        lathe(
            [
                (0.5 - 0.17 * z + 0.012, z * height - 0.06),
                (0.5 - 0.17 * z + 0.006, z * height + 0.06),
                (0.3, z * height + 0.06),
                (0.3, z * height - 0.06),
                (0.5 - 0.17 * z + 0.012, z * height - 0.06),
            ],
            palette.accent,
            22,
        )
        for z in (0.3, 0.82)
    ]
    return [*parts, *stripe, sails.move(0.46, 0, height + 0.08)]


def lighthouse(rng: np.random.Generator, design: str, palette: Palette) -> list[Part]:
    height, low, high = between(rng, 1.4, 1.65), between(rng, 0.36, 0.42), between(rng, 0.23, 0.27)
    rocks = [
        ellipsoid((0.3, 0.26, 0.2), mix(STONE, DARK_WOOD, 0.15 * (k % 3)), 7)
        .turn("z", 40 * k)
        .move(0.42 * np.cos(k), 0.42 * np.sin(k), 0.0)
        for k in range(7)
    ]
    sea = lathe([(0.85, -0.2), (0.82, -0.06), (0, -0.04)], (0.25, 0.58, 0.78), 28)
    second = WHITE if palette.name != "white" else RED
    levels = 7
    z = np.linspace(0, height, levels + 1)
    radius = low + (high - low) * (z / height) ** 0.8
    colors = [palette.main if k % 2 == 0 or design == "with a plain tower" else second for k in range(levels)]
    tower = lathe(np.c_[radius, z], colors, 26)
    if design == "with a spiral":
        fine_z = np.linspace(0, height, 33)
        tower = lathe(np.c_[np.interp(fine_z, z, radius), fine_z], palette.main, 36)
        tower = tower.paint_where(lambda p: (azimuth(p) / (2 * np.pi) + 2.2 * p[:, 2] / height) % 1 < 0.45, second)
    balcony = [
        lathe([(high, -0.1), (high + 0.14, 0), (high + 0.14, 0.06), (high, 0.06)], IRON, 24),
        ring(cylinder(0.025, 0.16, IRON, sections=6).move(high + 0.11, 0, 0.12), 12),
    ]
    lantern = [cylinder(0.18, 0.28, GLOW, sections=16).move(0, 0, 0.2), ring(box((0.04, 0.04, 0.28), IRON).move(0.18, 0, 0.2), 6)]
    roof_color = palette.main if palette.name != "white" else RED
    roof = [dome((0.26, 0.26, 0.22), roof_color, 18).move(0, 0, 0.33), ellipsoid(0.05, IRON, 8).move(0, 0, 0.58)]
    top = [part.move(0, 0, height) for part in (*balcony, *lantern, *roof)]
    door = merge([box((0.1, 0.18, 0.3), DARK_WOOD).move(0, 0, 0.25), cylinder(0.09, 0.1, DARK_WOOD, "x").move(0, 0, 0.4)]).move(
        low * 0.97, 0, 0
    )
    windows = [box((0.08, 0.11, 0.15), GLASS, 0.01).move(float(np.interp(h * height, z, radius)), 0, h * height) for h in (0.5, 0.76)]
    parts = [sea, *rocks, tower, *top, door, *windows]
    if design == "with a plain tower":
        cottage = merge(
            [
                box((0.4, 0.5, 0.34), WHITE if palette.name != "white" else CREAM).move(0, 0, 0.2),
                _roof(0.4, 0.5, 0.26, RED if palette.name != "red" else IRON, 0.05).move(0, 0, 0.37),
                _window(0.14, 0.14).move(0.2, 0.1, 0.22),
                box((0.05, 0.12, 0.22), DARK_WOOD).move(0.2, -0.12, 0.14),
            ]
        )
        parts += [cottage.move(0.05, 0.58, 0.0), ellipsoid((0.4, 0.4, 0.12), STONE, 10).move(0.05, 0.55, -0.04)]
    return parts
