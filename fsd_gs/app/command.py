"""``fsd-gs app``: serve the queue, the page and the API until Ctrl-C."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from fsd_gs.app.limits import Limits
from fsd_gs.config import Config, load_config
from fsd_gs.core import commandline
from fsd_gs.errors import BackendError
from fsd_gs.train.words import known_vocabulary
from fsd_gs.viewer.access import Door
from fsd_gs.viewer.server import check_port

if TYPE_CHECKING:
    import uvicorn

DESCRIPTION = """Assets for several people on one machine: a page with a queue, and a REST API.

  {program}                             for this machine, http://127.0.0.1:8088
  {program} --host 0.0.0.0              for the network, with a token
  {program} --waiting 5 device=cuda     settings that every asset gets

What the page and the API may ask for is limited; key=value here may name anything."""

_LIMITS = {
    "waiting": "assets in the queue",
    "steps": "of one asset",
    "size": "sides of pictures in pixels",
    "splats": "of one asset",
    "views": "rendered a step",
}


def make_parser(program: str) -> commandline.Parser:
    """The options of ``fsd-gs app``."""
    parser = commandline.make_parser(program, DESCRIPTION)
    commandline.add_settings(parser, Config, listed=False, files=False)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 opens the app to other machines, with a token")
    parser.add_argument("--port", type=int, default=8088, help="(default: 8088)")
    parser.add_argument("--output", default="outputs", help="folder for results (default: outputs)")
    for limit in (limit for limit in fields(Limits) if limit.name in _LIMITS):
        meaning = f"limit: {_LIMITS[limit.name]} (default: {limit.default})"
        parser.add_argument(f"--{limit.name}", type=int, default=limit.default, metavar="N", help=meaning)
    return parser


def main(arguments: Sequence[str], program: str = "fsd-gs app", started: threading.Event | None = None) -> int:
    """Serve until Ctrl-C; what is being made then is stopped after its step, and goes on when it is asked for again."""
    options = commandline.parse(make_parser(program), arguments)
    load_config([], options.overrides)  # what is wrong with the settings is said now
    limits = Limits(**{name: getattr(options, name) for name in _LIMITS})
    check_port(options.host, options.port)
    door = Door.of(options.host)
    server = make_server(door, options.port, output=options.output, limits=limits, overrides=tuple(options.overrides))
    shown = "localhost" if options.host in ("0.0.0.0", "::") else options.host
    if door.token:
        print(
            f"warning: the app listens on {options.host}, unencrypted: whoever has its address with the token can see and use it",
            flush=True,
        )
    print(
        f"open http://{shown}:{options.port}/" + (f"?token={door.token}" if door.token else "") + " in a browser; Ctrl-C ends", flush=True
    )
    server.run()
    return 0


def make_server(door: Door, port: int, *, output: str, limits: Limits, overrides: tuple[str, ...] = ()) -> uvicorn.Server:
    """The web server of the app, not yet running.

    Raises:
        BackendError: its packages are missing.
    """
    try:
        import uvicorn

        from fsd_gs.app.api import make_api
    except ImportError as error:
        raise BackendError("the app needs the packages fastapi and uvicorn: pip install 'fsd-gs[app]'") from error
    from fsd_gs.app.guard import Guard
    from fsd_gs.app.jobs import Queue
    from fsd_gs.app.workshop import Workshop, known_jobs

    workshop = Workshop()
    queue = Queue(workshop.make, limits.waiting, known_jobs(Path(output)))
    words = known_vocabulary(load_config([], overrides).prior.name)
    api = make_api(queue, output=output, limits=limits, overrides=overrides, check=workshop.check_words, vocabulary=words)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    return uvicorn.Server(
        uvicorn.Config(
            Guard(api, door, limits.body_bytes),  # type: ignore[arg-type]
            host=door.host,
            port=port,
            access_log=False,
            server_header=False,
            log_level="warning",
            limit_concurrency=limits.connections,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=2,
            h11_max_incomplete_event_size=16 * 1024,
        )
    )
