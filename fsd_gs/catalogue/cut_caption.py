"""A training caption, cut up: what it is a caption of, and its colours.

a gray two-handed axe       what stands after the colour: "two-handed axe"
a brown crate of carrots    and before "of", "with", "on", …: "crate"
a stack of brown crates     words for an amount say how many, not what: "crates"
"""

from __future__ import annotations

import re
from collections.abc import Collection

from fsd_gs.catalogue.kinds import article
from fsd_gs.catalogue.palette import COLORS
from fsd_gs.catalogue.words import COLOR_WORDS, fold, is_number, split_words
from fsd_gs.core.words import stem

ARTICLES = frozenset(("a", "an", "the", "some"))
_ENDS = frozenset(  # of a noun phrase
    re.findall(
        r"\S+",
        """with without of on onto under in inside at from for by near next and or to that which made holding wearing over behind beside
        above""",
    )
)
_MARKS = ",;:.!?()\"'"


class CutCaption:
    """A caption and its parts. It may have none: "!?".

    Args:
        text: the caption.
        dull: words that do not name what it is of, unless there is no other.

    Attributes:
        text: with single blanks.
        tokens: what stands between the blanks.
        noun: which of them name what it is of.
        name: those, folded: "two-handed axe".
        keys: of their words: (two, handed, axe).
        said: every word, folded; the "two" of "two-handed" is no number, and left out.
        said_keys: of every word.
        colors: words that are colours.
    """

    def __init__(self, text: str, dull: Collection[str] = ()) -> None:
        self.text = " ".join(text.split())
        self.tokens = self.text.split()
        self._words = [" ".join(split_words(token)[0]) for token in self.tokens]  # "two-handed" → "two handed"
        self._before, after = self._around_the_color(self._noun_phrase())
        noun = after or [i for i in self._before if self._words[i] not in COLOR_WORDS]
        self.noun = [i for i in noun[:-1] if self._words[i] not in dull] + noun[-1:]
        self.name = " ".join(fold(self.tokens[i]).strip(_MARKS) for i in self.noun)
        self.keys = tuple(key(word) for i in self.noun for word in self._words[i].split())
        self.said = {word for words in self._words for word in words.split() if word == words or not is_number(word)}
        self.said_keys = {key(word) for word in self.said}
        self.colors = [word for i, word in enumerate(self._words) if word in COLOR_WORDS and i not in self.noun]

    def modifiers(self) -> set[str]:
        """What stands before a colour: "a long empty brown crate" → long, empty."""
        return {self._words[i] for i in self._before if i not in self.noun} - COLOR_WORDS.keys() - {"and"}

    def in_color(self, color: str, kept: Collection[str]) -> str:
        """The caption with another colour, in the place of its own first one (of "red and white" as a whole), else before the noun.

        Args:
            color: the new one.
            kept: colours that stay.
        """
        own = [i for i, word in enumerate(self._words) if word in self.colors and word not in kept and i not in self.noun]
        start = own[0] if own else self.noun[0]
        stop = start + bool(own)
        while own and (stop in own or (self._words[stop : stop + 1] == ["and"] and stop + 1 in own)):
            stop += 1
        beside = ["and"] if start and self._words[start - 1] in self.colors else []
        tokens = [*self.tokens[:start], *beside, color, *self.tokens[stop:]]
        if start and self._words[start - 1] in ("a", "an"):
            tokens[start - 1] = article(color).split()[0]
        return " ".join(tokens)

    def _noun_phrase(self) -> list[int]:
        """Where the first noun phrase stands, without articles and numbers; what an amount is of stands for the amount."""
        start, stop = 0, len(self.tokens)
        for i, word in enumerate(self._words):
            if word == "of" and i and key(self._words[i - 1]) in _AMOUNTS:
                start = i + 1
            elif i > start and word in _ENDS and not (word == "and" and self._joins_colors(i)):
                stop = i
                break
            elif self.tokens[i][-1] in ",;:.":
                stop = i + 1
                break
        while start < stop and (self._words[start] in ARTICLES or is_number(self._words[start])):
            start += 1
        return [i for i in range(start, stop) if self._words[i]] or [i for i, word in enumerate(self._words) if word]

    def _joins_colors(self, place: int) -> bool:
        return all(word in COLOR_WORDS for word in (self._words[place - 1], *self._words[place + 1 : place + 2]))

    def _around_the_color(self, phrase: list[int]) -> tuple[list[int], list[int]]:
        """The noun phrase up to its last colour, and after it. A colour at its end is a noun ("a lemon"), but not in "chair red"."""
        named = phrase[1:] and self._words[0] not in ARTICLES and self._words[phrase[-1]] in COLORS
        candidates = phrase if named else phrase[:-1]
        cut = max((n for n, i in enumerate(candidates, start=1) if self._words[i] in COLOR_WORDS), default=0)
        return phrase[:cut], phrase[cut:]


def key(word: str) -> str:
    """What a noun and its plural have in common: "box" and "boxes" → "boxe", "shelf" and "shelves" → "shelve", "mug" and "mugs" → "mug"."""
    one = word if word.endswith("us") else stem(word)
    if re.search(r"(s|x|z|ch|sh|[^aeiou]o)$", one):
        return one + "e"
    return one[:-1] + "ie" if re.search(r"[^aeiou]y$", one) else re.sub(r"fe?$", "ve", one)


_AMOUNTS = frozenset(
    key(word) for word in ("set", "stack", "pile", "bundle", "slice", "piece", "half", "pair", "group", "row", "heap", "bunch", "couple")
)
