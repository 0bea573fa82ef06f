"""What a run tells whoever watches it. The loop itself is ``train/asset.run``; it owns no files and prints nothing."""

from __future__ import annotations

from fsd_gs.train.session import Session
from fsd_gs.train.step import StepReport


class Observer:
    """Watches a run. Every method may be left out; raising :class:`StopRun` in ``stepped`` ends the run after this step."""

    def started(self, session: Session) -> None:
        """Before the first step (of a new or a resumed run)."""

    def stepped(self, session: Session, report: StepReport) -> None:
        """After each step."""

    def said(self, message: str) -> None:
        """One line for people, from the guard for example."""

    def finished(self, session: Session, complete: bool) -> None:
        """After the last step, or when the run ended between two steps before it (``complete`` is then False)."""

    def closed(self) -> None:
        """At the very end, also after an error: release what ``started`` took."""


class StopRun(Exception):
    """Raised by an observer to end the run cleanly after the current step.

    Args:
        keep: the asset is wanted as it is now: its files are written as if all steps had been done. Otherwise it waits for ``resume=true``.
    """

    def __init__(self, *, keep: bool = False) -> None:
        super().__init__("keep" if keep else "stop")
        self.keep = keep
