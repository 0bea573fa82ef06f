"""Puts prompts into the words of the catalogue's captions, for priors that were trained on it; ``catalogue.vocabulary`` reads."""

from __future__ import annotations

import logging

from fsd_gs.catalogue.vocabulary import ParsedPrompt, Vocabulary, note

log = logging.getLogger(__name__)


class CatalogueReader:
    """What was left out of a prompt is said in one log line, once a prompt and not at every step.

    Args:
        categories: the kinds of object that were trained; empty for all.
    """

    def __init__(self, categories: tuple[str, ...] = ()) -> None:
        self.vocabulary = Vocabulary(categories)
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
            known = parsed.category in self.vocabulary.kinds
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


def _say(line: str) -> None:
    if line:
        log.warning("%s", line)
