"""Reads prompts in the words of the catalogue: category, colour and design, with synonyms, plurals and filler words.

A prompt is cut into lower-case words; at each place the longest known phrase wins (multi-word names before single words). Words about
style ("a photo of", "highly detailed") are dropped silently; the others that nothing explains are reported, each with the nearest
known word.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np

from fsd_gs.catalogue.categories import CATEGORIES, Category
from fsd_gs.catalogue.objects import CatalogueObject, article
from fsd_gs.catalogue.palette import COLORS

COLOR_SYNONYMS: dict[str, tuple[str, ...]] = {
    "red": ("crimson", "scarlet", "ruby", "reddish"),
    "orange": ("tangerine", "amber", "ginger"),
    "yellow": ("lemon", "blonde", "yellowish"),
    "green": ("emerald", "lime", "olive", "greenish"),
    "turquoise": ("teal", "cyan", "aqua", "mint"),
    "blue": ("navy", "azure", "cobalt", "indigo", "bluish"),
    "purple": ("violet", "lilac", "lavender", "mauve"),
    "pink": ("rosy", "magenta", "fuchsia"),
    "brown": ("chocolate", "chestnut", "tan", "beige"),
    "white": ("ivory", "snowy", "pearl"),
    "black": ("ebony", "jet"),
    "gray": ("grey", "silver", "silvery"),
    "gold": ("golden", "gilded"),
}
# Words that say nothing about which object is meant. "of" and "the" would otherwise be reported in every sentence.
FILLER = frozenset(
    re.findall(
        r"\S+",
        """a an the of in on at with and or its his her some one single this that is it which has having made for by to as like from out
        photo photograph picture image render rendering rendered drawing illustration model asset object 3d cgi dslr hd uhd 4k 8k hdr
        cute beautiful pretty nice lovely simple small little big large tiny huge old new modern classic vintage antique fancy elegant
        high highly very ultra quality resolution detailed detail details sharp realistic photorealistic stylized stylised cartoon
        cartoonish low poly lowpoly game ready isolated background studio lighting best masterpiece colored coloured colorful
        colourful color colour style design shape shaped view front side zoomed full professional octane unreal engine blender
        trending artstation light dark bright pale wooden wood shiny glossy matte art covered full filled made two three four""",
    )
)
STYLE_BEFORE = ("", "a photo of ", "a 3d model of ", "a render of ")
STYLE_AFTER = ("", ", highly detailed", ", 3d asset", ", studio lighting")
# Too common on its own to name a design: "with a tall back" is recognised by "tall back", never by "with" or "a".
_JOINERS = frozenset(("a", "an", "the", "with", "in", "on", "of", "its", "has", "having", "and"))
_NUMBERS = frozenset(("two", "three", "four", "six"))


@dataclass(frozen=True)
class ParsedPrompt:
    """What a prompt says in the catalogue's words; None where it says nothing.

    known: the words that were understood; unknown: those that were not; suggestions: unknown word → nearest known word.
    """

    category: str | None
    color: str | None
    design: str | None
    known: tuple[str, ...]
    unknown: tuple[str, ...]
    suggestions: dict[str, str]


def parse_prompt(prompt: str) -> ParsedPrompt:
    """Understand a prompt. The first category wins; the design must be one of its own; of several colours the first counts."""
    words = re.findall(r"[a-z0-9]+", prompt.lower().replace("'s", ""))
    found = _find(words, _category_phrases(), set())
    category = found[0].meaning if found else None
    taken = set(found[0].places) if found else set()
    designs = _find([_stem(w) for w in words], _design_phrases(category), set()) if category else []
    if not designs and category:
        designs = _find(words, _design_nouns(category), set())  # the noun can imply the design: "cupcake", "palm tree"
    taken.update(*(match.places for match in designs))
    colors = _find(words, _color_phrases(), taken)
    taken.update(*(match.places for match in colors))
    unknown = tuple(dict.fromkeys(w for i, w in enumerate(words) if i not in taken and w not in FILLER))
    return ParsedPrompt(
        category,
        colors[0].meaning if colors else None,
        designs[0].meaning if designs else None,
        tuple(w for i, w in enumerate(words) if i in taken),
        unknown,
        _suggest(unknown, category),
    )


class _Match(NamedTuple):
    """A known phrase: what it means and the places of its words in the prompt."""

    meaning: str
    places: range


def _find(words: list[str], phrases: dict[tuple[str, ...], str], taken: set[int]) -> list[_Match]:
    """The phrases that occur, left to right, the longest at each place; words at the places ``taken`` are passed over."""
    matches: list[_Match] = []
    longest = max((len(p) for p in phrases), default=0)
    start = 0
    while start < len(words):
        spans = (range(start, start + n) for n in range(min(longest, len(words) - start), 0, -1))
        match = next((s for s in spans if tuple(words[i] for i in s) in phrases and not taken.intersection(s)), None)
        if match:
            matches.append(_Match(phrases[tuple(words[i] for i in match)], match))
        start = match.stop if match else start + 1
    return matches


def _stem(word: str) -> str:
    """The word without a plural s, so that "a tall back" and "tall backs" agree."""
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def plural_of(noun: str) -> str:
    """Regular English plural of the last word."""
    if re.search(r"(s|x|z|ch|sh)$", noun):
        return noun + "es"
    return noun[:-1] + "ies" if re.search(r"[^aeiou]y$", noun) else noun + "s"


@lru_cache(maxsize=1)
def _category_phrases() -> dict[tuple[str, ...], str]:
    phrases: dict[tuple[str, ...], str] = {}
    for kind in CATEGORIES.values():
        for noun in (kind.name, *kind.synonyms, *kind.design_nouns):
            phrases.setdefault(tuple(noun.split()), kind.name)
            phrases.setdefault(tuple(plural_of(noun).split()), kind.name)
        phrases.setdefault(tuple(kind.plural_name.split()), kind.name)
    return phrases


@lru_cache(maxsize=1)
def _color_phrases() -> dict[tuple[str, ...], str]:
    return {(word,): name for name in COLORS for word in (name, *COLOR_SYNONYMS[name])}


def _core(phrase: str) -> tuple[str, ...]:
    """The words of a design that carry its meaning: "with a tall back" → (tall, back)."""
    return tuple(_stem(w) for w in phrase.split() if w not in _JOINERS)


@cache
def _design_phrases(category: str) -> dict[tuple[str, ...], str]:
    """Stemmed phrases that mean a design of the category: its core words, and without the number where it starts with one."""
    cores = {_core(design): design for design in CATEGORIES[category].designs}
    return cores | {core[1:]: design for core, design in cores.items() if core[0] in _NUMBERS and core[1:] not in cores}


@cache
def _design_nouns(category: str) -> dict[tuple[str, ...], str]:
    nouns = CATEGORIES[category].design_nouns
    return {tuple(form.split()): design for noun, design in nouns.items() for form in (noun, plural_of(noun))}


def _suggest(unknown: tuple[str, ...], category: str | None) -> dict[str, str]:
    designs = _design_phrases(category) if category else {}
    vocabulary = [" ".join(p) for p in (*_category_phrases(), *_color_phrases(), *designs)]
    # A word that is known but has no place here (a second object) needs no spelling help.
    guesses = {word: difflib.get_close_matches(word, vocabulary, n=1, cutoff=0.7) for word in unknown if word not in vocabulary}
    return {word: guess[0] for word, guess in guesses.items() if guess}


def describe_vocabulary() -> str:
    """One line a category with its designs and colours, for people."""
    lines = [f"{len(CATEGORIES)} kinds of object, each with its designs and colours:"]
    for kind in CATEGORIES.values():
        also = f" ({', '.join(kind.synonyms)})" if kind.synonyms else ""
        lines.append(f"  {kind.name}{also}: {'; '.join(kind.designs)} | {', '.join(kind.colors)}")
    return "\n".join(lines)


def caption_variants(obj: CatalogueObject, rng: np.random.Generator, count: int = 8) -> list[str]:
    """``count`` different ways to say the object, for training: synonyms, word order, parts left out, style words. The plain caption
    comes first. Every caption parses back to the object's category, and to its colour and design where it names them."""
    kind = CATEGORIES[obj.category]
    captions = [obj.caption]
    for _ in range(20 * count):
        if len(captions) >= count:
            break
        candidate = _one_caption(obj, kind, rng)
        parsed = parse_prompt(candidate)
        agrees = parsed.category == obj.category and parsed.color in (None, obj.color) and parsed.design in (None, obj.design)
        if agrees and candidate not in captions:
            captions.append(candidate)
    return captions


def _one_caption(obj: CatalogueObject, kind: Category, rng: np.random.Generator) -> str:
    def pick(options: tuple[str, ...], own: float) -> str:
        """The first option with probability ``own``, else any of the others."""
        return options[0] if len(options) == 1 or rng.random() < own else options[int(rng.integers(1, len(options)))]

    nouns = (noun for noun, design in kind.design_nouns.items() if design == obj.design)
    noun = pick((kind.name, *kind.synonyms, *nouns), 0.7)
    color = pick((obj.color, *COLOR_SYNONYMS[obj.color]), 0.8)
    has_color, has_design = rng.random() < 0.8, rng.random() < 0.7
    if has_color and rng.random() < 0.15:
        text = f"{article(noun)} {obj.design}, {color}" if has_design else f"{article(noun)}, {color}"
    else:
        text = article(f"{color} {noun}" if has_color else noun) + (f" {obj.design}" if has_design else "")
    before, after = pick(STYLE_BEFORE, 0.6), pick(STYLE_AFTER, 0.7)
    return before + text + after
