"""The form of the start page: what to make, how, and the button."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsd_gs.core.quality import GOOD, QUALITIES
from fsd_gs.viewer.completion import completions, last_phrase, misunderstood
from fsd_gs.viewer.form import DEFAULTS, Request, presets
from fsd_gs.viewer.panels.base import START, FormPage, Panel, chosen
from fsd_gs.viewer.text import plain_markdown

if TYPE_CHECKING:
    import viser


LONGEST = 500  # letters of a prompt that is looked at while it is typed


class MakePanel(Panel):
    """The start page's form and its buttons."""

    pages = (START,)
    page: FormPage

    def build(self, gui: viser.GuiApi) -> None:
        from viser import Icon

        self._offered: dict[str, str] = {}  # what a button adds → the whole prompt

        gui.add_markdown(self.page.links, visible=bool(self.page.links))
        self.prompt = gui.add_text("Prompt", "a red chair")
        self.words = gui.add_button_group("Words", ("a",), visible=False)
        self.misunderstood = gui.add_markdown("", visible=False)
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
        self.prompt.on_update(lambda _: self.follow_prompt())
        self.words.on_click(lambda _: self.take_words(self.words.value))

    def follow_prompt(self) -> None:
        """How the prompt could go on, and what of it is not understood."""
        prompt, vocabulary = self.prompt.value[:LONGEST], self.page.vocabulary()
        lines = [] if vocabulary is None else misunderstood(prompt, vocabulary)
        self._offered = {} if vocabulary is None else {last_phrase(prompt, whole): whole for whole in completions(prompt, vocabulary)}
        if self._offered:
            self.words.options = tuple(self._offered)
        self.words.visible = bool(self._offered)
        self.misunderstood.content = "\n".join(f"- ⚠ {plain_markdown(line)}" for line in lines)
        self.misunderstood.visible = bool(lines)

    def take_words(self, words: str) -> None:
        """Complete the prompt; a browser may send any words."""
        if words in self._offered:
            self.prompt.value = f"{self._offered[words]} "
            self.follow_prompt()

    def fill(self, request: Request) -> None:
        """The form as ``request`` says it."""
        self.prompt.value, self.preset.value = request.prompt, request.preset
        self.quality.value = next(word for word in QUALITIES if word == request.quality)
        self.seed.value, self.count.value, self.keep.value = request.seed, request.count, request.keep
        self.extra.value, self.anyway.value, self.replace.value = request.settings, request.anyway, request.replace
        self.follow_prompt()

    def request(self) -> Request:
        return Request(
            prompt=self.prompt.value.strip(),
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
        self.words.visible = self.misunderstood.visible = False


PANEL = MakePanel
