"""Reads prompts in the words of the catalogue: kind, colour and design, with synonyms, plurals and filler words. Data only: no shapes.

A prompt is folded (accents dropped, lower case), cut into words, and at each place the longest known phrase wins. What is not taken is a
:class:`Finding`, never silence:

    asks   a word that decides the look and is not known here, a second object, a colour that the kind never has: whoever is about to
           train for minutes should stop and ask; the nearest word that would fit this kind comes with it
    notes  what is understood and cannot be done (numbers, negations, sizes, a second colour or design): said in one line, left out

A prior that was trained with other captions, too, answers with the nearest of them (:mod:`fsd_gs.catalogue.captions`) where the catalogue
does not know the words.

Words about style and quality ("a photo of", "highly detailed") mean nothing to a prior of this kind and are dropped.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from fsd_gs.catalogue.captions import TrainedCaptions, of_a_part
from fsd_gs.catalogue.kinds import KINDS, Kind, article, plural_of
from fsd_gs.catalogue.words import COLOR_SYNONYMS, COLOR_WORDS, FILLER, NEGATIONS, NUMBERS, QUALIFIERS, is_number, split_words
from fsd_gs.core.words import Match, find_phrases, stem
from fsd_gs.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from fsd_gs.catalogue.objects import CatalogueObject

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
        phrase: where only training captions beside the catalogue's name the category: the one that answers, in the colour that was said.
    """

    category: str | None
    color: str | None
    design: str | None
    known: tuple[str, ...]
    findings: tuple[Finding, ...]
    phrase: str | None = None

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
        if self.phrase is not None:
            return self.color
        return self.color if self.category and self.color in KINDS[self.category].colors else None

    def caption(self) -> str:
        """ "one cute crimson armchair" → "a red chair with armrests": the words of most training captions."""
        if self.phrase is not None:
            return self.phrase
        phrase = article(f"{self.fitting_color or ''} {self.category}".strip())
        return f"{phrase} {self.design}" if self.design else phrase


class Vocabulary:
    """The words that a prior knows: all of the catalogue's, or those of some kinds, and those of other captions it was trained with.

    Args:
        kinds: names of the kinds it was trained on; empty for all.
        captions: those that are not the catalogue's. They answer only where its words do not.

    Attributes:
        kinds: of the catalogue.
        meshes: names of the kinds that only ``captions`` know.
    """

    def __init__(self, kinds: Iterable[str] = (), captions: Iterable[str] = ()) -> None:
        names = set(kinds)
        self.kinds: dict[str, Kind] = {name: kind for name, kind in KINDS.items() if not names or name in names}
        self.captions = TrainedCaptions(captions)
        self.meshes: tuple[str, ...] = ()
        self.meshes = tuple(name for name in self.captions.kinds if self.read(name).phrase is not None)

    def read(self, prompt: str) -> ParsedPrompt:
        """Understand a prompt. The first kind wins; the design must be one of its own; of several colours the first counts."""
        reader = _Reader(prompt, self.kinds, self.meshes)
        parsed = reader.read()
        if not self.captions.kinds:
            return parsed
        other = _CaptionReader(prompt, self.kinds, self.meshes, self.captions)
        return other.read() if other.takes_over(reader, parsed) else parsed

    def understand(self, prompt: str) -> ParsedPrompt:
        """:meth:`read`; InputError, with what is known here, for a prompt whose subject is not."""
        parsed = self.read(prompt)
        if parsed.category is None:
            hints = [f"'{word}' → '{near}'" for word, near in parsed.suggestions.items()]
            hint = f" (did you mean {', '.join(hints)}?)" if hints else ""
            raise InputError(f"prompt: '{prompt}' names nothing that this prior knows{hint}; it knows {self.names()}. {REAL_BACKBONES}")
        if not self.knows(parsed):
            raise InputError(
                f"prompt: this prior was not trained on '{parsed.category}'; it knows {self.names()}. "
                f"--config exact looks it up in the catalogue. {REAL_BACKBONES}"
            )
        return parsed

    def knows(self, parsed: ParsedPrompt) -> bool:
        """Whether the prompt's subject was trained."""
        return parsed.phrase is not None or parsed.category in self.kinds

    def names(self) -> str:
        return ", ".join((*self.kinds, *self.meshes))

    def mesh_words(self) -> dict[str, list[str]]:
        """The kinds that only captions know, and how captions go on from their names: {"crate": ["crate", "crate of carrots"]}."""
        return {name: self.captions.endings(name) for name in self.meshes}

    def words(self) -> list[str]:
        """Every word and phrase that means something, for completion."""
        found = [noun for kind in self.kinds.values() for noun in (kind.name, *kind.synonyms, *kind.design_nouns)]
        found += [design for kind in self.kinds.values() for design in kind.designs]
        found += [*self.meshes, *COLOR_WORDS]
        return list(dict.fromkeys(found))

    def describe(self) -> str:
        """One line a kind with its designs and colours, for people."""
        lines = [f"{len(self.kinds)} kinds of object, each with its designs and colours:"]
        for kind in self.kinds.values():
            also = f" ({', '.join((*kind.synonyms, *kind.design_nouns))})" if kind.synonyms or kind.design_nouns else ""
            lines.append(f"  {kind.name}{also}: {'; '.join(kind.designs)} | {', '.join(kind.colors)}")
        if self.meshes:
            lines.append(f"and, from meshes: {', '.join(self.meshes)}")
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
    """One prompt on its way from words to what is taken (``taken``: places of the words that are accounted for; ``noun``: of those that
    name the subject)."""

    def __init__(self, prompt: str, kinds: Mapping[str, Kind], meshes: Sequence[str]) -> None:
        self.kinds, self.meshes = kinds, meshes
        self.noun = range(0)
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
        if not found:
            return None
        self.noun = found[0].places
        return found[0].meaning

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
        counts = [place for place, word in enumerate(self.words) if place not in self.taken and is_number(word)]
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
        objects = self._objects()
        said: set[str] = set()
        for place, word in enumerate(self.words):
            if place in self.taken or word in FILLER or word in said:
                continue
            said.add(word)
            if place in objects:
                self._note("object", [place], "is a second object: an asset is one")
            else:
                self._note("unknown", [place], "is not known here", self._suggestion(word, kind))

    def _objects(self) -> set[int]:
        """Where things are named that are not accounted for."""
        return {place for match in find_phrases(self.words, _category_phrases(), self.taken) for place in match.places}

    def _suggestion(self, word: str, kind: Kind | None) -> str | None:
        """What the word may be a misspelling of, as it would be understood in this prompt: a colour or a design of the kind, or a kind."""
        fitting = self._fitting(kind)
        near = difflib.get_close_matches(word, fitting, n=1, cutoff=0.66) if len(word) > 2 else []
        return fitting[near[0]] if near else None

    def _fitting(self, kind: Kind | None) -> dict[str, str]:
        """Known spelling → how to say it. A word of a longer design ("thatched") means nothing alone: the design is how to say it."""
        if kind is None:
            own = [" ".join(phrase) for phrase, name in _category_phrases().items() if name in self.kinds]
            return {word: word for word in (*own, *self.meshes, *COLOR_WORDS)}
        fitting = {word: word for name in kind.colors for word in (name, *COLOR_SYNONYMS[name])}
        fitting |= {noun: noun for noun in kind.design_nouns}
        for phrase in (*kind.designs, *kind.features):
            core = [word for word in phrase.split() if word not in _JOINERS]
            fitting.setdefault(" ".join(core), " ".join(core))
            for word in core:
                fitting.setdefault(word, phrase)
        return fitting


class _CaptionReader(_Reader):
    """A prompt about something that only training captions know."""

    def __init__(self, prompt: str, kinds: Mapping[str, Kind], meshes: Sequence[str], captions: TrainedCaptions) -> None:
        super().__init__(prompt, kinds, meshes)
        self.captions = captions
        self._leave_out_negations()
        self._leave_out_the_background()
        self.matched = captions.find(self.words, self.breaks, self.taken)
        self.trained = captions.holds(self.words)

    def takes_over(self, reader: _Reader, parsed: ParsedPrompt) -> bool:
        """Whether captions answer instead of the catalogue: nothing that was trained is named there, or captions name something before it
        or around it ("a tree stump", but no "carrot cake") by words that the catalogue does not know; or the prompt is a caption, word
        for word, of which the catalogue would leave something out ("a castle with blue roofs")."""
        if self.matched is None or parsed.category not in self.kinds:
            return self.matched is not None
        if self.trained and parsed.findings:
            return True
        noun, other = self.matched.noun, reader.noun
        describes = noun.stop == other.start and noun.stop not in self.breaks
        unknown = {finding.words for finding in parsed.findings if finding.kind == "unknown"}
        return noun.start <= other.start and not describes and any(self.words[i] in unknown for i in noun)

    def read(self) -> ParsedPrompt:
        matched = self.matched
        assert matched is not None
        self._take([Match(matched.kind, range(place, place + 1)) for place in sorted(matched.places)])
        self._leave_out_other_colors(matched.noun)
        self._leave_out_counts(None)
        if matched.singular and not any(finding.kind == "count" for finding in self.findings):
            self._note("count", matched.noun[-1:], f"is made as one {matched.kind}: an asset is one object (count=2 makes two)")
        self._leave_out_qualifiers()
        self._ask_about_the_rest(None)
        known = tuple(self.words[i] for i in self.known)
        return ParsedPrompt(matched.kind, matched.color, None, known, tuple(self.findings), matched.caption)

    def _leave_out_other_colors(self, noun: range) -> None:
        for match in find_phrases(self.words, _color_phrases(), self.taken):
            part = self.words[match.places.stop : match.places.stop + 1]
            if part and of_a_part(self.words, noun, match.places.start):
                self._note("part color", match.places, f"cannot be done: '{part[0]}' has no colour of its own here")
            else:
                self._note("second color", match.places, "gives way: one main colour an asset")

    def _objects(self) -> set[int]:
        return super()._objects() | {place for match in self.captions.nouns(self.words, self.taken) for place in match.places}

    def _fitting(self, kind: Kind | None) -> dict[str, str]:
        assert self.matched is not None
        return {word: word for word in (*COLOR_WORDS, *self.captions.words(self.matched.kind))}


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
    return {(word,): name for word, name in COLOR_WORDS.items()}


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
