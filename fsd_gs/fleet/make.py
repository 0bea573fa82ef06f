"""The task of a batch: an asset with everything that ``train.py`` leaves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fsd_gs.fleet.task import Tools
from fsd_gs.fleet.unit import Unit, run_config


@dataclass(frozen=True)
class MakeAsset:
    """A unit of the fleet: one asset.

    Attributes:
        judge: look at the asset from 24 sides when it is done (a second), for the verdict.
    """

    judge: bool = True

    def make(self, unit: Unit, place: Path, tools: Tools) -> dict[str, Any]:
        from fsd_gs.fleet.asset import make_asset

        return make_asset(run_config(unit.payload), place, tools, judge=self.judge)
