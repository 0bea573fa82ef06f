"""Whether the prior in use understands the prompt, asked before minutes are spent on the wrong thing.

The command line, ``generate`` and the start page ask here; the reading itself is ``catalogue.vocabulary``. A prior without a vocabulary of
its own (a real text encoder) takes any words.
"""

from __future__ import annotations

from fsd_gs.catalogue.vocabulary import Finding, PromptError, Vocabulary, question
from fsd_gs.priors.base import Prior


def vocabulary_of(prior: Prior) -> Vocabulary | None:
    """The words that ``prior`` knows; None where any words will do."""
    return getattr(prior, "vocabulary", None)


def find_words(prior: Prior, prompt: str) -> tuple[Finding, ...]:
    """What of the prompt the prior cannot take as it was said; those that ``asks`` should be answered before training.

    Raises:
        InputError: the subject itself is unknown to the prior; the message lists what it knows.
    """
    vocabulary = vocabulary_of(prior)
    return vocabulary.understand(prompt).findings if vocabulary is not None else ()


def check_words(prior: Prior, prompt: str, *, anyway: bool = False) -> None:
    """PromptError, one line with the nearest known words, if a word that decides the look is not understood; ``anyway`` goes on."""
    findings = find_words(prior, prompt)
    if not anyway and any(finding.asks for finding in findings):
        raise PromptError(question(findings), findings)
