"""Where training objects come from: an endless, seeded stream of captioned objects that render themselves at any camera.

The catalogue of ``priors.nano`` is split twice, so that a trained prior can be asked about what it has never seen:

objects       training draws proportions from seeds in [0, 2³⁰), everything held out from seeds in [2³⁰, 2³¹)
combinations  a triple (category, design, colour) is held out if SHA-256 of it, as a number in [0, 1), lies below 1/20. The split
              depends on nothing else: not on the seed, the order of the table or the machine. Every design and every colour of
              every category remains in training with other partners (a test walks all of them).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import Tensor

from fsd_gs.catalogue.objects import CATEGORIES, CatalogueObject, article, make_object
from fsd_gs.catalogue.render import render_mesh, render_mesh_and_depth
from fsd_gs.catalogue.vocabulary import COLOR_SYNONYMS, STYLE_AFTER, STYLE_BEFORE, caption_variants
from fsd_gs.core.types import Cameras
from fsd_gs.errors import InputError, unknown_name

HELD_OUT_SEEDS = 2**30  # objects from here on are never trained on
HELD_OUT_SHARE = 0.05
PLAIN_SHARE, OPEN_SHARE = 0.5, 0.25  # of the captions: the plain one in full, the plain one with parts left open; the rest vary
Triple = tuple[str, str, str]


class CaptionedObject(Protocol):
    """One object and what people would call it."""

    @property
    def name(self) -> str:
        """For logs and file names."""
        ...

    def render(self, cameras: Cameras) -> Tensor:
        """[V, H, W, 4] float32 on the CPU: sRGB in [0, 1] premultiplied by coverage, and coverage."""
        ...

    def render_with_depth(self, cameras: Cameras) -> tuple[Tensor, Tensor]:
        """The same, and depths [V, H, W] along z, 0 where nothing is."""
        ...

    def caption(self, rng: np.random.Generator) -> str:
        """Another wording at each call; the generator's state decides it."""
        ...


class ObjectSource(Protocol):
    """An endless stream of objects, random access by index."""

    @property
    def captions(self) -> tuple[str, ...]:
        """All captions that are not made of the catalogue's words, sorted."""
        ...

    @property
    def words(self) -> tuple[str, ...]:
        """Every word that the captions may use, lower case, sorted: what a tokenizer must know."""
        ...

    def draw(self, index: int) -> CaptionedObject:
        """The object at ``index`` ≥ 0; the same index always gives the same object."""
        ...


def words_of(text: str) -> list[str]:
    """The lower-case words and numbers of a caption in order, without punctuation."""
    return re.findall(r"[^\W_]+", text.lower())


def is_held_out(category: str, design: str, color: str) -> bool:
    """Whether training must never see this combination."""
    digest = hashlib.sha256("\0".join((category, design, color)).encode()).digest()
    return int.from_bytes(digest[:8], "big") < HELD_OUT_SHARE * 2**64


def combinations(held_out: bool) -> tuple[Triple, ...]:
    """Every (category, design, colour) of the catalogue that is held out, or every one that training may draw."""
    triples = ((kind.name, d, c) for kind in CATEGORIES.values() for d in kind.designs for c in kind.colors)
    return tuple(t for t in triples if is_held_out(*t) == held_out)


@dataclass(frozen=True)
class CatalogueDraw:
    """One object of the catalogue as a :class:`CaptionedObject`.

    Attributes:
        supersample: samples a pixel side of its renders.
    """

    object: CatalogueObject
    supersample: int = 3

    @property
    def name(self) -> str:
        return f"{self.object.category}-{self.object.seed}".replace(" ", "-")

    def render(self, cameras: Cameras) -> Tensor:
        return render_mesh(self.object.mesh, cameras, supersample=self.supersample)

    def render_with_depth(self, cameras: Cameras) -> tuple[Tensor, Tensor]:
        return render_mesh_and_depth(self.object.mesh, cameras, supersample=self.supersample)

    def caption(self, rng: np.random.Generator) -> str:
        """Half the time the plain caption ("a red chair with a tall back"), a quarter the plain one without its colour, its design
        or both, so that such prompts mean "any", and a quarter free wording: synonyms, word order, style words."""
        kind, share = self.object, rng.random()
        if share < PLAIN_SHARE:
            return kind.caption
        if share >= PLAIN_SHARE + OPEN_SHARE:
            return caption_variants(kind, rng, count=2)[-1]  # the first is the plain one
        color, design = ((kind.color, ""), ("", kind.design), ("", ""))[int(rng.integers(3))]
        return article(f"{color} {kind.category}".strip()) + f" {design}".rstrip()


class CatalogueSource:
    """The catalogue as an :class:`ObjectSource`: every category equally often, then every allowed design and colour.

    Args:
        seed: another seed, another stream of the same objects.
        held_out: objects and combinations that training never draws.
        categories: only these; () is all.
        often: categories that are drawn twice as often as the others.
        seen_combinations: with ``held_out``, new objects of the combinations that training does draw, to tell unseen shapes from unseen
            combinations. InputError for an unknown category or one without held-out combinations.
    """

    def __init__(
        self,
        seed: int,
        held_out: bool = False,
        categories: tuple[str, ...] = (),
        *,
        often: tuple[str, ...] = (),
        seen_combinations: bool = False,
        supersample: int = 3,
    ) -> None:
        for label, names in (("categories", categories), ("often", often)):
            for name in names:
                if name not in CATEGORIES:
                    raise InputError(unknown_name(label, name, CATEGORIES))
        self.seed, self.held_out, self.supersample = seed, held_out, supersample
        self._triples: dict[str, list[Triple]] = {}
        for triple in combinations(held_out and not seen_combinations):
            if not categories or triple[0] in categories:
                self._triples.setdefault(triple[0], []).append(triple)
        if not self._triples:
            raise InputError(f"categories: expected at least one with held-out combinations, got {', '.join(categories)}")
        self.categories = tuple(self._triples)
        self._rounds = (*self.categories, *(name for name in self.categories if name in often))
        self.captions: tuple[str, ...] = ()
        self.words = _words(categories or tuple(CATEGORIES))

    def draw(self, index: int) -> CatalogueDraw:
        if index < 0:
            raise InputError(f"index: expected at least 0, got {index}")
        rng = np.random.default_rng([self.seed, index])
        triples = self._triples[self._rounds[int(rng.integers(len(self._rounds)))]]
        category, design, color = triples[int(rng.integers(len(triples)))]
        seed = int(rng.integers(HELD_OUT_SEEDS)) + (HELD_OUT_SEEDS if self.held_out else 0)
        return CatalogueDraw(make_object(category, seed, design=design, color=color), self.supersample)


def _words(categories: tuple[str, ...]) -> tuple[str, ...]:
    """All words of the captions of these categories; a test draws captions and finds no other."""
    phrases = ["a", "an", *STYLE_BEFORE, *STYLE_AFTER]
    for kind in (CATEGORIES[name] for name in categories):
        phrases += [kind.name, *kind.synonyms, *kind.design_nouns, *kind.designs]
        phrases += [word for color in kind.colors for word in (color, *COLOR_SYNONYMS[color])]
    return tuple(sorted({word for phrase in phrases for word in words_of(phrase)}))
