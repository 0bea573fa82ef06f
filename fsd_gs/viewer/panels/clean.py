"""Cleaning by hand: select with the mouse, a sphere, a box or a rule, delete, take back, set upright, and save a new version."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fsd_gs.viewer.editing import (
    COMBINE,
    Combine,
    away_from_body,
    fainter,
    in_box,
    in_rectangle,
    in_sphere,
    larger,
    of_colour,
    under_brush,
)
from fsd_gs.viewer.painter import view_of
from fsd_gs.viewer.panels.base import INSPECT, EditPage, Panel, chosen

if TYPE_CHECKING:
    from collections.abc import Callable

    import viser

LOOK, BRUSH, RECTANGLE, SPHERE, BOX = TOOLS = ("look around", "brush", "rectangle", "sphere", "box")
FAINT, LARGE, FAR, COLOUR = RULES = ("fainter than", "larger than", "away from the body", "of the colour")
AXES = ("x", "y", "z")


class CleanPanel(Panel):
    """Tools and rules that select, and what is done to the selection."""

    title = "Clean"
    pages = (INSPECT,)
    page: EditPage

    def build(self, gui: viser.GuiApi) -> None:
        self.tool = gui.add_dropdown("Tool", TOOLS, initial_value=LOOK, hint="brush: click; rectangle: drag; shift adds")
        self.combine = gui.add_dropdown("Selection", COMBINE, initial_value="replace")
        self.size = gui.add_slider("Tool size", 0.01, 1.0, 0.01, 0.1, hint="of the screen's height, or of the object")
        self.take = gui.add_button("Select inside", visible=False)
        self.rule = gui.add_dropdown("By", RULES, initial_value=FAR)
        self.limit = gui.add_slider("Limit", 0.0, 1.0, 0.01, 0.05, hint="opacity; size or distance in radii; colour tolerance")
        self.colour = gui.add_rgb("Colour", (255, 255, 255), visible=False)
        by_rule = gui.add_button("Select by rule")
        self.count = gui.add_markdown("")
        history = gui.add_button_group("History", ("Undo", "Redo", "Invert"))
        delete = gui.add_button("Delete selected", color="red")
        self.axis = gui.add_dropdown("Turn about", AXES, initial_value="x")
        self.degrees = gui.add_number("Degrees", 90.0, min=-360, max=360, step=1)
        turn = gui.add_button("Turn")
        centre = gui.add_button("Recentre")
        self.height = gui.add_number("Height", 1.0, min=0.001, max=100000, step=0.001, hint="real size, in the units of your program")
        resize = gui.add_button("Set height")
        self.save = gui.add_button("Save as new version")

        self.tool.on_update(lambda _: self.follow_tool())
        self.rule.on_update(lambda _: setattr(self.colour, "visible", chosen(self.rule) == COLOUR))
        self.size.on_update(lambda _: self.page.show_region(chosen(self.tool), self.size.value))
        self.take.on_click(lambda _: self.page.edit(lambda e: e.select(self.inside(e), self.how())))
        by_rule.on_click(lambda _: self.page.edit(lambda e: e.select(self.by_rule(e.splats), self.how())))
        history.on_click(lambda _: self.page.edit(lambda e: {"Undo": e.undo, "Redo": e.redo, "Invert": e.invert}[history.value]()))
        delete.on_click(lambda _: self.page.edit(lambda e: e.delete()))
        turn.on_click(lambda _: self.page.edit(lambda e: e.turn(chosen(self.axis), float(self.degrees.value))))
        centre.on_click(lambda _: self.page.edit(lambda e: e.recentre()))
        resize.on_click(lambda _: self.page.edit(lambda e: e.set_height(float(self.height.value))))
        self.save.on_click(lambda _: self.page.save_version())
        keys: tuple[tuple[str, Any, str | None, Callable[[Any], object]], ...] = (
            ("Undo", "Z", "cmd/ctrl", lambda _: self.page.edit(lambda e: e.undo())),
            ("Redo", "Z", "cmd/ctrl+shift", lambda _: self.page.edit(lambda e: e.redo())),
            ("Invert the selection", "I", None, lambda _: self.page.edit(lambda e: e.invert())),
            ("Delete selected", "X", None, lambda _: self.page.edit(lambda e: e.delete())),
            ("Recentre", "C", None, lambda _: self.page.edit(lambda e: e.recentre())),
            ("Save as new version", "S", None, lambda _: self.page.save_version()),
        )
        self._commands = []
        for label, key, modifier, deed in keys:
            command = gui.add_command(label, hotkey=key, modifier=modifier)  # type: ignore[arg-type]
            command.on_trigger(deed)
            self._commands.append(command)

    def how(self, modifier: str | None = None) -> Combine:
        return "add" if modifier == "shift" else chosen(self.combine)  # type: ignore[return-value]

    def follow_tool(self) -> None:
        """Give the mouse to the tool, or back to the camera."""
        tool = chosen(self.tool)
        self.take.visible = tool in (SPHERE, BOX)
        self.page.show_region(tool, self.size.value)
        scene = self.page.scene
        scene.remove_click_callback()
        scene.remove_rect_select_callback()
        for modifier in (None, "shift"):
            if tool == BRUSH:
                scene.on_click(modifier=modifier)(self.brush)
            elif tool == RECTANGLE:
                scene.on_rect_select(modifier=modifier)(self.rectangle)

    def brush(self, event: Any) -> None:
        view, radius, how = view_of(event.client), float(self.size.value), self.how(event.modifier)
        self.page.edit(lambda e: e.select(under_brush(self.page.shown(e.splats).means, view, event.screen_pos, radius), how))

    def rectangle(self, event: Any) -> None:
        view, corners, how = view_of(event.client), (event.screen_min, event.screen_max), self.how(event.modifier)
        self.page.edit(lambda e: e.select(in_rectangle(self.page.shown(e.splats).means, view, *corners), how))

    def inside(self, editor: Any) -> Any:
        points, centre, size = self.page.shown(editor.splats).means, self.page.region_centre(), float(self.size.value)
        return in_sphere(points, centre, size) if chosen(self.tool) == SPHERE else in_box(points, centre, 2 * size)

    def by_rule(self, splats: Any) -> Any:
        limit, rule = float(self.limit.value), chosen(self.rule)
        if rule == COLOUR:
            red, green, blue = (channel / 255 for channel in self.colour.value)
            return of_colour(splats, (red, green, blue), limit)
        return {FAINT: fainter, LARGE: larger, FAR: away_from_body}[rule](splats, limit)

    def show_selection(self, selected: int, whole: int) -> None:
        self.count.content = f"**{selected:,}** of {whole:,} selected" if selected else "nothing selected"

    def set_busy(self, busy: bool) -> None:
        self.save.disabled = busy

    def close(self) -> None:
        self.page.scene.remove_click_callback()
        self.page.scene.remove_rect_select_callback()
        for command in self._commands:
            command.remove()


PANEL = CleanPanel
