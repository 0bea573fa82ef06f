"""Reads prompts in the words of the catalogue: kind, colour and design, with synonyms, plurals and filler words. Data only: no shapes.

A prompt is folded (accents dropped, lower case), cut into words, and at each place the longest known phrase wins. What is not taken is a
:class:`Finding`, never silence:

    asks   a word that decides the look and is not known here, a second object, a colour that the kind never has: whoever is about to
           train for minutes should stop and ask; the nearest word that would fit this kind comes with it
    notes  what is understood and cannot be done (numbers, negations, sizes, a second colour or design): said in one line, left out

Words about style and quality ("a photo of", "highly detailed") mean nothing to a prior of this kind and are dropped.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from fsd_gs.catalogue.kinds import KINDS, Kind, article, plural_of
from fsd_gs.catalogue.palette import COLORS
from fsd_gs.core.words import Match, find_phrases, stem
from fsd_gs.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from fsd_gs.catalogue.objects import CatalogueObject

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
        """a an 1 the of in on at with and or its his her some one single this that is it which has having have made for by to as like from
        out there but please make me create draw
        photo photograph picture image render rendering rendered drawing illustration model asset object 3d cgi dslr hd uhd 4k 8k hdr
        beautiful pretty nice lovely high highly very ultra quality resolution detailed detail details sharp realistic photorealistic
        stylized stylised game ready isolated background studio lighting best masterpiece colored coloured color colour style design
        shape shaped view front side zoomed full professional octane unreal engine blender trending artstation art covered filled""",
    )
)
# Words everybody knows, and which change the look, but not the look of anything here: said, and left out.
QUALIFIERS = frozenset(
    re.findall(
        r"\S+",
        """cute simple small little big large tiny huge giant mini miniature old new modern classic vintage antique fancy elegant cartoon
        cartoonish low poly lowpoly light dark bright pale deep wooden wood metal metallic steel iron glass plastic stone marble ceramic
        shiny glossy matte colorful colourful""",
    )
)
NUMBERS: dict[str, int] = {
    word: number
    for number, word in enumerate(("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"), start=2)
}
CROWDS = frozenset(("pair", "couple", "several", "many", "multiple", "few", "dozen", "dozens", "both", "various", "lots", "group", "set"))
NEGATIONS = frozenset(("not", "no", "non", "without", "never", "nor", "neither", "except", "instead", "minus"))
_SCOPE_ENDS = frozenset(("but", "and", "with", "in", "on", "that", "which", "having", "has", "as"))
_AFTER_NEGATION = frozenset(("a", "an", "the", "any", "of", "in", "with", "so", "too", "very", "have", "having", "made"))
STYLE_BEFORE = ("", "a photo of ", "a 3d model of ", "a render of ")
STYLE_AFTER = ("", ", highly detailed", ", 3d asset", ", studio lighting")
# Too common on its own to name a design: "with a tall back" is recognised by "tall back", never by "with" or "a".
_JOINERS = frozenset(("a", "an", "the", "with", "in", "on", "of", "its", "has", "having", "and"))
REAL_BACKBONES = "A real backbone understands everything: --config mvdream or --config sd21, on a GPU"


class PromptError(InputError):
    """Words of a prompt that decide the look are not understood.

    Args:
        findings: all that was found.
    """

    def __init__(self, message: str, findings: Sequence[Finding] = ()) -> None:
        super().__init__(message)
        self.findings = tuple(findings)


@dataclass(frozen=True)
class Finding:
    """Something of a prompt that is not taken as it was said.

    Args:
        kind: "unknown", "object" or "color" (these ask), "count", "negation", "qualifier", "second color", "part color", "second
            design" or "background" (these are notes).
        words: the words of the prompt, folded.
        message: what about them, for people; begins with the words in quotes.
        suggestion: the nearest word that would be understood here, or None.
    """

    kind: str
    words: str
    message: str
    suggestion: str | None = None

    @property
    def asks(self) -> bool:
        """Whether to stop before minutes are spent."""
        return self.kind in ("unknown", "object", "color")


@dataclass(frozen=True)
class ParsedPrompt:
    """What a prompt says in the catalogue's words; None where it says nothing.

    Args:
        category, color, design: what is taken. color is what was said, also where the kind never has it.
        known: the words that were understood.
        findings: what was not taken.
    """

    category: str | None
    color: str | None
    design: str | None
    known: tuple[str, ...]
    findings: tuple[Finding, ...]

    @property
    def unknown(self) -> tuple[str, ...]:
        """The words that mean nothing here, in order."""
        return tuple(f.words for f in self.findings if f.kind in ("unknown", "object"))

    @property
    def suggestions(self) -> dict[str, str]:
        """Unknown word → nearest word that fits."""
        return {f.words: f.suggestion for f in self.findings if f.kind == "unknown" and f.suggestion}

    @property
    def asking(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.asks)

    @property
    def fitting_color(self) -> str | None:
        """The colour, where objects of the kind come in it."""
        return self.color if self.category and self.color in KINDS[self.category].colors else None

    def caption(self) -> str:
        """ "one cute crimson armchair" → "a red chair with armrests": the words of most training captions."""
        phrase = article(f"{self.fitting_color or ''} {self.category}".strip())
        return f"{phrase} {self.design}" if self.design else phrase


class Vocabulary:
    """The words that a prior knows: all of the catalogue's, or those of some kinds.

    Args:
        kinds: names of the kinds it was trained on; empty for all.
    """

    def __init__(self, kinds: Iterable[str] = ()) -> None:
        names = set(kinds)
        self.kinds: dict[str, Kind] = {name: kind for name, kind in KINDS.items() if not names or name in names}

    def read(self, prompt: str) -> ParsedPrompt:
        """Understand a prompt. The first kind wins; the design must be one of its own; of several colours the first counts."""
        return _Reader(prompt, self.kinds).read()

    def understand(self, prompt: str) -> ParsedPrompt:
        """:meth:`read`; InputError, with what is known here, for a prompt whose subject is not."""
        parsed = self.read(prompt)
        if parsed.category is None:
            hints = [f"'{word}' → '{near}'" for word, near in parsed.suggestions.items()]
            hint = f" (did you mean {', '.join(hints)}?)" if hints else ""
            raise InputError(f"prompt: '{prompt}' names nothing that this prior knows{hint}; it knows {self.names()}. {REAL_BACKBONES}")
        if parsed.category not in self.kinds:
            raise InputError(
                f"prompt: this prior was not trained on '{parsed.category}'; it knows {self.names()}. "
                f"--config exact looks it up in the catalogue. {REAL_BACKBONES}"
            )
        return parsed

    def names(self) -> str:
        return ", ".join(self.kinds)

    def words(self) -> list[str]:
        """Every word and phrase that means something, for completion."""
        found = [noun for kind in self.kinds.values() for noun in (kind.name, *kind.synonyms, *kind.design_nouns)]
        found += [design for kind in self.kinds.values() for design in kind.designs]
        found += [word for name in COLORS for word in (name, *COLOR_SYNONYMS[name])]
        return list(dict.fromkeys(found))

    def describe(self) -> str:
        """One line a kind with its designs and colours, for people."""
        lines = [f"{len(self.kinds)} kinds of object, each with its designs and colours:"]
        for kind in self.kinds.values():
            also = f" ({', '.join((*kind.synonyms, *kind.design_nouns))})" if kind.synonyms or kind.design_nouns else ""
            lines.append(f"  {kind.name}{also}: {'; '.join(kind.designs)} | {', '.join(kind.colors)}")
        return "\n".join(lines)


CATALOGUE = Vocabulary()


def parse_prompt(prompt: str) -> ParsedPrompt:
    """:meth:`Vocabulary.read` with all words of the catalogue."""
    return CATALOGUE.read(prompt)


def describe_vocabulary() -> str:
    """:meth:`Vocabulary.describe` of the whole catalogue."""
    return CATALOGUE.describe()


def question(findings: Sequence[Finding], how: str = "anyway=true") -> str:
    """One line about the findings that ask. how: what goes on without them, as the reader can do it."""
    return f"prompt: {'; '.join(f.message for f in findings if f.asks)}. Change the words, or go on without them with {how}"


def note(findings: Sequence[Finding], *, anyway: bool = False) -> str:
    """One line about what is left out; "" if nothing is. anyway: also what asks."""
    messages = [f.message for f in findings if anyway or not f.asks]
    return f"prompt: left out: {'; '.join(messages)}" if messages else ""


# -- reading -----------------------------------------------------------------------------------------------------------------


class _Reader:
    """One prompt on its way from words to what is taken (``taken``: places of the words that are accounted for)."""

    def __init__(self, prompt: str, kinds: Mapping[str, Kind]) -> None:
        self.kinds = kinds
        self.words, self.breaks = split_words(prompt)
        self.stems = [stem(word) for word in self.words]
        self.taken: set[int] = set()
        self.findings: list[Finding] = []
        self.known: list[int] = []

    def read(self) -> ParsedPrompt:
        self._leave_out_negations()
        self._leave_out_the_background()
        subject = self._subject()
        kind = KINDS[subject] if subject else None
        noun = set(self.known)
        design = self._design(kind) if kind else None
        if kind:
            self._take(find_phrases(self.stems, _feature_phrases(kind.name), self.taken))
            self._leave_out_colors_of_parts(set(self.known) - noun)
        color = self._color(kind)
        self._leave_out_counts(subject)
        self._leave_out_qualifiers()
        self._ask_about_the_rest(kind)
        known = tuple(self.words[i] for i in sorted(set(self.known)))
        return ParsedPrompt(subject, color, design, known, tuple(self.findings))

    def _take(self, matches: Sequence[Match]) -> None:
        for match in matches:
            self.taken.update(match.places)
            self.known.extend(match.places)

    def _note(self, kind: str, places: Iterable[int], reason: str, suggestion: str | None = None) -> None:
        """A finding about the words at those places, which are then accounted for."""
        places = sorted(places)
        together = places[-1] - places[0] + 1 == len(places)
        words = (" " if together else ", ").join(self.words[i] for i in places)
        hint = f" (did you mean '{suggestion}'?)" if suggestion else ""
        self.findings.append(Finding(kind, words, f"'{words}' {reason}{hint}", suggestion))
        self.taken.update(places)

    def _leave_out_negations(self) -> None:
        for start, word in enumerate(self.words):
            if word in NEGATIONS and start not in self.taken:
                self._note("negation", range(start, self._end_of_scope(start + 1)), "cannot be done: a negation is not understood")

    def _end_of_scope(self, place: int) -> int:
        """Where what a negation speaks of ends: at a comma, or before "but", "and", "with", …"""
        while place < len(self.words) and place not in self.breaks and self.words[place] in _AFTER_NEGATION:
            place += 1
        while place < len(self.words) and place not in self.breaks and self.words[place] not in _SCOPE_ENDS | NEGATIONS:
            place += 1
        return place

    def _leave_out_the_background(self) -> None:
        """ "on a white background" is not the colour of the object."""
        for place, word in enumerate(self.words):
            start = place
            while start and start not in self.breaks and (self.words[start - 1],) in _color_phrases() and start - 1 not in self.taken:
                start -= 1
            if word == "background" and start < place:
                self._note("background", range(start, place + 1), "is chosen by render.background")

    def _subject(self) -> str | None:
        found = find_phrases(self.words, _category_phrases(), self.taken)
        self._take(found[:1])
        return found[0].meaning if found else None

    def _design(self, kind: Kind) -> str | None:
        """The first design named. The noun can imply it as well: "cupcake", "palm tree"."""
        negated = {i for i in self.taken if i not in self.known}
        explicit = find_phrases(self.stems, _design_phrases(kind.name), negated)
        found = explicit or find_phrases(self.words, _design_nouns(kind.name), negated)
        self._take(found)
        if not found:
            return None
        for other in explicit[1:]:
            if other.meaning != found[0].meaning:
                self._note("second design", other.places, "gives way: one design an asset")
        return found[0].meaning

    def _leave_out_colors_of_parts(self, parts: set[int]) -> None:
        """ "with a red roof" is not the colour of the house."""
        for place in sorted(parts):
            before = place - 1
            if before not in self.taken and place not in self.breaks and tuple(self.words[before:place]) in _color_phrases():
                self._note("part color", [before], f"cannot be done: '{self.words[place]}' has no colour of its own here")

    def _color(self, kind: Kind | None) -> str | None:
        found = find_phrases(self.words, _color_phrases(), self.taken)
        self._take(found)
        if not found:
            return None
        first = found[0]
        for other in found[1:]:
            if other.meaning != first.meaning:
                self._note("second color", other.places, "gives way: one main colour an asset")
        if kind is not None and first.meaning not in kind.colors:
            self._note("color", first.places, f"is no colour of {article(kind.name)} here (known: {', '.join(kind.colors)})")
        return first.meaning

    def _leave_out_counts(self, subject: str | None) -> None:
        counts = [place for place, word in enumerate(self.words) if place not in self.taken and _is_number(word)]
        if counts:
            self._note("count", counts, "cannot be done: numbers are not understood, and an asset is one object (count=2 makes two)")
        elif subject is not None:
            plural = [i for i in self.known if (self.words[i],) in _plural_phrases() and _plural_phrases()[(self.words[i],)] == subject]
            if plural:
                self._note("count", plural[:1], f"is made as one {subject}: an asset is one object (count=2 makes two)")

    def _leave_out_qualifiers(self) -> None:
        places = [place for place, word in enumerate(self.words) if word in QUALIFIERS and place not in self.taken]
        if places:
            self._note("qualifier", places, "is not understood here")

    def _ask_about_the_rest(self, kind: Kind | None) -> None:
        objects = {place for match in find_phrases(self.words, _category_phrases(), self.taken) for place in match.places}
        said: set[str] = set()
        for place, word in enumerate(self.words):
            if place in self.taken or word in FILLER or word in said:
                continue
            said.add(word)
            if place in objects:
                self._note("object", [place], "is a second object: an asset is one")
            else:
                self._note("unknown", [place], "is not known here", self._suggestion(word, kind))

    def _suggestion(self, word: str, kind: Kind | None) -> str | None:
        """What the word may be a misspelling of, as it would be understood in this prompt: a colour or a design of the kind, or a kind."""
        fitting = self._fitting(kind)
        near = difflib.get_close_matches(word, fitting, n=1, cutoff=0.66) if len(word) > 2 else []
        return fitting[near[0]] if near else None

    def _fitting(self, kind: Kind | None) -> dict[str, str]:
        """Known spelling → how to say it. A word of a longer design ("thatched") means nothing alone: the design is how to say it."""
        if kind is None:
            own = [" ".join(phrase) for phrase, name in _category_phrases().items() if name in self.kinds]
            return {word: word for word in (*own, *(color for (color,) in _color_phrases()))}
        fitting = {word: word for name in kind.colors for word in (name, *COLOR_SYNONYMS[name])}
        fitting |= {noun: noun for noun in kind.design_nouns}
        for phrase in (*kind.designs, *kind.features):
            core = [word for word in phrase.split() if word not in _JOINERS]
            fitting.setdefault(" ".join(core), " ".join(core))
            for word in core:
                fitting.setdefault(word, phrase)
        return fitting


def fold(text: str) -> str:
    """Lower case, Latin letters without accents, so that "réd" is "red"; typographic apostrophes become plain ones."""
    letters = []
    for letter in unicodedata.normalize("NFC", text.replace("’", "'")):
        parts = unicodedata.normalize("NFKD", letter)
        letters.append("".join(c for c in parts if not unicodedata.combining(c)) if parts[0].isascii() else letter)
    return "".join(letters).lower()


def split_words(prompt: str) -> tuple[list[str], set[int]]:
    """The folded words of a prompt in any script, and the places before which a comma or a full stop stands."""
    text = re.sub(r"n't\b", " not", fold(prompt)).replace("'s", "")
    words: list[str] = []
    breaks: set[int] = set()
    for token in re.findall(r"[^\W_]+|[,;:.!?()\n]", text):
        if token[0].isalnum():
            words.append(token)
        else:
            breaks.add(len(words))
    return words, breaks


def _is_number(word: str) -> bool:
    """Whether the word asks for more than one."""
    return word in NUMBERS or word in CROWDS or (word.isdecimal() and word != "1")


@lru_cache(maxsize=1)
def _category_phrases() -> dict[tuple[str, ...], str]:
    phrases: dict[tuple[str, ...], str] = {}
    for kind in KINDS.values():
        for noun in (kind.name, *kind.synonyms, *kind.design_nouns):
            phrases.setdefault(tuple(noun.split()), kind.name)
            phrases.setdefault(tuple(plural_of(noun).split()), kind.name)
        phrases.setdefault(tuple(kind.plural_name.split()), kind.name)
    return phrases


@lru_cache(maxsize=1)
def _plural_phrases() -> dict[tuple[str, ...], str]:
    """Last word of a plural that is no singular as well ("fish") → kind."""
    plurals: dict[tuple[str, ...], str] = {}
    singular = {noun.split()[-1] for kind in KINDS.values() for noun in (kind.name, *kind.synonyms, *kind.design_nouns)}
    for kind in KINDS.values():
        for form in (kind.plural_name, *(plural_of(noun) for noun in (kind.name, *kind.synonyms, *kind.design_nouns))):
            if form.split()[-1] not in singular:
                plurals.setdefault((form.split()[-1],), kind.name)
    return plurals


@lru_cache(maxsize=1)
def _color_phrases() -> dict[tuple[str, ...], str]:
    return {(word,): name for name in COLORS for word in (name, *COLOR_SYNONYMS[name])}


def _core(phrase: str) -> tuple[str, ...]:
    """The words of a design that carry its meaning: "with a tall back" → (tall, back)."""
    return tuple(stem(w) for w in phrase.split() if w not in _JOINERS)


@cache
def _design_phrases(category: str) -> dict[tuple[str, ...], str]:
    """Stemmed phrases that mean a design of the category: its core words, and without the number where it starts with one."""
    cores = {_core(design): design for design in KINDS[category].designs}
    return cores | {core[1:]: design for core, design in cores.items() if core[0] in NUMBERS and core[1:] not in cores}


@cache
def _design_nouns(category: str) -> dict[tuple[str, ...], str]:
    nouns = KINDS[category].design_nouns
    return {tuple(form.split()): design for noun, design in nouns.items() for form in (noun, plural_of(noun))}


@cache
def _feature_phrases(category: str) -> dict[tuple[str, ...], str]:
    return {_core(feature): feature for feature in KINDS[category].features}


# -- captions for training ----------------------------------------------------------------------------------------------------


def caption_variants(obj: CatalogueObject, rng: np.random.Generator, count: int = 8) -> list[str]:
    """``count`` different ways to say the object, for training: synonyms, word order, parts left out, style words. The plain caption
    comes first. Every caption parses back to the object's category, and to its colour and design where it names them."""
    kind = KINDS[obj.category]
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


def _one_caption(obj: CatalogueObject, kind: Kind, rng: np.random.Generator) -> str:
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
