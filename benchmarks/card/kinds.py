"""How many kinds of object a prior knows: does a sample of each look like that kind and not like another?

    e(views)    mean over the views of the judge's embedding, to length 1
    right       of all true renders of all kinds, the one with the nearest e shows the kind that was asked for
    known       a kind of which more than half of the samples are right

The judge was trained on the catalogue alone; what it embeds tells other meshes apart as well, how well the same question says of true
renders from other cameras ("true renders"). Meshes are those that the prior was trained with: there is no held-out side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from card.consistency import ring
from torch import Tensor

from fsd_gs.catalogue.vocabulary import Vocabulary
from fsd_gs.core.types import Cameras
from fsd_gs.metrics.judge import Judge
from fsd_gs.pretrain.sources import CaptionedObject, CatalogueDraw, CatalogueSource
from fsd_gs.pretrain.views import draw_background, picture_over

Draw = Callable[[np.random.Generator], CaptionedObject]
KNOWN = 0.5  # share of a kind's samples that must be exceeded


@dataclass(frozen=True)
class Question:
    """One prompt and the kind that it names; color: [3] sRGB of the background; cameras: of the sample."""

    kind: str
    prompt: str
    color: Tensor
    cameras: Cameras


def kinds_of(vocabulary: Vocabulary, meshes: Sequence[CaptionedObject], rng: np.random.Generator) -> dict[str, Draw]:
    """What draws an object of each kind that the prior's words name; kinds of meshes only where there are such meshes.

    Args:
        vocabulary: of the prior.
        meshes: that it was trained with.
        rng: of the captions that say what a mesh is.
    """
    draws: dict[str, Draw] = {name: _of_catalogue(name) for name in vocabulary.kinds}
    found: dict[str, list[CaptionedObject]] = {}
    for thing in meshes:
        parsed = vocabulary.read(thing.caption(rng))
        if parsed.phrase is not None and parsed.category is not None:
            found.setdefault(parsed.category, []).append(thing)
    return draws | {name: _of_meshes(things) for name, things in sorted(found.items())}


def _of_catalogue(name: str) -> Draw:
    """Shapes that training never draws, of the combinations that it does."""
    source = CatalogueSource(0, held_out=True, categories=(name,), seen_combinations=True)
    return lambda rng: source.draw(int(rng.integers(2**31)))


def _of_meshes(things: Sequence[CaptionedObject]) -> Draw:
    return lambda rng: things[int(rng.integers(len(things)))]


def _views(thing: CaptionedObject, size: int, count: int, rng: np.random.Generator) -> tuple[Cameras, Tensor, Tensor]:
    """Cameras anywhere around, a background, and the renders [V, 3, H, W] over it."""
    cameras, background = ring(float(rng.uniform(0, 360)), size, count), torch.tensor(draw_background(rng))
    return cameras, background, picture_over(thing.render(cameras), background)


def reference_renders(draws: dict[str, Draw], each: int, size: int, views: int, rng: np.random.Generator) -> tuple[list[str], Tensor]:
    """Kinds of the K · each sets of views, and the sets [K · each, V, 3, H, W]."""
    kinds = [kind for kind in draws for _ in range(each)]
    return kinds, torch.stack([_views(draws[kind](rng), size, views, rng)[2] for kind in kinds])


def questions(
    draws: dict[str, Draw], vocabulary: Vocabulary, each: int, size: int, views: int, rng: np.random.Generator
) -> tuple[list[Question], Tensor]:
    """``each`` prompts a kind, and true renders of what they were taken from [Q, V, 3, H, W]."""
    asked, renders = [], []
    for kind, draw in draws.items():
        for _ in range(each):
            thing = draw(rng)
            cameras, background, images = _views(thing, size, views, rng)
            prompt = thing.object.caption if isinstance(thing, CatalogueDraw) else thing.caption(rng)
            if vocabulary.read(prompt).category != kind:  # of a mesh that has captions of two kinds
                prompt = kind
            asked.append(Question(kind, prompt, background, cameras))
            renders.append(images)
    return asked, torch.stack(renders)


@torch.no_grad()
def embed(judge: Judge, images: Tensor) -> Tensor:
    """e of [N, V, 3, H, W]: [N, D]."""
    embedded = torch.cat([judge.embed(part) for part in images.flatten(0, 1).split(256)])
    return torch.nn.functional.normalize(embedded.unflatten(0, images.shape[:2]).mean(1), dim=1)


def nearest(references: Tensor, kinds: Sequence[str], embedded: Tensor) -> list[str]:
    """The kind of the nearest reference [R, D] of each row of ``embedded`` [N, D]."""
    return [kinds[int(place)] for place in (embedded @ references.T).argmax(1).tolist()]


def summarize(asked: Sequence[Question], seen: Sequence[str]) -> dict[str, Any]:
    """How often each kind was seen where it was asked for, and which are known."""
    right: dict[str, list[bool]] = {}
    for question, kind in zip(asked, seen, strict=True):
        right.setdefault(question.kind, []).append(question.kind == kind)
    rates = {kind: sum(found) / len(found) for kind, found in right.items()}
    return {
        "kinds": len(rates),
        "known": sum(rate > KNOWN for rate in rates.values()),
        "right": sum(map(sum, right.values())) / len(asked),
        "missed": [kind for kind, rate in rates.items() if rate <= KNOWN],
        "rates": rates,
        "seen": [[question.prompt, kind] for question, kind in zip(asked, seen, strict=True)],
    }
