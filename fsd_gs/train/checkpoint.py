"""Checkpoints: one safetensors file, written atomically, with the plain numbers as JSON in its header. No pickle anywhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fsd_gs.errors import FileFormatError
from fsd_gs.io import atomic_write

FORMAT = 1


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write a flat dictionary of tensors and plain numbers; raises OutputError if the disk is full."""
    tensors = {key: value.detach().cpu().contiguous() for key, value in state.items() if isinstance(value, Tensor)}
    numbers = {key: value for key, value in state.items() if not isinstance(value, Tensor)}
    with atomic_write(path) as temporary:
        try:
            save_file(tensors, temporary, metadata={"format": str(FORMAT), "state": json.dumps(numbers)})
        except SafetensorError as error:  # safetensors wraps the operating system's error
            raise OSError(28 if "No space" in str(error) else 5, str(error)) from error


def load_state(path: Path) -> dict[str, Any]:
    """Read what :func:`save_state` wrote; FileFormatError if the file is missing, damaged or of another version."""
    if not path.is_file():
        raise FileFormatError(f"{path}: no checkpoint here; start the run without resume=true")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != str(FORMAT):
                raise FileFormatError(f"{path}: checkpoint of version {metadata.get('format')}, expected {FORMAT}; use overwrite=true")
            state: dict[str, Any] = json.loads(metadata["state"])
            state.update({key: file.get_tensor(key) for key in file.keys()})  # noqa: SIM118 (safe_open is no mapping)
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise FileFormatError(f"{path}: damaged checkpoint ({error}); use overwrite=true to start again") from error
    return state
