"""Phrases in a text: the longest known one at each place, left to right; for the catalogue's reader of prompts and the judge's."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

Phrases = Mapping[tuple[str, ...], str]  # words of a phrase → what it means


class Match(NamedTuple):
    """A known phrase in a text.

    Attributes:
        meaning: What it means.
        places: Where its words stand.
    """

    meaning: str
    places: range


def stem(word: str) -> str:
    """The word without a plural s, so that "a tall back" and "tall backs" agree."""
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def find_phrases(words: Sequence[str], phrases: Phrases, taken: Collection[int] = ()) -> list[Match]:
    """The phrases that occur, left to right, the longest at each place.

    Args:
        words: The text, word by word.
        phrases: The known ones.
        taken: Places to pass over.
    """
    passed, matches = set(taken), []
    longest = max((len(phrase) for phrase in phrases), default=0)
    start = 0
    while start < len(words):
        spans = (range(start, start + n) for n in range(min(longest, len(words) - start), 0, -1))
        match = next((s for s in spans if tuple(words[i] for i in s) in phrases and not passed.intersection(s)), None)
        if match:
            matches.append(Match(phrases[tuple(words[i] for i in match)], match))
        start = match.stop if match else start + 1
    return matches
