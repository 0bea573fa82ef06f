"""Pictures and videos of an asset that turns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsd_gs.export.formats import EXPORTERS, ExportOptions
from fsd_gs.export.pictures import MODES, TurntableSettings
from fsd_gs.viewer.panels.base import INSPECT, AssetsPage, Panel, chosen

if TYPE_CHECKING:
    import viser

PICTURE_FORMATS = tuple(name for name, entry in EXPORTERS.items() if entry.kind == "picture")
SIZES, FRAMES = (64, 2048), (2, 1000)


class TurntablePanel(Panel):
    """A camera that turns, and a video of it."""

    title = "Turntable"
    pages = (INSPECT,)
    page: AssetsPage

    def build(self, gui: viser.GuiApi) -> None:
        defaults = TurntableSettings()
        self.format = gui.add_dropdown(
            "Format", PICTURE_FORMATS, initial_value=PICTURE_FORMATS[0], hint="png is a contact sheet of eight views"
        )
        self.mode = gui.add_dropdown("Show", list(MODES), initial_value=defaults.mode)
        self.size = gui.add_number("Size in pixels", defaults.size, min=SIZES[0], max=SIZES[1], step=2)
        self.frames = gui.add_number("Frames", defaults.frames, min=FRAMES[0], max=FRAMES[1], step=1)
        self.button = gui.add_button("Save turntable")
        self.button.on_click(lambda event: self.page.send(event.client, chosen(self.format), self.options()))

    def options(self) -> ExportOptions:
        size, frames = _within(self.size.value, SIZES), _within(self.frames.value, FRAMES)
        return ExportOptions(turntable=TurntableSettings(frames=frames, size=size, mode=chosen(self.mode), background=self.page.background))

    def set_busy(self, busy: bool) -> None:
        self.button.disabled = busy


def _within(value: float, limits: tuple[int, int]) -> int:
    """A browser may send any number."""
    return min(max(int(value), limits[0]), limits[1])


PANEL = TurntablePanel
