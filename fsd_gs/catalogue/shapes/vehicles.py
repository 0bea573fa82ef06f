"""Cars, planes, rockets, boats, trains, hot-air balloons."""

from __future__ import annotations

import numpy as np

from fsd_gs.catalogue.mesh import (
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
from fsd_gs.catalogue.palette import BLACK, CREAM, DARK_WOOD, GLASS, GLOW, IRON, RED, RUBBER, STEEL, WHITE, WOOD, YELLOW, Palette, mix
from fsd_gs.catalogue.shapes.common import alternate, azimuth, between, checkered, wheel

WINDOW = (0.30, 0.44, 0.58)


def _wedge(
    low: float,
    high: float,
    front: float,
    rear: float,
    width: float,
    top_width: float,
    slope: tuple[float, float],
    color: tuple[float, float, float],
) -> Part:
    """A cabin between heights low and high, from x = rear to front at the bottom, drawn in by ``slope`` (front, rear) at the top."""
    points = [(x, s * width / 2, low) for x in (front, rear) for s in (-1, 1)]
    points += [(x, s * top_width / 2, high) for x in (front - slope[0], rear + slope[1]) for s in (-1, 1)]
    return hull(points, color)


def _cabin(low: float, high: float, front: float, rear: float, width: float, slope: tuple[float, float], palette: Palette) -> list[Part]:
    """A glass house with a painted roof and pillars."""
    top = width * 0.84
    glass = _wedge(low, high, front, rear, width, top, slope, WINDOW)
    roof = box((front - rear - slope[0] - slope[1] + 0.06, top + 0.06, 0.09), palette.main, 0.03).move(
        (front - slope[0] + rear + slope[1]) / 2, 0, high
    )
    middle = (front - slope[0] + rear + slope[1]) / 2
    pillar = hull(
        [(middle + dx, s * y, z) for dx in (-0.05, 0.05) for s in (1, 0.9) for y, z in ((width / 2 + 0.015, low), (top / 2 + 0.015, high))],
        palette.main,
    )
    return [glass, roof, mirrored(pillar)]


def car(rng: np.random.Generator, design: str, palette: Palette) -> list[Part]:
    length, width = between(rng, 1.9, 2.15), between(rng, 0.88, 1.0)
    radius = between(rng, 0.21, 0.25)
    if design == "with a pickup bed":
        radius *= 1.15
    half, floor = length / 2, radius * 0.75
    lamps = [
        mirrored(ellipsoid((0.05, 0.1, 0.09), GLOW, 10).move(half - 0.01, width * 0.33, floor + 0.22)),
        mirrored(box((0.06, 0.16, 0.09), RED).move(-half, width * 0.34, floor + 0.24)),
    ]
    bumpers = [box((0.1, width * 0.96, 0.1), STEEL, 0.03).move(s * (half + 0.01), 0, floor + 0.05) for s in (-1, 1)]
    grille = box((0.05, width * 0.42, 0.11), IRON).move(half, 0, floor + 0.2)
    body = box((length, width, 0.36), palette.main, 0.09).move(0, 0, floor + 0.18)
    axles = [mirrored(wheel(radius, 0.18).move(x * half * 0.62, width / 2 - 0.05, radius)) for x in (-1, 1)]
    parts = [body, *lamps, *bumpers, grille, *axles]
    top = floor + 0.34
    if design == "with a pickup bed":
        parts += _cabin(top, top + 0.42, 0.42, -0.28, width * 0.92, (0.24, 0.04), palette)
        parts.append(box((half - 0.36, width * 0.8, 0.05), palette.dark).move(-half * 0.62, 0, top + 0.02))
        parts += [
            mirrored(box((half - 0.3, 0.08, 0.2), palette.main, 0.02).move(-half * 0.62, width / 2 - 0.06, top + 0.08)),
            box((0.08, width * 0.95, 0.2), palette.main, 0.02).move(-half + 0.06, 0, top + 0.08),
        ]
        parts += [
            cylinder(0.11, width * 0.7, WOOD, "y", sections=12).move(-half * 0.62 + dx, 0, top + z)
            for dx, z in ((-0.12, 0.13), (0.12, 0.13), (0.0, 0.3))
        ]
    elif design == "with an open top":
        parts.append(_wedge(top - 0.02, top + 0.28, 0.42, 0.3, width * 0.86, width * 0.74, (0.17, -0.11), GLASS))
        parts.append(box((0.85, width * 0.74, 0.08), DARK_WOOD).move(-0.2, 0, top - 0.01))
        parts += [
            mirrored(box((0.13, 0.3, 0.36), palette.accent, 0.05).turn("y", -12).move(x, width * 0.19, top + 0.12)) for x in (-0.12, -0.52)
        ]
        parts.append(torus(0.11, 0.03, RUBBER, "x", 16, 6).turn("y", -25).move(0.2, width * 0.2, top + 0.12))
    elif design == "with a taxi sign":
        parts += _cabin(top, top + 0.4, 0.48, -0.72, width * 0.92, (0.28, 0.2), palette)
        parts.append(box((0.2, 0.42, 0.16), YELLOW if palette.name != "yellow" else WHITE, 0.04).move(-0.15, 0, top + 0.5))
        for k in range(10):
            x = -half * 0.8 + k * half * 1.6 / 9
            parts.append(
                mirrored(
                    box((half * 0.09, 0.03, 0.07), BLACK if palette.name != "black" else WHITE).move(
                        x, width / 2 + 0.005, floor + (0.26 if k % 2 else 0.2)
                    )
                )
            )
    else:
        parts += _cabin(top, top + 0.46, 0.35, -half + 0.12, width * 0.94, (0.3, 0.1), palette)
        rack = [
            mirrored(tube([(-0.7, 0.32, top + 0.56), (0.05, 0.32, top + 0.56)], 0.03, IRON, 6)),
            box((0.34, 0.5, 0.18), (0.62, 0.40, 0.24), 0.03).move(-0.45, 0, top + 0.62),
        ]
        parts += [*rack, box((0.26, 0.36, 0.2), palette.accent, 0.03).move(-0.1, 0.05, top + 0.62)]
    return parts


def bus(rng: np.random.Generator, design: str, palette: Palette) -> list[Part]:
    length, width, height = between(rng, 1.9, 2.2), between(rng, 0.8, 0.9), between(rng, 0.72, 0.82)
    if design == "with two decks":
        height *= 1.6
    half, base = length / 2, 0.2
    parts = [box((length, width, height), palette.main, 0.08).move(0, 0, base + height / 2)]
    decks = 2 if design == "with two decks" else 1
    count = 5
    for deck in range(decks):
        z = base + (0.62 if decks == 1 else 0.32 + 0.44 * deck) * height
        tall = 0.38 * height / decks * (1.35 if decks == 2 else 1)
        for k in range(count):
            x = -half * 0.72 + k * half * 1.5 / (count - 1)
            parts.append(mirrored(box((half * 0.28, 0.05, tall), WINDOW, 0.015).move(x, width / 2, z)))
        parts.append(box((0.05, width * 0.82, tall * 1.15), WINDOW, 0.015).move(half, 0, z))
        parts.append(box((0.05, width * 0.7, tall), WINDOW, 0.015).move(-half, 0, z))
    stripe = mirrored(box((length * 0.98, 0.04, 0.07), palette.accent).move(0, width / 2, base + 0.3 * height / decks))
    parts += [
        stripe,
        mirrored(ellipsoid((0.05, 0.09, 0.09), GLOW, 10).move(half, width * 0.34, base + 0.14)),
        box((0.1, width, 0.1), IRON, 0.03).move(half, 0, base + 0.02),
    ]
    parts += [mirrored(wheel(0.21, 0.16).move(x * half * 0.62, width / 2 - 0.04, 0.21)) for x in (-1, 1)]
    if design == "with a school hood":
        parts.append(box((0.5, width * 0.9, height * 0.5), palette.main, 0.08).move(half + 0.2, 0, base + height * 0.26))
        parts += [
            box((0.05, width * 0.5, 0.2), IRON, 0.01).move(half + 0.45, 0, base + 0.2),
            mirrored(ellipsoid((0.05, 0.09, 0.09), GLOW, 10).move(half + 0.45, width * 0.34, base + 0.22)),
        ]
        parts.append(mirrored(wheel(0.21, 0.16).move(half + 0.18, width / 2 - 0.04, 0.21)))
        parts += [
            mirrored(ellipsoid(0.07, RED, 8).move(half - 0.08, width * 0.32, base + height + 0.02)),
            box((length * 0.8, width * 0.7, 0.07), WHITE, 0.03).move(-0.05, 0, base + height),
        ]
    elif design == "with surfboards":
        board = ellipsoid((0.75, 0.15, 0.04), palette.accent, 18)
        parts += [board.move(0, y, base + height + 0.12).paint(c) for y, c in ((0.18, palette.accent), (-0.18, (0.98, 0.62, 0.30)))]
        parts += [box((0.06, width * 0.85, 0.1), IRON).move(x, 0, base + height + 0.05) for x in (-0.4, 0.4)]
        parts.append(box((length * 1.005, width * 1.01, height * 0.2), WHITE, 0.08).move(0, 0, base + height * 0.94))
        parts.append(mirrored(wheel(0.23, 0.05, WHITE).turn("z", 90).move(half + 0.03, 0, base + height * 0.27)))
    return parts


def plane(rng: np.random.Generator, design: str, palette: Palette) -> list[Part]:
    length, span = between(rng, 0.95, 1.1), between(rng, 0.95, 1.15)
    main, accent = palette.main, palette.accent
    profile = curve(
        [(0, -length, 0), (0.1, -length * 0.9, 0), (0.24, -0.1, 0), (0.27, length * 0.5, 0), (0.2, length * 0.85, 0), (0.0, length, 0)], 20
    )[:, :2]
    profile = np.maximum(profile, [0, -10])
    body = lathe(profile, main, 22).turn("y", 90)
    tail = extrude([(-length * 0.68, 0.1), (-length * 1.02, 0.55), (-length * 1.12, 0.55), (-length * 0.98, 0.0)], 0.07, accent, "y")
    stabiliser = mirrored(
        hull(
            [
                (x, y, z)
                for z in (0.08, 0.14)
                for x, y in ((-length * 0.72, 0), (-length * 0.88, 0.42), (-length * 1.05, 0.42), (-length, 0))
            ],
            accent,
        )
    )
    parts = [body, tail, stabiliser]

    def wing(z: float, reach: float, sweep: float, chord: float, color: tuple[float, float, float]) -> Part:
        tip = chord * 0.62
        half = hull(
            [
                (x, y, z + dz)
                for dz in (0, 0.08)
                for x, y in ((chord / 2 + 0.1, 0), (0.1 - chord / 2, 0), (0.1 - sweep + tip / 2, reach), (0.1 - sweep - tip / 2, reach))
            ],
            color,
        )
        return mirrored(half)

    if design == "with a propeller":
        parts += [wing(-0.1, span, 0.1, 0.5, accent), ellipsoid((0.3, 0.17, 0.2), WINDOW, 16).move(0.15, 0, 0.2)]
        blade = ellipsoid((0.03, 0.08, 0.36), DARK_WOOD, 12)
        turned = between(rng, 0, 90)
        parts += [
            merge([blade, blade.turn("x", 90)]).turn("x", turned).move(length + 0.03, 0, 0),
            cone(0.11, 0.18, accent, "x", 12).move(length + 0.08, 0, 0),
        ]
        parts += [
            mirrored(
                merge(
                    [
                        cylinder(0.13, 0.1, RUBBER, "y").move(0.42, 0.3, -0.42),
                        tube([(0.35, 0.15, -0.1), (0.42, 0.3, -0.42)], 0.035, IRON, 6),
                    ]
                )
            )
        ]
    elif design == "with two wings":
        parts += [
            wing(-0.2, span, 0.0, 0.5, accent),
            wing(0.42, span, 0.0, 0.5, accent),
            mirrored(merge([cylinder(0.03, 0.62, DARK_WOOD, sections=6).move(x, span * 0.7, 0.12) for x in (0.0, 0.24)])),
        ]
        parts += [
            mirrored(tube([(0.15, 0.1, 0.15), (0.15, 0.28, 0.44)], 0.03, DARK_WOOD, 6)),
            ellipsoid(0.14, (0.55, 0.36, 0.2), 12).move(-0.3, 0, 0.28),
        ]
        blade = ellipsoid((0.03, 0.08, 0.34), DARK_WOOD, 12).turn("x", between(rng, 0, 180))
        parts += [blade.move(length + 0.03, 0, 0), cone(0.1, 0.16, STEEL, "x", 12).move(length + 0.07, 0, 0)]
        parts.append(
            mirrored(
                merge(
                    [cylinder(0.14, 0.1, RUBBER, "y").move(0.4, 0.28, -0.5), tube([(0.35, 0.12, -0.15), (0.4, 0.28, -0.5)], 0.035, IRON, 6)]
                )
            )
        )
    else:
        parts += [wing(-0.12, span * 1.1, 0.5, 0.5, palette.light if palette.name == "white" else STEEL)]
        parts.append(
            mirrored(
                merge(
                    [
                        cylinder(0.12, 0.36, accent, "x").move(0.12, span * 0.48, -0.2),
                        cylinder(0.09, 0.38, BLACK, "x").move(0.12, span * 0.48, -0.2),
                    ]
                )
            )
        )
        parts.append(ellipsoid((0.16, 0.17, 0.1), WINDOW, 14).move(length * 0.72, 0, 0.14))
        parts += [mirrored(ellipsoid((0.05, 0.03, 0.06), WINDOW, 8).move(x, 0.245, 0.06)) for x in np.linspace(-0.4, 0.5, 7)]
    return parts


def rocket(rng: np.random.Generator, design: str, palette: Palette) -> list[Part]:
    height, radius = between(rng, 1.5, 1.8), between(rng, 0.3, 0.36)
    if design == "with boosters":
        radius *= 0.85
    control = [
        (radius * 0.62, 0),
        (radius * 0.95, height * 0.25),
        (radius, height * 0.5),
        (radius * 0.72, height * 0.8),
        (0, height * 1.05),
    ]
    profile = np.maximum(curve(np.c_[control, np.zeros(5)], 24)[:, :2], [0, -1])
    colors = [palette.light] * 2 + [palette.main] * 15 + [palette.accent] * 6
    if design == "with a checkered body":
        body = lathe(profile, palette.main, 24)
        body = body.paint_where(
            lambda p: checkered(8, height * 0.17)(p) & (p[:, 2] < height * 0.7), WHITE if palette.name != "white" else STEEL
        )
    else:
        body = lathe(profile, colors, 24)
    ring_z = height * 0.62
    glass = merge([torus(0.13, 0.045, STEEL, "x", 18, 8), ellipsoid((0.06, 0.12, 0.12), GLASS, 12)]).move(radius * 0.93, 0, ring_z)
    flame = [
        lathe([(0.16, 0), (0.2, -0.1), (0, -0.55)], (0.99, 0.62, 0.12), 14),
        lathe([(0.09, 0), (0.12, -0.1), (0, -0.36)], YELLOW, 12).move(0, 0, -0.01),
    ]
    nozzle = lathe([(0.26, -0.12), (0.2, 0.06)], IRON, 18)
    fin_color = palette.accent
    fin = extrude([(radius * 0.75, 0.5), (radius + 0.34, 0.08), (radius + 0.36, -0.28), (radius * 0.62, 0.08)], 0.09, fin_color, "y")
    parts = [body, glass, nozzle, *(part.move(0, 0, -0.1) for part in flame)]
    if design == "with boosters":
        booster = merge(
            [
                cylinder(0.15, 0.85, palette.main, sections=16),
                cone(0.15, 0.3, fin_color, sections=16).move(0, 0, 0.57),
                lathe([(0.14, -0.55), (0.1, -0.42)], IRON, 12),
            ]
        )
        booster = merge([booster, lathe([(0.09, 0), (0, -0.32)], (0.99, 0.62, 0.12), 10).move(0, 0, -0.54)])
        return [
            *parts,
            *(
                booster.move(radius * 0.9 * np.cos(a) + 0.14 * np.cos(a), (radius * 0.9 + 0.14) * np.sin(a), 0.5)
                for a in np.deg2rad([90, 270, 0, 180])[:2]
            ),
            ring(fin, 2),
            glass.scale(0.8).move(radius * 0.12, 0, -0.1),
        ]
    return [*parts, ring(fin, 3 if design == "with three fins" else 4, 60 if design == "with three fins" else 45)]


def boat(rng: np.random.Generator, design: str, palette: Palette) -> list[Part]:
    length, width, depth = between(rng, 0.95, 1.1), between(rng, 0.36, 0.44), between(rng, 0.3, 0.38)
    stations = np.linspace(-length, length, 15)
    share = np.interp(stations / length, [-1, -0.6, 0.0, 0.5, 0.8, 1.0], [0.72, 0.95, 1.0, 0.82, 0.5, 0.04])
    angle = np.linspace(0, np.pi, 13)

    def shell(scale: float, lift: float, color: tuple[float, float, float]) -> Part:
        points = []
        for x, s in zip(stations, share, strict=True):
            rise = 0.22 * max(x / length, 0) ** 2
            points += [
                (x * scale, width * s * scale * np.cos(a), -depth * scale * np.sin(a) ** 0.8 * (0.6 + 0.4 * s) + rise) for a in angle
            ]
            points += [(x * scale, width * s * scale * np.cos(a), rise + lift) for a in (0, np.pi)]
        return hull(points, color)

    hull_ = shell(1.0, 0.06, palette.main).paint_where(lambda p: p[:, 2] < -depth * 0.45, palette.dark)
    deck = merge([shell(1.0, 0.06, WOOD).scale(0.93, 0.86, 0.2).move(0, 0, 0.09)])
    parts = [hull_, deck]
    if design == "with a sail":
        mast = between(rng, 1.35, 1.6)
        sail = extrude(
            [(-0.02, 0.25), (-0.02, mast), (-length * 0.85, 0.3)], 0.06, palette.accent if palette.name != "white" else CREAM, "y"
        )
        jib = extrude([(0.12, 0.3), (0.12, mast * 0.85), (length * 0.82, 0.36)], 0.06, WHITE, "y")
        flag = extrude([(0, mast + 0.04), (0, mast + 0.22), (-0.3, mast + 0.13)], 0.06, RED, "y")
        return [*parts, cylinder(0.04, mast + 0.2, DARK_WOOD, sections=8).move(0.04, 0, mast / 2 + 0.1), sail, jib, flag]
    if design == "with a chimney":
        cabin = [
            box((0.75, 0.5, 0.34), WHITE, 0.04).move(-0.12, 0, 0.26),
            box((0.5, 0.4, 0.26), CREAM, 0.04).move(-0.15, 0, 0.52),
            box((0.86, 0.58, 0.06), palette.accent, 0.02).move(-0.12, 0, 0.44),
        ]
        windows = [mirrored(cylinder(0.07, 0.06, WINDOW, "y", sections=12).move(x, 0.25, 0.27)) for x in (-0.34, -0.12, 0.1)]
        chimney = [
            cylinder(0.15, 0.45, palette.main if palette.name != "white" else RED).move(-0.2, 0, 0.82),
            cylinder(0.16, 0.13, BLACK).move(-0.2, 0, 1.02),
            cylinder(0.155, 0.09, WHITE).move(-0.2, 0, 0.86),
        ]
        smoke = [
            ellipsoid(r, (0.80, 0.81, 0.83), 12).move(x, 0, z) for r, x, z in ((0.11, -0.24, 1.16), (0.15, -0.38, 1.3), (0.18, -0.58, 1.44))
        ]
        return [*parts, *cabin, *windows, *chimney, *smoke, torus(0.14, 0.045, RED, "y", 16, 8).move(0.42, 0.32, 0.02)]
    seats = [box((0.16, width * 1.5, 0.06), palette.accent, 0.02).move(x, 0, 0.17) for x in (-0.5, 0.1)]
    oar = merge(
        [
            tube([(0, 0.15, 0.28), (0, 0.95, -0.2)], 0.035, WOOD, 8),
            ellipsoid((0.12, 0.2, 0.03), WOOD, 10).turn("x", -32).move(0, 1.02, -0.24),
        ]
    )
    gunwale = [torus(0.05, 0.02, IRON, sections=8, sides=5).move(-0.15, s * width, 0.12) for s in (-1, 1)]
    return [*parts, *seats, *gunwale, mirrored(oar.turn("z", 8).move(-0.15, 0, 0))]


def train(rng: np.random.Generator, design: str, palette: Palette) -> list[Part]:
    main, accent = palette.main, palette.accent
    boiler = between(rng, 0.85, 1.0)
    trim = (0.86, 0.66, 0.22)
    base = box((1.75, 0.66, 0.12), palette.dark, 0.02).move(0, 0, 0.34)
    wheels = [mirrored(wheel(r, 0.12, accent).move(x, 0.34, r)) for x, r in ((-0.6, 0.27), (0.02, 0.22), (0.5, 0.22))]
    if design == "with a bullet nose":
        length = between(rng, 1.9, 2.2)
        side = [
            (-length / 2, 0.12),
            (length / 2 + 0.1, 0.12),
            (length / 2 + 0.12, 0.3),
            (length / 2 - 0.25, 0.62),
            (length / 2 - 0.6, 0.8),
            (-length / 2, 0.8),
        ]
        shell = hull(
            [(x, s * w, z) for x, z in side for s, w in ((1, 0.3 if x > length / 2 else 0.36), (-1, 0.3 if x > length / 2 else 0.36))], main
        )
        shell = merge([shell, box((length - 0.7, 0.56, 0.1), WHITE, 0.04).move(-0.3, 0, 0.82)])
        windows = [
            mirrored(box((0.18, 0.04, 0.18), WINDOW, 0.02).move(x, 0.36, 0.58))
            for x in np.arange(-length / 2 + 0.2, length / 2 - 0.6, 0.27)
        ]
        glass = box((0.3, 0.5, 0.04), WINDOW, 0.01).turn("y", 42).move(length / 2 - 0.33, 0, 0.7)
        stripe = mirrored(box((length, 0.04, 0.09), accent).move(0, 0.36, 0.34))
        lamps = mirrored(ellipsoid((0.05, 0.08, 0.06), GLOW, 10).move(length / 2 + 0.08, 0.2, 0.32))
        return [shell, *windows, glass, stripe, lamps, *(mirrored(wheel(0.13, 0.1).move(x, 0.28, 0.1)) for x in (-0.75, -0.4, 0.4, 0.75))]
    parts = [
        base,
        *wheels,
        cylinder(0.3, boiler, main, "x", sections=24).move(0.42, 0, 0.68),
        cylinder(0.26, 0.08, IRON, "x", sections=20).move(0.45 + boiler / 2, 0, 0.68),
    ]
    parts += [torus(0.3, 0.03, trim, "x", 24, 6).move(x, 0, 0.68) for x in (0.2, 0.55, 0.85)]
    parts += [box((0.55, 0.68, 0.62), main, 0.03).move(-0.42, 0, 0.7), box((0.68, 0.8, 0.08), palette.dark, 0.03).move(-0.42, 0, 1.1)]
    parts += [
        mirrored(box((0.28, 0.04, 0.24), WINDOW, 0.01).move(-0.42, 0.34, 0.86)),
        box((0.04, 0.42, 0.2), WINDOW, 0.01).move(-0.14, 0, 0.94),
    ]
    stack = 0.62 + between(rng, 0.0, 0.1)
    funnel = (
        lathe([(0.1, 0), (0.09, 0.25), (0.19, stack * 0.6), (0.15, stack * 0.62)], IRON, 16)
        if design == "with a funnel"
        else lathe([(0.11, 0), (0.11, 0.3), (0.14, 0.32), (0.14, 0.4)], IRON, 16)
    )
    parts += [
        funnel.move(0.75, 0, 0.92),
        dome((0.13, 0.13, 0.16), trim, 14).move(0.32, 0, 0.94),
        ellipsoid((0.06, 0.1, 0.1), GLOW, 12).move(0.9, 0, 1.02),
    ]
    parts += [extrude([(0.85, 0.3), (1.2, 0.08), (0.85, 0.08)], 0.6, main, "y")]
    if design == "with a wagon":
        shifted = [part.move(0.75) for part in parts]
        wagon = [
            box((0.95, 0.66, 0.36), main, 0.03).move(-0.6, 0, 0.55),
            *(mirrored(wheel(0.2, 0.12).move(x, 0.32, 0.2)) for x in (-0.88, -0.32)),
            box((0.3, 0.08, 0.08), IRON).move(-0.02, 0, 0.36),
        ]
        coal = [ellipsoid(0.17, BLACK, 8).move(-0.6 + dx, dy, 0.76) for dx in (-0.3, 0, 0.3) for dy in (-0.16, 0.16)]
        return [*shifted, *wagon, *coal]
    smoke = [ellipsoid(r, (0.86, 0.87, 0.89), 12).move(x, 0, z) for r, x, z in ((0.12, 0.72, 1.42), (0.16, 0.56, 1.58), (0.2, 0.32, 1.72))]
    return [*parts, *smoke] if design == "with a funnel" else parts


def balloon(rng: np.random.Generator, design: str, palette: Palette) -> list[Part]:
    tall = between(rng, 1.0, 1.12)
    control = [(0.2, -0.95 * tall), (0.42, -0.7 * tall), (0.8, -0.1), (0.78, 0.3), (0.45, 0.68), (0.0, 0.8)]
    profile = np.maximum(curve(np.c_[control, np.zeros(6)], 24)[:, :2], [0, -3])
    envelope = lathe(profile, palette.main, 32)
    second = palette.accent
    if design == "with vertical stripes":
        envelope = envelope.paint_where(alternate(16), second)
    elif design == "with a wide band":
        heights = (profile[1:, 1] + profile[:-1, 1]) / 2
        envelope = lathe(profile, [second if -0.15 < z < 0.25 or z > 0.62 else palette.main for z in heights], 32)
    else:
        envelope = envelope.paint_where(lambda p: p[:, 2] < -0.25 + 0.18 * np.sign(np.sin(8 * azimuth(p) + 0.1)), second)
        envelope = envelope.paint_where(lambda p: p[:, 2] > 0.55, mix(palette.main, WHITE, 0.45))
    floor = -0.95 * tall - 0.55
    basket = [
        box((0.36, 0.36, 0.3), (0.62, 0.42, 0.24), 0.03).move(0, 0, floor),
        torus(0.25, 0.05, DARK_WOOD, sections=4, sides=6).turn("z", 45).move(0, 0, floor + 0.15),
    ]
    ropes = mirrored(mirrored(tube([(0.16, 0.16, floor + 0.1), (0.17, 0.17, floor + 0.62)], 0.03, DARK_WOOD, 6)), "x")
    bags = ring(ellipsoid((0.07, 0.07, 0.1), CREAM, 8).move(0.22, 0, floor - 0.02), 4)
    return [envelope, *basket, ropes, bags]
