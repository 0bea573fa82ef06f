"""Making one asset: the only place where a run is begun, gone on with, stopped, kept early and finished.

prepare      settings → a session at step 0; whatever is wrong with them is found here, before anything is written
run          the loop: ``train/step.advance``, then the observers, until all steps are done or somebody asks for an end
make_asset   prepare and run in a folder, with its lock, checkpoints and results (``train/runs`` says which files)
keep_asset   the results of an unfinished run, from its checkpoint
"""

from __future__ import annotations

import time
import traceback
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from fsd_gs.config import Config
from fsd_gs.core.device import resolve_device
from fsd_gs.core.stages import Part
from fsd_gs.core.types import Gaussians
from fsd_gs.errors import BackendError, DivergenceError, EmptyAssetError, FileFormatError, FsdGsError, OutputError, VideoError
from fsd_gs.export.ply import save_ply
from fsd_gs.io import write_text
from fsd_gs.priors.base import Prior
from fsd_gs.render import Rasterizer, RasterizerSettings, make_rasterizer
from fsd_gs.splats.parameters import SplatParameters, activate
from fsd_gs.splats.prune import clean
from fsd_gs.train import runs
from fsd_gs.train.backbones import PriorSource, prior_source
from fsd_gs.train.build import build_session, build_stage
from fsd_gs.train.checkpoint import load_checkpoint
from fsd_gs.train.guard import Guard
from fsd_gs.train.loop import Observer, StopRun
from fsd_gs.train.observers import Checkpoints, JsonLog, Previews
from fsd_gs.train.result import Result, draw_preview, orbit_of
from fsd_gs.train.session import Session, Stage, State
from fsd_gs.train.solidify import solidify
from fsd_gs.train.step import advance
from fsd_gs.train.words import check_words, require_words

TRACEBACK = "traceback.txt"


def prepare(config: Config, prior: Prior | PriorSource | None = None) -> Session:
    """A session at step 0; everything that can be wrong with the settings is found here, before anything is written.

    Args:
        config: settings of the run.
        prior: the prior, or what gives a stage's settings their prior; None loads what they name.
    """
    require_words(config.prompt)
    device = resolve_device(config.device)
    priors = prior_source(config, prior, device)
    parts = config.split()
    first, staged = parts[0], len(parts) > 1
    for number in reversed(range(1, len(parts))):  # the first one's prior stays
        with _named(parts[number]):
            _try(parts[number].settings, build_stage(parts, number, priors, device), device)
    with _named(first) if staged else nullcontext():
        check_words(priors(first.settings), config.prompt, anyway=config.anyway)
        session = build_session(config, priors, device)
        _try(first.settings, session.stage, device)
    return session


def _try(config: Config, stage: Stage, device: torch.device) -> None:
    """A prompt that the stage's prior does not understand fails now."""
    check_words(stage.parts.prior, config.prompt, anyway=config.anyway)
    cameras = stage.parts.sample_views(0, torch.Generator().manual_seed(0)).to(device)
    stage.parts.prior.encode_text(config.prompt, config.negative_prompt, cameras)


@contextmanager
def _named(part: Part[Config]) -> Iterator[None]:
    """Errors of a stage say which one it is."""
    try:
        yield
    except FsdGsError as error:
        error.args = (f"stages[{part.number}] ({part.name}): {error}", *error.args[1:])
        raise


def run(config: Config, session: Session, observers: Sequence[Observer] = (), checkpoint: Path | None = None) -> Result:
    """Optimise one asset, from the start or from ``checkpoint``.

    Raises:
        DivergenceError: the guard gave up; the observers were told (``finished``, not complete) of the last good state before.
    """
    if checkpoint is not None:
        restore(session, checkpoint)
    guard = Guard(config.guard, partial(_tell, observers))
    kept = False
    try:
        for observer in observers:
            observer.started(session)
        try:
            while session.step < session.steps:
                if session.at_border:
                    report = None  # its graph would keep the prior
                    next_stage(config, session, observers)
                    guard.forget()
                report = advance(session, guard)
                if report is not None:
                    for observer in observers:
                        observer.stepped(session, report)
        except StopRun as stop:
            kept = stop.keep
        except (FsdGsError, OSError):
            # The session is whole: the guard went back before it gave up, and observers (a full disk, a terminal that is gone) come
            # between two steps. What was done must not be lost with them; what else fails now is the same trouble again.
            for observer in observers:
                with suppress(FsdGsError, OSError):
                    observer.finished(session, False)
            raise
        complete = session.step >= session.steps
        for observer in observers:
            observer.finished(session, complete)
    finally:
        for observer in observers:
            observer.closed()
    return _result(config, session.gaussians(), session.parts.rasterize, session.step, complete, kept)


def _tell(observers: Sequence[Observer], message: str) -> None:
    for observer in observers:
        observer.said(message)


def next_stage(config: Config, session: Session, observers: Sequence[Observer] = ()) -> None:
    """Cross the border that ``session`` has come to, and say so."""
    part = config.split()[session.stage.number + 1]
    with _named(part):
        session.enter(part.number, session.state_dict())
    _tell(observers, f"stage {part.number + 1} of {len(session.borders)}, {part.name}: prior {part.settings.prior.name}")


def restore(session: Session, checkpoint: Path) -> None:
    """Set ``session`` to what ``checkpoint`` holds; FileFormatError, naming the file, if it is damaged or of other settings."""
    try:
        state = load_checkpoint(checkpoint)
        step = state.get("step", 0)
        number = bisect_right(session.borders, step) - 1 if isinstance(step, int) else 0
        _take_over(session, number, state)
    except FileFormatError as error:
        raise FileFormatError(str(error).replace("checkpoint:", f"{checkpoint}:", 1)) from error


def _take_over(session: Session, number: int, state: State) -> None:
    if number == session.stage.number:
        session.load_state_dict(state)
    else:
        session.enter(number, state)


def _result(config: Config, splats: Gaussians, rasterizer: Rasterizer, step: int, complete: bool, kept: bool) -> Result:
    if complete or kept:
        splats = solidify(splats, rasterizer, config.solidify, round(config.solidify.effort * step), orbit_of(config))
        if config.outputs.clean:
            splats, _ = clean(splats)
    return Result(splats, config, rasterizer, complete, kept and not complete, step)


# -- in a folder -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """How making one asset ended.

    Attributes:
        state: ``finished`` all steps, ``kept`` as it was when somebody asked for it, ``stopped`` before the end and to be gone on with,
            ``found`` finished before, ``failed`` for the reason in ``error`` (only with ``keep_errors``).
        step: steps done.
        seconds: of the optimisation, None where this call did not make it from the first step on.
        result: the splats, where this call made them.
        error: one line; with ``finished`` and ``kept`` it is about a video, and everything else is written.
    """

    folder: Path
    state: Literal["finished", "kept", "stopped", "found", "failed"]
    step: int = 0
    seconds: float | None = None
    result: Result | None = None
    error: str | None = None


def make_asset(
    config: Config,
    prior: Prior | PriorSource | None = None,
    folder: Path | None = None,
    observers: Sequence[Observer] = (),
    *,
    only_splats: bool = False,
    keep_errors: bool = False,
) -> Outcome:
    """Make the asset of ``config``, or go on with it, by ``config.resume`` and ``config.overwrite``.

    Args:
        config: Settings of the run.
        prior: the prior, or what gives a stage's settings their prior; None loads what they name.
        folder: of the run; by default that of the settings (``runs.run_folder``).
        observers: who watches, besides those that write the run's files.
        only_splats: write no log, previews or videos, and no checkpoint once it is finished.
        keep_errors: an error of the asset becomes ``Outcome.error`` (a bug with ``traceback.txt``), and a damaged checkpoint is begun
            anew, because nobody is there to ask. What is wrong with the machine (full disk, missing backend) is raised all the same.

    Raises:
        OutputError: the folder holds a run and neither was asked for, other settings, or another process.
        EmptyAssetError: no splats are left at the end. The folder is not finished then.
        FsdGsError: whatever else is wrong with settings, files or the optimisation.
    """
    folder = runs.run_folder(config) if folder is None else folder
    if config.resume and runs.is_finished(folder):
        if (folder / runs.CONFIG).is_file():
            runs.check_same_settings(folder, config)
        with suppress(OutputError), runs.occupied(folder):
            pass  # clears away what a kill after the splats left
        return Outcome(folder, "found", runs.finished_record(folder).get("step", config.steps))
    try:
        return _make(config, prior, folder, observers, only_splats, begin_anew=keep_errors)
    except (OutputError, BackendError):
        raise
    except FsdGsError as error:
        if not keep_errors:
            raise
        return Outcome(folder, "failed", error=" ".join(str(error).split()))
    except Exception as error:  # a bug or a full GPU in one asset must neither stop the others nor vanish from the table
        if not keep_errors:
            raise
        write_text(folder / TRACEBACK, traceback.format_exc())
        return Outcome(folder, "failed", error=f"{type(error).__name__}: {' '.join(str(error).split())}")


def _make(
    config: Config, prior: Prior | PriorSource | None, folder: Path, observers: Sequence[Observer], only_splats: bool, begin_anew: bool
) -> Outcome:
    session = prepare(config, prior)
    checkpoint = folder / runs.CHECKPOINT
    with runs.occupied(folder):
        runs.prepare_folder(config, folder)
        if begin_anew:
            (folder / TRACEBACK).unlink(missing_ok=True)
            _drop_unusable(session, checkpoint)
        resumed = checkpoint if checkpoint.is_file() else None
        writers = _checkpoints(config, folder) if only_splats else file_observers(config, session, folder)
        began = time.perf_counter()
        try:
            result = run(config, session, [*writers, *observers], resumed)
        except DivergenceError as error:
            raise _with_a_way_on(error, folder, session) from error
        seconds = None if resumed else time.perf_counter() - began
        if not (result.complete or result.kept):
            return Outcome(folder, "stopped", session.step, seconds, result)
        return replace(_finish(result, folder, config.steps, only_splats), seconds=seconds)


def file_observers(config: Config, session: Session, folder: Path) -> list[Observer]:
    """Everything that writes into the run's folder while it grows."""
    draw = partial(draw_preview, session.parts.rasterize, config=config)
    return [
        JsonLog(folder / runs.LOG),
        Previews(folder, config.outputs.preview_every, draw),
        Checkpoints(folder / runs.CHECKPOINT, config.outputs.checkpoint_every),
    ]


def _checkpoints(config: Config, folder: Path) -> list[Observer]:
    every = config.outputs.checkpoint_every
    return [Checkpoints(folder / runs.CHECKPOINT, every)] if every else []


def _drop_unusable(session: Session, checkpoint: Path) -> None:
    start = session.state_dict()
    try:
        if checkpoint.is_file():
            restore(session, checkpoint)
    except FsdGsError:
        checkpoint.unlink(missing_ok=True)
    finally:
        _take_over(session, 0, start)


def _with_a_way_on(error: DivergenceError, folder: Path, session: Session) -> DivergenceError:
    if not (folder / runs.CHECKPOINT).is_file():
        return error
    return DivergenceError(
        f"{error}; {folder} keeps the last good state, step {session.step}: resume=true tries again from there with lower rates, "
        f"fsd-gs finish {folder} writes it as it is"
    )


def _finish(result: Result, folder: Path, steps: int, only_splats: bool = False) -> Outcome:
    """Write the results, ``finished.json`` last."""
    if not len(result.splats):
        raise EmptyAssetError(
            f"{folder}: no splats are left after step {result.step}, so it is not finished; try another seed or outputs.clean=false"
        )
    trouble = None
    try:
        if only_splats:
            save_ply(result.splats, folder / runs.SPLATS)
        else:
            result.save(folder)
    except VideoError as error:
        trouble = str(error)
    runs.mark_finished(folder, result.step, steps)
    if only_splats:
        (folder / runs.CHECKPOINT).unlink(missing_ok=True)
        with suppress(OSError):
            (folder / runs.CHECKPOINT).parent.rmdir()
    return Outcome(folder, "kept" if result.kept else "finished", result.step, None, result, trouble)


def keep_asset(folder: Path) -> Outcome:
    """The results of the unfinished run in ``folder`` from its checkpoint, as if it had been asked to stop there and be kept.

    Raises:
        FileFormatError: there is no run, or no good checkpoint.
        BusyError: another process is at work there.
    """
    config = runs.load_run_config(folder)
    if runs.is_finished(folder):
        return Outcome(folder, "found", runs.finished_record(folder).get("step", config.steps))
    with runs.occupied(folder):
        if not (folder / runs.CHECKPOINT).is_file():
            raise FileFormatError(f"{folder}: no checkpoint yet, so there is nothing to keep; go on with resume=true")
        state = load_checkpoint(folder / runs.CHECKPOINT)
        stored = {name.removeprefix("params."): torch.nn.Parameter(value) for name, value in state.items() if name.startswith("params.")}
        if not {"means", "quats", "scales", "opacities", "sh0"} <= stored.keys() or not isinstance(state.get("step"), int):
            raise FileFormatError(f"{folder / runs.CHECKPOINT}: holds no splats; use overwrite=true to start again")
        device = resolve_device(config.device)
        with torch.no_grad():
            splats = activate(SplatParameters(stored)).detach().to(device)
        settings = RasterizerSettings(eps2d=config.render.eps2d, antialiased=config.render.antialiased)
        rasterizer = make_rasterizer(config.render.backend, device, settings)
        complete = state["step"] >= config.steps
        return _finish(_result(config, splats, rasterizer, state["step"], complete, kept=True), folder, config.steps)
