"""How long an asset takes on this machine, said before it is begun.

    seconds = steps · Σ_s share_s · (seconds of a step at image size s)  +  seconds of the preview and the turntable

summed over the stages, where a run has several.

Measured once for a prior, its views, sizes and splats: a few real steps at each size, on a session of their own, so that the run itself is
untouched. Runs made in one go then put their true times in place of the measurement, which sees neither growing splats nor a busy evening.
The book is ``times.json`` in the user's cache folder (``FSD_GS_CACHE``, else the system's); without one the measurement is made again.
"""

from __future__ import annotations

import json
import math
import os
import platform
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import torch

from fsd_gs.config import Config
from fsd_gs.core.device import resolve_device
from fsd_gs.core.terminal import duration
from fsd_gs.errors import FsdGsError
from fsd_gs.export.pictures import turntable_frames
from fsd_gs.io import write_text
from fsd_gs.priors.base import Prior
from fsd_gs.train.backbones import PriorSource, prior_source
from fsd_gs.train.build import build_session
from fsd_gs.train.guard import Guard
from fsd_gs.train.identity import digest
from fsd_gs.train.result import PREVIEW_SIZE, PREVIEW_VIEWS, turntable_settings
from fsd_gs.train.step import advance

CALIBRATION_STEPS, MOST_KEPT = 2, 5
WORTH_IT = 50  # steps: shorter runs are over before they are measured
Times = dict[str, dict[str, list[float]]]


def cache_folder() -> Path:
    """Where this user's programs keep what can be made again."""
    own = os.environ.get("FSD_GS_CACHE")
    if own:
        return Path(own).expanduser()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    else:
        base = "~/Library/Caches" if sys.platform == "darwin" else os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "fsd-gs"


class TimeBook:
    """Seconds of a step and of the files at the end, by what they depend on; ``path`` may be lost or damaged at any time."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = cache_folder() / "times.json" if path is None else path

    def known(self, config: Config) -> float | None:
        """Seconds of an asset of ``config``, None where nothing like it was measured here."""
        times = self._read().get(_key(config))
        return None if times is None else median(times["step"]) * config.steps + median(times["end"])

    def add(self, config: Config, seconds: float, end: float) -> None:
        """A run that was made in one go. seconds: of its steps. end: of its files."""
        if config.steps:
            self._add(config, seconds / config.steps, end, real=True)

    def measure(self, config: Config, prior: Prior | PriorSource, say: Callable[[str], object] = lambda _: None) -> float:
        """Seconds of an asset: from the book, else from a few steps now."""
        known = self.known(config)
        if known is not None:
            return known
        say("measuring this machine once for the estimate …")
        step, end = calibrate(config, prior)
        self._add(config, step, end, real=False)
        return step * config.steps + end

    def _add(self, config: Config, step: float, end: float, *, real: bool) -> None:
        if not (math.isfinite(step) and math.isfinite(end)):
            return
        times, key = self._read(), _key(config)
        before = times.get(key) if real else None
        if before is not None and not before.get("real"):
            before = None  # true times replace the measurement
        entry: dict[str, Any] = {
            name: [*(before or {}).get(name, []), value][-MOST_KEPT:] for name, value in (("step", step), ("end", end))
        }
        with suppress(FsdGsError, OSError):  # a read-only home costs the estimate its memory, nothing else
            write_text(self.path, json.dumps({**times, key: {**entry, "real": [1.0] if real else []}}, indent=1) + "\n")

    def _read(self) -> Times:
        try:
            book = json.loads(self.path.read_text(encoding="utf-8"))
            return {key: entry for key, entry in book.items() if all(_numbers(entry[name]) for name in ("step", "end"))}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}


def estimate_line(config: Config, prior: Prior | PriorSource, assets: int, say: Callable[[str], object]) -> str | None:
    """ "estimate: about 0:36 an asset, 4:48 for 8, on this machine" for what is still to be made; None for short runs."""
    if config.steps < WORTH_IT or assets < 1:
        return None
    seconds = TimeBook().measure(config, prior, say)
    more = f", {duration(seconds * assets)} for {assets}" if assets > 1 else ""
    return f"estimate: about {duration(seconds)} an asset{more}, on this machine ({config.quality})"


def _numbers(values: Any) -> bool:
    return isinstance(values, list) and bool(values) and all(isinstance(v, int | float) and math.isfinite(v) and v >= 0 for v in values)


def _key(config: Config) -> str:
    """What a step's time depends on, as digits; the prior's name in front for people who open the file."""
    machine = [platform.node(), torch.get_num_threads(), config.device, config.render.backend]
    splats = [config.splats.count, config.splats.sh_degree, config.densify.kind, config.densify.cap]
    pictures = [config.cameras.views, list(config.render.sizes), list(config.render.size_at)]
    end = [config.outputs.turntable_frames, config.outputs.turntable_size, *config.stages]
    return f"{config.prior.name}-{digest([machine, vars(config.prior), config.guidance.method, config.noise.kind, splats, pictures, end])}"


def calibrate(config: Config, prior: Prior | PriorSource) -> tuple[float, float]:
    """(mean seconds of a step, seconds of the files at the end), from a few steps at every image size of every stage."""
    priors = prior_source(config, prior, resolve_device(config.device))
    steps, end = 0.0, 0.0
    for part in config.split():
        per_step, end = _calibrate(part.settings, priors(part.settings))
        steps += per_step * part.settings.steps
    return steps / max(config.steps, 1), end


def _calibrate(config: Config, prior: Prior) -> tuple[float, float]:
    device = resolve_device(config.device)
    session = build_session(replace(config, steps=max(config.steps, 1)), prior, device)
    guard = Guard(config.guard, lambda _: None)
    starts = [*config.render.size_at, 1.0]
    per_step = 0.0
    for place, (begin, end) in enumerate(pairwise(starts)):
        if end <= begin or not config.steps:
            continue
        at = min(math.ceil(begin * config.steps), session.steps - 1)
        began = 0.0
        for done in range(-1 if place else -2, CALIBRATION_STEPS):  # the first ones compile and fill caches
            if done == 0:
                began = time.perf_counter()
            session.step = at
            advance(session, guard)
        if device.type == "cuda":
            torch.cuda.synchronize()
        per_step += (end - begin) * (time.perf_counter() - began) / CALIBRATION_STEPS
    return per_step, _end_seconds(config, session)


def _end_seconds(config: Config, session: Any) -> float:
    """Of the preview and the turntable, from two of its frames."""
    frames = max(config.outputs.turntable_frames, 2)  # 0: none is wanted, but two tell what the preview takes
    settings = turntable_settings(replace(config, outputs=replace(config.outputs, turntable_frames=frames)))
    began = time.perf_counter()
    for _ in turntable_frames(session.gaussians(), session.parts.rasterize, replace(settings, frames=2)):
        pass
    frame = (time.perf_counter() - began) / 2
    preview = frame * PREVIEW_VIEWS * (PREVIEW_SIZE / settings.size) ** 2
    return preview + (frame * frames if config.outputs.turntable_frames else 0.0)
