"""Which captions a model card asks for: combinations that training never saw, and ones it did, spread evenly over the categories."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fsd_gs.catalogue.objects import CatalogueObject, article, make_object
from fsd_gs.core.backgrounds import BACKGROUNDS
from fsd_gs.errors import InputError
from fsd_gs.metrics.judge.words import Asked
from fsd_gs.pretrain.sources import HELD_OUT_SEEDS, Triple, combinations

UNSEEN, SEEN = "unseen combination", "seen combination"
IN_TURN = ("white", "gray", "black")
# Of the seen combinations: what a caption says. Without its colour or design even an unseen combination would be an ordinary prompt.
WORDINGS = (("color", "design"), ("color",), ("design",), ())


@dataclass(frozen=True)
class Caption:
    """A prompt and what must come of it. triple: the combination it was made from; group: UNSEEN or SEEN; background: a name."""

    prompt: str
    asked: Asked
    triple: Triple
    group: str
    background: str

    @property
    def color(self) -> Tensor:
        """[3] sRGB of the background."""
        return torch.tensor(BACKGROUNDS[self.background])

    def object(self, rng: np.random.Generator) -> CatalogueObject:
        """A catalogue object of the combination, with proportions that training never draws."""
        category, design, color = self.triple
        return make_object(category, HELD_OUT_SEEDS + int(rng.integers(HELD_OUT_SEEDS)), design=design, color=color)


def choose_captions(count: int, categories: tuple[str, ...], rng: np.random.Generator, *, full: bool = False) -> list[Caption]:
    """``count`` captions, half of each group in turn; categories: () is all. full: every caption says colour and design."""
    unseen = [_caption(t, WORDINGS[0], UNSEEN) for t in islice(_spread(True, categories, rng), (count + 1) // 2)]
    wordings = cycle(WORDINGS[:1] if full else WORDINGS)
    seen = [_caption(t, next(wordings), SEEN) for t in islice(_spread(False, categories, rng), count - len(unseen))]
    mixed = [caption for pair in zip(unseen, seen, strict=False) for caption in pair] + unseen[len(seen) :] + seen[len(unseen) :]
    # Three backgrounds over two groups and four wordings: every pairing occurs.
    return [Caption(c.prompt, c.asked, c.triple, c.group, IN_TURN[n % 3]) for n, c in enumerate(mixed)]


def _spread(held_out: bool, categories: tuple[str, ...], rng: np.random.Generator):
    """Combinations without end: one of every category, then another one of every category, …, each anew when used up."""
    by_category: dict[str, list[Triple]] = {}
    for triple in combinations(held_out):
        if not categories or triple[0] in categories:
            by_category.setdefault(triple[0], []).append(triple)
    if not by_category:
        raise InputError(f"categories: no {'held-out ' if held_out else ''}combinations of {', '.join(categories)}")
    names = [list(by_category)[k] for k in rng.permutation(len(by_category))]
    queues = {name: cycle([by_category[name][k] for k in rng.permutation(len(by_category[name]))]) for name in names}
    for name in cycle(names):
        yield next(queues[name])


def _caption(triple: Triple, says: tuple[str, ...], group: str) -> Caption:
    category, design, color = triple
    phrase = article(f"{color} {category}" if "color" in says else category)
    prompt = f"{phrase} {design}" if "design" in says else phrase
    asked = Asked(category, color if "color" in says else None, f"{category}/{design}" if "design" in says else None)
    return Caption(prompt, asked, triple, group, IN_TURN[0])


def categories_of(folder: Path) -> tuple[str, ...]:
    """What the prior in ``folder`` was trained on; () is the whole catalogue."""
    return tuple(json.loads((folder / "model_index.json").read_text()).get("categories") or ())
