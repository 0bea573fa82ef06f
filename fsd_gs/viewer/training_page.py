"""The page of ``train.py viewer=true``: each asset while it grows, then all of them to inspect until Ctrl-C."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from fsd_gs.config import Config
from fsd_gs.train import runs
from fsd_gs.train.loop import Observer
from fsd_gs.viewer.inspector import Inspector
from fsd_gs.viewer.live import LiveViewer
from fsd_gs.viewer.painter import viewing_rasterizer
from fsd_gs.viewer.server import address, open_server
from fsd_gs.viewer.start_page import finished_assets, renew_gallery


class TrainingPage:
    """Opened before anything is trained, so that a taken port is found at once.

    Args:
        say: one line for people.
    """

    def __init__(self, config: Config, say: Callable[[str], None]) -> None:
        self._say = say
        self._server = open_server(config.viewer_host, config.viewer_port, say=say)
        self._live: LiveViewer | None = None
        say(f"watch it grow: open {address(self._server)} in a browser")

    def watch(self, config: Config, interrupted: Callable[[], bool]) -> Observer:
        """An observer that shows the run of ``config``. interrupted: see :class:`LiveViewer`."""
        self._clear()
        title = f"{config.prompt} · seed {config.seed}"
        self._live = LiveViewer(self._server, title, runs.run_folder(config), interrupted=interrupted)
        return self._live

    def stay(self, folder: Path, backend: str = "auto", until: threading.Event | None = None) -> None:
        """Show the finished assets of a prompt's folder until Ctrl-C (or ``until`` is set)."""
        self._clear()
        assets = finished_assets(folder)
        if not assets:
            return
        inspector = Inspector(self._server, assets, viewing_rasterizer(backend), saved=renew_gallery)
        self._say(f"the assets stay at {address(self._server)}; Ctrl-C ends")
        try:
            (until or threading.Event()).wait()
        except KeyboardInterrupt:
            self._say("")
        inspector.close()

    def close(self) -> None:
        self._server.stop()

    def _clear(self) -> None:
        if self._live is not None:
            self._live.node.remove()
            self._live = None
