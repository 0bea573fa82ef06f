"""Watching a run in the browser: the splats as they grow, what the prior sees, the loss, and buttons to pause, stop and save.

Training must not wait for the page. The observer only takes a snapshot (activated copies of the splats, a few numbers, the views that the
step rendered anyway) and leaves it for a thread of its own; a newer snapshot replaces one that was not fetched yet. The thread measures
its own processor time c for each update and waits at least c / ``share`` before the next, so that it never takes more than that share
of a core, whatever the number of splats.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from fsd_gs.core.sheets import to_uint8
from fsd_gs.errors import FsdGsError
from fsd_gs.export.ply import save_ply
from fsd_gs.train.loop import Observer, StopRun
from fsd_gs.train.session import Session
from fsd_gs.train.step import StepReport
from fsd_gs.viewer.moment import Snapshot, Update
from fsd_gs.viewer.panels.base import LIVE, Board
from fsd_gs.viewer.panels.view import ViewPanel
from fsd_gs.viewer.scene import Scene
from fsd_gs.viewer.server import look_home
from fsd_gs.viewer.splat_node import PREVIEW_CAP, SplatNode

if TYPE_CHECKING:
    import viser


@dataclass(frozen=True)
class LiveSettings:
    """How much the live page may cost.

    Attributes:
        rate: updates a second at most.
        share: of one core that the updates may take.
        cap: splats shown.
        idle_seconds: between updates while no browser is connected (a new one is served within that time).
        plot_points: of the loss curve.
    """

    rate: float = 4.0
    share: float = 0.03
    cap: int = PREVIEW_CAP
    idle_seconds: float = 1.0
    plot_points: int = 300


class LiveViewer(Observer):
    """Shows one run on ``server``; each run gets its own LiveViewer.

    Args:
        title: what is being made.
        folder: where "Save now" writes ``snapshots/``.
        interrupted: true when somebody asked for an end another way (Ctrl-C), so that a paused run can still be stopped.
    """

    renders = False  # pictures drawn here would take their time from the run

    def __init__(
        self,
        server: viser.ViserServer,
        title: str,
        folder: Path,
        *,
        interrupted: Callable[[], bool] = lambda: False,
        settings: LiveSettings | None = None,
    ) -> None:
        self.server, self.title, self.folder, self.interrupted = server, title, folder, interrupted
        self.settings = settings or LiveSettings()
        self.node = SplatNode(server)
        self.paused, self.stopping, self._saving = threading.Event(), threading.Event(), threading.Event()
        self.keeping = False
        self._slot: Snapshot | None = None
        self._fresh, self._closing = threading.Condition(), False
        self._next_snapshot = 0.0
        self._losses: list[tuple[int, float, float]] = []  # step, loss, smoothed loss
        self._seconds_per_step = 0.0
        self._board: Board | None = None
        self._thread = threading.Thread(target=self._publish_all, name="live viewer", daemon=True)

    # -- called by the loop ---------------------------------------------------------------------------------------------

    def started(self, session: Session) -> None:
        self._board = Board(self.server, LIVE, self)
        self._thread.start()

    def stepped(self, session: Session, report: StepReport) -> None:
        self._losses.append((report.step, report.loss, 0.95 * self._losses[-1][2] + 0.05 * report.loss if self._losses else report.loss))
        self._seconds_per_step = _smooth(self._seconds_per_step, report.seconds)
        now = time.perf_counter()
        if now >= self._next_snapshot or report.step == report.steps:
            self._offer(self._snapshot(session, report))
            self._next_snapshot = now + 1 / self.settings.rate
        self._serve(session)
        while self.paused.is_set() and not self.stopping.is_set() and not self.interrupted():
            time.sleep(0.05)
            self._serve(session)
        if self.stopping.is_set():
            raise StopRun(keep=self.keeping)

    def said(self, message: str) -> None:
        if self._board is not None:
            self._board.say(message)

    def finished(self, session: Session, complete: bool) -> None:
        ended = "All steps done" if complete else f"Stopped after step {session.step}"
        self.said(f"{ended}; writing the results …" if complete or self.keeping else f"{ended}.")

    def closed(self) -> None:
        with self._fresh:
            self._closing = True
            self._fresh.notify()
        if self._thread.is_alive():
            self._thread.join(timeout=10)
        if self._board is not None:
            self._board.close()
            self._board = None
        self.server.scene.set_background_image(None)

    # -- snapshots ------------------------------------------------------------------------------------------------------

    def _snapshot(self, session: Session, report: StepReport) -> Snapshot:
        pace = self._seconds_per_step
        return Snapshot(
            splats=session.gaussians(),
            views=report.output.view.rgb.detach(),
            step=report.step,
            steps=report.steps,
            t=report.t,
            eta_seconds=(report.steps - report.step) * pace,
            views_per_second=report.views / max(pace, 1e-9),
        )

    def _offer(self, snapshot: Snapshot) -> None:
        with self._fresh:
            self._slot = snapshot
            self._fresh.notify()

    def _publish_all(self) -> None:
        """The thread: send the newest snapshot, rest in proportion to what that cost, repeat; the last one is always sent."""
        while True:
            with self._fresh:
                self._fresh.wait_for(lambda: self._slot is not None or self._closing)
                snapshot, self._slot = self._slot, None
                closing = self._closing
            if snapshot is None:
                return
            began = time.thread_time()
            self._publish(snapshot)
            cost = time.thread_time() - began
            rest = max(1 / self.settings.rate, cost / self.settings.share)
            if not self.server.get_clients():
                rest = max(rest, self.settings.idle_seconds)
            if not closing:
                self._rest(rest)

    def _rest(self, seconds: float) -> None:
        with self._fresh:
            self._fresh.wait_for(lambda: self._closing, timeout=seconds)

    def _publish(self, snapshot: Snapshot) -> None:
        board = self._board
        if board is None:
            return
        scene = board.apply(Scene(snapshot.splats, None))
        shown = self.node.show(scene.splats, self.settings.cap)
        stride = max(1, len(self._losses) // self.settings.plot_points)
        board.show(Update(snapshot, shown, self._losses[::stride], self.paused.is_set()))

    # -- for the panels -------------------------------------------------------------------------------------------------

    def toggle_pause(self) -> bool:
        """Pause or go on; whether it is paused now."""
        if self.paused.is_set():
            self.paused.clear()
        else:
            self.paused.set()
        return self.paused.is_set()

    def stop(self, *, keep: bool = False) -> None:
        """End the run after this step.

        Args:
            keep: write its results as they are then, rather than leave it to be gone on with.
        """
        self.keeping = keep
        self.stopping.set()

    def save(self) -> None:
        """Ask for the splats in ``snapshots/``, after this step."""
        self._saving.set()

    def refresh(self) -> None:
        """The background; the splats come with the next step anyway."""
        if self._board is not None:
            colour = torch.tensor(self._board[ViewPanel].colour())
            self.server.scene.set_background_image(np.asarray(to_uint8(colour.expand(8, 8, 3))), format="jpeg")

    def look_home(self, client: viser.ClientHandle) -> None:
        look_home(client)

    def _serve(self, session: Session) -> None:
        """Do what a button asked for and only the training thread may do."""
        if not self._saving.is_set():
            return
        self._saving.clear()
        path = self.folder / "snapshots" / f"step-{session.step:06d}.ply"
        try:
            save_ply(session.gaussians(), path)
            message = f"Saved {path}"
        except FsdGsError as error:  # a full disk must not end the run because of a button
            message = str(error)
        self.said(message)


def _smooth(before: float, now: float) -> float:
    return now if before == 0 else 0.9 * before + 0.1 * now
