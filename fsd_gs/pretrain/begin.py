"""The folder of a training remembers with what settings it was begun, so that going on with others is refused by name."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from fsd_gs.core.configure import decisive_values, to_yaml
from fsd_gs.errors import ConfigError, FileFormatError
from fsd_gs.io import locked, make_folder, write_text

BEGUN = "begun.json"


class TrainingSettings(Protocol):
    """A tree of settings with the folder of the training."""

    output: str


def begin(config: TrainingSettings) -> Path:
    """Note the settings in the folder, or compare them with those it was begun with.

    Args:
        config: Tree of settings dataclasses; free settings may differ.

    Returns:
        The folder.

    Raises:
        ConfigError: Names the first setting that differs.
        FileFormatError: The note in the folder cannot be read.
    """
    folder = make_folder(config.output)
    path, settings = folder / BEGUN, decisive_values(config)
    if path.is_file():
        try:
            before = json.loads(path.read_text())
        except ValueError as error:
            raise FileFormatError(f"{path} is damaged; choose another output, or delete the folder to start anew") from error
        defaults = decisive_values(type(config)())
        for name, value in settings.items():
            begun = before.get(name, defaults[name])  # a setting that is newer than the folder had no say: its default does nothing
            if begun != value:
                raise ConfigError(
                    f"{name}: '{folder}' was begun with {begun!r}, now it is {value!r}; take the old value, or another output="
                )
    write_text(path, json.dumps(settings, indent=2))
    write_text(folder / "config.yaml", to_yaml(config))
    return folder


def occupied(folder: Path) -> AbstractContextManager[None]:
    """Hold the folder of a training; BusyError where another process is at work in it."""
    return locked(folder / ".lock", f"{folder}: another process is training there; wait for it, or choose another output=")
