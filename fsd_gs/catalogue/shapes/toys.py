"""Robots, teddy bears, treasure, hats, crowns, instruments, tools."""

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
    hull,
    lathe,
    merge,
    mirrored,
    ring,
    torus,
    tube,
)
from fsd_gs.catalogue.palette import (
    BLACK,
    BRASS,
    CREAM,
    DARK_WOOD,
    GLASS,
    GLOW,
    GOLD,
    IRON,
    PALE_WOOD,
    RED,
    STEEL,
    WHITE,
    WOOD,
    YELLOW,
    Palette,
    mix,
)
from fsd_gs.catalogue.shapes.common import alternate, azimuth, between, eyes, fluted

GEMS = (RED, (0.16, 0.45, 0.90), (0.16, 0.68, 0.38), (0.62, 0.28, 0.80))


def robot(rng: np.random.Generator, design: str, palette: Palette) -> list[Part]:
    width, height = between(rng, 0.62, 0.74), between(rng, 0.6, 0.7)
    main, joint = palette.main, IRON if palette.name != "black" else STEEL
    hip = 0.62 if design != "with wheels" else 0.42
    chest = hip + height / 2
    head = hip + height + 0.34
    parts = [
        box((0.46, width, height), main, 0.07).move(0, 0, chest),
        box((0.06, width * 0.62, height * 0.46), palette.light if palette.name != "white" else STEEL, 0.02).move(0.23, 0, chest + 0.04),
    ]
    parts += [
        ellipsoid((0.04, 0.05, 0.05), c, 8).move(0.27, y, chest + 0.1) for c, y in ((RED, -0.12), (YELLOW, 0.0), ((0.3, 0.8, 0.4), 0.12))
    ]
    parts.append(box((0.03, width * 0.45, 0.06), joint).move(0.265, 0, chest - 0.05))
    parts.append(cylinder(0.12, 0.16, joint).move(0, 0, hip + height + 0.05))
    parts += [mirrored(ellipsoid(0.13, joint, 12).move(0, width / 2 + 0.06, chest + height * 0.3))]
    raised = between(rng, -0.1, 0.25)
    arm = tube(
        [
            (0, width / 2 + 0.08, chest + height * 0.3),
            (0.05, width / 2 + 0.24, chest - 0.05),
            (0.25, width / 2 + 0.26, chest - 0.2 + raised),
        ],
        0.075,
        joint,
        8,
    )
    claw = merge(
        [ellipsoid(0.11, main, 10), cone(0.05, 0.2, main, "x", 6).move(0.14, 0.06, 0), cone(0.05, 0.2, main, "x", 6).move(0.14, -0.06, 0)]
    )
    parts += [mirrored(merge([arm, claw.move(0.28, width / 2 + 0.26, chest - 0.18 + raised)]))]
    if design == "with wheels":
        track = [
            mirrored(
                merge(
                    [cylinder(0.17, 0.16, BLACK, "y").move(x, width * 0.42, 0.17) for x in (-0.28, 0.28)]
                    + [box((0.56, 0.15, 0.34), BLACK, 0.04).move(0, width * 0.42, 0.17)]
                )
            )
        ]
        track += [mirrored(cylinder(0.08, 0.2, palette.accent, "y").move(x, width * 0.42, 0.17)) for x in (-0.28, 0, 0.28)]
        parts += [*track, box((0.3, width * 0.6, 0.2), joint).move(0, 0, 0.32)]
    else:
        parts += [
            mirrored(
                merge(
                    [
                        cylinder(0.09, hip, joint, sections=10).move(0, width * 0.26, hip / 2),
                        box((0.42, 0.27, 0.17), main, 0.05).move(0.06, width * 0.26, 0.09),
                    ]
                )
            )
        ]
    if design == "with a round head":
        parts += [
            ellipsoid(0.36, main, 20).move(0, 0, head),
            ellipsoid((0.1, 0.26, 0.17), (0.12, 0.16, 0.22), 14).move(0.29, 0, head + 0.03),
        ]
        parts += [
            mirrored(ellipsoid((0.05, 0.06, 0.08), (0.45, 0.95, 1.0), 8).move(0.38, 0.1, head + 0.05)),
            mirrored(cylinder(0.12, 0.1, palette.accent, "y").move(0, 0.36, head)),
        ]
        return parts
    parts += [
        box((0.5, 0.62, 0.46), main, 0.06).move(0, 0, head),
        mirrored(
            merge(
                [
                    cylinder(0.11, 0.08, WHITE, "x").move(0.25, 0.15, head + 0.06),
                    cylinder(0.06, 0.1, BLACK, "x").move(0.26, 0.15, head + 0.06),
                ]
            )
        ),
    ]
    parts += [
        box((0.04, 0.34, 0.08), BLACK).move(0.25, 0, head - 0.13),
        *(box((0.05, 0.035, 0.08), WHITE).move(0.255, y, head - 0.13) for y in (-0.1, 0, 0.1)),
    ]
    if design == "with antennas":
        parts.append(
            mirrored(
                merge(
                    [
                        tube([(0, 0.16, head + 0.22), (0, 0.26, head + 0.5)], 0.03, joint, 6),
                        ellipsoid(0.08, palette.accent, 10).move(0, 0.27, head + 0.54),
                    ]
                )
            )
        )
        parts.append(mirrored(cylinder(0.1, 0.08, palette.accent, "y").move(0, 0.34, head)))
    else:
        parts += [
            dome((0.2, 0.2, 0.16), GLASS, 16).move(0, 0, head + 0.22),
            ellipsoid((0.07, 0.07, 0.1), RED if palette.name != "red" else YELLOW, 8).move(0, 0, head + 0.36),
        ]
    return parts


def teddy_bear(rng: np.random.Generator, design: str, palette: Palette) -> list[Part]:
    main, light = palette.main, mix(palette.main, CREAM, 0.55)
    if palette.name == "white":
        light = (0.93, 0.82, 0.70)
    belly, head = between(rng, 0.42, 0.48), between(rng, 0.36, 0.4)
    z = belly * 1.75 + head * 0.55
    parts = [
        ellipsoid((belly * 0.9, belly, belly * 1.05), main, 22).move(0, 0, belly),
        ellipsoid((0.2, belly * 0.66, belly * 0.7), light, 20).move(belly * 0.78, 0, belly),
    ]
    parts += [
        ellipsoid((head * 0.92, head * 1.08, head * 0.95), main, 22).move(0.04, 0, z),
        ellipsoid((0.16, 0.19, 0.15), light, 14).move(head * 0.85, 0, z - 0.1),
    ]
    parts += [
        ellipsoid((0.06, 0.08, 0.055), BLACK, 10).move(head * 0.85 + 0.15, 0, z - 0.03),
        eyes(head * 0.88, 0.15, z + 0.1, 0.055, white=False),
    ]
    parts.append(
        mirrored(
            merge([ellipsoid((0.09, 0.15, 0.15), main, 14), ellipsoid((0.06, 0.1, 0.1), light, 12).move(0.06)]).move(
                0, head * 0.82, z + head * 0.78
            )
        )
    )
    parts.append(
        mirrored(
            merge([ellipsoid((0.34, 0.17, 0.17), main, 14), ellipsoid((0.06, 0.13, 0.13), light, 12).move(0.31, 0, 0.02)])
            .turn("z", 18)
            .move(belly * 0.85, belly * 0.62, 0.17)
        )
    )
    parts.append(mirrored(ellipsoid((0.14, 0.14, 0.32), main, 14).turn("x", 38).turn("y", -25).move(0.12, belly + 0.08, belly * 1.2)))
    neck = z - head * 0.82
    if design == "with a bow tie":
        wing = cone(0.22, 0.34, palette.accent, "y", 10).scale(0.6, -1, 1).move(0, 0.17, 0)
        return [*parts, merge([mirrored(wing), ellipsoid(0.11, palette.accent, 8)]).move(belly * 0.85, 0, neck)]
    if design == "with a party hat":
        tall = between(rng, 0.6, 0.7)
        cap = merge([cone(0.3, tall, palette.accent, sections=24).move(0, 0, tall / 2), torus(0.27, 0.06, WHITE, sections=24, sides=8)])
        return [*parts, merge([cap, ellipsoid(0.11, WHITE, 10).move(0, 0, tall)]).move(0.04, 0, z + head * 0.78)]
    t = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    heart = np.stack([np.sin(t) ** 3, (13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)) / 16], 1) * 0.42
    return [*parts, extrude(heart, 0.22, RED if palette.name not in ("red", "pink") else WHITE).move(belly + 0.1, 0, belly + 0.12)]


def treasure_chest(rng: np.random.Generator, design: str, palette: Palette) -> list[Part]:
    width, depth, height = between(rng, 1.15, 1.35), between(rng, 0.72, 0.82), between(rng, 0.44, 0.52)
    main = palette.main
    trim = GOLD if palette.name not in ("gold", "yellow") else IRON
    body = [box((depth, width, height), main).move(0, 0, height / 2)]
    body += [box((depth + 0.05, 0.1, height + 0.02), trim, 0.01).move(0, y * width, height / 2) for y in (-0.47, -0.2, 0.2, 0.47)]
    body += [box((depth + 0.06, width + 0.06, 0.08), trim, 0.01).move(0, 0, z) for z in (0.04,)]
    arc = np.linspace(0, np.pi, 13)
    lid_shape = [(depth / 2 * np.cos(a), 0.8 * depth / 2 * np.sin(a)) for a in arc]
    band_shape = [(x * 1.06, z * 1.06 - 0.005) for x, z in lid_shape]
    lid = [
        extrude(lid_shape, width, main, "y"),
        *(extrude(band_shape, 0.1, trim, "y").move(0, y * width, 0) for y in (-0.47, -0.2, 0.2, 0.47)),
    ]
    lock = merge(
        [
            box((0.1, 0.22, 0.24), trim, 0.03),
            cylinder(0.045, 0.13, BLACK, "x", sections=10).move(0, 0, 0.02),
            box((0.13, 0.035, 0.1), BLACK).move(0, 0, -0.04),
        ]
    )
    if design == "with a closed lid":
        studs = [
            ellipsoid(0.035, STEEL, 6).move(depth / 2 + 0.03, y * width, z) for y in (-0.47, -0.2, 0.2, 0.47) for z in (0.12, height - 0.1)
        ]
        return [*body, merge(lid).move(0, 0, height + 0.02), lock.move(depth / 2 + 0.03, 0, height), *studs]
    hinge = (
        merge([merge(lid), lock.move(depth / 2 + 0.03, 0, -0.02)])
        .move(depth / 2, 0, 0.0)
        .turn("y", -between(rng, 62, 78))
        .move(-depth / 2, 0, height)
    )
    filled = [ellipsoid((depth * 0.42, width * 0.44, 0.2), GOLD, 18).move(0, 0, height - 0.02)]
    for k in range(26):
        r, a = np.sqrt((k + 0.5) / 26) * 0.95, 2.4 * k
        x, y = r * depth * 0.42 * np.cos(a), r * width * 0.44 * np.sin(a)
        z = height - 0.02 + 0.2 * np.sqrt(max(1 - r * r, 0)) + 0.02
        if design == "with jewels" and k % 2:
            gem = merge(
                [
                    cone(0.1, 0.1, GEMS[k // 2 % 4], sections=6).move(0, 0, 0.05),
                    cone(0.1, 0.1, mix(GEMS[k // 2 % 4], WHITE, 0.2), sections=6).turn("x", 180).move(0, 0, -0.05),
                ]
            )
            filled.append(gem.turn("x", 40 * k).move(x, y, z + 0.03))
        else:
            filled.append(
                cylinder(0.1, 0.05, mix(GOLD, YELLOW, 0.6 * (k % 3) / 2), sections=12).turn("x", 33 * k).turn("y", 20 * k).move(x, y, z)
            )
    if design == "with jewels":
        pearls = [
            ellipsoid(0.055, WHITE, 8).move(depth / 2 + 0.05, -0.3 + 0.055 * k, height + 0.03 - 0.2 * np.sin(np.pi * k / 11))
            for k in range(12)
        ]
        filled += [*pearls, mirrored(ellipsoid((0.02, 0.02, 0.02), GOLD, 6).move(0, 0.1, height))]
    return [*body, hinge, *filled]


def hat(rng: np.random.Generator, design: str, palette: Palette) -> list[Part]:
    main, band = palette.main, palette.accent
    crown, tall = between(rng, 0.42, 0.48), between(rng, 0.7, 0.95)
    if design == "with a tall crown":
        brim = lathe([(crown, 0), (crown + 0.3, 0.06), (crown + 0.3, 0.12), (crown, 0.08)], main, 36).warp(
            lambda p: p + np.outer(0.35 * p[:, 1] ** 2, [0, 0, 1])
        )
        return [
            brim,
            lathe([(crown, 0.04), (crown * 0.96, tall * 0.5), (crown * 1.08, tall), (crown, tall + 0.03)], main, 32),
            cylinder(crown * 1.015, 0.18, band, top=crown * 1.0, sections=32).move(0, 0, 0.17),
        ]
    if design == "with a wide brim":
        reach = between(rng, 0.45, 0.6)
        brim = lathe([(crown, 0), (crown + reach, -0.02), (crown + reach + 0.03, 0.03), (crown + reach, 0.06), (crown, 0.08)], main, 40)
        brim = brim.warp(lambda p: p + np.outer(0.28 * np.maximum(np.abs(p[:, 1]) - 0.35, 0) ** 1.5, [0, 0, 1]))
        top = dome((crown, crown, 0.5), main, 28).warp(
            lambda p: p - np.outer(0.16 * np.exp(-((p[:, 1] / 0.12) ** 2)) * (p[:, 2] > 0.3), [0, 0, 1])
        )
        flower = merge(
            [ring(ellipsoid((0.1, 0.08, 0.05), WHITE if band != WHITE else RED, 8).move(0.1, 0, 0), 5), ellipsoid(0.07, YELLOW, 8)]
        ).turn("y", 90)
        return [
            brim,
            top,
            cylinder(crown * 1.02, 0.14, band, top=crown * 0.99, sections=28).move(0, 0, 0.12),
            flower.move(crown + 0.03, 0.12, 0.15),
        ]
    if design == "with a pointed top":
        brim = lathe([(0.4, 0), (0.95, 0.0), (0.97, 0.05), (0.4, 0.1)], main, 36)
        path = curve([(0, 0, 0.02), (0, 0, 0.55), (0, 0.06, 0.95), (0, 0.34, 1.2)], 12)
        point = tube(path, np.array([0.5, 0.47, 0.43, 0.39, 0.35, 0.31, 0.26, 0.22, 0.18, 0.14, 0.09, 0.03]), main, 20)
        buckle = merge([box((0.08, 0.26, 0.22), GOLD, 0.01), box((0.1, 0.15, 0.12), band)])
        stars = [
            ellipsoid((0.03, 0.06, 0.06), YELLOW, 6).move(r * np.cos(a), r * np.sin(a), z)
            for r, a, z in ((0.39, 0.7, 0.5), (0.36, -0.6, 0.55), (0.28, 0.1, 0.78), (0.38, 2.4, 0.5), (0.33, 3.6, 0.6))
        ]
        return [brim, point, cylinder(0.515, 0.17, band, top=0.49, sections=28).move(0, 0, 0.15), buckle.move(0.5, 0, 0.15), *stars]
    knit = fluted(dome((0.55, 0.55, 0.62), main, 32, rows=8), lambda a: 1 + 0.03 * np.cos(16 * a))
    stripe = lathe([(0.535, 0.22), (0.50, 0.36), (0.4, 0.36), (0.4, 0.22), (0.535, 0.22)], band, 32)
    return [
        knit.move(0, 0, 0.1),
        torus(0.53, 0.13, band, sections=32, sides=10).move(0, 0, 0.08),
        stripe.scale(1.07, 1.07, 1).move(0, 0, 0.1),
        ellipsoid(0.19, band, 14).move(0, 0, 0.82),
    ]


def crown(rng: np.random.Generator, design: str, palette: Palette) -> list[Part]:
    radius, tall = between(rng, 0.52, 0.6), between(rng, 0.5, 0.65)
    main = palette.main
    points = int(rng.integers(6, 9))
    sections = points * 8
    angle = 2 * np.pi * np.arange(sections) / sections
    if design == "with round arches":
        wave = 0.55 + 0.45 * np.abs(np.sin(points / 2 * angle))
    else:
        wave = 0.4 + 0.6 * np.abs(1 - 2 * ((points * angle / (2 * np.pi)) % 1))
    flare = 1.18 if design != "with a velvet cap" else 1.02

    def hoop(share: float, thick: float) -> list[tuple[float, float]]:
        return [(radius * (1 + (flare - 1) * share) + thick, share), (radius * (1 + (flare - 1) * share) - 0.05, share)]

    profile = [hoop(0, 0)[0], hoop(0.5, 0)[0], hoop(1, 0)[0], hoop(1, 0)[1], hoop(0.5, 0)[1], hoop(0, 0)[1], hoop(0, 0)[0]]
    heights = {float(np.round(a, 6)): w for a, w in zip(angle % (2 * np.pi), wave, strict=True)}
    keys, values = np.array(sorted(heights)), np.array([heights[k] for k in sorted(heights)])

    def cut(p: np.ndarray) -> np.ndarray:
        at = np.interp(azimuth(p) % (2 * np.pi), [*keys, 2 * np.pi], [*values, values[0]])
        return np.c_[p[:, :2], p[:, 2] * tall * at]

    shell = lathe(profile, main, sections).warp(cut)
    parts = [shell, torus(radius + 0.01, 0.06, palette.dark if design != "with pearls" else main, sections=32, sides=8).move(0, 0, 0.04)]
    tips = 2 * np.pi * np.arange(points) / points + (np.pi / points if design == "with round arches" else 0.0)
    for k, a in enumerate(tips if design != "with round arches" else 2 * np.pi * (np.arange(points) + 0.5) / points):
        gem = GEMS[k % 4] if palette.name not in ("red", "blue") else (GEMS[1], WHITE, GEMS[2], YELLOW)[k % 4]
        top = WHITE if design == "with pearls" else gem
        parts.append(ellipsoid(0.075, top, 10).move(radius * flare * np.cos(a), radius * flare * np.sin(a), tall * 1.03))
        parts.append(
            ellipsoid((0.05, 0.075, 0.09), WHITE if design == "with pearls" and k % 2 else gem, 10)
            .move(radius * 1.04, 0, tall * 0.24)
            .turn("z", np.rad2deg(a))
        )
    if design == "with a velvet cap":
        velvet = (0.70, 0.10, 0.20) if palette.name not in ("red", "pink") else (0.24, 0.22, 0.56)
        parts += [dome((radius * 0.95, radius * 0.95, tall * 0.95), velvet, 24).move(0, 0, 0.08)]
        arch = np.linspace(0, np.pi, 15)
        bow = tube(np.stack([radius * np.cos(arch), np.zeros(15), tall * 0.9 + 0.42 * np.sin(arch)], 1), 0.055, main, 8)
        parts += [
            bow,
            bow.turn("z", 90),
            ellipsoid(0.11, main, 12).move(0, 0, tall * 0.9 + 0.48),
            box((0.05, 0.2, 0.06), main).move(0, 0, tall + 0.66),
            box((0.05, 0.06, 0.24), main).move(0, 0, tall + 0.66),
        ]
    if design == "with pearls":
        parts.append(ring(ellipsoid(0.05, WHITE, 8).move(radius + 0.06, 0, 0.04), 20))
    return parts


def guitar(rng: np.random.Generator, design: str, palette: Palette) -> list[Part]:
    main, size = palette.main, between(rng, 1.1, 1.25)
    edge = DARK_WOOD if palette.name not in ("brown", "black") else PALE_WOOD
    outline = {
        "with a sound hole": [(0, -0.62), (0.36, -0.56), (0.52, -0.25), (0.42, 0.05), (0.27, 0.2), (0.35, 0.42), (0.25, 0.62), (0, 0.66)],
        "with two horns": [
            (0, -0.5),
            (0.34, -0.5),
            (0.47, -0.22),
            (0.33, 0.08),
            (0.3, 0.3),
            (0.4, 0.58),
            (0.29, 0.68),
            (0.13, 0.42),
            (0, 0.4),
        ],
        "with a pointed body": [(0, -0.3), (0.34, -0.78), (0.55, -0.7), (0.26, 0.1), (0.14, 0.4), (0, 0.42)],
    }[design]
    straight = design == "with a pointed body"
    smooth = np.array(outline) if straight else curve(np.c_[outline, np.zeros(len(outline))], 26)[:, :2]
    smooth = smooth * [size, 1]
    polygon = np.vstack([smooth, smooth[-2:0:-1] * [-1, 1]])
    thick = 0.24 if design == "with a sound hole" else 0.15
    parts = [extrude(polygon, thick, edge), extrude(polygon * 0.94, thick + 0.05, main)]
    front = thick / 2 + 0.03
    neck_end = between(rng, 1.2, 1.32)
    parts += [
        box((0.09, 0.15, neck_end - 0.25), DARK_WOOD, 0.02).move(front, 0, (neck_end + 0.25) / 2),
        *(box((0.1, 0.15, 0.025), STEEL).move(front + 0.005, 0, z) for z in np.linspace(0.72, neck_end - 0.05, 5)),
    ]
    head = (
        [(-0.1, 0), (0.1, 0), (0.16, 0.38), (-0.16, 0.38)]
        if design != "with a pointed body"
        else [(-0.1, 0), (0.1, 0), (0.3, 0.36), (0, 0.2), (-0.3, 0.36)]
    )
    parts += [extrude(head, 0.1, edge if design == "with a sound hole" else main).move(front - 0.02, 0, neck_end - 0.02)]
    parts += [mirrored(cylinder(0.04, 0.14, STEEL, "y", sections=8).move(front, 0.18, neck_end + z)) for z in (0.08, 0.19, 0.3)]
    parts += [box((0.06, 0.025, neck_end + 0.35), CREAM).move(front + 0.055, y, (neck_end - 0.35) / 2) for y in (-0.04, 0.04)]
    if design == "with a sound hole":
        parts += [
            cylinder(0.21, 0.03, CREAM, "x", sections=24).move(front, 0, 0.12),
            cylinder(0.17, 0.04, BLACK, "x", sections=24).move(front, 0, 0.12),
        ]
        parts.append(box((0.08, 0.42, 0.08), DARK_WOOD, 0.01).move(front, 0, -0.3))
    else:
        guard = palette.accent if palette.name != "white" else RED
        parts += [box((0.06, 0.28, 0.1), BLACK, 0.01).move(front, 0, z) for z in (0.08, -0.12)]
        parts += [box((0.08, 0.26, 0.08), STEEL, 0.01).move(front, 0, -0.32)]
        shield = (
            [(0.1, 0.3), (0.28, 0.2), (0.26, -0.1), (0.36, -0.34), (0.12, -0.4)]
            if design == "with two horns"
            else [(0.08, 0.2), (0.16, 0.1), (0.24, -0.3), (0.08, -0.25)]
        )
        parts += [
            extrude(shield, 0.03, guard).move(front - 0.005, 0, 0),
            ellipsoid((0.04, 0.05, 0.05), WHITE, 8).move(front + 0.02, 0.25, -0.3),
            ellipsoid((0.04, 0.05, 0.05), WHITE, 8).move(front + 0.02, 0.3, -0.42),
        ]
    return [merge(parts).turn("y", 0)]


def key(rng: np.random.Generator, design: str, palette: Palette) -> list[Part]:
    main, length = palette.main, between(rng, 1.0, 1.2)
    shaft = [
        cylinder(0.085, length, main, sections=12).move(0, 0, length / 2 + 0.25),
        torus(0.1, 0.045, palette.light, sections=16, sides=6).move(0, 0, 0.38),
        torus(0.1, 0.045, palette.light, sections=16, sides=6).move(0, 0, 0.52),
    ]
    tip = length + 0.2
    teeth = [box((0.12, 0.3, 0.12), main, 0.015).move(0, 0.18, tip - 0.05), box((0.12, 0.22, 0.12), main, 0.015).move(0, 0.15, tip - 0.27)]
    if int(rng.integers(2)):
        teeth.append(box((0.12, 0.14, 0.1), main, 0.015).move(0, 0.12, tip - 0.47))
    if design == "with a heart bow":
        t = np.linspace(0, 2 * np.pi, 32, endpoint=False)
        heart = np.stack(
            [np.zeros(32), 0.4 * np.sin(t) ** 3, -0.4 * (13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)) / 16], 1
        )
        bow = merge([tube(heart, 0.085, main, 10, closed=True), ellipsoid((0.09, 0.12, 0.14), palette.accent, 10).move(0, 0, -0.02)]).move(
            0, 0, -0.1
        )
    elif design == "with a clover bow":
        bow = merge(
            [torus(0.2, 0.08, main, "x", 22, 8).move(0, y, z) for y, z in ((0.26, 0.06), (-0.26, 0.06), (0, -0.24))]
            + [ellipsoid((0.11, 0.12, 0.12), palette.accent, 12).move(0, 0, 0.0)]
        )
    else:
        bow = merge([torus(0.32, 0.09, main, "x", 28, 10), ellipsoid((0.06, 0.1, 0.1), palette.accent, 10).move(0, 0, 0.42)]).move(
            0, 0, -0.1
        )
    return [merge([*shaft, *teeth, bow]).turn("x", 180)]


def bell(rng: np.random.Generator, design: str, palette: Palette) -> list[Part]:
    main, wide = palette.main, between(rng, 0.56, 0.66)
    control = [(wide, 0), (wide * 0.8, 0.16), (wide * 0.6, 0.5), (wide * 0.52, 0.8), (wide * 0.3, 0.98), (0, 1.02)]
    profile = np.maximum(curve(np.c_[control, np.zeros(6)], 20)[:, :2], [0, -1])
    inner = profile[:8][::-1] * [0.85, 1] + [0, -0.02]
    shell = lathe(np.vstack([[[0, 0.55]], inner[2:], profile]), main, 30)
    band = [
        torus(float(np.interp(z, profile[:, 1], profile[:, 0])), 0.035, palette.light, sections=30, sides=6).move(0, 0, z)
        for z in (0.12, 0.62)
    ]
    clapper = [ellipsoid(0.13, IRON, 12).move(0, 0, -0.04), cylinder(0.035, 0.5, IRON, sections=6).move(0, 0, 0.25)]
    parts = [shell, *band, *clapper]
    if design == "with a wooden handle":
        return [
            *parts,
            lathe(
                [(0.09, 0), (0.07, 0.1), (0.12, 0.35), (0.1, 0.55), (0.13, 0.68), (0, 0.76)],
                WOOD if palette.name != "brown" else PALE_WOOD,
                16,
            ).move(0, 0, 1.0),
            torus(0.09, 0.04, BRASS, sections=14, sides=6).move(0, 0, 1.03),
        ]
    if design == "with a ribbon":
        loop = torus(0.2, 0.075, palette.accent if palette.name not in ("gold", "yellow") else RED, "x", 18, 8).scale(1, 1.25, 0.8)
        color = palette.accent if palette.name not in ("gold", "yellow") else RED
        tails = mirrored(box((0.06, 0.15, 0.45), color, 0.02).turn("x", 24).move(0.32, 0.16, 0.9))
        return [
            *parts,
            mirrored(loop.turn("x", 20).move(0.12, 0.26, 1.12)),
            ellipsoid(0.12, color, 10).move(0.14, 0, 1.08),
            tails,
            torus(0.1, 0.04, main, "x", 14, 6).move(0, 0, 1.1),
        ]
    yoke = [
        box((0.16, 1.3, 0.16), DARK_WOOD, 0.03).move(0, 0, 1.2),
        mirrored(box((0.14, 0.14, 1.55), DARK_WOOD, 0.02).move(0, 0.68, 0.55)),
        mirrored(box((0.55, 0.2, 0.12), DARK_WOOD, 0.02).move(0, 0.68, -0.2)),
        torus(0.12, 0.045, IRON, "x", 14, 6).move(0, 0, 1.08),
    ]
    return [*parts, *yoke]


def sword(rng: np.random.Generator, design: str, palette: Palette) -> list[Part]:
    length, width = between(rng, 1.15, 1.3), between(rng, 0.17, 0.2)
    main = palette.main
    grip = merge(
        [
            cylinder(0.09, 0.4, main, sections=12).move(0, 0, -0.22),
            *(torus(0.09, 0.022, palette.dark, sections=12, sides=5).move(0, 0, z) for z in (-0.12, -0.22, -0.32)),
        ]
    )
    fitting = GOLD if palette.name not in ("gold", "yellow") else IRON
    if design == "with a curved blade":
        path = np.array([[0, 0.32 * (z / length) ** 2 * 1.2, z] for z in np.linspace(0, length, 12)])
        half = np.array([0.9, 0.95, 1, 1.05, 1.1, 1.15, 1.2, 1.2, 1.1, 0.9, 0.6, 0.08]) * width
        blade = hull_strip(path, half, 0.07, STEEL)
        guard = [
            tube(curve([(0, 0.2, 0.04), (0, 0.28, -0.15), (0, 0.22, -0.38), (0, 0.02, -0.46)], 10), 0.04, fitting, 8),
            box((0.18, 0.56, 0.11), main, 0.03),
        ]
        return [blade, grip, *guard, ellipsoid(0.1, fitting, 10).move(0, 0, -0.46)]
    z = np.array([0, 0.3, 0.6, 0.85, 1.0]) * length
    shape = {"with a wide blade": [1.4, 1.4, 1.55, 1.7, 0.1], "with a straight blade": [1, 1, 0.95, 0.85, 0.05]}[design]
    blade = hull_strip(np.c_[np.zeros(5), np.zeros(5), z], np.array(shape) * width, 0.09, STEEL)
    groove = box((0.11, 0.045, length * 0.7), mix(STEEL, BLACK, 0.35)).move(0, 0, length * 0.38)
    if design == "with a wide blade":
        guard = [
            box((0.18, 0.7, 0.13), main, 0.04),
            mirrored(cone(0.11, 0.26, fitting, "y", 8).move(0, 0.44, 0)),
            ellipsoid((0.12, 0.12, 0.12), palette.accent, 12),
        ]
    else:
        guard = [
            mirrored(tube(curve([(0, 0, 0), (0, 0.26, 0.02), (0, 0.42, 0.14)], 8), 0.075, main, 8)),
            ellipsoid((0.11, 0.1, 0.1), main, 12),
        ]
    return [
        blade,
        groove,
        grip,
        *guard,
        ellipsoid(0.11, fitting, 12).move(0, 0, -0.46),
        ellipsoid((0.13, 0.055, 0.055), palette.accent, 8).move(0, 0, -0.46),
    ]


def hull_strip(path: np.ndarray, half_widths: np.ndarray, thick: float, color: tuple[float, float, float]) -> Part:
    """A blade along a path in the y–z plane: a diamond cross-section of half width ``half_widths`` in y and thickness ``thick`` in x."""
    sections = []
    for k in range(len(path) - 1):
        points = []
        for p, half in ((path[k], half_widths[k]), (path[k + 1], half_widths[k + 1])):
            slim = thick / 2 * min(1.0, 0.3 + half / half_widths.max())
            points += [p + offset for offset in np.array([[0, half, 0], [0, -half, 0], [slim, 0, 0], [-slim, 0, 0]])]
        sections.append(hull(points, color))
    return merge(sections)


def umbrella(rng: np.random.Generator, design: str, palette: Palette) -> list[Part]:
    ribs, wide = 8, between(rng, 0.85, 0.95)
    tall = between(rng, 0.48, 0.58) * (1.45 if design == "with a deep dome" else 1.0)
    outer = [(wide * np.cos(a), tall * np.sin(a)) for a in np.linspace(0, np.pi / 2, 9)]
    inner = [(r * 0.95, max(z - 0.05, -0.02)) for r, z in outer[::-1]]
    canopy = lathe([*outer, *inner, outer[0]], palette.main, ribs * 6)
    if design != "with dots":
        canopy = canopy.paint_where(alternate(ribs), palette.accent if design == "with striped panels" else palette.light)

    def scallop(p: Array) -> Array:
        return p + np.outer(0.16 * np.hypot(p[:, 0], p[:, 1]) ** 2 * np.abs(np.sin(ribs / 2 * azimuth(p))), [0, 0, 1])

    canopy = canopy.warp(scallop)
    parts = [
        canopy,
        cylinder(0.04, 1.5 + tall, STEEL, sections=8).move(0, 0, tall / 2 - 0.65),
        cone(0.05, 0.18, STEEL, sections=8).move(0, 0, tall + 0.14),
    ]
    hook = curve([(0, 0, -1.15), (0, 0, -1.4), (0, 0.1, -1.55), (0, 0.25, -1.5), (0, 0.28, -1.36)], 14)
    parts.append(tube(hook, 0.065, WOOD if design != "with a deep dome" else palette.accent, 8))
    parts.append(ring(ellipsoid(0.04, palette.accent, 6).move(wide, 0, 0.01), ribs))
    if design == "with dots":
        for k in range(22):
            a, s = 2.4 * k, np.sqrt((k + 1) / 23)
            up = np.sqrt(1 - (0.93 * s) ** 2)
            dot = np.array([0.93 * s * wide * np.cos(a), 0.93 * s * wide * np.sin(a), tall * up])
            bump = ellipsoid((0.1, 0.1, 0.035), palette.accent, 10).turn("y", 75 * s).turn("z", np.rad2deg(a))
            parts.append(bump.warp(lambda p, dot=dot: scallop(p + dot)))
    return parts


def gift(rng: np.random.Generator, design: str, palette: Palette) -> list[Part]:
    main, ribbon = palette.main, palette.accent
    size = between(rng, 0.85, 1.0)
    tall = size * between(rng, 0.75, 0.95)
    bow = merge(
        [
            mirrored(torus(0.2, 0.08, ribbon, "x", 18, 8).scale(1, 1.3, 0.8).turn("x", 25).move(0, 0.25, 0.16)),
            ellipsoid(0.12, ribbon, 12).move(0, 0, 0.1),
        ]
    )
    bow = merge([bow, mirrored(torus(0.16, 0.07, ribbon, "y", 16, 8).scale(1.3, 1, 0.8).turn("y", 25).move(-0.22, 0, 0.14), "x")])
    if design == "with a round lid":
        r = size * 0.58
        parts = [
            cylinder(r, tall, main, sections=32).move(0, 0, tall / 2),
            cylinder(r + 0.06, 0.2, palette.dark, sections=32).move(0, 0, tall + 0.02),
        ]
        bands = [
            box((2 * r + 0.16, 0.16, tall + 0.28), ribbon, 0.01).move(0, 0, tall / 2),
            box((0.16, 2 * r + 0.16, tall + 0.28), ribbon, 0.01).move(0, 0, tall / 2),
        ]
        return [*parts, *bands, bow.move(0, 0, tall + 0.14)]
    block = [
        box((size, size, tall), main, 0.02).move(0, 0, tall / 2),
        box((size + 0.05, 0.17, tall + 0.05), ribbon).move(0, 0, tall / 2),
        box((0.17, size + 0.05, tall + 0.05), ribbon).move(0, 0, tall / 2),
    ]
    if design == "with a big bow":
        lid = box((size + 0.1, size + 0.1, 0.18), palette.light if palette.name != "white" else (0.86, 0.9, 0.95), 0.02).move(0, 0, tall)
        strips = [box((size + 0.14, 0.18, 0.2), ribbon).move(0, 0, tall), box((0.18, size + 0.14, 0.2), ribbon).move(0, 0, tall)]
        return [*block, lid, *strips, bow.scale(1.15).move(0, 0, tall + 0.1)]
    small = (
        merge([box((0.62, 0.62, 0.48), ribbon, 0.02), box((0.64, 0.13, 0.5), main), box((0.13, 0.64, 0.5), main)])
        .turn("z", 28)
        .move(0, 0, tall + 0.24)
    )
    tiny = (
        merge([box((0.4, 0.4, 0.32), palette.light, 0.02), box((0.42, 0.1, 0.34), ribbon), box((0.1, 0.42, 0.34), ribbon)])
        .turn("z", -12)
        .move(0, 0, tall + 0.64)
    )
    return [*block, small, tiny, bow.scale(0.6).paint(main).move(0, 0, tall + 0.8)]


def sneaker(rng: np.random.Generator, design: str, palette: Palette) -> list[Part]:
    main, accent = palette.main, palette.accent
    length, width = between(rng, 0.82, 0.92), between(rng, 0.29, 0.33)
    outline = curve(
        [
            (-length, 0.05, 0),
            (-length * 0.8, width * 0.85, 0),
            (-0.1, width * 0.8, 0),
            (length * 0.5, width * 1.1, 0),
            (length * 0.95, width * 0.5, 0),
            (length, 0.05, 0),
        ],
        22,
    )[:, :2]
    polygon = np.vstack([outline, outline[::-1] * [1, -1]])
    sole = [
        extrude(polygon * 1.05, 0.17, WHITE if palette.name != "white" else (0.85, 0.83, 0.78), "z").move(0, 0, 0.08),
        extrude(polygon * 1.06, 0.05, accent, "z").move(0, 0, 0.09),
    ]
    high = design == "with a high top"
    ankle = 0.95 if high else 0.62
    heel = [(-length * 0.95 + 0.0, y, z) for y in (-width * 0.5, width * 0.5) for z in (0.15, ankle * 0.8)]
    cuff = [(x, s * width * 0.68, ankle) for x in (-length * 0.85, -length * 0.18) for s in (-1, 1)]
    toe = [
        (x, s * w, z)
        for s in (-1, 1)
        for x, w, z in (
            (length * 0.92, width * 0.5, 0.15),
            (length * 0.88, width * 0.42, 0.28),
            (length * 0.5, width * 0.95, 0.18),
            (length * 0.45, width * 0.6, 0.4),
            (-length * 0.7, width * 0.85, 0.15),
            (-0.1, width * 0.9, 0.15),
        )
    ]
    upper = hull([*heel, *cuff, *toe], main)
    cap = ellipsoid((0.32, width * 0.95, 0.26), WHITE if palette.name != "white" else accent, 16).move(length * 0.62, 0, 0.16)
    opening = ellipsoid((length * 0.33, width * 0.55, 0.05), BLACK, 16).move(-length * 0.52, 0, ankle)
    rim = torus(0.3, 0.06, accent, sections=24, sides=8).scale(length * 1.15, width * 2.05, 1).move(-length * 0.52, 0, ankle)
    laces = []
    for k in range(5 if high else 4):
        share = k / 4
        x, z = np.interp(share, [0, 1], [length * 0.36, -length * 0.12]), np.interp(share, [0, 1], [0.44, ankle - 0.02])
        laces.append(
            tube(
                [(x, -width * 0.42, z), (x - 0.03, 0, z + 0.05), (x, width * 0.42, z)],
                0.035,
                WHITE if palette.name != "white" else accent,
                6,
            )
        )
    parts = [*sole, upper, cap, opening, rim, *laces]
    if high:
        parts.append(mirrored(cylinder(0.17, 0.06, WHITE, "y", sections=20).move(-length * 0.5, width * 0.76, 0.58)))
        parts.append(mirrored(cylinder(0.1, 0.08, accent, "y", sections=14).move(-length * 0.5, width * 0.77, 0.58)))
    elif design == "with wings":
        feather = merge(
            [
                ellipsoid((0.3 - 0.05 * k, 0.04, 0.09), WHITE if palette.name != "white" else GOLD, 10)
                .turn("y", 30 + 18 * k)
                .move(-0.2 - 0.05 * k, 0, 0.1 + 0.13 * k)
                for k in range(3)
            ]
        )
        parts.append(mirrored(feather.turn("z", -22).move(-length * 0.55, width * 0.85, 0.42)))
    else:
        parts += [mirrored(box((0.1, 0.05, 0.42), accent, 0.01).turn("y", -28).move(x, width * 0.84, 0.33)) for x in (-0.42, -0.22, -0.02)]
    return parts


def lantern(rng: np.random.Generator, design: str, palette: Palette) -> list[Part]:
    main, glow = palette.main, GLOW
    tall = between(rng, 0.75, 0.9)
    if design == "with round paper":
        tall *= 1.3
        control = [(0.24, 0), (0.6, tall * 0.35), (0.62, tall * 0.65), (0.24, tall)]
        profile = curve(np.c_[control, np.zeros(4)], 18)[:, :2]
        body = [
            lathe(profile, main, 28),
            *(
                torus(float(np.interp(z, profile[:, 1], profile[:, 0])), 0.03, palette.dark, sections=28, sides=6).move(0, 0, z)
                for z in np.linspace(0.15, tall - 0.15, 5)
            ),
        ]
        caps = [cylinder(0.26, 0.1, GOLD, sections=20).move(0, 0, z) for z in (0, tall)]
        return [
            *body,
            *caps,
            torus(0.14, 0.035, GOLD, "x", 16, 6).move(0, 0, tall + 0.16),
            cylinder(0.06, 0.2, GOLD, sections=8).move(0, 0, -0.15),
            lathe([(0.11, -0.6), (0.07, -0.25)], RED if palette.name != "red" else YELLOW, 10),
        ]
    sides = 6 if design == "with six panes" else 4
    frame = [
        lathe([(0.5, 0), (0.5, 0.08), (0.42, 0.14)], main, sides),
        lathe([(0.42, tall), (0.55, tall + 0.03), (0.2, tall + 0.3), (0.12, tall + 0.42)], main, sides),
    ]
    bars = ring(box((0.08, 0.08, tall), main).move(0.42, 0, tall / 2), sides)
    pane = lathe([(0.36, 0.1), (0.36, tall)], mix(glow, WHITE, 0.35), sides)
    parts = [*frame, bars, pane, torus(0.2, 0.04, IRON if palette.name != "black" else GOLD, "x", 18, 6).move(0, 0, tall + 0.58)]
    if design == "on a post":
        lamp = merge(parts).turn("z", 45).scale(0.75).move(0, 0, 1.25)
        return [
            lamp,
            cylinder(0.07, 1.3, main, sections=12).move(0, 0, 0.62),
            lathe([(0.3, 0), (0.28, 0.1), (0.12, 0.18), (0.09, 0.4)], main, 16),
            mirrored(tube(curve([(0, 0.05, 1.0), (0, 0.3, 1.02), (0, 0.32, 1.16)], 8), 0.035, main, 6)),
        ]
    flame = ellipsoid((0.12, 0.16, 0.24), (1.3, 0.72, 0.2), 12).move(0, 0, tall * 0.42)
    return [*parts, flame.move(0.3, 0, 0), ring(box((0.05, 0.36, 0.05), main).move(0.39, 0, tall * 0.5), sides, 180 / sides)]
