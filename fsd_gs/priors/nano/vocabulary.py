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

import numpy as np

from fsd_gs.priors.nano.catalogue import CATEGORIES, CatalogueObject, Category, article
from fsd_gs.priors.nano.palette import COLORS

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
        trending artstation light dark bright pale wooden wood shiny glossy matte art""",
    )
)
# Too common on its own to name a design: "with a tall back" is recognised by "tall back", never by "with" or "a".
_JOINERS = frozenset(("a", "an", "the", "with", "in", "on", "of", "its", "has", "having", "and"))


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
    """Understand a prompt. The first category wins; colour and design follow it (the design must be one of its own)."""
    words = re.findall(r"[a-z0-9]+", prompt.lower().replace("'s", ""))
    found, taken = _find(words, _category_phrases())
    category = found[0] if found else None
    kind = CATEGORIES[category] if category else None
    designs, design_taken = _find(words, _design_phrases(category), taken, allow_inside=True) if category else ([], set())
    taken |= design_taken
    colors, color_taken = _find(words, _color_phrases(), taken)
    if kind and not designs:
        # The category's own name can imply a design: "armchair", "palm tree".
        designs = [kind.design_words[p] for p in kind.design_words if _contains(words, p.split())]
    taken |= color_taken
    unknown = tuple(dict.fromkeys(w for i, w in enumerate(words) if i not in taken and w not in FILLER))
    known = tuple(w for i, w in enumerate(words) if i in taken)
    return ParsedPrompt(
        category, colors[0] if colors else None, designs[0] if designs else None, known, unknown, _suggest(unknown, category)
    )


def _find(
    words: list[str], phrases: dict[tuple[str, ...], str], taken: set[int] | None = None, allow_inside: bool = False
) -> tuple[list[str], set[int]]:
    """Meanings of the phrases found, left to right and longest first, and the places of their words. Words in ``taken`` are passed
    over; ``allow_inside`` lets joining words stand between a phrase's words ("a back that is tall" is still out of reach)."""
    used = taken or set()
    meanings: list[str] = []
    places: set[int] = set()
    longest = max((len(p) for p in phrases), default=0)
    start = 0
    while start < len(words):
        for length in range(min(longest, len(words) - start), 0, -1):
            span = range(start, start + length)
            phrase = tuple(words[i] for i in span)
            if phrase in phrases and (allow_inside or not used.intersection(span)):
                meanings.append(phrases[phrase])
                places.update(span)
                start += length - 1
                break
        start += 1
    return meanings, places


def _contains(words: list[str], phrase: list[str]) -> bool:
    return any(words[i : i + len(phrase)] == phrase for i in range(len(words) - len(phrase) + 1))


def plural_of(noun: str) -> str:
    """Regular English plural of the last word."""
    if re.search(r"(s|x|z|ch|sh)$", noun):
        return noun + "es"
    return noun[:-1] + "ies" if re.search(r"[^aeiou]y$", noun) else noun + "s"


@lru_cache(maxsize=1)
def _category_phrases() -> dict[tuple[str, ...], str]:
    phrases: dict[tuple[str, ...], str] = {}
    for kind in CATEGORIES.values():
        for noun in (kind.name, *kind.synonyms):
            phrases.setdefault(tuple(noun.split()), kind.name)
            phrases.setdefault(tuple(plural_of(noun).split()), kind.name)
        phrases.setdefault(tuple(kind.plural_name.split()), kind.name)
    return phrases


@lru_cache(maxsize=1)
def _color_phrases() -> dict[tuple[str, ...], str]:
    return {(word,): name for name in COLORS for word in (name, *COLOR_SYNONYMS[name])}


def _core(phrase: str) -> tuple[str, ...]:
    """The words of a design that carry its meaning: "with a tall back" → (tall, back)."""
    return tuple(w for w in phrase.split() if w not in _JOINERS)


@cache
def _design_phrases(category: str | None) -> dict[tuple[str, ...], str]:
    """Phrases that mean one design of the category: its core words, their last word alone where that is unmistakable, and aliases."""
    if category is None:
        return {}
    kind = CATEGORIES[category]
    phrases = {_core(design): design for design in kind.designs}
    for words, design in {core[-1:]: design for core, design in list(phrases.items()) if len(core) > 1}.items():
        others = [w for core in map(_core, kind.designs) if core[-1:] != words for w in core]
        unique = sum(_core(d)[-1:] == words for d in kind.designs) == 1
        if unique and words[0] not in others and words not in _category_phrases() and words not in _color_phrases():
            phrases.setdefault(words, design)
    for alias, design in kind.design_words.items():
        phrases[tuple(alias.split())] = design
    return phrases


def _suggest(unknown: tuple[str, ...], category: str | None) -> dict[str, str]:
    vocabulary = [" ".join(p) for p in (*_category_phrases(), *_color_phrases(), *_design_phrases(category))]
    guesses = {word: difflib.get_close_matches(word, vocabulary, n=1, cutoff=0.65) for word in unknown}
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

    noun = pick((kind.name, *kind.synonyms), 0.7)
    color = pick((obj.color, *COLOR_SYNONYMS[obj.color]), 0.8)
    has_color, has_design = rng.random() < 0.8, rng.random() < 0.7
    if has_color and rng.random() < 0.15:
        text = f"{article(noun)} {obj.design}, {color}" if has_design else f"{article(noun)}, {color}"
    else:
        text = article(f"{color} {noun}" if has_color else noun) + (f" {obj.design}" if has_design else "")
    before = pick(("", "a photo of ", "a 3d model of ", "a render of "), 0.6)
    after = pick(("", ", highly detailed", ", 3d asset", ", studio lighting"), 0.7)
    return before + text + after
