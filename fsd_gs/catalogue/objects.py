"""The catalogue: builds captioned objects from the table of categories, one by one or spread over designs and colours.

An object is (category, design, colour, seed). Its proportions come from a numpy Generator seeded by SHA-256 of the category and the
seed, so they are the same in every process and on every platform; design and colour are drawn from a second stream, so asking for a
colour does not change the shape.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from fsd_gs.catalogue.bake import finish
from fsd_gs.catalogue.categories import CATEGORIES, Category
from fsd_gs.catalogue.kinds import article
from fsd_gs.catalogue.mesh import Mesh
from fsd_gs.catalogue.palette import make_palette
from fsd_gs.errors import InputError, unknown_name

__all__ = ["CATEGORIES", "CatalogueObject", "Category", "article", "get_category", "make_object", "sample_objects"]


@dataclass(frozen=True)
class CatalogueObject:
    """One object of the catalogue with its plain caption, such as "a red chair with a tall back"."""

    category: str
    design: str
    color: str
    caption: str
    seed: int
    mesh: Mesh


def _generator(category: str, seed: int, stream: str) -> np.random.Generator:
    digest = hashlib.sha256(f"{category}\0{seed}\0{stream}".encode()).digest()
    return np.random.default_rng(np.frombuffer(digest, dtype=np.uint32))


def get_category(name: str) -> Category:
    """The category of that exact name; :class:`InputError` names the nearest otherwise."""
    if name not in CATEGORIES:
        raise InputError(unknown_name("category", name, CATEGORIES))
    return CATEGORIES[name]


def make_object(category: str, seed: int, *, design: str | None = None, color: str | None = None) -> CatalogueObject:
    """Build one object. design, color: one of the category's, or None to let the seed choose."""
    kind = get_category(category)
    if design is not None and design not in kind.designs:
        raise InputError(unknown_name("design", design, kind.designs))
    if color is not None and color not in kind.colors:
        raise InputError(unknown_name("color", color, kind.colors))
    choice = _generator(category, seed, "choice")
    picked_design, picked_color = choice.integers(len(kind.designs)), choice.integers(len(kind.colors))
    design = design or kind.designs[picked_design]
    color = color or kind.colors[picked_color]
    palette = make_palette(color, choice)
    parts = kind.build(_generator(category, seed, "shape"), design, palette)
    return CatalogueObject(category, design, color, f"{article(f'{color} {kind.name}')} {design}", seed, finish(parts))


def sample_objects(category: str, count: int, seed: int, *, design: str | None = None, color: str | None = None) -> list[CatalogueObject]:
    """``count`` objects spread evenly over designs and colours (each round of designs is shuffled, colours likewise), each with its
    own proportions. design, color: hold that one fixed."""
    kind = get_category(category)
    if count < 1:
        raise InputError(f"count: expected at least 1, got {count}")
    order = _generator(category, seed, "order")
    designs = [design] * count if design else _rounds(kind.designs, count, order)
    colors = [color] * count if color else _rounds(kind.colors, count, order)
    seeds = order.integers(2**31, size=count)
    return [make_object(category, int(s), design=d, color=c) for s, d, c in zip(seeds, designs, colors, strict=True)]


def _rounds(names: tuple[str, ...], count: int, rng: np.random.Generator) -> list[str]:
    """``count`` names: shuffled rounds of all of them."""
    picked: list[str] = []
    while len(picked) < count:
        picked += [names[k] for k in rng.permutation(len(names))]
    return picked[:count]
