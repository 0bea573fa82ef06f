"""The form of the start page: what to make, or what to make of an asset that is there, how, and the button."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from fsd_gs.core.quality import GOOD, QUALITIES
from fsd_gs.train.edit import PULL, STRENGTH
from fsd_gs.viewer.completion import completions, last_phrase, misunderstood
from fsd_gs.viewer.form import DEFAULTS, EDIT, MAKE, REFINE, Request, presets
from fsd_gs.viewer.panels.base import START, FormPage, Panel, chosen
from fsd_gs.viewer.text import plain_markdown

if TYPE_CHECKING:
    import viser


LONGEST = 500  # letters of a prompt that is looked at while it is typed
BUTTONS = {MAKE: "Make assets", EDIT: "Make the edit", REFINE: "Refine"}
AS_IT_WAS = "as it was made"  # a refinement's own settings, where presets have their default


class MakePanel(Panel):
    """The start page's form and its buttons."""

    pages = (START,)
    page: FormPage

    def build(self, gui: viser.GuiApi) -> None:
        from viser import Icon

        self._offered: dict[str, str] = {}  # what a button adds → the whole prompt
        self._task, self._source = MAKE, ""

        gui.add_markdown(self.page.links, visible=bool(self.page.links))
        self.headline = gui.add_markdown("", visible=False)
        self.prompt = gui.add_text("Prompt", "a red chair")
        self.words = gui.add_button_group("Words", ("a",), visible=False)
        self.misunderstood = gui.add_markdown("", visible=False)
        self.preset = gui.add_dropdown("Preset", presets(), initial_value=DEFAULTS)
        self.quality = gui.add_dropdown("Quality", QUALITIES, initial_value=GOOD, hint="steps, views, sizes and splats in one word")
        self.strength = gui.add_number(
            "Strength", STRENGTH, min=0.05, max=1.0, step=0.05, visible=False, hint="how late it begins: more changes more, 1 begins anew"
        )
        self.pull = gui.add_number(
            "Hold",
            PULL,
            min=0.0,
            max=1.0,
            step=0.01,
            visible=False,
            hint="of the shape: share of the way back in each step; 1: fixed",
        )
        self.seed = gui.add_number("Seed", 0, min=0, step=1, hint="another seed gives another asset")
        self.count = gui.add_number("Count", 4, min=1, max=100, step=1, hint="seeds seed, seed + 1, …")
        self.keep = gui.add_number("Keep best", 0, min=0, max=100, step=1, hint="so many come first, by score; 0: no ranking")
        self.extra = gui.add_text("Settings", "", hint="more key=value settings separated by spaces, such as steps=200 noise.beta=0.5")
        self.anyway = gui.add_checkbox("Anyway", False, hint="go on without the words of the prompt that the prior does not know")
        self.replace = gui.add_checkbox(
            "Replace existing", False, hint="what is finished goes to the bin; otherwise it is kept, and what is unfinished goes on"
        )
        self.button = gui.add_button(BUTTONS[MAKE], icon=Icon.PLAYER_PLAY)
        self.leave = gui.add_button("Make another instead", visible=False, color="gray")
        self.button.on_click(lambda _: self.page.start())
        self.leave.on_click(lambda _: self.page.propose(Request(prompt=self.prompt.value)))
        self.prompt.on_update(lambda _: self.follow_prompt())
        self.words.on_click(lambda _: self.take_words(self.words.value))

    def follow_prompt(self) -> None:
        """How the prompt could go on, and what of it is not understood."""
        prompt, vocabulary = self.prompt.value[:LONGEST], self.page.vocabulary() if self._task != REFINE else None
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
        self._task, self._source = request.task, request.source
        self.headline.content = {
            EDIT: f"**Edit** of {plain_markdown(request.source)}: say what it shall be",
            REFINE: f"**Refine** {plain_markdown(request.source)} at twice its resolution",
        }.get(request.task, "")
        self.button.label = BUTTONS[request.task]
        self.preset.options = (AS_IT_WAS if request.task == REFINE else DEFAULTS, *presets()[1:])
        self.preset.value = request.preset if request.preset in self.preset.options else self.preset.options[0]
        self.prompt.value = request.prompt
        self.quality.value = next(word for word in QUALITIES if word == request.quality)
        self.seed.value, self.count.value, self.keep.value = request.seed, request.count, request.keep
        self.strength.value, self.pull.value = request.strength, request.pull
        self.extra.value, self.anyway.value, self.replace.value = request.settings, request.anyway, request.replace
        self.set_busy(False)
        self.follow_prompt()

    def request(self) -> Request:
        """What the form says; fields that the task has no use for say nothing."""
        usual = Request(prompt=self.prompt.value.strip(), task=self._task, source=self._source)
        said = Request(
            prompt=usual.prompt,
            preset=DEFAULTS if self.preset.value == AS_IT_WAS else self.preset.value,
            seed=int(self.seed.value),
            count=int(self.count.value),
            settings=self.extra.value,
            anyway=bool(self.anyway.value),
            replace=bool(self.replace.value),
            keep=int(self.keep.value),
            quality=chosen(self.quality),
            task=self._task,
            source=self._source,
            strength=float(self.strength.value),
            pull=float(self.pull.value),
        )
        return said if self._task == MAKE else replace(said, count=usual.count, keep=usual.keep)

    def set_busy(self, busy: bool) -> None:
        """The form makes room for the run: on a phone there is none for both."""
        task = self._task
        fields = [
            (self.prompt, task != REFINE),
            (self.preset, True),
            (self.quality, task != REFINE),
            (self.strength, task != MAKE),
            (self.pull, task == EDIT),
            (self.seed, task != REFINE),
            (self.count, task == MAKE),
            (self.keep, task == MAKE),
            (self.extra, True),
            (self.anyway, True),
            (self.replace, task != REFINE),
            (self.button, True),
            (self.leave, task != MAKE),
        ]
        for control, belongs in fields:
            control.disabled = busy
            control.visible = belongs and not busy
        self.headline.visible = task != MAKE and not busy
        self.words.visible = self.misunderstood.visible = False


PANEL = MakePanel
