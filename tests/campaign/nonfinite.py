"""NaN and ∞ put into every stage of a step, at the first, a middle, a snapshot's and the last step; once, or again and again.

once        the run ends with all steps and finite splats, and the log says that it went back
for ever    the run stops with one line, and its folder keeps the last good state: finite, and not called finished
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import torch
from row import Row
from stub_prior import GreenPrior, tiny

from fsd_gs.errors import DivergenceError, FsdGsError
from fsd_gs.export.formats import load_splats
from fsd_gs.train import runs
from fsd_gs.train.asset import make_asset
from fsd_gs.train.checkpoint import load_checkpoint
from fsd_gs.train.loop import Observer
from fsd_gs.train.session import Session

PARAMETERS = ("means", "scales", "quats", "opacities", "sh0")
GRADIENTS, MOMENTS = [f"gradient of {p}" for p in PARAMETERS], [f"moments of {p}" for p in PARAMETERS]
STAGES = ("render", "noise", "prior", "loss", *GRADIENTS, *MOMENTS, *PARAMETERS)
SNAPSHOT_EVERY = 4
STEPS = {"first": 0, "middle": 6, "snapshot": 8, "last": 15}
SETTINGS = (f"guard.snapshot_every={SNAPSHOT_EVERY}", "outputs.turntable_frames=0", "outputs.timelapse=false", "outputs.preview_every=0")


class Poison(Observer):
    """Puts ``value`` into ``stage`` of the step ``at``: the first time, or with ``for_ever`` every time that the run comes there."""

    def __init__(self, stage: str, at: int, value: float, for_ever: bool) -> None:
        self.stage, self.at, self.value, self.for_ever = stage, at, value, for_ever
        self.times = 0
        self.notes: list[str] = []

    def due(self, session: Session) -> bool:
        if session.step != self.at or (self.times and not self.for_ever):
            return False
        self.times += 1
        return True

    def spoil(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor with one entry that is not finite."""
        spoilt = tensor.clone(memory_format=torch.contiguous_format)
        spoilt.view(-1)[0] = self.value
        return spoilt

    def said(self, message: str) -> None:
        self.notes.append(message)

    def started(self, session: Session) -> None:
        parts = session.parts
        kind, _, name = self.stage.partition(" of ")
        if self.stage == "render":

            def rasterize(*arguments, **named):
                render = parts.rasterize(*arguments, **named)
                return replace(render, rgb=render.rgb * self.value) if self.due(session) else render

            session.stage = replace(session.stage, parts=replace(parts, rasterize=rasterize))
        elif self.stage == "noise":

            class Noise:
                def __call__(_, *arguments, **named):
                    noise = parts.noise(*arguments, **named)
                    return self.spoil(noise) if self.due(session) else noise

                def __getattr__(_, attribute):
                    return getattr(parts.noise, attribute)

            session.stage = replace(session.stage, parts=replace(parts, noise=Noise()))
        elif self.stage == "prior":
            predict = parts.prior.predict_noise
            parts.prior.predict_noise = lambda *a, **k: self.spoil(predict(*a, **k)) if self.due(session) else predict(*a, **k)
        elif self.stage == "loss":
            encode = parts.prior.encode
            parts.prior.encode = lambda rgb: encode(rgb) * self.value if self.due(session) else encode(rgb)
        else:
            self._around_the_optimizer(session, kind, name)

    def _around_the_optimizer(self, session: Session, kind: str, name: str) -> None:
        densifier = session.densifier
        before, after = densifier.step_pre_backward, densifier.step_post_backward

        def pre(params, optimizers, *rest):
            before(params, optimizers, *rest)
            if kind == "gradient" and self.due(session):
                params[name].register_hook(self.spoil)

        def post(params, optimizers, *rest):
            after(params, optimizers, *rest)
            if kind == "moments" and self.due(session):
                for state in optimizers[name].state.values():
                    state["exp_avg"].view(-1)[0] = self.value
            elif kind == self.stage and self.due(session):
                with torch.no_grad():
                    params[kind].view(-1)[0] = self.value

        densifier.step_pre_backward, densifier.step_post_backward = pre, post


def try_one(row: Row, stage: str, at: int, value: float, for_ever: bool) -> None:
    """One run; what went wrong is counted in ``row``."""
    row.cases += 1
    poison = Poison(stage, at, value, for_ever)
    with tempfile.TemporaryDirectory() as place:
        config = tiny(place, *SETTINGS)
        folder = runs.run_folder(config)
        try:
            make_asset(config, GreenPrior(), observers=[poison])
        except DivergenceError:
            row.lost += not for_ever or not holds_good_state(folder, at)
            row.silent += runs.is_finished(folder)
            return
        except FsdGsError:
            row.lost += 1
            return
        except Exception:
            row.traceback += 1
            return
        row.silent += for_ever or not poison.times or not poison.notes or not logged(folder)
        splats = load_splats(folder / runs.SPLATS)
        finite = all(bool(v.isfinite().all()) for v in (splats.means, splats.scales, splats.opacities, splats.sh))
        row.silent += not (len(splats) and finite)


def holds_good_state(folder: Path, at: int) -> bool:
    """Whether the checkpoint is finite; a run that failed before its first step has none to keep."""
    checkpoint = folder / runs.CHECKPOINT
    if not checkpoint.is_file():
        return at == 0
    state = load_checkpoint(checkpoint)
    return all(bool(v.isfinite().all()) for v in state.values() if isinstance(v, torch.Tensor) and v.is_floating_point())


def logged(folder: Path) -> bool:
    lines = [json.loads(line) for line in (folder / runs.LOG).read_text(encoding="utf-8").splitlines()]
    return any("not finite" in line.get("note", "") for line in lines)


def rows(long: bool) -> Iterator[Row]:
    """Every stage; in the short form each once, with NaN, by turns at the first and the last step."""
    if not long:
        row = Row(f"NaN, {len(STAGES)} stages")
        for number, stage in enumerate(STAGES):
            try_one(row, stage, STEPS["last" if number % 2 else "first"], math.nan, False)
        yield row
        return
    for for_ever in (False, True):
        row = Row(f"NaN, ∞ and −∞ {'for ever' if for_ever else 'once'}, {len(STAGES)} stages × {len(STEPS)} steps")
        for stage, at, value in product(STAGES, STEPS.values(), (math.nan, math.inf, -math.inf)):
            try_one(row, stage, at, value, for_ever)
        yield row
