"""A table of classes by name that imports a class only when it is asked for it.

    METHODS = Table({"score": "fsd_gs.guidance.score:ScoreGuidance"})
    METHODS["mine"] = MyMethod                  # a class itself may stand there too

Names are known at once, so that the command line can list and check them without importing torch.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, ItemsView, ValuesView
from typing import Any


class Table(dict[str, Any]):
    """Name → class; entries of the form "module:Class" are imported on first use."""

    def __getitem__(self, name: str) -> Any:
        found = super().__getitem__(name)
        if isinstance(found, str):
            module, _, attribute = found.partition(":")
            found = self[name] = getattr(importlib.import_module(module), attribute)
        return found

    def get(self, name: str, default: Any = None) -> Any:
        return self[name] if name in self else default  # noqa: SIM401 (dict.get would not import)

    def values(self) -> ValuesView[Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        self._load()
        return super().values()

    def items(self) -> ItemsView[str, Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        self._load()
        return super().items()

    def _load(self) -> None:
        for name in self:
            self[name]


def exports(package: str, homes: dict[str, str]) -> Callable[[str], Any]:
    """The ``__getattr__`` of a package whose public names live in modules of it: ``homes`` is name → module, imported on first use."""

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        return getattr(importlib.import_module(f"{package}.{homes[name]}"), name)

    return find
