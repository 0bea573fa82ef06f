"""Which asset, and how many of its splats are left."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsd_gs.viewer.panels.base import INSPECT, AssetsPage, Panel, chosen

if TYPE_CHECKING:
    from collections.abc import Sequence

    import viser


class AssetPanel(Panel):
    """Which asset is shown."""

    pages = (INSPECT,)
    page: AssetsPage

    def build(self, gui: viser.GuiApi) -> None:
        if self.page.links:
            gui.add_markdown(self.page.links)
        names = self.page.names
        self.asset = gui.add_dropdown("Asset", names, initial_value=names[0], visible=len(names) > 1)
        self.count = gui.add_markdown("")
        self.asset.on_update(lambda _: self.page.refresh())

    def offer(self, names: Sequence[str], name: str) -> None:
        """Another list to choose from, and what is chosen of it."""
        self.asset.options, self.asset.visible = tuple(names), len(names) > 1
        self.asset.value = name

    def chosen(self) -> str:
        return chosen(self.asset)

    def show_count(self, whole: int, kept: int, drawn: int) -> None:
        self.count.content = count_line(whole, kept, drawn)


def count_line(whole: int, kept: int, drawn: int) -> str:
    """How many splats there are, are kept and are drawn, in words."""
    if not kept:
        return "**no splats left**: loosen the filters"
    line = f"**{kept:,}** splats" if kept == whole else f"**{kept:,}** of {whole:,} splats"
    return line if drawn == kept else f"{line}, the {drawn:,} most important shown"


PANEL = AssetPanel
