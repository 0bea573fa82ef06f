"""Mugs, teapots, vases, bottles, barrels, baskets."""

from __future__ import annotations

import numpy as np

from fsd_gs.catalogue.mesh import Part, box, curve, cylinder, dome, ellipsoid, lathe, merge, ring, torus, tube
from fsd_gs.catalogue.palette import BRASS, CREAM, DARK_LEAF, DARK_WOOD, IRON, LEAF, RED, WHITE, WOOD, YELLOW, Palette, mix
from fsd_gs.catalogue.shapes.common import alternate, between, checkered

COFFEE = (0.33, 0.19, 0.11)


def mug(rng: np.random.Generator, design: str, palette: Palette) -> list[Part]:
    radius, height = between(rng, 0.42, 0.52), between(rng, 0.85, 1.1)
    main, wall = palette.main, 0.07
    waist = {"with a wide rim": 0.72, "with a saucer": 0.62}.get(design, 1.0)
    outer = [(radius * waist * 0.94, 0), (radius * waist, 0.05), (radius * (1 + waist) / 2, height * 0.5), (radius, height)]
    if design == "with a saucer":
        height *= 0.75
        outer = [(radius * 0.5, 0), (radius * 0.72, height * 0.2), (radius * 0.95, height * 0.55), (radius * 1.05, height)]
    inner = [(r - wall, max(z, 0.1)) for r, z in outer[::-1]]
    level = height * 0.8
    parts = [lathe([*outer, *inner], main, 32), cylinder(outer[-1][0] * 0.93 - wall, 0.05, COFFEE, sections=28).move(0, 0, level)]
    reach = between(rng, 0.30, 0.38)
    side = radius * (0.93 if waist < 1 else 0.97)
    path = curve(
        [
            (0, side, height * 0.82),
            (0, side + reach, height * 0.72),
            (0, side + reach * 0.95, height * 0.35),
            (0, side * 0.88, height * 0.2),
        ],
        14,
    )
    parts.append(tube(path, 0.07, palette.accent if design == "with stripes" else main, 10))
    if design == "with stripes":
        out, inside, tall = radius * 1.015, radius * 0.97, height * 0.12
        band = lathe([(out, 0), (out, tall), (inside, tall), (inside, 0), (out, 0)], palette.accent, 32)
        parts += [band.move(0, 0, height * z - 0.07) for z in (0.25, 0.5, 0.75)]
    if design == "with a saucer":
        parts.append(lathe([(0.4, -0.08), (radius * 1.75, 0.04), (radius * 1.75, 0.09), (0.4, -0.01)], main, 36))
        parts.append(torus(radius * 1.72, 0.035, palette.accent, sections=36, sides=6).move(0, 0, 0.08))
    return parts


def teapot(rng: np.random.Generator, design: str, palette: Palette) -> list[Part]:
    main, accent = palette.main, palette.accent
    radius = between(rng, 0.6, 0.68)
    tall = {"with a round belly": 0.52, "with a tall body": 0.78, "with a top handle": 0.46}[design] * between(rng, 0.95, 1.05)
    if design == "with a tall body":
        body = lathe([(0.34, 0), (0.44, 0.06), (0.5, 0.3), (0.42, 0.75), (0.28, 1.15), (0.3, 1.25)], main, 32)
        top, radius, spout_z = 1.25, 0.46, 0.35
    else:
        body = merge(
            [ellipsoid((radius, radius, tall), main, 32).move(0, 0, tall), cylinder(0.38, 0.1, main, sections=28).move(0, 0, 0.03)]
        )
        top, spout_z = 2 * tall * 0.97, tall * 0.75
    lid = [dome((0.33, 0.33, 0.16), accent, 24).move(0, 0, top - 0.06), ellipsoid(0.1, accent, 12).move(0, 0, top + 0.16)]
    reach = between(rng, 0.44, 0.54)
    spout = curve(
        [
            (0, -radius * 0.82, spout_z),
            (0, -radius - reach * 0.5, spout_z + 0.12),
            (0, -radius - reach * 0.72, top * 0.75),
            (0, -radius - reach, top * 0.98),
        ],
        12,
    )
    parts = [body, *lid, tube(spout, np.linspace(0.17, 0.075, 12), main, 12)]
    if design == "with a top handle":
        handle = curve([(0, -0.42, top * 0.85), (0, -0.4, top + 0.42), (0, 0, top + 0.62), (0, 0.4, top + 0.42), (0, 0.42, top * 0.85)], 18)
    else:
        handle = curve(
            [
                (0, radius * 0.72, top * 0.86),
                (0, radius + 0.36, top * 0.88),
                (0, radius + 0.38, top * 0.42),
                (0, radius * 0.86, spout_z * 0.75),
            ],
            16,
        )
    return [*parts, tube(handle, 0.065, accent, 10)]


def vase(rng: np.random.Generator, design: str, palette: Palette) -> list[Part]:
    main, accent = palette.main, palette.accent
    wide = between(rng, 0.92, 1.1)
    if design == "with a long neck":
        control = [(0.26, 0), (0.46, 0.2), (0.52, 0.45), (0.38, 0.7), (0.15, 0.95), (0.12, 1.4), (0.24, 1.7)]
    elif design == "with two handles":
        control = [(0.24, 0), (0.22, 0.1), (0.44, 0.55), (0.52, 0.85), (0.36, 1.15), (0.22, 1.3), (0.34, 1.5)]
    else:
        control = [(0.34, 0), (0.44, 0.3), (0.5, 0.7), (0.42, 1.0), (0.3, 1.15), (0.36, 1.3)]
    points = curve(np.c_[control, np.zeros(len(control))], 26)[:, :2] * [wide, 1]
    rim = points[-1]
    inside = [(rim[0] - 0.07, rim[1]), (max(rim[0] - 0.12, 0.06), rim[1] - 0.2), (0, rim[1] - 0.25)]
    colors = [accent if 6 <= k < 8 or 16 <= k < 18 else main for k in range(25)] + [palette.dark] * 3
    parts = [lathe(np.vstack([points, inside]), colors, 32)]
    if design == "with two handles":
        handle = tube(curve([(0, 0.24, 1.32), (0, 0.62, 1.38), (0, 0.74, 1.1), (0, 0.46 * wide, 0.8)], 14), 0.06, accent, 10)
        parts += [handle, handle.scale(1, -1, 1)]
    if design == "with flowers":
        blossoms = (RED, YELLOW, (0.95, 0.55, 0.75), WHITE, (0.65, 0.4, 0.85))
        for k in range(6):
            angle, lean, rise = (
                k * 1.05 + between(rng, -0.2, 0.2),
                (0.14 if k == 0 else 0.42) * between(rng, 0.9, 1.15),
                between(rng, 1.75, 2.1),
            )
            tip = np.array([lean * np.cos(angle), lean * np.sin(angle), rise])
            parts.append(tube(curve([(0, 0, 1.1), tip * [0.4, 0.4, 0.8], tip], 7), 0.03, LEAF, 6))
            petal = ellipsoid((0.13, 0.09, 0.05), blossoms[(k + int(wide * 50)) % 5], 8).move(0.13, 0, 0)
            flower = merge([ring(petal, 6), ellipsoid((0.09, 0.09, 0.07), YELLOW if k % 5 != 1 else DARK_WOOD, 8)])
            parts.append(flower.turn("y", 38).turn("z", np.rad2deg(angle)).move(*tip))
        leaf = ellipsoid((0.3, 0.1, 0.03), DARK_LEAF, 8).move(0.28, 0, 0).turn("y", -30).move(0.12, 0, 1.28)
        parts.append(ring(leaf, 5))
    return parts


def bottle(rng: np.random.Generator, design: str, palette: Palette) -> list[Part]:
    main = palette.main
    radius = between(rng, 0.3, 0.36)
    if design == "with a round body":
        control = [(0.3, 0), (0.55, 0.25), (0.58, 0.5), (0.42, 0.85), (0.16, 1.05), (0.14, 1.4)]
        body = lathe(curve(np.c_[control, np.zeros(6)], 22)[:, :2], main, 28)
        label = lathe([(0.595, 0.3), (0.61, 0.5), (0.53, 0.68), (0.5, 0.68), (0.5, 0.3), (0.595, 0.3)], CREAM, 28)
        cork = cylinder(0.12, 0.26, WOOD, top=0.15).move(0, 0, 1.48)
        return [body, label, cork, torus(0.16, 0.045, palette.light, sides=8).move(0, 0, 1.36)]
    height = between(rng, 0.85, 1.05)
    neck = height + 0.28
    parts = [
        lathe(
            [(radius * 0.9, 0), (radius, 0.05), (radius, height), (radius * 0.8, height + 0.14), (0.13, neck), (0.11, neck + 0.3)], main, 28
        )
    ]
    label = lathe(
        [
            (radius + 0.012, 0.2),
            (radius + 0.012, height * 0.72),
            (radius - 0.05, height * 0.72),
            (radius - 0.05, 0.2),
            (radius + 0.012, 0.2),
        ],
        CREAM,
        28,
    )
    band = lathe(
        [(radius + 0.022, 0.3), (radius + 0.022, 0.46), (radius - 0.05, 0.46), (radius - 0.05, 0.3), (radius + 0.022, 0.3)],
        palette.accent,
        28,
    )
    if design == "with a label":
        color = DARK_LEAF if palette.name != "green" else RED
        return [*parts, label, band.paint(color), cylinder(0.135, 0.24, color, sections=16).move(0, 0, neck + 0.24)]
    tip = neck + 0.3
    return [
        *parts,
        cylinder(0.2, 0.16, WHITE, sections=16).move(0, 0, tip),
        cylinder(0.08, 0.26, WHITE, sections=12).move(0, 0, tip + 0.15),
        box((0.42, 0.14, 0.12), WHITE, 0.03).move(0.12, 0, tip + 0.3),
        band.move(0, 0, 0.1),
        band.move(0, 0, 0.42),
    ]


def barrel(rng: np.random.Generator, design: str, palette: Palette) -> list[Part]:
    bulge, height = between(rng, 0.54, 0.62), between(rng, 1.2, 1.45)
    hoop = IRON if palette.name != "black" else BRASS
    z = np.linspace(0, height, 15)
    radius = 0.44 + (bulge - 0.44) * np.sin(np.pi * z / height)
    staves = lathe(np.c_[radius, z], palette.main, 32)
    staves = staves.paint_where(
        lambda p: alternate(16)(p) & (p[:, 2] > 0.01) & (p[:, 2] < height - 0.01), mix(palette.main, (0, 0, 0), 0.14)
    )
    parts = [staves]
    for share in (0.08, 0.3, 0.7, 0.92):
        at = 0.44 + (bulge - 0.44) * np.sin(np.pi * share)
        parts.append(
            lathe(
                [(at + 0.025, -0.055), (at + 0.025, 0.055), (at - 0.06, 0.055), (at - 0.06, -0.055), (at + 0.025, -0.055)], hoop, 32
            ).move(0, 0, share * height)
        )
    if design == "with a tap":
        lying = [part.move(0, 0, -height / 2).turn("y", 90) for part in parts]
        end = height / 2
        tap = [
            cylinder(0.06, 0.3, BRASS, "x").move(end + 0.1, 0, -0.22),
            cylinder(0.05, 0.2, BRASS).move(end + 0.2, 0, -0.3),
            box((0.06, 0.22, 0.06), BRASS).move(end + 0.14, 0, -0.1),
        ]
        cradle = [box((0.14, 1.2, 0.32), DARK_WOOD, 0.02).move(x, 0, -bulge * 0.92) for x in (-0.42, 0.42)]
        return [*lying, *tap, *cradle]
    if design == "with apples":
        heap = [(0, 0, 0.12)] + [(0.26 * np.cos(a), 0.26 * np.sin(a), 0.02) for a in np.arange(6) * np.pi / 3]
        for k, (x, y, up) in enumerate(heap):
            color = (RED, (0.62, 0.78, 0.25), RED, YELLOW)[k % 4]
            parts += [
                ellipsoid(0.155, color, 12).move(x, y, height + up),
                cylinder(0.025, 0.12, DARK_WOOD, sections=6).move(x, y, height + up + 0.18),
            ]
        return parts
    lid = cylinder(0.41, 0.06, mix(palette.main, (1, 1, 1), 0.15), sections=28).move(0, 0, height + 0.005)
    return [*parts, lid, box((0.62, 0.1, 0.05), palette.dark).move(0, 0, height + 0.045)]


def basket(rng: np.random.Generator, design: str, palette: Palette) -> list[Part]:
    bottom, top, height = between(rng, 0.5, 0.58), between(rng, 0.66, 0.76), between(rng, 0.5, 0.62)
    z = np.linspace(0, height, 9)
    radius = bottom + (top - bottom) * z / height
    wicker = (0.80, 0.60, 0.36) if palette.name in ("green", "red", "yellow", "pink", "blue", "purple", "orange", "white") else palette.main
    outer = lathe([*np.c_[radius, z], *np.c_[radius[::-1] - 0.07, np.maximum(z[::-1], 0.08)]], palette.main, 36)
    dark = mix(palette.main, (0, 0, 0), 0.22)
    parts = [outer.paint_where(lambda p: checkered(18, height / 8)(p) & (np.hypot(p[:, 0], p[:, 1]) > bottom * 0.95), dark)]
    parts += [
        torus(top - 0.02, 0.06, wicker, sections=36, sides=8).move(0, 0, height),
        torus(bottom, 0.05, wicker, sections=32, sides=6).move(0, 0, 0.03),
    ]
    if design != "with yarn balls":
        arch = np.linspace(0, np.pi, 17)
        parts.append(tube(np.stack([np.zeros(17), (top - 0.03) * np.cos(arch), height + 0.62 * np.sin(arch)], 1), 0.055, wicker, 8))
    if design == "with eggs":
        shells = (CREAM, (0.93, 0.62, 0.70), (0.58, 0.78, 0.90), YELLOW, (0.70, 0.86, 0.62))
        places = [(0, 0, 0.16), *[(0.34 * np.cos(a), 0.34 * np.sin(a), 0.05) for a in np.arange(6) * np.pi / 3 + 0.3]]
        for k, (x, y, up) in enumerate(places):
            parts.append(ellipsoid((0.17, 0.17, 0.22), shells[k % 5], 12).move(x, y, height + up))
        parts.append(cylinder(top - 0.08, 0.1, LEAF, sections=28).move(0, 0, height - 0.1))
    elif design == "with a handle":
        parts.append(lathe([(top - 0.06, 0), (top * 0.5, 0.12), (0, 0.14)], palette.accent, 28).move(0, 0, height - 0.06))
        parts.append(ring(ellipsoid((0.07, 0.11, 0.05), palette.accent, 8).move(top + 0.02, 0, height - 0.05), 12))
    else:
        yarn = (palette.accent, RED, (0.36, 0.62, 0.86), YELLOW)
        for k, (x, y) in enumerate(((0.28, 0.1), (-0.15, 0.3), (-0.18, -0.26), (0.2, -0.3))):
            ball = merge(
                [ellipsoid(0.27, yarn[k], 14), torus(0.265, 0.03, mix(yarn[k], WHITE, 0.4), sections=20, sides=6).turn("x", 30 + 40 * k)]
            )
            parts.append(ball.move(x, y, height + 0.05))
    return parts
