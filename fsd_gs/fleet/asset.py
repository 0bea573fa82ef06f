"""An asset as a unit of work: ``train.asset`` in the folder that the worker gives it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from fsd_gs.config import Config
from fsd_gs.core.types import Gaussians
from fsd_gs.export.formats import load_splats
from fsd_gs.fleet.task import Stopped, Tools, UnitError
from fsd_gs.render import make_rasterizer
from fsd_gs.train import asset, runs
from fsd_gs.train.loop import Observer, StopRun
from fsd_gs.train.session import Session
from fsd_gs.train.step import StepReport
from fsd_gs.train.variants import inspect

SOUND = "sound"


class Watched(Observer):
    """Tells how far a run is, and ends it between two steps when asked to."""

    def __init__(self, tools: Tools) -> None:
        self.tools = tools

    def stepped(self, session: Session, report: StepReport) -> None:
        self.tools.progress(report.step, report.steps)
        if self.tools.stop():
            raise StopRun


def make_asset(config: Config, place: Path, tools: Tools, *, judge: bool) -> dict[str, Any]:
    """Make or go on with the asset in ``place``; its measures. verdict: "sound", or what geometry finds wrong."""
    outcome = asset.make_asset(config, tools.prior, place, [Watched(tools)], keep_errors=True)
    if outcome.state == "stopped":
        raise Stopped
    if outcome.state == "failed":
        shutil.rmtree((place / runs.CHECKPOINT).parent, ignore_errors=True)  # the next attempt must not begin where this one went wrong
        raise UnitError(outcome.error or "not made")
    shutil.rmtree((place / runs.CHECKPOINT).parent, ignore_errors=True)
    splats = load_splats(place / runs.SPLATS) if outcome.result is None else outcome.result.splats
    facts: dict[str, Any] = {"splats": len(splats), "step": outcome.step, "optimisation_seconds": outcome.seconds}
    if outcome.error:
        facts["trouble"] = outcome.error  # a video; everything else is there
    return {**facts, "verdict": verdict(splats, config)} if judge else facts


def verdict(splats: Gaussians, config: Config) -> str:
    """What is wrong with an asset, in words; ``SOUND`` if nothing is."""
    found = inspect(splats.to("cpu"), config, make_rasterizer("cpu"))
    return ", ".join(found) or SOUND
