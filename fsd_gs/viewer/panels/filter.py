"""Which splats are kept: for looking at them and for the files that are made of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fsd_gs.core.types import Gaussians
from fsd_gs.export.filters import FilterSettings, Point, apply_filters
from fsd_gs.viewer.panels.base import INSPECT, Page, Panel
from fsd_gs.viewer.scene import Scene

if TYPE_CHECKING:
    import viser


@dataclass(frozen=True)
class Filter:
    """What the panel leaves out.

    Attributes:
        min_opacity: [0, 1).
        crop: what is kept of the bounding box, per axis; (0, 1) is all.
        largest_component: drop floaters.
    """

    min_opacity: float = 0.0
    crop: tuple[tuple[float, float], tuple[float, float], tuple[float, float]] = ((0.0, 1.0), (0.0, 1.0), (0.0, 1.0))
    largest_component: bool = False


def apply_filter(splats: Gaussians, settings: Filter) -> Gaussians:
    """The splats that ``settings`` keeps; possibly none."""
    if not len(splats):
        return splats
    low, high = splats.means.amin(dim=0).tolist(), splats.means.amax(dim=0).tolist()
    begin: Point = tuple(lo + f * (hi - lo) if f > 0 else lo for lo, hi, (f, _) in zip(low, high, settings.crop, strict=True))  # type: ignore[assignment]
    end: Point = tuple(lo + f * (hi - lo) if f < 1 else hi for lo, hi, (_, f) in zip(low, high, settings.crop, strict=True))  # type: ignore[assignment]
    whole = all(share == (0.0, 1.0) for share in settings.crop)
    wanted = FilterSettings(
        min_opacity=settings.min_opacity or None,
        crop=None if whole else (begin, end),
        largest_component=settings.largest_component,
    )
    return apply_filters(splats, wanted)


class FilterPanel(Panel):
    """What is left out of the scene and of the exported files."""

    title = "Filter"
    pages = (INSPECT,)
    page: Page

    def build(self, gui: viser.GuiApi) -> None:
        self.min_opacity = gui.add_slider("Min. opacity", 0.0, 0.95, 0.01, 0.0)
        self.crop = [gui.add_multi_slider(f"Crop {axis} %", 0, 100, 1, (0, 100), min_range=1) for axis in "xyz"]
        self.largest = gui.add_checkbox("Drop floaters", False, hint="keep the largest connected piece only")
        everything = gui.add_button("Keep everything")
        for control in (self.min_opacity, *self.crop, self.largest):
            control.on_update(lambda _: self.page.refresh())
        everything.on_click(lambda _: self.clear())

    def settings(self) -> Filter:
        x, y, z = ((slider.value[0] / 100, slider.value[1] / 100) for slider in self.crop)
        return Filter(float(self.min_opacity.value), (x, y, z), bool(self.largest.value))

    def apply(self, scene: Scene) -> Scene:
        return replace(scene, splats=apply_filter(scene.splats, self.settings()))

    def clear(self) -> None:
        self.min_opacity.value, self.largest.value = 0.0, False
        for slider in self.crop:
            slider.value = (0, 100)


PANEL = FilterPanel
