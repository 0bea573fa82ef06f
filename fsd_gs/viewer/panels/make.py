"""The form of the start page: what to make, how, and the button."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsd_gs.core.quality import GOOD, QUALITIES
from fsd_gs.viewer.form import DEFAULTS, Request, presets
from fsd_gs.viewer.panels.base import START, FormPage, Panel, chosen

if TYPE_CHECKING:
    import viser


class MakePanel(Panel):
    """The start page's form and its buttons."""

    pages = (START,)
    page: FormPage

    def build(self, gui: viser.GuiApi) -> None:
        from viser import Icon

        self.prompt = gui.add_text("Prompt", "a red chair")
        self.preset = gui.add_dropdown("Preset", presets(), initial_value=DEFAULTS)
        self.quality = gui.add_dropdown("Quality", QUALITIES, initial_value=GOOD, hint="steps, views, sizes and splats in one word")
        self.seed = gui.add_number("Seed", 0, min=0, step=1, hint="another seed gives another asset")
        self.count = gui.add_number("Count", 4, min=1, max=100, step=1, hint="seeds seed, seed + 1, …")
        self.keep = gui.add_number("Keep best", 0, min=0, max=100, step=1, hint="so many come first, by score; 0: no ranking")
        self.extra = gui.add_text("Settings", "", hint="more key=value settings separated by spaces, such as steps=200 noise.beta=0.5")
        self.anyway = gui.add_checkbox("Anyway", False, hint="go on without the words of the prompt that the prior does not know")
        self.replace = gui.add_checkbox("Replace existing", False, hint="otherwise finished assets are kept and unfinished ones go on")
        self.button = gui.add_button("Make assets", icon=Icon.PLAYER_PLAY)
        self.button.on_click(lambda _: self.page.start())

    def request(self) -> Request:
        return Request(
            prompt=self.prompt.value,
            preset=self.preset.value,
            seed=int(self.seed.value),
            count=int(self.count.value),
            settings=self.extra.value,
            anyway=bool(self.anyway.value),
            replace=bool(self.replace.value),
            keep=int(self.keep.value),
            quality=chosen(self.quality),
        )

    def set_busy(self, busy: bool) -> None:
        """The form makes room for the run: on a phone there is none for both."""
        fields = (
            self.prompt,
            self.preset,
            self.quality,
            self.seed,
            self.count,
            self.keep,
            self.extra,
            self.anyway,
            self.replace,
            self.button,
        )
        for control in fields:
            control.disabled = busy
            control.visible = not busy


PANEL = MakePanel
