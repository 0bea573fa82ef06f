"""The web server of the live pages: one viser server, by default only for this machine, and only for its own page (``viewer.access``)."""

from __future__ import annotations

import io
import math
import socket
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

from fsd_gs.core.cameras import orbit_cameras
from fsd_gs.errors import BackendError
from fsd_gs.viewer.access import Door, guarded

if TYPE_CHECKING:
    import viser

HOME_AZIMUTH_DEG, HOME_ELEVATION_DEG, HOME_DISTANCE, FOV_Y_DEG = 35.0, 15.0, 2.6, 49.1
BRAND = (194, 65, 12)


def open_server(host: str = "127.0.0.1", port: int = 8080, *, say: Callable[[str], None] = print) -> viser.ViserServer:
    """A running server with our camera conventions and theme. port: 0 takes any free one.

    Says a warning for a host that others can reach: they need the token in :func:`address`, but the connection is not encrypted. Raises
    BackendError where viser is missing or cannot be guarded, the host is unknown or the port is taken.
    """
    viser = _import_viser()
    check_port(host, port)  # viser itself would silently move on to the next free port
    door = Door.of(host)
    if door.token:
        say(f"warning: the viewer listens on {host}, unencrypted: whoever has its address with the token can see and use it")
    with redirect_stdout(io.StringIO()), guarded(door):  # it prints its own banner
        server = viser.ViserServer(host=host, port=port, label="fsd-gs", verbose=False)
    stop = server.stop
    server.stop = lambda: _quietly(stop)
    server.door = door
    server.request_share_url = _no_tunnel  # a page may ask for a public address; nothing here ever leaves the machine
    if not door.guards:
        server.stop()
        raise BackendError(f"viser {viser.__version__} takes no rules for who may connect: pip install 'viser>=1.0,<2'")
    if port and server.get_port() != port:  # another program took it between the check and the start
        server.stop()
        raise BackendError(_taken(port))
    server.gui.configure_theme(control_layout="fixed", control_width="large", show_logo=False, show_share_button=False, brand_color=BRAND)
    server.scene.set_up_direction("+z")
    server.initial_camera.position = home_position()
    server.initial_camera.look_at = (0.0, 0.0, 0.0)
    server.initial_camera.fov = math.radians(FOV_Y_DEG)
    server.initial_camera.near = 0.02
    return server


def home_position() -> tuple[float, float, float]:
    """Where a camera starts: the three-quarter view."""
    x, y, z = orbit_cameras(HOME_AZIMUTH_DEG, HOME_ELEVATION_DEG, distance=HOME_DISTANCE).positions[0].tolist()
    return x, y, z


def look_home(client: viser.ClientHandle) -> None:
    """A browser's camera back to where it started."""
    with client.atomic():
        client.camera.position = home_position()
        client.camera.look_at = (0.0, 0.0, 0.0)


def address(server: viser.ViserServer) -> str:
    """The page's URL as a person on this machine opens it, with the token where one is needed."""
    host, door = server.get_host(), door_of(server)
    shown = "localhost" if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
    return f"http://{shown}:{server.get_port()}" + (f"/?token={door.token}" if door.token else "")


def door_of(server: viser.ViserServer) -> Door:
    """The rules that :func:`open_server` gave to ``server``."""
    return server.door  # type: ignore[attr-defined]


def check_port(host: str, port: int) -> None:
    """Raise BackendError unless one could listen on host:port now. Port 0 is always free."""
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (OSError, UnicodeError) as error:
        raise BackendError(f"viewer host: '{host}' is not an address of this machine ({error}); use 127.0.0.1") from error
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(where)
        except PermissionError as error:
            raise BackendError(f"viewer port: {port} needs administrator rights; choose one above 1023") from error
        except OSError as error:
            in_use = error.errno in (48, 98, 10048)  # EADDRINUSE on macOS, Linux, Windows
            raise BackendError(_taken(port) if in_use else f"viewer host: cannot listen on {host}:{port} ({error.strerror})") from error


def _no_tunnel(verbose: bool = True) -> None:
    return None


def _quietly(stop: Callable[[], None]) -> None:
    with redirect_stdout(io.StringIO()):  # it says that it stopped
        stop()


def _taken(port: int) -> str:
    return f"viewer port: {port} is in use; choose another (--port N, or viewer_port=N while training; 0 takes any free one)"


def _import_viser() -> Any:
    try:
        import viser
    except ImportError as error:
        raise BackendError("the viewer needs the package viser: pip install 'fsd-gs[viewer]'") from error
    return viser
