"""Files of splats and meshes for other programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsd_gs.export.formats import EXPORTERS, ExportOptions
from fsd_gs.viewer.panels.base import INSPECT, AssetsPage, Panel, chosen
from fsd_gs.viewer.panels.turntable import PICTURE_FORMATS
from fsd_gs.viewer.text import plain_markdown

if TYPE_CHECKING:
    import viser

OWN_AXES = "usual for the format"


class ExportPanel(Panel):
    """Formats, and a button that writes them."""

    title = "Export"
    pages = (INSPECT,)
    page: AssetsPage

    def build(self, gui: viser.GuiApi) -> None:
        formats = [name for name in EXPORTERS if name not in PICTURE_FORMATS]
        self.format = gui.add_dropdown("Format", formats, initial_value="ply")
        self.target = gui.add_dropdown("For", _targets("ply"), initial_value=OWN_AXES, hint="the program that opens it")
        self.sh_pad = gui.add_dropdown("SH degree", ["as it is", "pad to 3"], initial_value="as it is", hint="some programs want 3")
        self.description = gui.add_markdown(plain_markdown(EXPORTERS["ply"].description))
        self.button = gui.add_button("Export")
        self.format.on_update(lambda _: self.follow_format())
        self.button.on_click(lambda event: self.page.send(event.client, chosen(self.format), self.options()))

    def follow_format(self) -> None:
        """The programs and the description of the format that was chosen."""
        name = chosen(self.format)
        self.target.options = _targets(name)
        self.target.value = OWN_AXES
        self.description.content = plain_markdown(EXPORTERS[name].description)

    def options(self) -> ExportOptions:
        target = chosen(self.target)
        return ExportOptions(target=None if target == OWN_AXES else target, sh_pad=3 if self.sh_pad.value == "pad to 3" else None)

    def set_busy(self, busy: bool) -> None:
        self.button.disabled = busy


def _targets(format_name: str) -> list[str]:
    return [OWN_AXES, *EXPORTERS[format_name].targets]


PANEL = ExportPanel
