"""Chairs, tables, lamps, beds, sofas, clocks."""

from __future__ import annotations

import numpy as np

from fsd_gs.catalogue.mesh import Part, box, cylinder, dome, ellipsoid, lathe, merge, mirrored, ring, torus, tube
from fsd_gs.catalogue.palette import BLACK, BRASS, CREAM, DARK_WOOD, GLOW, IRON, PALE_WOOD, WHITE, WOOD, Palette, mix
from fsd_gs.catalogue.shapes.common import between, four_legs


def chair(rng: np.random.Generator, design: str, palette: Palette) -> list[Part]:
    width, depth = between(rng, 0.72, 0.9), between(rng, 0.7, 0.82)
    seat, leg = between(rng, 0.62, 0.76), between(rng, 0.085, 0.11)
    main, dark = palette.main, palette.dark
    back = {"with a tall back": between(rng, 1.15, 1.4), "with armrests": 0.7, "with rockers": 0.95, "with a round back": 0.75}[design]
    parts = [box((depth, width, 0.1), main, 0.03).move(0, 0, seat)]
    parts.append(four_legs(width, depth, seat, leg, dark, splay=0.0 if design == "with rockers" else between(rng, 0.0, 0.06)))
    x = -depth / 2 + 0.05
    if design == "with a round back":
        disc = cylinder(width / 2, 0.09, main, "x", sections=28).move(x, 0, seat + width / 2 + 0.12)
        parts += [disc, cylinder(0.3 * width, 0.1, palette.accent, "x", sections=24).move(x + 0.01, 0, seat + width / 2 + 0.12)]
        parts.append(mirrored(box((0.08, 0.09, 0.4), dark).move(x, width * 0.3, seat + 0.2)))
    elif design == "with rockers":
        parts.append(mirrored(cylinder(0.045, back, dark, sections=10).move(x, width / 2 - 0.05, seat + back / 2)))
        for k in range(5):
            parts.append(cylinder(0.03, back - 0.1, main, sections=8).move(x, (k - 2) * width * 0.16, seat + back / 2 - 0.05))
        parts.append(box((0.09, width, 0.16), main, 0.03).move(x, 0, seat + back - 0.05))
        angle = np.linspace(-0.55, 0.55, 11)
        rail = np.stack([1.15 * np.sin(angle) - 0.05, np.zeros(11), 1.15 * (1 - np.cos(angle))], 1)
        parts.append(mirrored(tube(rail, 0.055, dark, 8).move(0, width / 2 - leg / 2, -0.02)))
        parts.append(mirrored(box((depth, 0.08, 0.07), dark, 0.02).move(0.02, width / 2 - 0.02, seat + 0.32)))
        parts.append(mirrored(box((0.07, 0.07, 0.32), dark).move(depth / 2 - 0.08, width / 2 - 0.02, seat + 0.16)))
    else:
        parts.append(mirrored(box((0.08, 0.09, back), dark).move(x, width / 2 - 0.045, seat + back / 2)))
        slats = 4 if design == "with a tall back" else 2
        for k in range(slats):
            z = seat + back * (0.30 + 0.68 * k / max(slats - 1, 1)) - 0.04
            parts.append(box((0.07, width - 0.1, back / slats * 0.62), main, 0.02).move(x, 0, z))
    if design == "with armrests":
        parts.append(mirrored(box((depth * 0.95, 0.13, 0.08), main, 0.02).move(0.02, width / 2 + 0.02, seat + 0.36)))
        parts.append(mirrored(box((0.08, 0.08, 0.34), dark).move(depth / 2 - 0.08, width / 2 + 0.02, seat + 0.18)))
        parts.append(box((depth * 0.85, width * 0.85, 0.1), palette.accent, 0.04).move(0.02, 0, seat + 0.09))
    return parts


def stool(rng: np.random.Generator, design: str, palette: Palette) -> list[Part]:
    radius, height = between(rng, 0.42, 0.52), between(rng, 0.8, 1.15)
    parts = [lathe([(radius, 0), (radius + 0.04, 0.05), (radius, 0.14), (radius * 0.6, 0.17)], palette.main).move(0, 0, height)]
    if design == "with three legs":
        spread = radius * 0.75
        leg = tube([(spread * 0.7, 0, height), (spread * 1.35, 0, 0)], 0.06, WOOD, 8)
        parts += [ring(leg, 3), torus(spread * 1.05, 0.035, WOOD, sections=24, sides=8).move(0, 0, height * 0.45)]
    elif design == "with a pedestal":
        parts += [cylinder(0.07, height, IRON).move(0, 0, height / 2), lathe([(0.46, 0), (0.44, 0.06), (0.1, 0.14)], IRON)]
        parts.append(torus(0.3, 0.04, palette.accent, sections=24, sides=8).move(0, 0, height * 0.4))
    else:
        parts = [box((radius * 2, radius * 2, 0.14), palette.main, 0.05).move(0, 0, height + 0.05)]
        parts.append(four_legs(radius * 1.7, radius * 1.7, height, 0.1, DARK_WOOD, splay=0.08))
        for z in (0.3, 0.62):
            parts.append(mirrored(box((radius * 1.6, 0.06, 0.06), DARK_WOOD).move(0, radius * 0.85, height * z)))
            parts.append(mirrored(box((0.06, radius * 1.6, 0.06), DARK_WOOD).move(radius * 0.85, 0, height * z), "x"))
    return parts


def table(rng: np.random.Generator, design: str, palette: Palette) -> list[Part]:
    width, depth, height = between(rng, 1.5, 1.9), between(rng, 0.85, 1.05), between(rng, 0.75, 0.95)
    main, dark = palette.main, palette.dark
    if design == "with a round top":
        radius = between(rng, 0.75, 0.95)
        top = lathe([(radius - 0.04, 0), (radius, 0.04), (radius, 0.09), (radius - 0.04, 0.12)], main, 36).move(0, 0, height)
        foot = lathe([(0.45, 0), (0.42, 0.06), (0.14, 0.16), (0.1, 0.4), (0.16, height)], dark)
        return [top, foot]
    parts = [box((depth, width, 0.11), main, 0.03).move(0, 0, height)]
    if design == "with drawers":
        parts.append(four_legs(width, depth, height, 0.12, dark))
        parts.append(box((depth * 0.9, width * 0.88, 0.24), main).move(0, 0, height - 0.16))
        for y in (-0.22, 0.22):
            parts.append(box((0.05, width * 0.38, 0.17), palette.light, 0.015).move(depth * 0.45, y * width, height - 0.16))
            parts.append(ellipsoid(0.05, BRASS, 10).move(depth * 0.45 + 0.05, y * width, height - 0.16))
    elif design == "with crossed legs":
        for x in (-1, 1):
            for sign in (-1, 1):
                leg = tube([(x * depth * 0.36, sign * width * 0.42, 0), (x * depth * 0.36, -sign * width * 0.42, height)], 0.06, dark, 8)
                parts.append(leg)
        parts.append(cylinder(0.05, depth * 0.72, dark, "x", sections=10).move(0, 0, height / 2))
    else:
        parts.append(four_legs(width * 0.94, depth * 0.92, height, 0.13, dark))
        parts.append(box((depth * 0.84, width * 0.86, 0.1), dark).move(0, 0, height - 0.09))
    return parts


def lamp(rng: np.random.Generator, design: str, palette: Palette) -> list[Part]:
    main = palette.main
    if design == "with an arm":
        metal = palette.main
        reach = between(rng, 0.5, 0.62)
        joint, head = np.array([-0.35, 0, 0.75]), np.array([reach - 0.15, 0, 1.2])
        shade = lathe([(0.13, 0.3), (0.2, 0.2), (0.36, 0.0), (0.31, 0.02), (0.1, 0.22), (0, 0.24)], main).turn("y", -25)
        parts = [lathe([(0.42, 0), (0.4, 0.08), (0.12, 0.13)], metal), tube([(0, 0, 0.1), joint], 0.045, IRON, 8)]
        parts += [tube([joint, head], 0.045, IRON, 8), ellipsoid(0.075, metal, 12).move(*joint)]
        return [*parts, shade.move(head[0] + 0.08, 0, head[2] - 0.16), ellipsoid(0.14, GLOW, 12).move(head[0] + 0.13, 0, head[2] - 0.12)]
    if design == "with a round globe":
        radius = between(rng, 0.42, 0.52)
        stem = lathe([(0.36, 0), (0.36, 0.08), (0.1, 0.16), (0.07, 0.4), (0.16, 0.75), (0.18, 0.8)], main)
        globe = ellipsoid(radius, mix(GLOW, WHITE, 0.3), 24).move(0, 0, 0.75 + radius * 0.95)
        return [stem, globe, torus(0.19, 0.05, main, sides=8).move(0, 0, 0.8), ellipsoid(0.07, main, 10).move(0, 0, 0.76 + 1.95 * radius)]
    bottom, top, height = between(rng, 0.5, 0.62), between(rng, 0.24, 0.4), between(rng, 0.48, 0.62)
    tall = design == "with a tall stand"
    stand = between(rng, 1.35, 1.6) if tall else 0.75
    shade = lathe([(bottom, 0), (top, height), (top - 0.03, height), (bottom - 0.05, 0.02), (bottom, 0)], main, 32)
    parts = [shade.move(0, 0, stand), ellipsoid((0.12, 0.12, 0.16), GLOW, 12).move(0, 0, stand + 0.2)]
    parts += [torus(r, 0.025, palette.accent, sections=32, sides=6).move(0, 0, stand + z) for r, z in ((bottom, 0.0), (top, height))]
    if tall:
        return [*parts, cylinder(0.05, stand + 0.2, IRON).move(0, 0, stand / 2), lathe([(0.4, 0), (0.38, 0.07), (0.08, 0.12)], IRON)]
    body = [(0.26, 0), (0.28, 0.05), (0.14, 0.12), (0.3, 0.34), (0.26, 0.48), (0.08, 0.62), (0.06, 0.9)]
    return [*parts, lathe(body, palette.accent if palette.name != "white" else BRASS)]


def bed(rng: np.random.Generator, design: str, palette: Palette) -> list[Part]:
    width, length = between(rng, 1.0, 1.35), between(rng, 1.75, 2.0)
    main, frame = palette.main, WOOD if palette.name != "brown" else PALE_WOOD
    head = -length / 2
    if design == "with bunks":
        width = 0.95
        parts = [mirrored(mirrored(box((0.1, 0.1, 1.5), frame).move(length / 2, width / 2, 0.75), "x"))]
        for z in (0.3, 1.05):
            parts += [
                box((length, width, 0.12), frame).move(0, 0, z),
                box((length - 0.1, width - 0.06, 0.14), WHITE, 0.04).move(0, 0, z + 0.12),
            ]
            parts.append(box((length * 0.68, width + 0.02, 0.17), main, 0.05).move(length * 0.15, 0, z + 0.125))
            parts.append(box((0.3, width * 0.7, 0.14), WHITE, 0.06).move(head + 0.28, 0, z + 0.24))
        parts.append(mirrored(box((length, 0.05, 0.07), frame).move(0, width / 2, 1.45)))
        ladder_y = width / 2 + 0.07
        parts += [box((0.06, 0.06, 1.4), frame).move(x, ladder_y, 0.72) for x in (0.3, 0.65)]
        return [*parts, *(box((0.4, 0.06, 0.06), frame).move(0.475, ladder_y, z) for z in (0.35, 0.65, 0.95, 1.2))]
    parts = [box((length, width, 0.2), frame, 0.02).move(0, 0, 0.26), box((length - 0.06, width - 0.04, 0.2), WHITE, 0.06).move(0, 0, 0.44)]
    parts.append(box((length * 0.66, width + 0.05, 0.24), main, 0.07).move(length * 0.16, 0, 0.44))
    parts.append(box((length * 0.14, width + 0.07, 0.26), palette.accent, 0.07).move(-length * 0.15, 0, 0.44))
    parts += [mirrored(box((0.3, width * 0.4, 0.16), WHITE, 0.07).move(head + 0.28, width * 0.23, 0.6))]
    parts.append(four_legs(width, length, 0.3, 0.12, frame))
    if design == "with a tall headboard":
        parts.append(box((0.12, width + 0.1, 1.05), main, 0.04).move(head, 0, 0.75))
        parts += [box((0.14, width * 0.26, 0.6), palette.light, 0.06).move(head + 0.02, y * width, 0.9) for y in (-0.31, 0, 0.31)]
    elif design == "with a canopy":
        parts.append(mirrored(mirrored(box((0.09, 0.09, 1.45), frame).move(length / 2, width / 2, 0.72), "x")))
        parts.append(box((length + 0.16, width + 0.16, 0.12), main, 0.03).move(0, 0, 1.48))
        parts.append(mirrored(box((length + 0.14, 0.05, 0.16), palette.accent).move(0, width / 2 + 0.06, 1.38)))
        parts.append(box((0.06, width, 0.55), frame).move(head, 0, 0.6))
    else:
        parts.append(box((0.1, width + 0.06, 0.5), frame, 0.02).move(head, 0, 0.55))
        parts.append(box((0.1, width + 0.06, 0.3), frame, 0.02).move(length / 2, 0, 0.45))
        parts += [mirrored(ellipsoid(0.09, frame, 12).move(x, width / 2, z)) for x, z in ((head, 0.86), (length / 2, 0.66))]
    return parts


def sofa(rng: np.random.Generator, design: str, palette: Palette) -> list[Part]:
    width, depth = between(rng, 1.6, 2.0), between(rng, 0.75, 0.85)
    main = palette.main
    seats = 2 if width < 1.8 else 3
    if design == "with one seat":
        width, seats = 1.05, 1
    parts = [
        box((depth, width, 0.3), main, 0.05).move(0, 0, 0.32),
        mirrored(mirrored(cylinder(0.06, 0.2, DARK_WOOD).move(0.3, width / 2 - 0.12, 0.1), "x")),
    ]
    inner = width - 0.4
    for k in range(seats):
        y = (k - (seats - 1) / 2) * inner / seats
        parts.append(box((depth * 0.85, inner / seats - 0.03, 0.18), palette.light, 0.06).move(0.08, y, 0.54))
        back = box((0.22, inner / seats - 0.03, 0.48), palette.light, 0.08).turn("y", -8)
        parts.append(back.move(-depth / 2 + 0.24, y, 0.78))
    if design == "with round arms":
        arm = cylinder(0.16, depth + 0.1, main, "x", sections=20).move(0.02, width / 2 - 0.06, 0.66)
        parts += [
            mirrored(merge([arm, box((depth, 0.2, 0.4), main).move(0, width / 2 - 0.08, 0.44)])),
            box((0.22, width, 0.75), main, 0.09).move(-depth / 2 + 0.06, 0, 0.6),
        ]
    elif design == "with a chaise":
        parts.append(box((depth + 0.55, width * 0.36, 0.3), main, 0.05).move(0.28, width * 0.32, 0.32))
        parts.append(box((depth + 0.5, width * 0.33, 0.18), palette.light, 0.06).move(0.3, width * 0.32, 0.54))
        parts += [
            box((0.2, width, 0.7), main, 0.06).move(-depth / 2 + 0.06, 0, 0.58),
            box((depth, 0.2, 0.5), main, 0.06).move(0, -width / 2 + 0.1, 0.5),
        ]
        parts.append(cylinder(0.06, 0.2, DARK_WOOD).move(0.7, width * 0.4, 0.1))
    else:
        parts += [
            mirrored(box((depth, 0.2, 0.5), main, 0.06).move(0, width / 2 - 0.1, 0.5)),
            box((0.2, width, 0.8), main, 0.07).move(-depth / 2 + 0.06, 0, 0.6),
        ]
    pillow = box((0.13, 0.34, 0.34), palette.accent, 0.06).turn("y", -15).turn("z", -8)
    return [*parts, pillow.move(0.02, -inner / 2 + 0.2, 0.8)]


def clock(rng: np.random.Generator, design: str, palette: Palette) -> list[Part]:
    radius = between(rng, 0.55, 0.65)
    hour = between(rng, 0, 360)
    dial = [cylinder(radius, 0.2, palette.main, "x", sections=36), cylinder(radius * 0.84, 0.24, CREAM, "x", sections=36)]
    for k in range(12):
        mark = box((0.05, 0.05, 0.1 if k % 3 else 0.15), BLACK).move(0.12, 0, radius * 0.72).turn("x", 30 * k)
        dial.append(mark)
    for length, angle in ((0.62, 12 * hour), (0.42, hour)):
        dial.append(box((0.05, 0.07, radius * length), BLACK).move(0.15, 0, radius * length / 2).turn("x", angle))
    dial.append(cylinder(0.07, 0.36, palette.accent, "x", sections=12))
    face = merge(dial)
    if design == "with two bells":
        bells = mirrored(dome((0.24, 0.24, 0.2), BRASS).turn("x", -32).move(0, radius * 0.55, radius * 0.92))
        feet = mirrored(tube([(0, radius * 0.5, -radius * 0.75), (0, radius * 0.75, -radius * 1.2)], 0.06, BRASS, 8))
        return [face, bells, feet, cylinder(0.05, 0.3, IRON).move(0, 0, radius * 1.15)]
    if design == "with a pendulum":
        case = [
            box((0.3, 1.3 * radius * 2, 0.2), palette.main, 0.03).move(-0.06, 0, -1.9),
            box((0.32, 1.2, 0.2), palette.dark, 0.03).move(-0.06, 0, 0.8),
        ]
        case += [
            box((0.26, 1.35, 1.5), palette.main, 0.04).move(-0.07, 0, 0),
            box((0.22, 0.8, 1.2), palette.main, 0.03).move(-0.06, 0, -1.25),
        ]
        swing = between(rng, -0.12, 0.12)
        rod = [box((0.04, 0.06, 0.75), BRASS).move(0.1, swing / 2, -1.1), cylinder(0.16, 0.08, BRASS, "x").move(0.1, swing, -1.5)]
        glass = box((0.03, 0.58, 1.0), DARK_WOOD).move(0.05, 0, -1.25)
        return [merge([face, *case, *rod, glass])]
    cuckoo_roof = box((0.5, 1.15, 0.1), palette.dark, 0.02).turn("x", 38).move(0, -0.42, 0.75)
    house = [
        mirrored(cuckoo_roof),
        box((0.34, 1.3, 1.4), palette.main, 0.02).move(-0.1, 0, -0.2),
        face.scale(1, 0.75, 0.75).move(0.08, 0, -0.25),
    ]
    house += [
        cylinder(0.14, 0.3, BLACK, "x", sections=14).move(0, 0, 0.62),
        ellipsoid((0.16, 0.09, 0.09), (0.98, 0.78, 0.2), 12).move(0.2, 0, 0.62),
    ]
    house.append(box((0.3, 0.9, 0.6), palette.main).turn("x", 45).scale(1, 1, 0.8).move(-0.1, 0, 0.5))
    weights = mirrored(
        merge([cylinder(0.03, 0.6, BRASS, sections=8).move(0, 0.3, -1.15), ellipsoid((0.09, 0.09, 0.17), DARK_WOOD, 12).move(0, 0.3, -1.5)])
    )
    return [*house, weights]
