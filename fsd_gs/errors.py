"""Errors a person can act on.

Every message names the argument, what was expected, what came, and what to do next. The command line prints
the message on one line and exits 2; ``--debug`` shows the traceback as well.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class FsdGsError(Exception):
    """Base class of every error that ``fsd_gs`` raises on purpose."""


class ConfigError(FsdGsError):
    """A setting is unknown, has the wrong type or is out of range."""


class InputError(FsdGsError):
    """A prompt, argument or array cannot be used."""


class FileFormatError(FsdGsError):
    """A file is missing, truncated or not in the expected format."""


class BackendError(FsdGsError):
    """A device, library or network that was asked for is not available here."""


class OutputError(FsdGsError):
    """A result cannot be written (folder not writable, disk full, run already exists)."""


class VideoError(OutputError):
    """The videos of a run cannot be written; its splats are on the disk."""


class BusyError(OutputError):
    """Another process is writing there."""


class DivergenceError(FsdGsError):
    """An optimisation produced non-finite values more often than the guard tolerates."""


class EmptyAssetError(DivergenceError):
    """An optimisation ended without a single splat."""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word closest in spelling to ``word``, or None if nothing is close."""
    matches = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return matches[0] if matches else None


def unknown_name(argument: str, name: str, known: Iterable[str]) -> str:
    """One line: ``argument`` got an unknown ``name``; lists the valid ones and the nearest."""
    names = sorted(known)
    hint = nearest(name, names)
    suggestion = f"; did you mean '{hint}'?" if hint else ""
    return f"{argument}: unknown name '{name}'{suggestion} (valid: {', '.join(names)})"
