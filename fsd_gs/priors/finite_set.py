"""The catalogue as a finite set for the exact prior: which objects a prompt brings into play, and how likely each is.

p(i | y)   uniform over ``count`` objects of the prompt's category that have the prompt's colour and design, where it names them
p(i | ∅)   every category equally likely: the prompt's own, spread over its objects, and ``distractors`` others, one object each
p(i | y⁻)  for a negative prompt the catalogue understands: p(i | ∅) restricted to what it names
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fsd_gs.catalogue.objects import CATEGORIES, CatalogueObject, sample_objects
from fsd_gs.catalogue.render import render_mesh
from fsd_gs.catalogue.vocabulary import ParsedPrompt, Vocabulary
from fsd_gs.core.types import Cameras
from fsd_gs.priors.object_set import ObjectWeights
from fsd_gs.priors.reader import CatalogueReader


@dataclass(frozen=True)
class _Query:
    """The part of a prompt that the catalogue understands."""

    category: str | None
    color: str | None
    design: str | None

    def matches(self, candidate: CatalogueObject) -> bool:
        return (
            self.category in (None, candidate.category)
            and self.color in (None, candidate.color)
            and self.design in (None, candidate.design)
        )


class CatalogueObjects:
    """An :class:`~fsd_gs.priors.object_set.ObjectSet` that grows with the prompts it is asked for; the same seed gives the same objects."""

    def __init__(self, count: int = 24, distractors: int = 12, seed: int = 0, supersample: int = 3) -> None:
        self.count, self.distractors, self.seed, self.supersample = count, distractors, seed, supersample
        self._objects: list[CatalogueObject] = []
        self._known: dict[tuple[_Query, int], tuple[int, ...]] = {}
        self._reader = CatalogueReader()

    @property
    def vocabulary(self) -> Vocabulary:
        return self._reader.vocabulary

    def __getitem__(self, index: int) -> CatalogueObject:
        return self._objects[index]

    def render(self, index: int, cameras: Cameras) -> Tensor:
        return render_mesh(self._objects[index].mesh, cameras, supersample=self.supersample)

    def weights(self, prompt: str, negative_prompt: str) -> ObjectWeights:
        """InputError, with what the catalogue knows, for a prompt that names none of its categories."""
        query = _query(self._reader.understand(prompt))
        assert query.category is not None
        positives = self._sample(query, self.count)
        others = [name for name in CATEGORIES if name != query.category]
        order = np.random.default_rng(self.seed).permutation(len(others))[: self.distractors]
        negatives = [self._sample(_Query(others[k], None, None), 1)[0] for k in sorted(order)]
        objects = (*positives, *negatives)
        positive = torch.full((len(objects),), -torch.inf)
        positive[: len(positives)] = 0.0
        unconditional = torch.zeros(len(objects))
        unconditional[: len(positives)] = -float(np.log(len(positives)))
        return ObjectWeights(objects, positive.log_softmax(0), self._restricted(unconditional, objects, negative_prompt).log_softmax(0))

    def _restricted(self, unconditional: Tensor, objects: tuple[int, ...], negative_prompt: str) -> Tensor:
        parsed = self._reader.understand_negative(negative_prompt)
        if parsed is None:
            return unconditional
        query = _query(parsed)
        named = torch.tensor([query.matches(self._objects[i]) for i in objects])
        return unconditional.masked_fill(~named, -torch.inf) if named.any() else unconditional

    def _sample(self, query: _Query, count: int) -> tuple[int, ...]:
        key = (query, count)
        if key not in self._known:
            assert query.category is not None
            made = sample_objects(query.category, count, self.seed, design=query.design, color=query.color)
            start = len(self._objects)
            self._objects.extend(made)
            self._known[key] = tuple(range(start, start + count))
        return self._known[key]


def _query(parsed: ParsedPrompt) -> _Query:
    return _Query(parsed.category, parsed.fitting_color, parsed.design)
