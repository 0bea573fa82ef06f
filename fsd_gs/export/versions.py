"""Versions of an asset beside the original: ``splats.ply``, then ``splats.v2.ply``, ``splats.v3.ply``, … What was made is never touched.

Whoever shows or exports an asset takes the newest one (:func:`newest_version`); deleting it brings the one before back.
"""

from __future__ import annotations

import os
import re
from pathlib import Path


def versions_of(original: Path) -> dict[int, Path]:
    """Number → file of all versions in the folder of ``original``, which is number 1, in order."""
    named = re.compile(rf"{re.escape(original.stem)}\.v([1-9]\d{{0,5}}){re.escape(original.suffix)}")
    found = {1: original} if original.is_file() else {}
    try:
        names = os.listdir(original.parent)
    except OSError:
        names = []
    for name in names:
        match = named.fullmatch(name)
        if match and int(match[1]) > 1 and (original.parent / name).is_file():
            found[int(match[1])] = original.parent / name
    return dict(sorted(found.items()))


def newest_version(original: Path) -> Path:
    """The version of ``original`` (a run's ``splats.ply``) that counts; itself where there is no other."""
    versions = versions_of(original)
    return versions[max(versions)] if versions else original


def next_version(original: Path) -> Path:
    """Where the next version goes."""
    return original.with_name(f"{original.stem}.v{max(versions_of(original), default=1) + 1}{original.suffix}")
