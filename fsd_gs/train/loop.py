"""The optimisation loop: step, densify, tell the observers. It owns no files and prints nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fsd_gs.splats.optimizers import step_all
from fsd_gs.train.guard import Guard, first_nonfinite
from fsd_gs.train.session import Session
from fsd_gs.train.step import StepOutput, fsd_step


@dataclass(frozen=True)
class StepReport:
    """What observers are told after a step. step counts from 1 to steps; loss and score_norm are plain numbers."""

    step: int
    steps: int
    loss: float
    score_norm: float
    t: float
    splats: int
    views: int
    seconds: float
    output: StepOutput


class Observer:
    """Watches a run. Every method may be left out; raising :class:`StopRun` in ``stepped`` ends the run after this step."""

    def started(self, session: Session) -> None:
        """Before the first step (of a new or a resumed run)."""

    def stepped(self, session: Session, report: StepReport) -> None:
        """After each step."""

    def said(self, message: str) -> None:
        """One line for people, from the guard for example."""

    def finished(self, session: Session, complete: bool) -> None:
        """After the last step, or when the run was stopped between two steps (``complete`` is then False)."""

    def closed(self) -> None:
        """At the very end, also after an error: release what ``started`` took."""


class StopRun(Exception):
    """Raised by an observer to end the run cleanly after the current step."""


def optimize(session: Session, observers: Sequence[Observer], make_guard: Callable[[Callable[[str], None]], Guard]) -> bool:
    """Run the remaining steps; True if all were done, False if an observer stopped the run."""

    def say(message: str) -> None:
        for observer in observers:
            observer.said(message)

    guard = make_guard(say)
    try:
        for observer in observers:
            observer.started(session)
        try:
            while session.step < session.steps:
                report = advance(session, guard)
                if report is not None:
                    for observer in observers:
                        observer.stepped(session, report)
        except StopRun:
            pass
        complete = session.step >= session.steps
        for observer in observers:
            observer.finished(session, complete)
    finally:
        for observer in observers:
            observer.closed()
    return complete


def advance(session: Session, guard: Guard) -> StepReport | None:
    """One step with its optimiser and densification; None if the guard had to roll back."""
    began = time.perf_counter()
    guard.remember(session)
    session.apply_rates()
    output = fsd_step(session.parts, session.params, session.step, session.generators)
    session.densifier.before_backward(session.params, session.optimizers, session.step, output.view.info)
    output.loss.backward()
    culprit = first_nonfinite(session, output.loss)
    if culprit is not None:
        for optimizer in session.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        guard.roll_back(session, culprit)
        return None
    step_all(session.optimizers)
    session.densifier.after_backward(session.params, session.optimizers, session.step, output.view.info)
    session.parts.noise.step()
    session.step += 1
    return StepReport(
        step=session.step,
        steps=session.steps,
        loss=output.loss.item(),
        score_norm=output.score_norm,
        t=output.t,
        splats=len(session.params["means"]),
        views=len(output.cameras),
        seconds=time.perf_counter() - began,
        output=output,
    )
