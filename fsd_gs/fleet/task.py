"""What is done with a unit. A task travels to other processes, so it is a small dataclass; what it needs there it imports when it is used.

MakeAsset    an asset with everything that ``train.py`` leaves
Rehearse     waits and writes a small file: a cluster, a disk and the rights to them are tried out without a prior or a GPU
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from fsd_gs.errors import FsdGsError
from fsd_gs.fleet.unit import Unit

if TYPE_CHECKING:
    from fsd_gs.config import Config
    from fsd_gs.priors.base import Prior


T = TypeVar("T")


class Stopped(Exception):
    """The task ended before its result because ``Tools.stop`` said so; what it has is kept for the next attempt."""


@dataclass
class Tools:
    """What a worker lends to a task.

    Attributes:
        cache: what outlives a unit, above all the prior.
        stop: whether to end at the next good moment.
        progress: told (step, steps).
    """

    cache: dict[Any, Any] = field(default_factory=dict)
    stop: Callable[[], bool] = lambda: False
    progress: Callable[[int, int], None] = lambda step, steps: None

    def prior(self, config: Config) -> Prior:
        """The prior that ``config`` names; the last one is kept, and let go before another is loaded."""
        from fsd_gs.fleet.priors import PriorCache

        return self.kept(PriorCache).prior(config)

    def kept(self, kind: type[T]) -> T:
        """The one ``kind`` that outlives the unit; made when it is first asked for."""
        if kind not in self.cache:
            self.cache[kind] = kind()
        return self.cache[kind]


class Task(Protocol):
    """``make`` fills ``place``, an empty folder or one that an earlier attempt began, and returns plain measures for the marker.

    Raises:
        OutputError, BackendError: something is wrong with this machine; the unit goes to another worker.
        FsdGsError: something is wrong with the unit.
        Stopped: see there.
    """

    def make(self, unit: Unit, place: Path, tools: Tools) -> dict[str, Any]: ...


class UnitError(FsdGsError):
    """A unit could not be made, for a reason of its own."""


@dataclass(frozen=True)
class Rehearse:
    """Takes ``seconds`` and leaves a small file: a cluster, a disk and the rights to them are tried out without a prior or a GPU.

    Attributes:
        fail: a word; units with it in their label end in an error.
    """

    seconds: float
    fail: str = ""

    def make(self, unit: Unit, place: Path, tools: Tools) -> dict[str, Any]:
        end = time.monotonic() + self.seconds
        while (left := end - time.monotonic()) > 0:
            if tools.stop():
                raise Stopped
            time.sleep(min(left, 0.05))
        if self.fail and self.fail in unit.label:
            raise UnitError(f"{unit.label}: rehearsed to fail")
        (place / "rehearsal.json").write_text(json.dumps({"label": unit.label, "key": unit.key}) + "\n")
        return {"verdict": "rehearsal"}
