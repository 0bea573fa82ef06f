"""A run: where it is, how long it takes, and its buttons."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsd_gs.viewer.panels.base import LIVE, Panel, RunPage
from fsd_gs.viewer.text import duration, plain_markdown

if TYPE_CHECKING:
    import viser

    from fsd_gs.viewer.moment import Update


class RunPanel(Panel):
    """The state of the run, and what a person can do with it."""

    title = "Run"
    pages = (LIVE,)
    page: RunPage

    def build(self, gui: viser.GuiApi) -> None:
        from viser import Icon

        gui.add_markdown(f"**{plain_markdown(self.page.title)}**")
        self.progress = gui.add_progress_bar(0.0)
        self.numbers = gui.add_markdown("starting …")
        self.pause = gui.add_button("Pause", icon=Icon.PLAYER_PAUSE)
        save = gui.add_button("Save now", icon=Icon.DEVICE_FLOPPY, hint="write these splats to snapshots/ in the run's folder")
        keep = gui.add_button("Stop and keep", icon=Icon.PLAYER_STOP, hint="end after this step and write the asset as it is then")
        stop = gui.add_button("Stop", icon=Icon.PLAYER_STOP, color="red", hint="end after this step; resume=true goes on from there")
        self.pause.on_click(lambda _: self._toggle())
        save.on_click(lambda _: self.page.save())
        keep.on_click(lambda _: self.page.stop(keep=True))
        stop.on_click(lambda _: self.page.stop())

    def _toggle(self) -> None:
        self._show_paused(self.page.toggle_pause())

    def _show_paused(self, paused: bool) -> None:
        from viser import Icon

        self.pause.label = "Resume" if paused else "Pause"
        self.pause.icon = Icon.PLAYER_PLAY if paused else Icon.PLAYER_PAUSE

    def show(self, update: Update) -> None:
        self.progress.value = 100 * update.snapshot.step / update.snapshot.steps
        self.numbers.content = numbers_line(update)
        self._show_paused(update.paused)


def numbers_line(update: Update) -> str:
    """Step, time left, splats and speed as two lines of Markdown."""
    snapshot = update.snapshot
    count = len(snapshot.splats)
    splats = f"{count:,} splats" + (f" ({update.shown:,} shown)" if update.shown < count else "")
    left = "paused" if update.paused else f"{duration(snapshot.eta_seconds)} left"
    speed = f"t = {snapshot.t:.2f} · {snapshot.views_per_second:.0f} views/s"
    return f"**step {snapshot.step} of {snapshot.steps}** · {left}\n\n{splats} · {speed}"


PANEL = RunPanel
