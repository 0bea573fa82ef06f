"""Draws the catalogue: ``python -m fsd_gs.catalogue.contact_sheet --out docs/images`` writes catalogue-<n>.png.

One row a category; for each design a three-quarter view from the front and one from behind, in different colours.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

from fsd_gs.catalogue.mesh import Mesh
from fsd_gs.catalogue.objects import CATEGORIES, get_category, sample_objects
from fsd_gs.catalogue.render import render_mesh
from fsd_gs.core.cameras import orbit_cameras
from fsd_gs.core.sheets import Frame, contact_sheet, to_uint8

BACKGROUND = (0.93, 0.94, 0.95)


def draw(mesh: Mesh, size: int, azimuths_deg: Sequence[float] = (30.0, 215.0), elevation_deg: float = 18.0) -> Frame:
    """[size, views · size, 3] uint8: the views side by side over a light background."""
    rgba = render_mesh(mesh, orbit_cameras(list(azimuths_deg), elevation_deg, width=size), supersample=3)
    rgb = rgba[..., :3] + (1 - rgba[..., 3:]) * torch.tensor(BACKGROUND)
    return to_uint8(torch.cat(list(rgb), dim=1))


def sheet(categories: Sequence[str], size: int = 96, seed: int = 0, columns: int = 4) -> Frame:
    """A captioned sheet with one row a category and one cell (two views) a design."""
    things = []
    for name in categories:
        kind = get_category(name)
        colors = [obj.color for obj in sample_objects(name, columns, seed)]
        for column in range(columns):
            design = kind.designs[column % len(kind.designs)]
            obj = sample_objects(name, 1, seed + column, design=design, color=colors[column])[0]
            things.append((obj.caption, obj.mesh))
    return captioned_sheet(things, size, columns)


def captioned_sheet(things: Sequence[tuple[str, Mesh]], size: int = 96, columns: int = 4) -> Frame:
    """Any (caption, mesh), two views of ``size`` pixels each, row by row."""
    return contact_sheet([draw(mesh, size) for _, mesh in things], columns, captions=[caption for caption, _ in things], gap=0)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line: the whole catalogue, ``--rows`` categories a sheet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    parser.add_argument("--size", type=int, default=96, help="pixels a view")
    parser.add_argument("--rows", type=int, default=14, help="categories a sheet")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=None, help="draw only these categories")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    names = options.only or list(CATEGORIES)
    for number, start in enumerate(range(0, len(names), options.rows), 1):
        path = options.out / f"catalogue-{number}.png"
        picture = Image.fromarray(sheet(names[start : start + options.rows], options.size, options.seed))
        # Seven bits a channel are enough to look at and pack a third smaller.
        picture.point([v & 0xFE for v in range(256)] * 3).save(path, optimize=True)
        print(path)


if __name__ == "__main__":
    main()
