"""The loss over the steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fsd_gs.viewer.panels.base import LIVE, Panel

if TYPE_CHECKING:
    import viser

    from fsd_gs.viewer.moment import Update


class LossPanel(Panel):
    """A curve that grows with the run."""

    title = "Loss"
    pages = (LIVE,)

    def build(self, gui: viser.GuiApi) -> None:
        from viser import uplot

        nothing = np.zeros(1)
        self.plot = gui.add_uplot(
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

    def show(self, update: Update) -> None:
        steps, values, smoothed = np.array(update.losses, dtype=float).T
        self.plot.data = (steps, values, smoothed)


PANEL = LossPanel
