"""Checkpoints: one safetensors file, written atomically, with the plain numbers as JSON in its header. No pickle anywhere.

The header also holds the SHA-256 of the whole file, computed with 64 zeros in its own place: whatever bit of data, header or checksum is
wrong, the file is refused. Nothing that is not finite is ever written: a run that went on from it could not recover.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from fsd_gs.errors import DivergenceError, FileFormatError
from fsd_gs.io import write_bytes

FORMAT = 2
_UNKNOWN = "0" * 64
_START_AGAIN = "use overwrite=true to start again"


def nonfinite_entry(state: Mapping[str, Any]) -> str | None:
    """The first key whose number or tensor is not finite, or None."""
    for key, value in state.items():
        if isinstance(value, Tensor):
            if value.is_floating_point() and not bool(torch.isfinite(value).all()):
                return key
        elif isinstance(value, float) and not math.isfinite(value):
            return key
    return None


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write a flat dictionary of tensors and plain numbers.

    Raises:
        OutputError: the disk is full or the folder cannot take the file.
    """
    tensors = {key: value.detach().cpu().contiguous() for key, value in state.items() if isinstance(value, Tensor)}
    numbers = {key: value for key, value in state.items() if not isinstance(value, Tensor)}
    metadata = {"format": str(FORMAT), "state": json.dumps(numbers), "sha256": _UNKNOWN}
    content = bytearray(safetensors.torch.save(tensors, metadata=metadata))
    digest = hashlib.sha256(content).hexdigest()
    place = content.index(_UNKNOWN.encode(), 8)
    content[place : place + 64] = digest.encode()
    write_bytes(path, content)


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """:func:`save_state` for a state that a run can go on from.

    Raises:
        DivergenceError: a value is not finite; what is at ``path`` stays as it was.
    """
    if (bad := nonfinite_entry(state)) is not None:
        raise DivergenceError(f"{path}: not written, {bad} is not finite at step {state.get('step')}; lower rates.* or guidance.cfg_scale")
    save_state(path, state)


def load_state(path: Path) -> dict[str, Any]:
    """Read what :func:`save_state` wrote.

    Raises:
        FileFormatError: the file is missing, damaged (its checksum differs) or of another version.
    """
    if not path.is_file():
        raise FileFormatError(f"{path}: no checkpoint here; start the run without resume=true")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != str(FORMAT):
                raise FileFormatError(f"{path}: checkpoint of version {metadata.get('format')}, expected {FORMAT}; {_START_AGAIN}")
            _check_sum(path.read_bytes(), metadata["sha256"])
            state: dict[str, Any] = json.loads(metadata["state"])
            state.update({key: file.get_tensor(key) for key in file.keys()})  # noqa: SIM118 (safe_open is no mapping)
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise FileFormatError(f"{path}: damaged checkpoint ({error}); {_START_AGAIN}") from error
    return state


def load_checkpoint(path: Path) -> dict[str, Any]:
    """:func:`load_state` for a state that a run can go on from.

    Raises:
        FileFormatError: as there, or a value in it is not finite.
    """
    state = load_state(path)
    if (bad := nonfinite_entry(state)) is not None:
        raise FileFormatError(f"{path}: {bad} holds values that are not finite, no step can follow it; {_START_AGAIN}")
    return state


def _check_sum(content: bytes, digest: str) -> None:
    place = content.find(digest.encode(), 8) if len(digest) == 64 else -1
    found = hashlib.sha256()
    for piece in (memoryview(content)[:place], _UNKNOWN.encode(), memoryview(content)[place + 64 :]):
        found.update(piece)
    if place < 0 or found.hexdigest() != digest:
        raise ValueError("its checksum is wrong")
