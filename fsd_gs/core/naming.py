"""Names of files and folders for any text."""

from __future__ import annotations

import hashlib
import re
import unicodedata


def slug(prompt: str, longest: int = 60) -> str:
    """A folder name for any text; prompts that differ in anything get different folders.

    A prompt of lower-case ASCII letters, digits and single blanks, such as "a red chair", is its own name with hyphens for the blanks. Any
    other one ("A red chair!", accents, foreign scripts, more than ``longest`` signs) has the first 8 digits of its SHA-256 at the end.
    """
    plain = _plain(prompt)
    if prompt and plain.replace("-", " ") == prompt and len(plain) <= longest:
        return plain
    return _hashed(plain, prompt, longest)


def file_stem(name: str, longest: int = 60) -> str:
    """A file or folder name for the name of something that is not a prompt (a suite, a prior): letters, digits and hyphens."""
    plain = _plain(name)
    return plain if plain and name.isascii() and len(plain) <= longest else _hashed(plain, name, longest)


def seed_name(seed: int) -> str:
    """The name of a run's folder below its prompt's."""
    return f"seed-{seed:04d}"


def _plain(text: str) -> str:
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", ascii_text.lower()).strip("-")


def _hashed(plain: str, text: str, longest: int) -> str:
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{plain[:longest].strip('-')}-{digest}".strip("-")
