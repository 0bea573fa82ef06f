"""Words for a prompt while it is typed: how it could go on, and what of it is not understood. No widget in here.

The longest end of the prompt that begins a known phrase is completed: "a red cha" → chair, "a chair with a t" → with a tall back. Once the
kind is named only its own designs and colours are offered; of a kind that the prior knows from captions of meshes, how those go on.
"""

from __future__ import annotations

from collections.abc import Sequence

from fsd_gs.catalogue.palette import COLORS
from fsd_gs.catalogue.vocabulary import COLOR_SYNONYMS, ParsedPrompt, Vocabulary

MOST = 4
_LONGEST = 6  # words of a phrase


def completions(prompt: str, vocabulary: Vocabulary) -> list[str]:
    """Up to ``MOST`` whole prompts that ``prompt`` could become by its next phrase; after a kind and a blank, its designs."""
    parsed = vocabulary.read(prompt)
    phrases = _phrases(parsed, vocabulary)
    typed = prompt.split(" ")
    for count in range(min(_LONGEST, len(typed)), 0, -1):
        end = " ".join(typed[-count:])
        begun = [phrase for phrase in phrases if phrase.startswith(end.lower()) and phrase != end.lower()]
        if begun and end.strip():
            return [prompt[: len(prompt) - len(end)] + phrase for phrase in begun[:MOST]]
    if prompt.endswith(" ") and parsed.phrase is None and parsed.category in vocabulary.kinds and parsed.design is None:
        return [f"{prompt}{design}" for design in vocabulary.kinds[parsed.category].designs[:MOST]]
    return []


def last_phrase(prompt: str, completed: str) -> str:
    """What a completion adds, from the beginning of the word that is being typed: for the label of a button."""
    return completed[prompt.rfind(" ") + 1 :].strip()


def _phrases(parsed: ParsedPrompt, vocabulary: Vocabulary) -> Sequence[str]:
    if parsed.phrase is not None and parsed.category is not None:
        return (*vocabulary.captions.endings(parsed.category), *COLORS)
    if parsed.category in vocabulary.kinds:
        named = vocabulary.kinds[parsed.category]
        return (*named.designs, *named.colors)
    nouns = [noun for kind in vocabulary.kinds.values() for noun in (kind.name, *kind.synonyms, *kind.design_nouns)]
    return list(dict.fromkeys([*COLORS, *nouns, *vocabulary.meshes, *(word for words in COLOR_SYNONYMS.values() for word in words)]))


def misunderstood(prompt: str, vocabulary: Vocabulary) -> list[str]:
    """One line for each part of ``prompt`` that is not taken as it stands; nothing yet about a word that is still being typed."""
    typing = "" if prompt.endswith(" ") or not completions(prompt, vocabulary) else prompt.split(" ")[-1].lower()
    return [f.message for f in vocabulary.read(prompt).findings if not typing or f.words.split(" ")[-1] != typing]
