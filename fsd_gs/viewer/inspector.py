"""A finished asset in the browser: look at it in several ways, filter it, take a turntable, export it for another program."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from fsd_gs.core.types import Gaussians
from fsd_gs.errors import FsdGsError, InputError
from fsd_gs.export.filters import FilterSettings, Point, clean
from fsd_gs.export.formats import EXPORTERS, ExportOptions, export, load_upright
from fsd_gs.export.framing import Framed, framed
from fsd_gs.export.pictures import MODES, SplatRasterizer, TurntableSettings
from fsd_gs.viewer.latest import LatestWins
from fsd_gs.viewer.live import plain_markdown
from fsd_gs.viewer.painter import Painter, Scene
from fsd_gs.viewer.server import home_position
from fsd_gs.viewer.splat_node import SplatNode

if TYPE_CHECKING:
    import viser

INSPECTION_CAP = 200_000  # sent once, not several times a second as while training
PICTURE_FORMATS = tuple(name for name, entry in EXPORTERS.items() if entry.kind == "picture")
SPLATS_MODE = "Splats, drawn by the browser"
VIEW_MODES: dict[str, str | None] = {
    SPLATS_MODE: None,
    "Rendered, with SH": "rgb",
    "Depth": "depth",
    "Alpha": "alpha",
    "Normals": "normal",
}
OWN_AXES = "usual for the format"


@dataclass(frozen=True)
class Filter:
    """min_opacity: [0, 1). crop: what is kept of the bounding box, per axis; (0, 1) is all. largest_component: drop floaters."""

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
    return clean(splats, wanted)


class Inspector:
    """The page of one or more assets on ``server``. assets: name → splat file; the first is shown, the others are loaded when chosen.

    up: the vertical axis of the files (``export.axes``). Raises FileFormatError or InputError if the first cannot be shown.
    """

    def __init__(self, server: viser.ViserServer, assets: Mapping[str, Path], rasterizer: SplatRasterizer, *, up: str = "auto") -> None:
        self._server, self._assets, self._rasterizer, self._up = server, dict(assets), rasterizer, up
        self._name = next(iter(self._assets))
        self._asset = load_asset(self._assets[self._name], up)
        self._framing: Framed = framed(self._asset)
        self._filtered = self._asset
        self._node, self._painter = SplatNode(server, "/asset"), Painter(server, rasterizer)
        self._busy = threading.Lock()
        self._controls = _Controls(server, list(self._assets))
        self._worker = LatestWins(self._refresh, "inspector")
        self._connect()
        self._worker.poke()

    def close(self) -> None:
        """Take the page down; the server stays."""
        self._worker.close()
        self._painter.close()
        self._node.remove()
        self._controls.remove()

    def _connect(self) -> None:
        controls = self._controls
        for control in controls.filters():
            control.on_update(lambda _: self._worker.poke())
        controls.asset.on_update(lambda _: self._worker.poke())
        controls.reset_view.on_click(lambda event: _home(event.client))
        controls.reset_filter.on_click(lambda _: controls.clear_filter())
        controls.export.on_click(lambda event: self._send(event.client, controls.export_format.value, controls.export_options()))
        controls.turntable.on_click(lambda event: self._send(event.client, controls.picture_format.value, controls.turntable_options()))

    def _refresh(self) -> None:
        """Bring the scene in line with the controls."""
        controls = self._controls
        if controls.asset.value != self._name:
            self._choose(controls.asset.value)
        self._filtered = apply_filter(self._asset, controls.filter())
        shown = self._display(self._filtered)
        mode = VIEW_MODES[controls.mode.value]
        drawn = self._node.show(shown, INSPECTION_CAP) if mode is None else len(shown)
        self._node.set_visible(mode is None)
        self._painter.show(Scene(shown, mode, controls.background_colour()))
        controls.count.content = count_line(len(self._asset), len(self._filtered), drawn)

    def _choose(self, name: str) -> None:
        try:
            self._asset = load_asset(self._assets[name], self._up)
        except FsdGsError as error:
            self._controls.message.content = plain_markdown(str(error))
            return
        self._name, self._framing = name, framed(self._asset)
        self._controls.message.content = ""

    def _display(self, splats: Gaussians) -> Gaussians:
        """``splats`` in the unit ball: the framing of the whole asset, so that filtering moves nothing."""
        scale, centre = self._framing.scale, self._framing.centre
        return replace(splats, means=(splats.means - centre) * scale, scales=splats.scales * scale)

    def _send(self, client: viser.ClientHandle | None, format_name: str, options: ExportOptions) -> None:
        """Write the filtered asset and send it to the browser that asked as a download."""
        if client is None or not self._busy.acquire(blocking=False):
            return
        controls = self._controls
        controls.set_busy(True)
        try:
            options = replace(options, title=self._name, rasterizer=self._rasterizer, progress=controls.show_progress)
            name, content = exported(self._filtered, self._name, format_name, options)
            client.send_file_download(name, content, save_immediately=True)
            controls.message.content = plain_markdown(f"Sent {name}, {len(content) / 1e6:.1f} MB")
        except FsdGsError as error:
            client.add_notification("Cannot export", str(error), color="red")
            controls.message.content = plain_markdown(str(error))
        finally:
            controls.set_busy(False)
            self._busy.release()


def load_asset(path: Path, up: str = "auto") -> Gaussians:
    """The splats of a file, upright; InputError where there are none."""
    splats = load_upright(path, up)
    if not len(splats):
        raise InputError(f"{path}: there are no splats to show")
    return splats


def exported(splats: Gaussians, name: str, format_name: str, options: ExportOptions) -> tuple[str, bytes]:
    """(file name, content) of ``splats`` in a format of ``EXPORTERS``; InputError where there are no splats."""
    if not len(splats):
        raise InputError("there are no splats to export; loosen the filters")
    with TemporaryDirectory() as scratch:
        path = Path(scratch) / f"{name}{EXPORTERS[format_name].suffix}"
        export(splats, path, format_name, options)
        return path.name, path.read_bytes()


def count_line(whole: int, kept: int, drawn: int) -> str:
    if not kept:
        return "**no splats left**: loosen the filters"
    line = f"**{kept:,}** splats" if kept == whole else f"**{kept:,}** of {whole:,} splats"
    return line if drawn == kept else f"{line}, the {drawn:,} most important shown"


def _home(client: viser.ClientHandle | None) -> None:
    if client is not None:
        with client.atomic():
            client.camera.position = home_position()
            client.camera.look_at = (0.0, 0.0, 0.0)


class _Controls:
    """The panel: what to see, what to keep, what to save."""

    def __init__(self, server: viser.ViserServer, names: list[str]) -> None:
        gui = server.gui
        self._folder = gui.add_folder(None)
        with self._folder:
            self.asset = gui.add_dropdown("Asset", names, initial_value=names[0], visible=len(names) > 1)
            self.count = gui.add_markdown("")
            tabs = gui.add_tab_group()
            with tabs.add_tab("View"):
                self._add_view(gui)
            with tabs.add_tab("Filter"):
                self._add_filter(gui)
            with tabs.add_tab("Export"):
                self._add_export(gui)
            with tabs.add_tab("Turntable"):
                self._add_turntable(gui)
            self.message = gui.add_markdown("")

    def _add_view(self, gui: viser.GuiApi) -> None:
        hint = "the browser draws base colours; the others are rendered on the machine that runs fsd-gs"
        self.mode = gui.add_dropdown("Show", list(VIEW_MODES), initial_value=SPLATS_MODE, hint=hint)
        self.background = gui.add_rgb("Background", (255, 255, 255))
        self.reset_view = gui.add_button("Reset view")

    def _add_filter(self, gui: viser.GuiApi) -> None:
        self.min_opacity = gui.add_slider("Min. opacity", 0.0, 0.95, 0.01, 0.0)
        self.crop = [gui.add_multi_slider(f"Crop {axis} %", 0, 100, 1, (0, 100), min_range=1) for axis in "xyz"]
        self.largest = gui.add_checkbox("Drop floaters", False, hint="keep the largest connected piece only")
        self.reset_filter = gui.add_button("Keep everything")

    def _add_export(self, gui: viser.GuiApi) -> None:
        formats = [name for name in EXPORTERS if name not in PICTURE_FORMATS]
        self.export_format = gui.add_dropdown("Format", formats, initial_value="ply")
        self.target = gui.add_dropdown("For", _targets("ply"), initial_value=OWN_AXES, hint="the program that opens it")
        self.sh_pad = gui.add_dropdown("SH degree", ["as it is", "pad to 3"], initial_value="as it is", hint="some programs want 3")
        self.description = gui.add_markdown(EXPORTERS["ply"].description)
        self.export = gui.add_button("Export")
        self.export_format.on_update(lambda _: self._follow_format())

    def _follow_format(self) -> None:
        name = self.export_format.value
        self.target.options = _targets(name)
        self.target.value = OWN_AXES
        self.description.content = plain_markdown(EXPORTERS[name].description)

    def _add_turntable(self, gui: viser.GuiApi) -> None:
        defaults = TurntableSettings()
        self.picture_format = gui.add_dropdown("Format", PICTURE_FORMATS, initial_value="mp4", hint="png is a contact sheet of eight views")
        self.picture_mode = gui.add_dropdown("Show", list(MODES), initial_value=defaults.mode)
        self.size = gui.add_number("Size in pixels", defaults.size, min=64, max=2048, step=2)
        self.frames = gui.add_number("Frames", defaults.frames, min=2, max=1000, step=1)
        self.turntable = gui.add_button("Save turntable")
        self.progress = gui.add_progress_bar(0.0, visible=False)

    # -- reading --------------------------------------------------------------------------------------------------------

    def filters(self) -> list[viser.GuiInputHandle]:
        """Everything that changes what is shown."""
        return [self.mode, self.background, self.min_opacity, *self.crop, self.largest]

    def filter(self) -> Filter:
        x, y, z = ((slider.value[0] / 100, slider.value[1] / 100) for slider in self.crop)
        return Filter(float(self.min_opacity.value), (x, y, z), bool(self.largest.value))

    def background_colour(self) -> tuple[float, float, float]:
        r, g, b = self.background.value
        return r / 255, g / 255, b / 255

    def export_options(self) -> ExportOptions:
        target = None if self.target.value == OWN_AXES else self.target.value
        return ExportOptions(target=target, sh_pad=3 if self.sh_pad.value == "pad to 3" else None)

    def turntable_options(self) -> ExportOptions:
        settings = TurntableSettings(
            frames=int(self.frames.value), size=int(self.size.value), mode=self.picture_mode.value, background=self.background_colour()
        )
        return ExportOptions(turntable=settings)

    # -- writing --------------------------------------------------------------------------------------------------------

    def clear_filter(self) -> None:
        self.min_opacity.value, self.largest.value = 0.0, False
        for slider in self.crop:
            slider.value = (0, 100)

    def set_busy(self, busy: bool) -> None:
        self.export.disabled = self.turntable.disabled = busy
        self.progress.visible = False
        self.progress.value = 0.0

    def show_progress(self, done: int, total: int) -> None:
        self.progress.visible = True
        self.progress.value = 100 * done / max(total, 1)

    def remove(self) -> None:
        self._folder.remove()


def _targets(format_name: str) -> list[str]:
    return [OWN_AXES, *EXPORTERS[format_name].targets]
