"""Trees, mushrooms, flowers, cacti, fish and other animals."""

from __future__ import annotations

import numpy as np

from fsd_gs.catalogue.mesh import Part, box, cone, curve, cylinder, dome, ellipsoid, extrude, lathe, merge, mirrored, ring, torus, tube
from fsd_gs.catalogue.palette import (
    BLACK,
    BRASS,
    CARROT,
    CREAM,
    DARK_LEAF,
    DARK_WOOD,
    LEAF,
    RED,
    SOIL,
    TERRACOTTA,
    WHITE,
    WOOD,
    YELLOW,
    Palette,
    mix,
)
from fsd_gs.catalogue.shapes.common import alternate, between, eyes, fluted


def tree(rng: np.random.Generator, design: str, palette: Palette) -> list[Part]:
    trunk_color = DARK_WOOD if palette.name != "brown" else WOOD
    main = palette.main
    ground = lathe([(0.55, -0.06), (0.5, 0.02), (0, 0.06)], (0.45, 0.68, 0.30), 24)
    if design == "with a pointed crown":
        parts = [cylinder(0.13, 0.6, trunk_color, sections=12).move(0, 0, 0.3)]
        for k, radius in enumerate((0.72, 0.58, 0.42)):
            tier = lathe([(0.1, 0.06), (radius, 0), (radius * 0.5, 0.36), (0, 0.72)], mix(main, WHITE, 0.05 * k), 14)
            parts.append(tier.move(0, 0, 0.42 + 0.42 * k).turn("z", 13 * k))
        return [ground, *parts]
    if design == "with palm leaves":
        bend = between(rng, 0.2, 0.4)
        path = curve([(0, 0, 0), (0, bend * 0.4, 0.7), (0, bend, 1.4)], 12)
        trunk = tube(path, np.linspace(0.16, 0.09, 12) + 0.02 * (np.arange(12) % 2), WOOD, 10)
        leaf = []
        for k in range(7):
            angle, reach = 2 * np.pi * k / 7 + 0.3, between(rng, 0.72, 0.85)
            rib = curve([(0, 0, 0), (reach * 0.5, 0, 0.2), (reach, 0, -0.22)], 9)
            blade = tube(rib, np.array([0.05, 0.1, 0.13, 0.15, 0.15, 0.13, 0.1, 0.07, 0.02]), main if k % 2 else mix(main, WHITE, 0.15), 8)
            blade = blade.warp(
                lambda p, rib=rib: np.c_[
                    p[:, 0],
                    p[:, 1] * 1.25,
                    np.interp(p[:, 0], rib[:, 0], rib[:, 2]) + 0.3 * (p[:, 2] - np.interp(p[:, 0], rib[:, 0], rib[:, 2])),
                ]
            )
            leaf.append(blade.turn("z", np.rad2deg(angle)).move(*path[-1]))
        nuts = ring(ellipsoid(0.1, DARK_WOOD, 10).move(0.13, 0, -0.12), 3).move(*path[-1])
        sand = lathe([(0.5, -0.06), (0.45, 0.02), (0, 0.06)], (0.93, 0.83, 0.58), 24)
        return [sand, trunk, *leaf, nuts]
    height = between(rng, 0.8, 1.0)
    parts = [lathe([(0.2, 0), (0.13, 0.15), (0.11, height), (0.08, height + 0.2)], trunk_color, 12)]
    blobs = [
        (0, 0, height + 0.42, 0.5),
        (0.34, 0.1, height + 0.18, 0.34),
        (-0.25, 0.3, height + 0.2, 0.34),
        (-0.12, -0.36, height + 0.2, 0.36),
        (0.1, 0.05, height + 0.72, 0.33),
    ]
    for k, (x, y, z, radius) in enumerate(blobs):
        size = radius * between(rng, 0.92, 1.1)
        parts.append(ellipsoid((size, size, size * 0.88), mix(main, WHITE if k % 2 else DARK_LEAF, 0.08), 16).move(x, y, z))
    if design == "with a round crown":
        size = between(rng, 0.66, 0.76)
        parts = [parts[0], ellipsoid((size, size, size * between(rng, 0.85, 1.1)), main, 24).move(0, 0, height + size * 0.75)]
        tufts = [(0.8, 0.5, 0.25), (-0.7, 0.6, -0.2), (0.5, -0.75, -0.3), (-0.5, -0.55, 0.6), (0.1, 0.2, 0.95)]
        parts += [
            ellipsoid(0.55 * size, mix(main, WHITE, 0.08), 16).move(0.7 * size * x, 0.7 * size * y, height + size * (0.75 + 0.7 * z))
            for x, y, z in tufts
        ]
    if design == "with fruits":
        fruit = RED if palette.name not in ("red", "pink") else YELLOW
        for k in range(14):
            angle, up = 2.4 * k, -0.5 + k / 13
            direction = np.array([np.sqrt(1 - up**2) * np.cos(angle), np.sqrt(1 - up**2) * np.sin(angle), up])
            parts.append(ellipsoid(0.11, fruit, 10).move(*(direction * [0.58, 0.58, 0.55] + [0, 0, height + 0.38])))
    return [ground, *parts]


def mushroom(rng: np.random.Generator, design: str, palette: Palette) -> list[Part]:
    def one(cap: float, stem: float, thick: float, pointed: float) -> Part:
        body = lathe([(thick * 1.35, 0), (thick * 1.05, stem * 0.3), (thick * 0.85, stem)], CREAM, 18)
        profile = curve(
            [
                (cap * 0.3, stem, 0),
                (cap, stem - 0.03, 0),
                (cap * 0.92, stem + 0.22 * cap, 0),
                (cap * 0.55, stem + 0.55 * pointed, 0),
                (0, stem + 0.72 * pointed, 0),
            ],
            18,
        )[:, :2]
        profile[:, 0] = np.maximum(profile[:, 0], 0)
        hat = lathe(profile, [CREAM] * 4 + [palette.main] * 13, 28)
        spots = []
        if palette.name != "white":
            for k in range(9):
                angle, share = 2.4 * k + 0.4, 0.22 + 0.6 * k / 8
                r = cap * share
                z = float(np.interp(-r, -profile[4:, 0], profile[4:, 1]))
                spots.append(
                    ellipsoid((0.13 * cap, 0.13 * cap, 0.06 * cap + 0.02), WHITE, 10)
                    .turn("y", 60 * share)
                    .turn("z", np.rad2deg(angle))
                    .move(r * np.cos(angle), r * np.sin(angle), z)
                )
        return merge([body, hat, *spots])

    cap, stem = between(rng, 0.6, 0.72), between(rng, 0.6, 0.75)
    grass = ring(cone(0.05, 0.3, LEAF, sections=6).turn("y", 16).move(0.3, 0, 0.12), 8)
    if design == "with a flat cap":
        return [one(cap * 1.25, stem, 0.17, 0.35), torus(0.19, 0.05, CREAM, sections=18, sides=8).move(0, 0, stem * 0.6), grass]
    if design == "with little ones":
        small = one(0.36, 0.42, 0.12, 0.5)
        return [one(cap, stem + 0.1, 0.2, 0.7), small.move(0.42, -0.5), small.scale(0.8).move(0.35, 0.52), grass]
    return [one(cap * 0.78, stem + 0.15, 0.2, 1.1), torus(0.2, 0.06, CREAM, sections=18, sides=8).move(0, 0, stem * 0.55), grass]


def flower(rng: np.random.Generator, design: str, palette: Palette) -> list[Part]:
    main = palette.main
    height = between(rng, 1.05, 1.25)
    heart = YELLOW if palette.name not in ("yellow", "gold") else DARK_WOOD
    stem = tube(curve([(0, 0, 0), (0, 0.05, height * 0.5), (0, 0, height)], 10), 0.055, LEAF, 8)
    leaf = ellipsoid((0.32, 0.13, 0.04), LEAF, 12).move(0.3, 0, 0).turn("y", -35)
    leaves = [leaf.turn("z", 80).move(0, 0, height * 0.25), leaf.turn("z", 260).move(0, 0, height * 0.4)]
    if design == "with a bell head":
        petals = int(rng.integers(5, 7))
        cup = lathe(curve([(0.1, 0, 0), (0.36, 0.12, 0), (0.4, 0.38, 0), (0.3, 0.66, 0)], 12)[:, :2], main, 24)
        tips = ring(ellipsoid((0.1, 0.22, 0.34), mix(main, WHITE, 0.12), 12).turn("y", 4).move(0.3, 0, 0.48), petals)
        return [stem, *leaves, merge([cup, tips]).move(0, 0, height - 0.08)]
    if design == "in a pot":
        pot = lathe(
            [(0.34, 0), (0.46, 0.5), (0.52, 0.5), (0.52, 0.64), (0.44, 0.64), (0.42, 0.56), (0, 0.56)],
            TERRACOTTA if palette.name != "orange" else WHITE,
            28,
        )
        soil = cylinder(0.43, 0.06, SOIL).move(0, 0, 0.58)
        height = 0.75
        stem, leaves = stem.scale(1, 1, 0.6), [part.scale(1, 1, 0.5).move(0, 0, 0.05) for part in leaves]
        head = _daisy(main, heart, 8, 0.24, 0.15).turn("y", 50).move(0.05, 0, height + 0.1)
        return [pot, soil, merge([stem, *leaves, head]).move(0, 0, 0.56)]
    count = int(rng.integers(9, 12))
    head = _daisy(main, heart, count, 0.34, 0.13).turn("y", 62).move(0.06, 0, height + 0.12)
    return [stem, *leaves, head]


def _daisy(petal: tuple[float, float, float], heart: tuple[float, float, float], count: int, length: float, width: float) -> Part:
    blade = ellipsoid((length * 0.75, width, 0.05), petal, 12).move(length * 0.95, 0, 0)
    return merge(
        [
            ring(blade, count),
            dome((length * 0.55, length * 0.55, 0.16), heart, 16),
            ellipsoid((length * 0.5, length * 0.5, 0.06), LEAF, 12).move(0, 0, -0.03),
        ]
    )


def cactus(rng: np.random.Generator, design: str, palette: Palette) -> list[Part]:
    main = palette.main
    pot = lathe([(0.36, 0), (0.46, 0.42), (0.52, 0.42), (0.52, 0.56), (0.42, 0.56), (0, 0.5)], TERRACOTTA, 28)
    soil = cylinder(0.44, 0.06, SOIL).move(0, 0, 0.5)

    def ribbed(radius: float, height: float, count: int = 10) -> Part:
        column = lathe(
            curve([(radius * 0.85, 0, 0), (radius, height * 0.4, 0), (radius * 0.9, height * 0.8, 0), (0, height, 0)], 12)[:, :2].clip(0),
            main,
            count * 4,
        )
        return fluted(column, lambda a: 1 + 0.1 * np.cos(count * a))

    bloom = merge(
        [ring(ellipsoid((0.11, 0.06, 0.05), (0.96, 0.42, 0.62), 8).move(0.1, 0, 0).turn("y", -25), 6), ellipsoid(0.06, YELLOW, 8)]
    )
    if design == "with a round body":
        size = between(rng, 0.5, 0.58)
        ball = fluted(ellipsoid((size, size, size * 0.95), main, 48), lambda a: 1 + 0.08 * np.cos(12 * a))
        spines = [_spines(size * 1.07, 12, z * size) for z in (-0.4, 0.05, 0.5)]
        return [pot, soil, merge([ball, *spines, bloom.scale(1.5).move(0, 0, size * 0.97)]).move(0, 0, 0.5 + size * 0.85)]
    height = between(rng, 1.2, 1.4)
    parts = [pot, soil, ribbed(0.27, height).move(0, 0, 0.5), bloom.move(0, 0, 0.5 + height)]
    if design == "with arms":
        for side, z, rise in ((1, 0.95, 0.62), (-1, 1.15, 0.45)):
            path = curve([(0, 0, z), (0, side * 0.36, z + 0.02), (0, side * 0.5, z + 0.16), (0, side * 0.5, z + rise)], 12)
            parts += [tube(path, 0.14, main, 12), ellipsoid((0.14, 0.14, 0.14), main, 12).move(*path[-1])]
    else:
        parts += [_spines(0.27, 10, 0.72 + 0.24 * k) for k in range(4)]
        pup = merge([ellipsoid((0.2, 0.2, 0.26), main, 14), bloom.scale(0.8).move(0, 0, 0.26)])
        parts += [pup.turn("x", -25).move(0, 0.34, 0.62 + 0.5), pup.scale(0.85).turn("x", 25).move(0, -0.32, 0.6 + 0.85)]
    return parts


def _spines(radius: float, count: int, z: float) -> Part:
    reach = np.sqrt(max(radius**2 - z**2, 0.0)) if z < radius and abs(z) < 0.6 * radius else radius
    return ring(cone(0.03, 0.1, CREAM, "x", sections=5).move(reach + 0.04, 0, z), count)


def fish(rng: np.random.Generator, design: str, palette: Palette) -> list[Part]:
    main, accent = palette.main, palette.accent
    length, tall = between(rng, 0.68, 0.8), between(rng, 0.42, 0.5)
    if design == "with a long body":
        length, tall = length * 1.3, tall * 0.62
    body = ellipsoid((length, tall * 0.62, tall), main, 28)
    if design == "with stripes":
        stripe = WHITE if palette.name != "white" else CARROT
        colors = [stripe if k in (5, 6, 10, 11) else main for k in range(16)]
        body = ellipsoid((tall, tall * 0.62, length), colors, 32).turn("y", 90)
    else:
        body = body.paint_where(lambda p: p[:, 2] < -0.35 * tall, palette.light)
    fin = accent if design == "with big fins" else palette.dark
    reach = 1.5 if design == "with big fins" else 1.0
    tail = [
        (-length * 0.85, 0),
        (-length - 0.42 * reach, 0.46 * reach),
        (-length - 0.26 * reach, 0),
        (-length - 0.42 * reach, -0.46 * reach),
    ]
    top = [(-0.45 * length, tall * 0.7), (-0.55 * length, tall + 0.24 * reach), (0.0, tall + 0.26 * reach), (0.4 * length, tall * 0.8)]
    parts = [body, extrude(tail, 0.09, fin, "y"), extrude(top, 0.08, fin, "y")]
    parts.append(
        extrude([(-0.3 * length, -tall * 0.8), (-0.4 * length, -tall - 0.2 * reach), (0.05 * length, -tall * 0.9)], 0.08, fin, "y")
    )
    side = ellipsoid((0.24 * reach, 0.05, 0.14 * reach), fin, 12).turn("y", 25).turn("z", -35).move(0.0, tall * 0.62 + 0.08, -0.1)
    parts += [mirrored(side), mirrored(ellipsoid((0.1, 0.07, 0.1), WHITE, 12).move(length * 0.62, tall * 0.44, tall * 0.22))]
    parts.append(mirrored(ellipsoid((0.06, 0.06, 0.06), BLACK, 10).move(length * 0.65, tall * 0.48, tall * 0.22)))
    parts.append(torus(0.08, 0.035, palette.dark, "x", 14, 6).move(length * 0.97, 0, -0.04))
    return [merge(parts).turn("z", 0)]


def snowman(rng: np.random.Generator, design: str, palette: Palette) -> list[Part]:
    snow = (0.97, 0.98, 1.0) if palette.name == "white" else mix(palette.main, WHITE, 0.25)
    low, mid, top = between(rng, 0.52, 0.6), between(rng, 0.38, 0.43), between(rng, 0.28, 0.32)
    z1, z2 = low * 0.9 + mid * 0.85 + 0.02, 0.0
    z2 = z1 + mid * 0.85 + top * 0.85
    parts = [ellipsoid((low, low, low * 0.92), snow, 24), ellipsoid(mid, snow, 22).move(0, 0, z1), ellipsoid(top, snow, 20).move(0, 0, z2)]
    parts.append(cone(0.065, 0.34, CARROT, "x", 10).move(top + 0.14, 0, z2))
    parts.append(eyes(top * 0.9, top * 0.38, z2 + 0.1, 0.055, white=False))
    parts += [ellipsoid(0.055, BLACK, 8).move(mid * np.cos(a), 0, z1 + mid * np.sin(a)) for a in (-0.35, 0.05, 0.45)]
    for side in (-1, 1):
        arm = [(0, side * mid * 0.8, z1 + 0.05), (0.05, side * (mid + 0.35), z1 + 0.25)]
        parts += [tube(arm, 0.04, DARK_WOOD, 7), tube([arm[1], (0.05, side * (mid + 0.5), z1 + 0.26)], 0.03, DARK_WOOD, 6)]
        parts.append(tube([(0.04, side * (mid + 0.28), z1 + 0.2), (0.06, side * (mid + 0.36), z1 + 0.4)], 0.03, DARK_WOOD, 6))
    main = palette.accent
    parts += [torus(top * 0.82, 0.085, main, sections=24, sides=8).move(0, 0, z2 - top * 0.72)]
    parts.append(box((0.08, 0.15, 0.42), main, 0.02).turn("x", 12).move(mid * 0.95, 0.16, z1 + 0.1))
    up = z2 + top * 0.72
    if design == "with a top hat":
        parts += [
            cylinder(0.36, 0.06, BLACK, sections=24).move(0, 0, up),
            cylinder(0.23, 0.4, BLACK, top=0.25, sections=24).move(0, 0, up + 0.2),
        ]
        parts.append(cylinder(0.245, 0.1, main, sections=24).move(0, 0, up + 0.09))
    elif design == "with a bobble hat":
        parts += [
            dome((top * 1.02, top * 1.02, 0.4), main, 20).move(0, 0, up - 0.12),
            torus(top * 0.97, 0.075, WHITE, sections=22, sides=8).move(0, 0, up - 0.12),
        ]
        parts.append(ellipsoid(0.11, WHITE, 12).move(0, 0, up + 0.32))
    else:
        parts += [
            mirrored(cylinder(0.13, 0.12, main, "y").move(0, top + 0.03, z2 + 0.02)),
            tube(
                np.array([[0, (top + 0.04) * np.cos(a), z2 + (top + 0.04) * np.sin(a)] for a in np.linspace(0.1, np.pi - 0.1, 12)]),
                0.05,
                mix(main, BLACK, 0.3),
                8,
            ),
        ]
    return parts


def duck(rng: np.random.Generator, design: str, palette: Palette) -> list[Part]:
    main = palette.main
    beak = CARROT if palette.name not in ("orange",) else YELLOW
    length = between(rng, 0.62, 0.7)
    body = ellipsoid((length, 0.46, 0.4), main, 24).warp(lambda p: p + np.outer(np.maximum(-p[:, 0] - 0.25, 0) ** 1.5 * 1.1, [0, 0, 1.0]))
    head_at = np.array([0.42, 0, between(rng, 0.62, 0.7)])
    parts = [body, ellipsoid((0.33, 0.31, 0.31), main, 20).move(*head_at), ellipsoid((0.22, 0.22, 0.3), main, 14).move(0.38, 0, 0.36)]
    parts += [
        ellipsoid((0.2, 0.17, 0.06), beak, 12).move(head_at[0] + 0.36, 0, head_at[2] - 0.05),
        eyes(head_at[0] + 0.24, 0.17, head_at[2] + 0.1, 0.085),
    ]
    parts.append(mirrored(ellipsoid((0.34, 0.09, 0.22), palette.dark, 14).turn("y", 15).move(-0.12, 0.42, 0.1)))
    up = head_at[2] + 0.27
    if design == "with a hat":
        parts += [
            cylinder(0.3, 0.05, palette.accent, sections=20).move(head_at[0], 0, up),
            cylinder(0.19, 0.26, palette.accent, top=0.16, sections=20).move(head_at[0], 0, up + 0.12),
        ]
    elif design == "with a bow tie":
        parts += [
            mirrored(cone(0.15, 0.24, palette.accent, "y", 12).scale(0.6, -1, 1).move(0.66, 0.13, 0.36)),
            ellipsoid(0.07, palette.accent, 10).move(0.68, 0, 0.36),
        ]
        parts.append(ring(tube([(0, 0, 0), (0.05, 0, 0.16)], 0.03, main, 6), 3).move(head_at[0], 0, up))
    else:
        swim = (
            torus(0.62, 0.17, palette.accent if palette.accent not in (WHITE, CREAM) else RED, sections=32, sides=12)
            .scale(1.1, 1, 1)
            .move(0, 0, -0.12)
        )
        parts.append(swim.paint_where(alternate(8), WHITE))
    return parts


def cat(rng: np.random.Generator, design: str, palette: Palette) -> list[Part]:
    main, light = palette.main, palette.light
    nose = (0.93, 0.52, 0.56)
    head_r = between(rng, 0.32, 0.36)
    if design == "with a collar":
        body = ellipsoid((0.62, 0.36, 0.3), main, 22).move(-0.12, 0, 0.3)
        head = np.array([0.46, 0, 0.66])
        limbs = [
            mirrored(ellipsoid((0.24, 0.1, 0.1), light, 12).move(0.52, 0.17, 0.1)),
            mirrored(ellipsoid((0.26, 0.14, 0.22), main, 14).move(-0.42, 0.3, 0.2)),
        ]
        tail = tube(
            curve([(-0.68, 0, 0.16), (-0.72, 0.42, 0.1), (-0.3, 0.6, 0.1), (0.15, 0.5, 0.1)], 14), np.linspace(0.09, 0.06, 14), main, 8
        )
    elif design == "with stripes":
        body = lathe(curve([(0.4, 0, 0), (0.46, 0.2, 0), (0.34, 0.6, 0), (0.2, 0.85, 0)], 12)[:, :2], main, 24).scale(0.85, 0.9, 1)
        head = np.array([0.12, 0, 0.85 + head_r * 0.75])
        limbs = [
            mirrored(lathe([(0.1, 0), (0.1, 0.5), (0.04, 0.58)], main, 12).move(0.3, 0.15, 0)),
            mirrored(ellipsoid((0.17, 0.12, 0.08), light, 12).move(0.38, 0.16, 0.06)),
        ]
        limbs.append(mirrored(ellipsoid((0.24, 0.15, 0.26), main, 14).move(0.02, 0.34, 0.2)))
        limbs.append(ellipsoid((0.12, 0.2, 0.28), light, 14).move(0.25, 0, 0.52))
        tail = tube(
            curve([(-0.32, 0.05, 0.08), (-0.45, 0.4, 0.1), (-0.1, 0.62, 0.1), (0.2, 0.55, 0.12)], 14), np.linspace(0.09, 0.06, 14), main, 8
        )
    else:
        body = ellipsoid((0.56, 0.28, 0.28), main, 22).move(-0.1, 0, 0.6)
        head = np.array([0.52, 0, 0.92])
        limbs = [
            mirrored(
                merge([lathe([(0.1, 0), (0.1, 0.5)], main, 12), ellipsoid((0.15, 0.11, 0.08), light, 10).move(0.05, 0, 0.06)]).move(
                    x, 0.16, 0
                )
            )
            for x in (-0.45, 0.28)
        ]
        tail = tube(curve([(-0.58, 0, 0.66), (-0.85, 0, 0.85), (-0.85, 0, 1.2), (-0.65, 0, 1.4)], 14), np.linspace(0.09, 0.07, 14), main, 8)
    ear = merge([cone(0.15, 0.3, main, sections=4), cone(0.09, 0.2, nose, sections=4).move(0.06, 0, -0.02)]).turn("x", -14)
    face = [ellipsoid((head_r * 0.92, head_r * 1.1, head_r * 0.95), main, 22), mirrored(ear.move(0, head_r * 0.62, head_r * 0.98))]
    face += [
        eyes(head_r * 0.78, head_r * 0.44, 0.08, 0.09, iris=(0.16, 0.34, 0.16)),
        ellipsoid((0.12, 0.17, 0.11), light, 12).move(head_r * 0.8, 0, -0.11),
    ]
    face.append(ellipsoid((0.05, 0.06, 0.04), nose, 8).move(head_r * 1.1, 0, -0.05))
    parts = [body, *limbs, tail, merge(face).move(*head)]
    if design == "with stripes":
        parts[0] = body.paint_where(lambda p: (np.floor(p[:, 2] / 0.09) % 2 == 0) & (p[:, 0] < 0.2), palette.dark)
        stripe = mirrored(box((0.1, 0.05, 0.16), palette.dark, 0.02).move(head_r * 0.62, 0.09, head_r * 0.75))
        parts += [stripe.move(*head), tube(curve([(-0.45, 0.4, 0.1), (-0.3, 0.55, 0.1)], 4), 0.1, palette.dark, 8)]
    elif design == "with a collar":
        parts += [
            torus(0.25, 0.075, palette.accent, sections=22, sides=8).turn("y", 35).move(0.34, 0, 0.46),
            ellipsoid(0.09, BRASS, 10).move(0.56, 0, 0.3),
        ]
    return parts
