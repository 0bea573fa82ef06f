"""What a prompt asks of the judge, read with the word table that was stored beside its weights.

The table holds phrases of lower-case words: noun → category, colour word → colour, and for each category design words → design. At each
place the longest phrase wins; the first category and the first colour count. Words it does not know are passed over: whether a prompt is
understood well enough to generate from is the prior's business.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Any

from fsd_gs.core.words import find_phrases, stem
from fsd_gs.errors import FileFormatError, InputError

Phrases = dict[tuple[str, ...], str]


@dataclass(frozen=True)
class Asked:
    """What a prompt asks for; ``design`` is "category/design"; None where it leaves the choice open."""

    category: str
    color: str | None = None
    design: str | None = None


@dataclass(frozen=True)
class WordTable:
    """Phrases and what they mean.

    Attributes:
        categories, colors: phrase → name.
        designs: category → (phrase without plural s → design).
        design_nouns: category → (noun → design).
    """

    categories: Phrases
    colors: Phrases
    designs: dict[str, Phrases]
    design_nouns: dict[str, Phrases]

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> WordTable:
        """The table of ``to_json``."""
        try:
            return cls(
                _split(stored["categories"]),
                _split(stored["colors"]),
                {name: _split(phrases) for name, phrases in stored["designs"].items()},
                {name: _split(phrases) for name, phrases in stored["design_nouns"].items()},
            )
        except (KeyError, AttributeError, TypeError) as problem:
            raise FileFormatError(f"words: expected the judge's word table, got one without a proper entry {problem}") from problem

    def to_json(self) -> dict[str, Any]:
        """Plain dictionaries with the words of a phrase joined by blanks."""
        return {
            "categories": _join(self.categories),
            "colors": _join(self.colors),
            "designs": {name: _join(phrases) for name, phrases in self.designs.items()},
            "design_nouns": {name: _join(phrases) for name, phrases in self.design_nouns.items()},
        }

    def read(self, prompt: str) -> Asked:
        """Category, colour and design that ``prompt`` names; :class:`InputError` if it names no category."""
        words = re.findall(r"[a-z0-9]+", prompt.lower().replace("'s", ""))
        nouns = find_phrases(words, self.categories)
        if not nouns:
            raise InputError(f"prompt: expected one of the judge's {len(self.designs)} kinds of object, got '{prompt}'{self._hint(words)}")
        category, taken = nouns[0].meaning, set(nouns[0].places)
        designs = find_phrases([stem(word) for word in words], self.designs.get(category, {}))
        designs = designs or find_phrases(words, self.design_nouns.get(category, {}))
        taken.update(*(design.places for design in designs))
        colors = find_phrases(words, self.colors, taken)
        return Asked(category, colors[0].meaning if colors else None, f"{category}/{designs[0].meaning}" if designs else None)

    def _hint(self, words: list[str]) -> str:
        known = [" ".join(phrase) for phrase in self.categories]
        for word in words:
            guess = difflib.get_close_matches(word, known, n=1, cutoff=0.7)
            if guess:
                return f"; did you mean '{guess[0]}'?"
        return "; use CLIP (metrics.clip) for other objects"


def _split(stored: dict[str, str]) -> Phrases:
    return {tuple(phrase.split()): name for phrase, name in stored.items()}


def _join(phrases: Phrases) -> dict[str, str]:
    return {" ".join(phrase): name for phrase, name in phrases.items()}
