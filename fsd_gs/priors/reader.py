"""Puts prompts into the words of the captions that a prior was trained with; ``catalogue.vocabulary`` reads.

A prior that was trained on meshes beside the catalogue has their captions in its folder:

captions.json       ["a gray axe", "a brown crate of carrots", …], if model_index.json says "captions": "captions.json"
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fsd_gs.catalogue.vocabulary import ParsedPrompt, Vocabulary, note
from fsd_gs.errors import FileFormatError

if TYPE_CHECKING:
    from importlib.abc import Traversable

log = logging.getLogger(__name__)
CAPTIONS = "captions.json"


class CatalogueReader:
    """What was left out of a prompt is said in one log line, once a prompt and not at every step.

    Args:
        categories: the kinds of object that were trained; empty for all.
        captions: those that were trained beside the catalogue's.
    """

    def __init__(self, categories: Sequence[str] = (), captions: Sequence[str] = ()) -> None:
        self.vocabulary = Vocabulary(categories, captions)
        self._read: dict[tuple[str, bool], ParsedPrompt | None] = {}

    def understand(self, prompt: str) -> ParsedPrompt:
        """What the prompt says. InputError where its subject is unknown or was not trained."""
        key = (prompt, False)
        if key not in self._read:
            parsed = self._read[key] = self.vocabulary.understand(prompt)
            _say(note(parsed.findings, anyway=True))
        found = self._read[key]
        assert found is not None
        return found

    def caption(self, prompt: str) -> str:
        """ "one cute crimson armchair" → "a red chair with armrests"; InputError as for :meth:`understand`."""
        return self.understand(prompt).caption()

    def understand_negative(self, prompt: str) -> ParsedPrompt | None:
        """What a negative prompt names; None, with a log line, where it names no kind of object that was trained."""
        key = (prompt, True)
        if key not in self._read:
            parsed = self.vocabulary.read(prompt)
            known = self.vocabulary.knows(parsed)
            self._read[key] = parsed if known else None
            if known:
                _say(note(parsed.findings, anyway=True).replace("prompt:", "negative_prompt:", 1))
            elif prompt.strip():
                _say(f"negative_prompt: left out: '{prompt}' names no kind of object that this prior knows")
        return self._read[key]

    def negative(self, prompt: str) -> str:
        """The caption of what a negative prompt names; empty if nothing."""
        parsed = self.understand_negative(prompt)
        return parsed.caption() if parsed else ""


def trained_captions(index: Mapping[str, Any], folder: Traversable) -> tuple[str, ...]:
    """The captions that a prior's folder says it was trained with beside the catalogue's; none if it says nothing.

    Args:
        index: its model_index.json.
        folder: where it lies.

    Raises:
        FileFormatError: the file is not there, or is no list of texts.
    """
    name = index.get("captions")
    if name is None:
        return ()
    if name != CAPTIONS:
        raise FileFormatError(f"prior: {folder}: captions of model_index.json: expected '{CAPTIONS}', got {str(name)[:50]!r}")
    file = folder.joinpath(CAPTIONS)
    try:
        captions = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise FileFormatError(f"prior: {file} is missing or not readable JSON; train or download the prior again") from error
    if not isinstance(captions, list) or not all(isinstance(caption, str) for caption in captions):
        raise FileFormatError(f"prior: {file}: expected a list of captions; train or download the prior again")
    return tuple(captions)


def _say(line: str) -> None:
    if line:
        log.warning("%s", line)
