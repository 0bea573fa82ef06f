"""What makes two runs the same run: the settings that decide the result, and a short name for them.

Two runs with equal keys give equal splats on one machine, so a finished one need not be made again. Settings that only say where a result
goes, or who watches, are no part of the key; the version of the package is, because its code decides as well.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import importlib.util
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fsd_gs import __version__
from fsd_gs.config import Config, free_settings
from fsd_gs.errors import FsdGsError

UNKNOWN = "unknown"  # fingerprint of files that are not at hand


def decisive_settings(config: Config) -> dict[str, Any]:
    """The settings that decide what the splats become, by dotted name: all but the free ones (``config.free_settings``)."""
    free = free_settings()
    return {key: value for key, value in _flat(asdict(config)) if key not in free}


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def config_key(config: Config, *more: object) -> str:
    """16 hex digits from the version of the package, the decisive settings and whatever else matters (``more``: plain values)."""
    return digest([__version__, decisive_settings(config), *more])


def digest(content: object) -> str:
    """16 hex digits of plain values (what JSON can hold)."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


# Enough to tell two trainings apart (every tensor changes in almost every value), little enough to read beside gigabytes of weights.
_BLOCKS, _BLOCK_BYTES = 64, 4096


def files_fingerprint(path: Path) -> str:
    """16 hex digits of a file, or of all files of a folder: names, sizes and 64 evenly spread blocks of 4 KiB of each."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    found = hashlib.sha256()
    for file in files:
        size = file.stat().st_size
        found.update(f"{file.relative_to(path) if path.is_dir() else file.name}\0{size}\0".encode())
        with file.open("rb") as content:
            for block in range(_BLOCKS):
                content.seek(max(0, size - _BLOCK_BYTES) * block // (_BLOCKS - 1))
                found.update(content.read(_BLOCK_BYTES))
    return found.hexdigest()[:16]


def made_with(config: Config) -> dict[str, str]:
    """What besides the settings a result depends on, for ``config.yaml``: versions, and the fingerprint of the prior's files."""
    versions = {name: importlib.metadata.version(name) for name in ("torch", "gsplat") if importlib.util.find_spec(name) is not None}
    return {"fsd_gs": __version__, **versions, "prior": network_fingerprint(config)}


def network_fingerprint(config: Config) -> str:
    """The fingerprints of the files of all priors of a run."""
    return " + ".join(prior_fingerprint(name) for name in prior_names(config))


def prior_names(config: Config) -> tuple[str, ...]:
    """The priors of a run's stages in order, each once."""
    return tuple(dict.fromkeys(part.settings.prior.name for part in config.split()))


@functools.cache
def prior_fingerprint(name: str) -> str:
    """The fingerprint of the files that ``prior.name`` means; "none" for a prior without files, "unknown" where they are not at hand."""
    from fsd_gs.priors.backbones.nano import WEIGHTS
    from fsd_gs.priors.hub import resolve

    if name == "exact":
        return "none"
    try:
        return files_fingerprint(WEIGHTS if name == "nano" else resolve(name, offline=True))
    except (FsdGsError, OSError):
        return UNKNOWN
