"""What a prior can be asked for that was trained with other captions than the catalogue's: their kinds of object, and the nearest caption.

A kind is what a caption is of (:mod:`fsd_gs.catalogue.cut_caption`), in singular and plural; what stands before a colour in any caption
("a long brown crate") is no part of it. The end of its name is enough: "axe" for a two-handed axe. A prompt is answered by the caption of
its kind that shares most of its words, put into the colour that it asks for. Text only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from fsd_gs.catalogue.cut_caption import ARTICLES, CutCaption, key
from fsd_gs.catalogue.words import COLOR_WORDS, CROWDS, FILLER, NUMBERS, QUALIFIERS, split_words
from fsd_gs.core.words import Match, find_phrases

_OTHERS_BEGIN = ARTICLES | {"with", "of", "on", "under", "near", "beside", "holding", "wearing"}
_DESCRIBING = FILLER | QUALIFIERS | CROWDS | NUMBERS.keys() | COLOR_WORDS.keys()


@dataclass(frozen=True)
class Matched:
    """What training captions answer to a prompt.

    Attributes:
        caption: for the network.
        kind: what it is a caption of.
        color: of the catalogue's names, the one that the prompt asks for.
        noun: places of the prompt's words that name the kind.
        places: of all its words that the caption takes up.
        singular: whether the prompt names more than the caption shows.
    """

    caption: str
    kind: str
    color: str | None
    noun: range
    places: frozenset[int]
    singular: bool


class TrainedCaptions:
    """The captions by their kinds; one without words is left out.

    Args:
        captions: as they were trained, any number of times each.
    """

    def __init__(self, captions: Iterable[str]) -> None:
        texts = sorted(set(captions))
        self._whole = {_bare(split_words(text)[0]) for text in texts}
        dull = QUALIFIERS.union(*(CutCaption(text).modifiers() for text in texts))
        names: dict[tuple[str, ...], list[str]] = {}
        self._captions: dict[str, list[CutCaption]] = {}  # by what names them: the keys of a kind, or of its last words
        for caption in (cut for text in texts if (cut := CutCaption(text, dull)).noun):
            names.setdefault(caption.keys, []).append(caption.name)
            for start in range(len(caption.keys)):
                self._captions.setdefault(" ".join(caption.keys[start:]), []).append(caption)
        self._names = {keys: min(found, key=lambda name: (len(name), name)) for keys, found in names.items()}
        self._kinds = tuple(sorted(self._names.values()))
        self._phrases = {tuple(phrase.split()): phrase for phrase in self._captions}
        self._colors = {color for found in self._captions.values() for caption in found for color in caption.colors}

    def holds(self, words: Sequence[str]) -> bool:
        """Whether these folded words are a caption, word for word, articles aside."""
        return _bare(words) in self._whole

    @property
    def kinds(self) -> tuple[str, ...]:
        """Their names, sorted; in the singular where there is one."""
        return self._kinds

    def endings(self, kind: str) -> list[str]:
        """How captions of the kind go on from its name, the shortest first: "crate", "crate of carrots"."""
        found = {" ".join([kind, *caption.tokens[caption.noun[-1] + 1 :]]) for caption in self._of(kind)}
        return sorted(found, key=lambda ending: (len(ending), ending))

    def words(self, kind: str) -> list[str]:
        """Every word of the kind's captions, sorted."""
        return sorted({word for caption in self._of(kind) for word in caption.said})

    def match(self, prompt: str) -> Matched | None:
        """The caption nearest to the prompt; None where it names no kind."""
        return self.find(*split_words(prompt))

    def find(self, words: Sequence[str], breaks: Collection[int] = (), taken: Collection[int] = ()) -> Matched | None:
        """:meth:`match` of a text in folded words.

        Args:
            words: of the prompt.
            breaks: places before which a comma stands.
            taken: places to pass over.
        """
        noun = self._noun(words, breaks, taken)
        if noun is None:
            return None
        own = set(noun.places)
        free = [i for i, word in enumerate(words) if i in own or not (i in taken or word in FILLER)]
        best = min(self._captions[noun.meaning], key=lambda caption: self._distance(caption, {words[i] for i in free}))
        places = own | {i for i in free if self._says(best, words[i])}
        colors = [i for i in free if words[i] in COLOR_WORDS and i not in own]
        meant = [i for i in colors if not of_a_part(words, noun.places, i) or any(self._says(best, word) for word in words[i + 1 : i + 2])]
        text = best.text
        if meant and meant[0] not in places:
            kept = {color for color in best.colors if any(self._same(color, words[i]) for i in colors)}
            text = best.in_color(self._taught(words[meant[0]]), kept)
            places.add(meant[0])
        last = words[noun.places[-1]]
        singular = last.endswith("s") and last not in best.said
        color = COLOR_WORDS[words[meant[0]]] if meant else None
        return Matched(text, self._names[best.keys], color, noun.places, frozenset(places), singular)

    def nouns(self, words: Sequence[str], taken: Collection[int] = ()) -> list[Match]:
        """Everything in a text that names a kind; "light" and "orange" only where nothing else does, for they mostly describe."""
        found = find_phrases([key(word) for word in words], self._phrases, taken)
        return [match for match in found if any(words[i] not in _DESCRIBING for i in match.places)] or found

    def _noun(self, words: Sequence[str], breaks: Collection[int], taken: Collection[int]) -> Match | None:
        """What the prompt is about: the first kind named, and the last of several in a row ("a carrot crate")."""
        subject: Match | None = None
        for match in self.nouns(words, taken):
            start = match.places.start
            if subject is not None and (start != subject.places.stop or start in breaks):
                break
            subject = match
        return subject

    def _of(self, kind: str) -> list[CutCaption]:
        keys = next((keys for keys, name in self._names.items() if name == kind), ())
        return [caption for caption in self._captions.get(" ".join(keys), ()) if caption.keys == keys]

    def _distance(self, caption: CutCaption, said: set[str]) -> tuple[int, int, int, str]:
        """Most words shared, then most of them in the same form, then the shortest, then the first."""
        shared = sum(self._says(caption, word) for word in said)
        return -shared, -len(caption.said & said), len(caption.text), caption.text

    def _says(self, caption: CutCaption, word: str) -> bool:
        return key(word) in caption.said_keys or (word in COLOR_WORDS and any(self._same(word, color) for color in caption.colors))

    def _same(self, word: str, color: str) -> bool:
        """Whether two words mean one colour here: "crimson" and "red" do; "beige" and "brown" do not if the captions tell them apart."""
        return word == color or (COLOR_WORDS[word] == COLOR_WORDS[color] and not {word, color} <= self._colors)

    def _taught(self, color: str) -> str:
        """The word for it that the network has learned, from these captions or from the catalogue."""
        return color if color in self._colors else COLOR_WORDS[color]


def _bare(words: Sequence[str]) -> tuple[str, ...]:
    """Without articles."""
    return tuple(word for word in words if word not in ARTICLES)


def of_a_part(words: Sequence[str], noun: range, place: int) -> bool:
    """Whether the colour at ``place`` is that of something else: "a crate with a red lid"."""
    return any(word in _OTHERS_BEGIN for word in words[noun.stop : place])
