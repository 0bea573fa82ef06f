"""SHA-256 of a prior's files, written beside them: whether what is loaded is what was saved."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from fsd_gs.errors import FileFormatError

CHECKSUMS = "checksums.json"


def checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of the folder but the list itself, by relative path."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != CHECKSUMS)
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def verify(folder: Path) -> Path:
    """``folder`` itself; FileFormatError if a file differs from ``checksums.json``."""
    found = checksums(folder)
    for name, digest in json.loads((folder / CHECKSUMS).read_text()).items():
        if found.get(name) != digest:
            raise FileFormatError(
                f"prior: {folder / name} is missing or damaged (its SHA-256 differs from {CHECKSUMS}); "
                "install the package again, or make the folder anew"
            )
    return folder
