"""Words for a prompt while it is typed: how it could go on, and what of it is not understood. No widget in here.

The longest end of the prompt that begins a known phrase is completed: "a red cha" → chair, "a chair with a t" → with a tall back. Once the
kind is named only its own designs and colours are offered.
"""

from __future__ import annotations

from collections.abc import Sequence

from fsd_gs.catalogue.kinds import Kind
from fsd_gs.catalogue.palette import COLORS
from fsd_gs.catalogue.vocabulary import COLOR_SYNONYMS, KINDS, Vocabulary

MOST = 4
_LONGEST = 6  # words of a phrase


def completions(prompt: str, vocabulary: Vocabulary) -> list[str]:
    """Up to ``MOST`` whole prompts that ``prompt`` could become by its next phrase; after a kind and a blank, its designs."""
    kind = vocabulary.read(prompt).category
    named = KINDS[kind] if kind in vocabulary.kinds else None
    typed = prompt.split(" ")
    for count in range(min(_LONGEST, len(typed)), 0, -1):
        end = " ".join(typed[-count:])
        begun = [phrase for phrase in _phrases(named, vocabulary) if phrase.startswith(end.lower()) and phrase != end.lower()]
        if begun and end.strip():
            return [prompt[: len(prompt) - len(end)] + phrase for phrase in begun[:MOST]]
    if named is not None and prompt.endswith(" ") and vocabulary.read(prompt).design is None:
        return [f"{prompt}{design}" for design in named.designs[:MOST]]
    return []


def last_phrase(prompt: str, completed: str) -> str:
    """What a completion adds, from the beginning of the word that is being typed: for the label of a button."""
    return completed[prompt.rfind(" ") + 1 :].strip()


def _phrases(named: Kind | None, vocabulary: Vocabulary) -> Sequence[str]:
    if named is not None:
        return (*named.designs, *named.colors)
    nouns = [noun for kind in vocabulary.kinds.values() for noun in (kind.name, *kind.synonyms, *kind.design_nouns)]
    return list(dict.fromkeys([*COLORS, *nouns, *(word for words in COLOR_SYNONYMS.values() for word in words)]))


def misunderstood(prompt: str, vocabulary: Vocabulary) -> list[str]:
    """One line for each part of ``prompt`` that is not taken as it stands; nothing yet about a word that is still being typed."""
    typing = "" if prompt.endswith(" ") or not completions(prompt, vocabulary) else prompt.split(" ")[-1].lower()
    return [f.message for f in vocabulary.read(prompt).findings if not typing or f.words.split(" ")[-1] != typing]
