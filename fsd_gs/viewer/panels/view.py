"""How the splats are drawn, what is behind them, and the way back to the first camera."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from fsd_gs.viewer.panels.base import INSPECT, LIVE, Panel, ScenePage, chosen
from fsd_gs.viewer.scene import Scene

if TYPE_CHECKING:
    import viser

SPLATS_MODE = "Splats, drawn by the browser"
VIEW_MODES: dict[str, str | None] = {
    SPLATS_MODE: None,
    "Rendered, with SH": "rgb",
    "Depth": "depth",
    "Alpha": "alpha",
    "Normals": "normal",
}


class ViewPanel(Panel):
    """How splats are drawn, and in front of what."""

    title = "View"
    pages = (LIVE, INSPECT)
    page: ScenePage

    def build(self, gui: viser.GuiApi) -> None:
        hint = "the browser draws base colours; the others are rendered on the machine that runs fsd-gs"
        modes = list(VIEW_MODES) if self.page.renders else [SPLATS_MODE]
        self.mode = gui.add_dropdown("Show", modes, initial_value=SPLATS_MODE, hint=hint, visible=len(modes) > 1)
        self.background = gui.add_rgb("Background", (255, 255, 255))
        reset = gui.add_button("Reset view")
        for control in (self.mode, self.background):
            control.on_update(lambda _: self.page.refresh())
        reset.on_click(lambda event: None if event.client is None else self.page.look_home(event.client))

    def apply(self, scene: Scene) -> Scene:
        return replace(scene, mode=VIEW_MODES[chosen(self.mode)], background=self.colour())

    def colour(self) -> tuple[float, float, float]:
        """The background, sRGB in [0, 1]."""
        r, g, b = self.background.value
        return r / 255, g / 255, b / 255


PANEL = ViewPanel
