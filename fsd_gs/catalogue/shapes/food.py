"""Fruit, cakes, ice cream, doughnuts, burgers."""

from __future__ import annotations

import numpy as np

from fsd_gs.catalogue.mesh import (
    Array,
    Part,
    box,
    cone,
    curve,
    cylinder,
    dome,
    ellipsoid,
    extrude,
    lathe,
    merge,
    mirrored,
    ring,
    split_long_edges,
    torus,
    tube,
)
from fsd_gs.catalogue.palette import BLACK, CREAM, DARK_LEAF, DARK_WOOD, GLOW, LEAF, RED, WHITE, YELLOW, Palette, mix
from fsd_gs.catalogue.shapes.common import alternate, azimuth, between, fluted

CHERRY = (0.80, 0.08, 0.16)
WAFFLE = (0.87, 0.63, 0.34)
CHOCOLATE = (0.36, 0.21, 0.14)
SPONGE = (0.93, 0.74, 0.44)
SPRINKLES = (RED, YELLOW, (0.24, 0.50, 0.90), WHITE, (0.36, 0.72, 0.36))


def _leaf(length: float, width: float, color: tuple[float, float, float] = LEAF) -> Part:
    """A leaf that lies along +x from the origin."""
    return ellipsoid((length / 2, width / 2, 0.03), color, 12).move(length / 2, 0, 0)


def _along(profile: Array, z: float) -> float:
    """Radius of a profile [n, 2] (upwards) at height z."""
    return float(np.interp(z, profile[:, 1], profile[:, 0]))


def apple(rng: np.random.Generator, design: str, palette: Palette) -> list[Part]:
    wide, tall = between(rng, 0.58, 0.66), between(rng, 1.0, 1.15)
    control = [(0, 0.06), (0.25, 0.0), (0.52, 0.28), (wide, 0.62), (0.5, 0.94), (0.22, 1.0), (0, 0.86)]
    profile = np.maximum(curve(np.c_[control, np.zeros(7)], 24)[:, :2], [0, -1]) * [1, tall]
    body = lathe(profile, palette.main, 28)
    stem = tube([(0, 0, 0.82 * tall), (0.02, 0.03, 1.0 * tall), (0.06, 0.06, 1.18 * tall)], 0.045, DARK_WOOD, 8)
    leaf = _leaf(0.42, 0.24).turn("y", -22).turn("z", 60).move(0.02, 0.03, 1.06 * tall)
    if design == "with a bite":
        body, core = lathe(curve(np.c_[profile, np.zeros(24)], 36)[:, :2].clip(0), palette.main, 64), np.array([0, 0, 0.5 * tall])
        for up in (0.66, 0.36):
            body = _carve(body, core, np.array([0.56, -0.3, up * tall]), 0.36, CREAM)
        return [body, stem, leaf]
    if design == "with two leaves":
        leaf = _leaf(0.75, 0.36).turn("y", -30).move(0.0, 0, 1.0 * tall)
        return [
            body,
            stem,
            leaf.turn("z", 65),
            leaf.turn("z", 235),
            mirrored(ellipsoid((0.02, 0.02, 0.02), palette.dark, 6).move(0, 0.1, 0.02)),
        ]
    worm = curve([(0.45, 0, 0.6 * tall), (0.78, 0.0, 0.62 * tall), (0.86, 0.05, 0.85 * tall)], 10)
    crawler = [tube(worm, 0.085, (0.62, 0.82, 0.30), 10), ellipsoid(0.115, (0.62, 0.82, 0.30), 12).move(*worm[-1])]
    crawler += [ellipsoid(0.04, BLACK, 8).move(worm[-1][0] + 0.09, worm[-1][1] + s * 0.05, worm[-1][2] + 0.04) for s in (-1, 1)]
    return [body, stem, leaf, *crawler, torus(0.11, 0.03, palette.dark, "x", 14, 6).move(0.6, 0, 0.6 * tall)]


def _carve(part: Part, core: Array, centre: Array, radius: float, color: tuple[float, float, float]) -> Part:
    """Take a ball out of a solid that is star-shaped about ``core`` (outside the ball): each vertex retreats along its ray from the
    core to where the ray enters the ball."""
    offset = part.vertices - core
    length = np.linalg.norm(offset, axis=1)
    ray = offset / np.maximum(length, 1e-9)[:, None]
    along = ray @ (centre - core)
    reach = radius**2 - (np.sum((centre - core) ** 2) - along**2)
    entry = along - np.sqrt(np.maximum(reach, 0.0))
    cut = (reach > 0) & (entry > 0) & (entry < length)
    vertices = np.where(cut[:, None], core + ray * entry[:, None], part.vertices)
    inside = cut[part.faces].any(1)
    return Part(vertices, part.faces, np.where(inside[:, None], np.asarray(color), part.colors))


def strawberry(rng: np.random.Generator, design: str, palette: Palette) -> list[Part]:
    wide, tall = between(rng, 0.52, 0.6), between(rng, 1.15, 1.3)
    control = [(0, 0), (0.2, 0.08), (wide * 0.8, 0.5), (wide, 0.82), (wide * 0.72, 1.02), (0, 1.08)]
    profile = np.maximum(curve(np.c_[control, np.zeros(6)], 22)[:, :2], [0, -1]) * [1, tall]
    body = lathe(profile, palette.main, 28)
    seed_color = (0.98, 0.86, 0.46) if palette.name != "white" else RED
    seeds = []
    for row, z in enumerate(np.linspace(0.2, 0.9, 6) * tall):
        r = _along(profile, z)
        count = max(5, round(r * 15))
        seed = ellipsoid((0.025, 0.03, 0.05), seed_color, 6).move(r + 0.005, 0, z)
        seeds.append(ring(seed, count, 180 / count * (row % 2)))
    crown = ring(merge([_leaf(0.48, 0.24).turn("y", 12), _leaf(0.3, 0.16, DARK_LEAF).turn("y", -20).turn("z", 30)]), 6).move(
        0, 0, 1.06 * tall
    )
    stem = tube([(0, 0, 1.05 * tall), (0.0, 0.06, 1.2 * tall), (0.04, 0.14, 1.3 * tall)], 0.05, LEAF, 8)
    berry = merge([body, *seeds, crown, stem])
    if design == "with a blossom":
        petals = merge([ring(ellipsoid((0.14, 0.11, 0.04), WHITE, 10).move(0.16, 0, 0), 5), ellipsoid((0.09, 0.09, 0.07), YELLOW, 10)])
        return [
            berry,
            tube(curve([(0, 0, 1.1 * tall), (0.3, -0.3, 1.35 * tall), (0.45, -0.4, 1.25 * tall)], 8), 0.04, LEAF, 6),
            petals.turn("y", 50).turn("z", -40).move(0.47, -0.42, 1.24 * tall),
        ]
    if design == "with chocolate":
        dip = profile[profile[:, 1] < 0.5 * tall]
        coat = lathe(
            np.vstack(
                [
                    dip * [1.06, 1] - [0, 0.03],
                    [_along(profile, 0.5 * tall) * 1.05, 0.5 * tall],
                    [_along(profile, 0.5 * tall) * 0.9, 0.53 * tall],
                ]
            ),
            CHOCOLATE,
            28,
        )
        drops = ring(ellipsoid((0.07, 0.11, 0.1), CHOCOLATE, 8).move(_along(profile, 0.5 * tall) * 0.99, 0, 0.5 * tall), 7)
        return [berry, coat, drops]
    cream = lathe([(0.5, -0.16), (0.72, 0.0), (0.6, 0.14), (0.64, 0.26), (0.42, 0.42), (0.3, 0.46)], CREAM, 24)
    puffs = ring(ellipsoid((0.17, 0.15, 0.15), CREAM, 10).move(0.6, 0, 0.02), 9)
    return [berry, cream, puffs]


def pineapple(rng: np.random.Generator, design: str, palette: Palette) -> list[Part]:
    wide, tall = between(rng, 0.42, 0.5), between(rng, 0.95, 1.15)
    control = [(0.26, 0), (wide * 0.95, tall * 0.25), (wide, tall * 0.55), (wide * 0.62, tall * 0.96), (0, tall)]
    profile = np.maximum(curve(np.c_[control, np.zeros(5)], 20)[:, :2], [0, -1])
    parts = [lathe(profile, mix(palette.main, DARK_WOOD, 0.25), 24)]
    for row, z in enumerate(np.linspace(0.1, 0.9, 7) * tall):
        r = _along(profile, z)
        knob = cone(0.115, 0.11, palette.main, "x", 4).move(r + 0.02, 0, z)
        parts.append(ring(knob, 11, 180 / 11 * (row % 2)))
    for k, (count, tilt, length) in enumerate(((7, 42, 0.5), (6, 62, 0.62), (4, 80, 0.72))):
        blade = tube(
            curve([(0, 0, 0), (length * 0.5, 0, 0.05), (length, 0, -0.1)], 6),
            [0.08, 0.1, 0.09, 0.07, 0.045, 0.015],
            mix(LEAF, DARK_LEAF, 0.5 - 0.25 * k),
            6,
        ).scale(1, 1, 0.6)
        parts.append(ring(blade.turn("y", -tilt), count, 20 * k).move(0, 0, tall * 0.96))
    if design == "with sunglasses":
        z, x = tall * 0.62, wide + 0.07
        glasses = [
            mirrored(ellipsoid((0.06, 0.17, 0.14), BLACK, 14).move(x - 0.02, 0.2, z)),
            box((0.08, 0.2, 0.06), BLACK).move(x + 0.02, 0, z + 0.04),
        ]
        smile = tube(
            [
                (x * np.cos(a) * 1.0 + 0.01, 0.3 * np.sin(a * 2.2), z - 0.36 + 0.1 * (1 - np.cos(a * 2.2)))
                for a in np.linspace(-0.5, 0.5, 9)
            ],
            0.04,
            (0.62, 0.16, 0.14),
            6,
        )
        return [*parts, *glasses, smile]
    if design == "with a straw":
        straw = tube([(0.1, 0.12, tall * 0.8), (0.2, 0.3, tall + 0.62), (0.34, 0.52, tall + 0.72)], 0.045, RED, 8)
        shade = merge(
            [
                lathe([(0.42, 0), (0.0, 0.22), (0.0, 0.16), (0.38, -0.02), (0.42, 0)], WHITE, 16).paint_where(
                    alternate(8), (0.95, 0.36, 0.5)
                ),
                cylinder(0.025, 0.7, WHITE, sections=6).move(0, 0, -0.2),
            ]
        )
        return [*parts, straw, shade.turn("x", 25).move(0.1, -0.42, tall + 0.45)]
    return (
        [
            *parts,
            cylinder(0.85, 0.05, WHITE, sections=36).move(0, 0, -0.02),
            cylinder(0.6, 0.04, palette.accent, sections=32).move(0, 0, 0.0),
        ]
        if design == "on a plate"
        else parts
    )


def pumpkin(rng: np.random.Generator, design: str, palette: Palette) -> list[Part]:
    wide, tall = between(rng, 0.62, 0.7), between(rng, 0.46, 0.6)
    ribs = int(rng.integers(8, 11))
    ball = ellipsoid((wide, wide, tall), palette.main, ribs * 5)
    flesh = fluted(ball, lambda a: 1 - 0.09 * np.abs(np.cos(ribs / 2 * a)) ** 6)
    flesh = flesh.warp(lambda p: p - np.outer(np.sign(p[:, 2]) * 0.16 * np.exp(-((np.hypot(p[:, 0], p[:, 1]) / 0.2) ** 2)), [0, 0, 1]))
    stem = tube(
        curve([(0, 0, tall - 0.2), (0, 0.02, tall + 0.05), (0.05, 0.12, tall + 0.26)], 7),
        np.linspace(0.12, 0.075, 7),
        (0.40, 0.46, 0.20),
        7,
    )
    parts = [flesh, stem]
    if design == "with a carved face":
        glow = (1.0, 0.88, 0.35) if palette.name not in ("yellow", "gold") else DARK_WOOD
        for y in (-0.24, 0.24):
            parts.append(_on_ellipsoid([(y - 0.13, 0.06), (y + 0.13, 0.06), (y, 0.26)], wide, tall, glow))
        mouth = [
            (-0.34, -0.06),
            (-0.2, -0.13),
            (-0.13, -0.07),
            (-0.05, -0.15),
            (0.05, -0.15),
            (0.13, -0.07),
            (0.2, -0.13),
            (0.34, -0.06),
            (0.2, -0.27),
            (0.0, -0.31),
            (-0.2, -0.27),
        ]
        return [*parts, _on_ellipsoid(mouth, wide, tall, glow), _on_ellipsoid([(-0.05, -0.02), (0.05, -0.02), (0, 0.06)], wide, tall, glow)]
    if design == "with a hat":
        brim = lathe([(0.5, 0), (0.52, 0.04), (0.27, 0.07), (0.2, 0.45), (0.06, 0.82)], (0.34, 0.20, 0.48), 24)
        return [*parts, brim.move(0, 0, tall - 0.08), cylinder(0.275, 0.1, GLOW, top=0.265, sections=24).move(0, 0, tall + 0.04)]
    curl = [((0.3 + 0.05 * k) * np.cos(0.75 * k - 1), (0.3 + 0.05 * k) * np.sin(0.75 * k - 1), tall + 0.08 - 0.035 * k) for k in range(10)]
    big = merge([_leaf(0.62, 0.4), _leaf(0.4, 0.3).turn("z", 45).move(0.06), _leaf(0.4, 0.3).turn("z", -45).move(0.06)])
    leaves = [big.turn("y", 12).turn("z", a).move(0, 0, tall - 0.02) for a in (20, -75, 150)]
    return [*parts, tube(curve(curl, 30), 0.04, LEAF, 6), *leaves]


def _on_ellipsoid(polygon: list[tuple[float, float]], wide: float, tall: float, color: tuple[float, float, float]) -> Part:
    """A flat (y, z) polygon thickened and laid on the front of an ellipsoid."""
    sheet = split_long_edges(extrude(polygon, 0.1, color), 0.12)
    return sheet.warp(
        lambda p: p + np.outer(wide * np.sqrt(np.maximum(1 - (p[:, 1] / wide) ** 2 - (p[:, 2] / tall) ** 2, 0.05)) - 0.02, [1, 0, 0])
    )


def ice_cream(rng: np.random.Generator, design: str, palette: Palette) -> list[Part]:
    radius = between(rng, 0.4, 0.46)
    scoop = palette.main
    if design == "in a bowl":
        glass = lathe(
            [(0.34, 0), (0.32, 0.06), (0.09, 0.12), (0.09, 0.3), (0.52, 0.62), (0.66, 0.85), (0.6, 0.85), (0.4, 0.62)],
            (0.78, 0.90, 0.95),
            28,
        )
        balls = [
            ellipsoid(radius * 0.82, c, 18).move(x, y, 0.95)
            for c, x, y in ((scoop, 0.16, -0.24), (palette.light, 0.16, 0.26), (CHOCOLATE, -0.26, 0.0))
        ]
        top = [ellipsoid(radius * 0.78, scoop, 18).move(0.02, 0, 1.32), ellipsoid(0.12, CHERRY, 12).move(0.02, 0, 1.32 + radius * 0.85)]
        wafer = box((0.06, 0.24, 0.75), WAFFLE, 0.015).turn("x", -18).turn("y", -14).move(-0.22, 0.28, 1.5)
        return [glass, *balls, *top, wafer]
    if design == "on a stick":
        width, height = between(rng, 0.58, 0.66), between(rng, 1.05, 1.2)
        bar = merge(
            [
                box((0.26, width, height - width / 2), scoop, 0.07).move(0, 0, (height - width / 2) / 2),
                cylinder(width / 2 - 0.01, 0.26, scoop, "x", sections=28).move(0, 0, height - width / 2),
            ]
        )
        coat = merge(
            [
                box((0.3, width + 0.04, 0.28), CHOCOLATE if palette.name != "brown" else CREAM, 0.06).move(0, 0, height - width / 2 - 0.06),
                cylinder(width / 2 + 0.015, 0.3, CHOCOLATE if palette.name != "brown" else CREAM, "x", sections=28).move(
                    0, 0, height - width / 2
                ),
            ]
        )
        drips = [
            ellipsoid((0.15, 0.08, 0.13), CHOCOLATE if palette.name != "brown" else CREAM, 10).move(
                0, y, height - width / 2 - 0.2 - 0.06 * (k % 2)
            )
            for k, y in enumerate((-0.22, -0.07, 0.08, 0.23))
        ]
        dots = [
            ellipsoid((0.03, 0.035, 0.035), SPRINKLES[k % 5], 6).move(
                s * 0.155, 0.2 * np.sin(2.4 * k), height - width / 2 + 0.2 * np.cos(2.4 * k) * (0.4 + 0.1 * k)
            )
            for k in range(7)
            for s in (-1, 1)
        ]
        return [bar, coat, *drips, *dots, box((0.09, 0.17, 0.5), (0.90, 0.76, 0.54), 0.03).move(0, 0, -0.22)]
    waffle = lathe([(0.03, 0), (0.36, 0.98), (0.4, 1.0), (0.4, 1.1), (0.33, 1.1)], WAFFLE, 32)
    waffle = waffle.paint_where(lambda p: alternate(16)(p) & (p[:, 2] < 1.0), mix(WAFFLE, DARK_WOOD, 0.25))
    hoops = [torus(0.36 * z + 0.03, 0.022, mix(WAFFLE, DARK_WOOD, 0.4), sections=24, sides=5).move(0, 0, z) for z in (0.25, 0.5, 0.75)]
    skirt = ring(ellipsoid((0.1, 0.13, 0.09), scoop, 8).move(radius * 0.85, 0, 1.12), 9)
    parts = [waffle, *hoops, ellipsoid((radius, radius, radius * 0.9), scoop, 22).move(0, 0, 1.35), skirt]
    if design == "with three scoops":
        parts += [
            ellipsoid(radius * 0.86, CREAM if palette.name != "white" else (0.97, 0.62, 0.74), 20).move(0, 0, 1.9),
            ellipsoid(radius * 0.72, scoop, 20).move(0, 0, 2.38),
            ellipsoid(0.13, CHERRY, 12).move(0, 0, 2.78),
        ]
        return parts
    cream = lathe(
        [
            (radius * 0.8, 1.5),
            (radius * 0.95, 1.58),
            (radius * 0.55, 1.72),
            (radius * 0.7, 1.8),
            (radius * 0.3, 1.98),
            (radius * 0.36, 2.03),
            (0, 2.25),
        ],
        scoop,
        22,
    )
    flake = cylinder(0.075, 0.6, CHOCOLATE, sections=8).turn("x", -22).move(-0.05, 0.28, 1.95)
    dots = [
        ellipsoid(0.042, SPRINKLES[k % 5], 6).move(radius * 0.93 * np.cos(2.4 * k), radius * 0.93 * np.sin(2.4 * k), 1.33 + 0.028 * k)
        for k in range(9)
    ]
    return [*parts, cream, flake, *dots]


def cake(rng: np.random.Generator, design: str, palette: Palette) -> list[Part]:
    radius, height = between(rng, 0.62, 0.74), between(rng, 0.48, 0.58)
    icing, cream = palette.main, CREAM if palette.name != "white" else (0.97, 0.66, 0.76)
    plate = lathe(
        [(0.5, -0.1), (radius + 0.2, -0.03), (radius + 0.2, 0.02), (0, 0.02)], WHITE if palette.name != "white" else (0.6, 0.78, 0.9), 36
    )
    if design == "in a paper cup":
        cup = lathe([(0.4, 0), (0.56, 0.55), (0.5, 0.56)], palette.accent, 40).paint_where(
            alternate(20),
            mix(palette.accent, (0, 0, 0), 0.18),
        )
        swirl = lathe(
            [
                (0.56, 0.52),
                (0.7, 0.66),
                (0.62, 0.8),
                (0.5, 0.84),
                (0.56, 0.94),
                (0.42, 1.06),
                (0.34, 1.08),
                (0.36, 1.16),
                (0.18, 1.3),
                (0, 1.36),
            ],
            icing,
            28,
        )
        dots = [
            ellipsoid(0.045, SPRINKLES[k % 5], 6).move(r * np.cos(2.4 * k), r * np.sin(2.4 * k), z)
            for k, (r, z) in enumerate([(0.67, 0.72), (0.69, 0.68), (0.56, 0.9), (0.55, 0.95)] * 4)
        ]
        return [
            cup,
            swirl,
            *dots,
            ellipsoid(0.16, CHERRY, 14).move(0, 0, 1.44),
            tube([(0, 0, 1.55), (0.05, 0.08, 1.75)], 0.025, DARK_LEAF, 6),
        ]
    if design == "with tiers":
        parts = [plate]
        for k, (r, z) in enumerate(((radius, 0), (radius * 0.7, 0.4), (radius * 0.42, 0.78))):
            parts += [
                cylinder(r, 0.4, icing if k != 1 else cream, sections=32).move(0, 0, z + 0.2),
                ring(ellipsoid(0.07, cream if k != 1 else icing, 8).move(r, 0, z + 0.04), round(r * 30)),
            ]
        return [
            *parts,
            ellipsoid((0.15, 0.15, 0.19), RED if palette.name != "red" else YELLOW, 12).move(0, 0, 1.34),
            ring(_leaf(0.2, 0.12).turn("y", -20), 4).move(0, 0, 1.2),
        ]
    body = lathe(
        [(radius, 0), (radius, height * 0.3), (radius, height * 0.42), (radius, height * 0.72), (radius, height)],
        [SPONGE, CREAM, SPONGE, icing],
        36,
    )
    top = lathe([(radius + 0.03, -0.06), (radius + 0.03, 0.05), (radius - 0.05, 0.1)], icing, 36).move(0, 0, height)
    drips = [
        ellipsoid((0.06, 0.09, 0.1 + 0.07 * (k % 3)), icing, 10).move(
            (radius + 0.02) * np.cos(a), (radius + 0.02) * np.sin(a), height - 0.08
        )
        for k, a in enumerate(np.arange(12) * np.pi / 6)
    ]
    parts = [plate, body, top, *drips]
    if design == "with candles":
        count = int(rng.integers(5, 8))
        candle = merge(
            [
                cylinder(0.045, 0.34, palette.accent, sections=8).move(0, 0, 0.17),
                ellipsoid((0.05, 0.05, 0.1), (1.0, 0.72, 0.2), 8).move(0, 0, 0.44),
            ]
        )
        return [
            *parts,
            ring(candle.move(radius * 0.6, 0, height + 0.08), count),
            ring(ellipsoid((0.09, 0.09, 0.08), cream, 10).move(radius * 0.86, 0, height + 0.12), 10),
        ]
    berry = lathe([(0, 0), (0.13, 0.08), (0.08, 0.26), (0, 0.32)], RED if palette.name != "red" else (0.42, 0.22, 0.55), 12)
    swirl = lathe([(0.13, 0), (0.15, 0.06), (0.07, 0.12), (0, 0.2)], cream, 12)
    return [
        *parts,
        ring(berry.move(radius * 0.72, 0, height + 0.08), 6),
        ring(swirl.move(radius * 0.72, 0, height + 0.08), 6, 30),
        berry.scale(1.3).move(0, 0, height + 0.08),
    ]


def _bite_off(points: Array) -> Array:
    """Flatten what lies beyond a scalloped plane across x."""
    return np.c_[np.minimum(points[:, 0], 0.48 + 0.05 * np.cos(22 * points[:, 1])), points[:, 1:]]


def donut(rng: np.random.Generator, design: str, palette: Palette) -> list[Part]:
    major, minor = between(rng, 0.55, 0.6), between(rng, 0.25, 0.3)
    dough = torus(major, minor, SPONGE, sections=36, sides=18).scale(1, 1, 0.85)
    glaze = torus(major, minor * 1.07, palette.main, sections=36, sides=18).scale(1, 1, 0.85)
    glaze = glaze.warp(lambda p: np.c_[p[:, :2], np.maximum(p[:, 2], 0.02 + 0.05 * np.sin(7 * azimuth(p)))])
    if design == "with a bite":
        dough, glaze = (part.warp(_bite_off) for part in (dough, glaze))
        glaze = glaze.paint_where(lambda p: (p[:, 0] > 0.42) & (np.abs(p[:, 1]) < 0.5) & (p[:, 2] < minor * 0.7), SPONGE)
    toppings = []
    for k in range(26 if design != "with drizzle" else 0):
        a, b = 2.4 * k, 0.9 * np.sin(5.1 * k)
        r = major + minor * 0.95 * np.sin(b)
        if design == "with a bite" and r * np.cos(a) > 0.36 and abs(r * np.sin(a)) < 0.55:
            continue
        grain = ellipsoid((0.075, 0.032, 0.032), SPRINKLES[(k + (palette.name == "red")) % 5], 6).turn("z", 77 * k)
        toppings.append(grain.move(r * np.cos(a), r * np.sin(a), 0.85 * minor * 1.07 * np.cos(b) + 0.01))
    if design == "with drizzle":
        a = np.linspace(0, 2 * np.pi, 120, endpoint=False)
        b = 0.85 * np.sin(14 * a)
        r = major + minor * 1.08 * np.sin(b)
        toppings.append(
            tube(
                np.stack([r * np.cos(a), r * np.sin(a), 0.85 * minor * 1.1 * np.cos(b)], 1),
                0.035,
                WHITE if palette.name != "white" else CHOCOLATE,
                6,
                closed=True,
            )
        )
    return [merge([dough, glaze, *toppings]).turn("y", 72)]


def burger(rng: np.random.Generator, design: str, palette: Palette) -> list[Part]:
    bun = {"brown": (0.84, 0.56, 0.26), "black": (0.20, 0.18, 0.19)}.get(palette.name, palette.main)
    radius = between(rng, 0.62, 0.7)
    seeds = [
        ellipsoid((0.05, 0.035, 0.025), CREAM, 6)
        .turn("z", 50 * k)
        .move(radius * s * np.cos(2.4 * k), radius * s * np.sin(2.4 * k), 0.48 * np.sqrt(1 - s**2))
        for k, s in enumerate(np.sqrt(np.linspace(0.02, 0.6, 16)))
    ]
    crown = merge([dome((radius, radius, 0.46), bun, 28), *seeds])
    patty = lathe([(radius, -0.06), (radius + 0.04, 0), (radius, 0.07)], (0.38, 0.22, 0.14), 28)
    angle = np.arange(40) * 2 * np.pi / 40
    rim = np.stack([(radius + 0.05) * np.cos(angle), (radius + 0.05) * np.sin(angle), 0.035 * np.sin(angle * 10)], 1)
    lettuce = merge([tube(rim, 0.07, (0.46, 0.76, 0.26), 6, closed=True), cylinder(radius, 0.07, (0.46, 0.76, 0.26), sections=28)])
    cheese = (
        box((radius * 1.5, radius * 1.5, 0.05), (1.0, 0.76, 0.16))
        .turn("z", 20)
        .warp(lambda p: p - np.outer(np.maximum(np.hypot(p[:, 0], p[:, 1]) - radius, 0) * 0.7, [0, 0, 1]))
    )
    tomato = lathe([(radius * 0.96, -0.04), (radius * 0.96, 0.04)], (0.88, 0.22, 0.16), 28)
    bottom = lathe([(radius * 0.92, 0), (radius, 0.06), (radius, 0.2)], bun, 28)
    layers = {
        "with cheese": [lettuce, tomato, patty, cheese],
        "with two patties": [patty, cheese, lettuce, patty, cheese, tomato],
        "with a flag": [lettuce, patty, tomato],
    }[design]
    z, parts = 0.2, [bottom]
    for layer in layers:
        step = 0.16 if layer is patty else 0.1
        parts.append(layer.move(0, 0, z + step / 2))
        z += step
    parts.append(crown.move(0, 0, z + 0.01))
    if design == "with a flag":
        parts += [
            cylinder(0.025, 0.7, WHITE, sections=6).move(0, 0, z + 0.7),
            box((0.05, 0.36, 0.24), palette.accent).move(0, 0.19, z + 0.92),
            ellipsoid(0.05, RED, 8).move(0, 0, z + 1.06),
        ]
    return parts
