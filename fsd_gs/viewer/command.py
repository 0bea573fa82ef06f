"""``fsd-gs view [RUN|FILE]``: a finished asset in the browser, or the start page."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from fsd_gs.core import commandline
from fsd_gs.errors import FileFormatError
from fsd_gs.export.axes import UP_PRESETS
from fsd_gs.export.command import find_splats
from fsd_gs.export.formats import LOADERS
from fsd_gs.train import runs
from fsd_gs.viewer.house import finished_runs
from fsd_gs.viewer.inspector import Inspector, load_asset
from fsd_gs.viewer.overview import Overview
from fsd_gs.viewer.painter import viewing_rasterizer
from fsd_gs.viewer.server import address, door_of, open_server
from fsd_gs.viewer.start_page import StartPage, finished_assets, renew_gallery

DESCRIPTION = """Look at assets in the browser.

  {program} outputs/a-red-chair/seed-0000   one asset: look, filter, export
  {program} outputs/a-red-chair             all finished assets of a prompt
  {program} outputs                         an overview of all prompts and seeds
  {program} file.ply                        any splat file
  {program}                                 a page to write prompts on and make assets"""


def make_parser(program: str) -> commandline.Parser:
    """The options of ``fsd-gs view``."""
    parser = commandline.make_parser(program, DESCRIPTION)
    parser.add_argument("source", nargs="?", type=Path, metavar="RUN_OR_FILE", help=f"a folder, or a file: {', '.join(LOADERS)}")
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on; 0.0.0.0 opens the page to other machines, with a token (default: 127.0.0.1)",
    )
    parser.add_argument("--port", type=int, default=8080, help="0 takes any free one (default: 8080)")
    parser.add_argument(
        "--up",
        choices=("auto", *UP_PRESETS),
        default="auto",
        help="the file's vertical axis; y-down for scans (default: as the file says)",
    )
    parser.add_argument("--backend", default="auto", choices=("auto", "cpu", "cuda"), help="renders depth, alpha and SH (default: auto)")
    parser.add_argument("--output", default="outputs", metavar="FOLDER", help="start page: where results go (default: outputs)")
    return parser


def main(arguments: Sequence[str], program: str = "fsd-gs view", until: threading.Event | None = None) -> int:
    """Serve the page until Ctrl-C (or ``until`` is set); 0. Errors with the source or the port come before anything listens."""
    options = commandline.parse(make_parser(program), arguments)
    house = options.source is not None and holds_prompts(options.source)
    assets = None if options.source is None or house else find_assets(options.source)
    if assets is not None:
        load_asset(next(iter(assets.values())), options.up)  # fails here rather than behind an open page
    server = open_server(options.host, options.port, say=_say)
    try:
        if assets is None:
            output = str(options.source) if house else options.output
            page = StartPage(server, output=output, say=_say, up=options.up, backend=options.backend)
            door_of(server).overview = Overview(page.house, page, home=house)
        else:
            page = Inspector(server, assets, viewing_rasterizer(options.backend), up=options.up, saved=renew_gallery)
        _say(f"open {address(server)} in a browser; Ctrl-C ends")
        try:
            (until or threading.Event()).wait()
        except KeyboardInterrupt:
            _say("")
        page.close()
    finally:
        server.stop()
    return 0


def holds_prompts(source: Path) -> bool:
    """Whether ``source`` is a folder of prompts' folders with at least one finished run."""
    if not source.is_dir() or (source / runs.SPLATS).is_file() or finished_assets(source.resolve()):
        return False
    return bool(finished_runs(source))


def find_assets(source: Path) -> dict[str, Path]:
    """Name → splat file of a file, a run's folder, or all finished runs of a prompt's folder."""
    if not source.exists():
        raise FileFormatError(f"{source}: no such run or file; check the path (runs are in outputs/<prompt>/seed-0000)")
    if source.is_dir() and not (source / runs.SPLATS).is_file():
        assets = finished_assets(source.resolve())
        if not assets:
            state = "this run is not finished; go on with resume=true" if (source / runs.CONFIG).is_file() else "no finished runs here"
            raise FileFormatError(f"{source}: {state}")
        return assets
    path, name = find_splats(source)
    return {name: path}


def _say(line: str) -> None:
    print(line, flush=True)
