"""A finished asset in the browser: look at it in several ways, filter it, take a turntable, export it for another program."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from fsd_gs.core.types import Gaussians
from fsd_gs.errors import FsdGsError, InputError
from fsd_gs.export.formats import EXPORTERS, ExportOptions, export, load_upright, save_splats
from fsd_gs.export.framing import Framed, framed
from fsd_gs.export.pictures import SplatRasterizer
from fsd_gs.export.provenance import Provenance, read_provenance
from fsd_gs.export.versions import newest_version, next_version
from fsd_gs.viewer.editing import Editor
from fsd_gs.viewer.latest import LatestWins
from fsd_gs.viewer.painter import Painter
from fsd_gs.viewer.panels.asset import AssetPanel
from fsd_gs.viewer.panels.base import INSPECT, Board
from fsd_gs.viewer.panels.clean import CleanPanel
from fsd_gs.viewer.panels.view import ViewPanel
from fsd_gs.viewer.scene import Scene
from fsd_gs.viewer.server import look_home
from fsd_gs.viewer.splat_node import SplatNode

if TYPE_CHECKING:
    import viser

INSPECTION_CAP = 200_000  # sent once, not several times a second as while training


class Inspector:
    """The page of one or more assets on ``server``.

    Args:
        assets: name → splat file; the first is shown, the others are loaded when chosen.
        saved: called with an asset's file when a new version lies beside it.
        up: the vertical axis of the files (``export.axes``).
        links: Markdown of the ways to other pages.

    Raises:
        FileFormatError: the first cannot be read.
        InputError: it holds no splats.
    """

    def __init__(
        self,
        server: viser.ViserServer,
        assets: Mapping[str, Path],
        rasterizer: SplatRasterizer,
        *,
        up: str = "auto",
        saved: Callable[[Path], object] | None = None,
        links: str = "",
    ) -> None:
        self._saved, self.links = saved, links
        self._server, self._assets, self._rasterizer, self._up = server, dict(assets), rasterizer, up
        self._name = next(iter(self._assets))
        self._asset = load_asset(newest_version(self._assets[self._name]), up)
        self._framing: Framed = framed(self._asset)
        self._editor, self._kept = Editor(self._asset), self._asset
        self._editors = {self._name: self._editor}  # what was done to an asset outlives a look at another
        self._region: viser.TransformControlsHandle | None = None
        self._editing = threading.RLock()
        self._node, self._painter = SplatNode(server, "/asset"), Painter(server, rasterizer)
        self._busy = threading.Lock()  # a second press on the same button is dropped; exporting while a save ends is not
        self._saving = threading.Lock()
        self.board = Board(server, INSPECT, self)
        self._worker = LatestWins(self._refresh, "inspector")
        self._worker.poke()

    def close(self) -> None:
        """Take the page down; the server stays."""
        self._worker.close()
        self.show_region("", 0.0)
        self._painter.close()
        self._node.remove()
        self.board.close()

    # -- for the panels -------------------------------------------------------------------------------------------------

    renders = True

    @property
    def names(self) -> list[str]:
        return list(self._assets)

    @property
    def background(self) -> tuple[float, float, float]:
        return self.board[ViewPanel].colour()

    def refresh(self) -> None:
        self._worker.poke()

    def choose(self, name: str) -> None:
        """Show another of the assets."""
        self.board[AssetPanel].asset.value = name
        self.refresh()

    def offer(self, assets: Mapping[str, Path], name: str) -> None:
        """Show ``name`` of other assets than before. What was done to those that are still there is kept."""
        self._assets = dict(assets)
        self._editors = {known: editor for known, editor in self._editors.items() if known in assets}
        self.board[AssetPanel].offer(self.names, name)
        self.refresh()

    def look_home(self, client: viser.ClientHandle) -> None:
        look_home(client)

    # -- cleaning by hand -----------------------------------------------------------------------------------------------

    @property
    def scene(self) -> viser.SceneApi:
        return self._server.scene

    def edit(self, change: Callable[[Editor], object]) -> None:
        """One step on the asset that is shown; what is wrong with it is said in one line."""
        with self._editing:
            try:
                change(self._editor)
                self.board.say("")
            except FsdGsError as error:
                self.board.say(str(error))
        self.refresh()

    def shown(self, splats: Gaussians) -> Gaussians:
        """``splats`` in the unit ball: the framing of the whole asset, so that filtering and deleting move nothing."""
        scale, centre = self._framing.scale, self._framing.centre
        return replace(splats, means=(splats.means - centre) * scale, scales=splats.scales * scale)

    def show_region(self, tool: str, size: float) -> None:
        """A sphere or a box that can be dragged, for the tools of that name."""
        position = self.region_centre()
        if self._region is not None:
            self._region.remove()
            self._region = None
        if tool in ("sphere", "box"):
            self._region = self.scene.add_transform_controls("/region", scale=0.5, disable_rotations=True, position=position)
            looks = {"color": (255, 190, 0), "opacity": 0.25}
            if tool == "sphere":
                self.scene.add_icosphere("/region/inside", radius=size, **looks)
            else:
                self.scene.add_box("/region/inside", dimensions=(2 * size, 2 * size, 2 * size), **looks)

    def region_centre(self) -> tuple[float, float, float]:
        if self._region is None:
            return (0.0, 0.0, 0.0)
        x, y, z = map(float, self._region.position)
        return x, y, z

    def save_version(self) -> None:
        """Write what the panels keep of the asset beside the original, as its newest version."""
        if not self._saving.acquire(blocking=False):
            return
        try:
            original = self._assets[self._name]
            if not len(self._kept):
                raise InputError("there are no splats to save; loosen the filters")
            if not original.is_file():
                raise InputError(f"{original}: this asset was deleted; restore it from the bin first")
            with self._editing:
                path = next_version(original)
                save_splats(self._kept, path, provenance=read_provenance(original) or Provenance())
                self._editor.mark_saved()
            self.board.say(f"Saved {path.name}: {len(self._kept):,} splats; the original is kept")
            if self._saved is not None:
                self._saved(original)
        except (FsdGsError, OSError) as error:
            self.board.say(str(error))
        finally:
            self._saving.release()

    # -- files ----------------------------------------------------------------------------------------------------------

    def send(self, client: viser.ClientHandle | None, format_name: str, options: ExportOptions) -> None:
        """Write what the panels keep of the asset, and send it to the browser that asked as a download."""
        if client is None or not self._busy.acquire(blocking=False):
            return
        self.board.set_busy(True)
        try:
            options = replace(options, title=self._name, rasterizer=self._rasterizer, progress=self.board.show_progress)
            name, content = exported(self._kept, self._name, format_name, options)
            client.send_file_download(name, content, save_immediately=True)
            self.board.say(f"Sent {name}, {len(content) / 1e6:.1f} MB")
        except FsdGsError as error:
            client.add_notification("Cannot export", str(error), color="red")
            self.board.say(str(error))
        finally:
            self.board.set_busy(False)
            self._busy.release()

    # -- the scene ------------------------------------------------------------------------------------------------------

    def _refresh(self) -> None:
        """Bring the scene in line with the panels."""
        asset = self.board[AssetPanel]
        if asset.chosen() != self._name:
            self._choose(asset.chosen())
        with self._editing:
            splats, marked, selected = self._editor.splats, self._editor.highlighted(), int(self._editor.selected.sum())
        scene = self.board.apply(Scene(splats, None))
        self._kept = scene.splats
        display = scene.splats if marked is splats else self.board.apply(Scene(marked, None)).splats
        scene = replace(scene, splats=self.shown(display))
        self.board[CleanPanel].show_selection(selected, len(splats))
        drawn = self._node.show(scene.splats, INSPECTION_CAP) if scene.mode is None else len(scene.splats)
        self._node.set_visible(scene.mode is None)
        self._painter.show(scene)
        asset.show_count(len(self._asset), len(self._kept), drawn)

    def _choose(self, name: str) -> None:
        try:
            editor = self._editors.get(name) or Editor(load_asset(newest_version(self._assets[name]), self._up))
        except KeyError:  # deleted a moment ago
            return
        except FsdGsError as error:
            self.board.say(str(error))
            return
        with self._editing:
            self._asset = editor.splats
            self._name, self._framing, self._editor = name, framed(self._asset), editor
            self._editors[name] = editor
        self.board.say("")


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
