"""A finished asset in the browser: look at it in several ways, filter it, take a turntable, export it for another program."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from fsd_gs.core.types import Gaussians
from fsd_gs.errors import FsdGsError, InputError
from fsd_gs.export.formats import EXPORTERS, ExportOptions, export, load_upright
from fsd_gs.export.framing import Framed, framed
from fsd_gs.export.pictures import SplatRasterizer
from fsd_gs.viewer.latest import LatestWins
from fsd_gs.viewer.painter import Painter
from fsd_gs.viewer.panels.asset import AssetPanel
from fsd_gs.viewer.panels.base import INSPECT, Board
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
        up: the vertical axis of the files (``export.axes``). Raises FileFormatError or InputError if the first cannot be shown.
    """

    def __init__(self, server: viser.ViserServer, assets: Mapping[str, Path], rasterizer: SplatRasterizer, *, up: str = "auto") -> None:
        self._server, self._assets, self._rasterizer, self._up = server, dict(assets), rasterizer, up
        self._name = next(iter(self._assets))
        self._asset = load_asset(self._assets[self._name], up)
        self._framing: Framed = framed(self._asset)
        self._kept = self._asset
        self._node, self._painter = SplatNode(server, "/asset"), Painter(server, rasterizer)
        self._busy = threading.Lock()
        self.board = Board(server, INSPECT, self)
        self._worker = LatestWins(self._refresh, "inspector")
        self._worker.poke()

    def close(self) -> None:
        """Take the page down; the server stays."""
        self._worker.close()
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

    def look_home(self, client: viser.ClientHandle) -> None:
        look_home(client)

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
        scene = self.board.apply(Scene(self._asset, None))
        self._kept = scene.splats
        scene = replace(scene, splats=self._display(scene.splats))
        drawn = self._node.show(scene.splats, INSPECTION_CAP) if scene.mode is None else len(scene.splats)
        self._node.set_visible(scene.mode is None)
        self._painter.show(scene)
        asset.show_count(len(self._asset), len(self._kept), drawn)

    def _choose(self, name: str) -> None:
        try:
            self._asset = load_asset(self._assets[name], self._up)
        except FsdGsError as error:
            self.board.say(str(error))
            return
        self._name, self._framing = name, framed(self._asset)
        self.board.say("")

    def _display(self, splats: Gaussians) -> Gaussians:
        """``splats`` in the unit ball: the framing of the whole asset, so that filtering moves nothing."""
        scale, centre = self._framing.scale, self._framing.centre
        return replace(splats, means=(splats.means - centre) * scale, scales=splats.scales * scale)


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
