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
from torch import Tensor

from fsd_gs.core.types import Gaussians
from fsd_gs.errors import FsdGsError
from fsd_gs.export.pictures import Frame, contact_sheet, to_uint8
from fsd_gs.export.ply import save_ply
from fsd_gs.train.loop import Observer, StepReport, StopRun
from fsd_gs.train.session import Session
from fsd_gs.viewer.splat_node import PREVIEW_CAP, SplatNode

if TYPE_CHECKING:
    import viser


@dataclass(frozen=True)
class LiveSettings:
    """rate: updates a second at most. share: of one core that the updates may take. cap: splats shown. idle_seconds: between updates
    while no browser is connected (a new one is served within that time). plot_points: of the loss curve."""

    rate: float = 4.0
    share: float = 0.03
    cap: int = PREVIEW_CAP
    idle_seconds: float = 1.0
    plot_points: int = 300


@dataclass(frozen=True)
class Snapshot:
    """A moment of a run. views: [V, H, W, 3] as rendered in the step."""

    splats: Gaussians
    views: Tensor
    step: int
    steps: int
    t: float
    eta_seconds: float
    views_per_second: float


class LiveViewer(Observer):
    """Shows one run on ``server``; each run gets its own LiveViewer.

    title: what is being made. folder: where "Save now" writes ``snapshots/``. interrupted: true when somebody asked for an end another
    way (Ctrl-C), so that a paused run can still be stopped.
    """

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
        self._slot: Snapshot | None = None
        self._fresh, self._closing = threading.Condition(), False
        self._next_snapshot = 0.0
        self._losses: list[tuple[int, float, float]] = []  # step, loss, smoothed loss
        self._seconds_per_step = 0.0
        self._panel: _Panel | None = None
        self._thread = threading.Thread(target=self._publish_all, name="live viewer", daemon=True)

    # -- called by the loop ---------------------------------------------------------------------------------------------

    def started(self, session: Session) -> None:
        self._panel = _Panel(self.server, self.title)
        self._panel.on_pause(self._toggle_pause)
        self._panel.on_stop(self.stopping.set)
        self._panel.on_save(self._saving.set)
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
            raise StopRun

    def said(self, message: str) -> None:
        if self._panel is not None:
            self._panel.say(message)

    def finished(self, session: Session, complete: bool) -> None:
        if self._panel is not None:
            self._panel.say("All steps done." if complete else f"Stopped after step {session.step}.")

    def closed(self) -> None:
        with self._fresh:
            self._closing = True
            self._fresh.notify()
        if self._thread.is_alive():
            self._thread.join(timeout=10)
        if self._panel is not None:
            self._panel.remove()
            self._panel = None

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
        panel = self._panel
        if panel is None:
            return
        shown = self.node.show(snapshot.splats, self.settings.cap)
        stride = max(1, len(self._losses) // self.settings.plot_points)
        panel.show(snapshot, shown, self._losses[::stride], self.paused.is_set())

    # -- buttons --------------------------------------------------------------------------------------------------------

    def _toggle_pause(self) -> None:
        if self.paused.is_set():
            self.paused.clear()
        else:
            self.paused.set()
        if self._panel is not None:
            self._panel.show_paused(self.paused.is_set())

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


class _Panel:
    """The controls beside the splats."""

    def __init__(self, server: viser.ViserServer, title: str) -> None:
        from viser import Icon, uplot

        gui = server.gui
        self._folder = gui.add_folder(None)
        with self._folder:
            self._title = gui.add_markdown(f"### {plain_markdown(title)}")
            self._progress = gui.add_progress_bar(0.0)
            self._numbers = gui.add_markdown("starting …")
            self._pause = gui.add_button("Pause", icon=Icon.PLAYER_PAUSE)
            self._save = gui.add_button("Save now", icon=Icon.DEVICE_FLOPPY, hint="write these splats to snapshots/ in the run's folder")
            self._stop = gui.add_button("Stop", icon=Icon.PLAYER_STOP, color="red", hint="end after this step; what is there is kept")
            self._views = gui.add_image(np.full((64, 64, 3), 255, np.uint8), label="The views of this step", format="jpeg")
            nothing = np.zeros(1)
            self._plot = gui.add_uplot(
                (nothing, nothing, nothing),
                (
                    uplot.Series(label="step"),
                    uplot.Series(label="loss", stroke="#c2410c40", width=1),
                    uplot.Series(label="smoothed", stroke="#c2410c", width=2),
                ),
                title="Loss",
                scales={"x": uplot.Scale(time=False, auto=True), "y": uplot.Scale(auto=True)},
                legend=uplot.Legend(show=False),
                aspect=1.8,
            )
            self._message = gui.add_markdown("")

    def on_pause(self, act: Callable[[], None]) -> None:
        self._pause.on_click(lambda _: act())

    def on_stop(self, act: Callable[[], None]) -> None:
        self._stop.on_click(lambda _: act())

    def on_save(self, act: Callable[[], None]) -> None:
        self._save.on_click(lambda _: act())

    def show(self, snapshot: Snapshot, shown: int, losses: list[tuple[int, float, float]], paused: bool) -> None:
        self._progress.value = 100 * snapshot.step / snapshot.steps
        self._numbers.content = numbers_line(snapshot, shown, paused)
        self._views.image = views_picture(snapshot.views)
        steps, values, smoothed = np.array(losses, dtype=float).T
        self._plot.data = (steps, values, smoothed)

    def show_paused(self, paused: bool) -> None:
        from viser import Icon

        self._pause.label = "Resume" if paused else "Pause"
        self._pause.icon = Icon.PLAYER_PLAY if paused else Icon.PLAYER_PAUSE

    def say(self, message: str) -> None:
        self._message.content = plain_markdown(message)

    def remove(self) -> None:
        self._folder.remove()


def numbers_line(snapshot: Snapshot, shown: int, paused: bool) -> str:
    """Step, time left, splats and speed in one line of Markdown."""
    count = len(snapshot.splats)
    splats = f"{count:,} splats" + (f" ({shown:,} shown)" if shown < count else "")
    left = "paused" if paused else f"{duration(snapshot.eta_seconds)} left"
    speed = f"t = {snapshot.t:.2f} · {snapshot.views_per_second:.0f} views/s"
    return f"**step {snapshot.step} of {snapshot.steps}** · {left}\n\n{splats} · {speed}"


def duration(seconds: float) -> str:
    """45 s, 3 min 05 s, 2 h 07 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def views_picture(views: Tensor) -> Frame:
    """Up to four views [V, H, W, 3] two by two, small ones enlarged to fill the panel."""
    enlarge = -(-180 // views.shape[1])
    frames = [to_uint8(view).repeat(enlarge, axis=0).repeat(enlarge, axis=1) for view in views[:4]]
    return contact_sheet(frames, columns=2)


def plain_markdown(text: str) -> str:
    """``text`` so that Markdown shows it as it is: prompts are no markup."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]()<>#+-.!|~&$" else c for c in " ".join(text.split()))


def _smooth(before: float, now: float) -> float:
    return now if before == 0 else 0.9 * before + 0.1 * now
