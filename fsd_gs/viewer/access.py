"""Who may talk to the live pages: the page itself, and nobody else.

A server on this machine is within reach of every page in its owner's browser, so that listening on 127.0.0.1 alone protects nothing:

==============================  =====================================================================================================
a page of another site …        … is refused by
==============================  =====================================================================================================
opens our WebSocket             ``Origin`` must be the page's own: the scheme and the ``Host`` of the very request (RFC 6455 §10.2)
makes its name resolve here     ``Host`` must name this machine while only this machine can connect (DNS rebinding)
puts our page into a frame      ``frame-ancestors 'none'``: nobody can be led to click Stop
links to ``?websocket=`` other  ``connect-src`` is this server alone: foreign data never become scripts of our origin
==============================  =====================================================================================================

Beyond loopback a token of 256 bits is asked for as well. It is in the address that is printed; the first load puts it into a cookie that
scripts cannot read and other sites cannot send, and goes on without it. The checks run in the hook of ``websockets`` before the handshake,
for every request, whatever it asks for. Handshakes have a time limit, messages a size, and open connections a number.
"""

from __future__ import annotations

import asyncio
import http
import ipaddress
import logging
import re
import secrets
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qs, urlsplit

from fsd_gs.viewer.shell import dressed

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection
    from websockets.http11 import Request, Response

    from fsd_gs.viewer.overview import Overview, Reply

T = TypeVar("T")
HANDSHAKE_SECONDS = 30.0  # also what a page of ours may take to be made: a large set on a busy machine
MESSAGE_BYTES = 2**20  # a camera or a control is some hundred bytes; no page of ours uploads anything
CONNECTIONS = 100

_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:\d{1,5})?")
PROTECTION = {
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; worker-src 'self' blob: data:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src data: blob:; font-src 'self' data:; "
    "connect-src 'self' data: blob: ws://{host} wss://{host}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_patching = threading.Lock()


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens on ``host`` (a name or an address)."""
    try:
        found = socket.getaddrinfo(host, None, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        return False
    return bool(found) and all(ipaddress.ip_address(str(where[0]).partition("%")[0]).is_loopback for *_, where in found)


@dataclass
class Door:
    """The rules of one server.

    Attributes:
        host: what it listens on.
        token: asked for where it is not empty.
    """

    host: str
    token: str = field(default="", repr=False)
    guards: bool = field(default=False, init=False)  # whether a server has taken the rules over
    overview: Overview | None = field(default=None, init=False)  # a page before viser's

    @classmethod
    def of(cls, host: str) -> Door:
        """No token on loopback, a fresh one elsewhere."""
        return cls(host, "" if is_loopback(host) else secrets.token_urlsafe(32))

    # -- the rules ------------------------------------------------------------------------------------------------------

    def refusal(self, request: Request) -> str | None:
        """Why ``request`` is not served; None if it is."""
        host = _only(request, "Host")
        parts = None if host is None else _HOST.fullmatch(host.lower())
        if host is None or parts is None:
            return "the request names no host"
        if not self.token and not self._is_here(parts["name"]):
            return f"this page is not '{host}'; open it as localhost"
        origins = request.headers.get_all("Origin")
        if _wants_socket(request) and not origins:
            return "a WebSocket must say which page it belongs to (Origin)"
        if any(origin.lower() not in (f"http://{host.lower()}", f"https://{host.lower()}") for origin in origins):
            return "only the page's own scripts may talk to it"
        if self.token and not self._has_token(request):
            return "open the address with its token, as it was printed where the page was started"
        return None

    def _is_here(self, name: str) -> bool:
        if name in ("localhost", self.host.lower()):
            return True
        try:
            return ipaddress.ip_address(name.strip("[]")).is_loopback
        except ValueError:
            return False

    def _has_token(self, request: Request) -> bool:
        given = [*_tokens_in_address(request), *_cookies(request, self._cookie(request)), *_bearers(request)]
        return any(secrets.compare_digest(text.encode(), self.token.encode()) for text in given)

    def _cookie(self, request: Request) -> str:
        """A name of its own a port: browsers do not tell the ports of a host apart."""
        return f"fsd-gs-{urlsplit('//' + request.headers['Host']).port or 80}"

    # -- the hook -------------------------------------------------------------------------------------------------------

    def answering(
        self, serve_page: Callable[[ServerConnection, Request], Response | None] | None
    ) -> Callable[..., Response | Awaitable[Response | None] | None]:
        """``process_request`` for ``websockets``: the rules before ``serve_page``, protective headers after it."""

        def answer(connection: ServerConnection, request: Request) -> Response | Awaitable[Response | None] | None:
            reason = self.refusal(request)
            if reason is not None:
                return _protected(connection.respond(http.HTTPStatus.FORBIDDEN, f"Refused: {reason}.\n"), request)
            if self.token and not _wants_socket(request) and _tokens_in_address(request):
                return _protected(self._welcome(connection, request), request)
            if self.overview is not None and not _wants_socket(request):
                if self.overview.answers(request):
                    return _in_a_thread(self.overview.answer, request, lambda reply: _protected(_response(connection, reply), request))
                if self.overview.chooses(request):
                    return _in_a_thread(self.overview.choose, request, lambda _: serve(connection, request))
            return serve(connection, request)

        def serve(connection: ServerConnection, request: Request) -> Response | None:
            response = None if serve_page is None else serve_page(connection, request)
            return None if response is None else _protected(dressed(response), request)

        return answer

    def _welcome(self, connection: ServerConnection, request: Request) -> Response:
        """The token goes from the address, which people share and screens show, into a cookie."""
        response = connection.respond(http.HTTPStatus.SEE_OTHER, "")
        response.headers["Location"] = "/"  # never a part of the request: "//elsewhere/" is an address, too
        response.headers["Set-Cookie"] = self.cookie(request)
        return response

    def cookie(self, request: Request) -> str:
        """``Set-Cookie`` for whoever came with the token in the address."""
        return f"{self._cookie(request)}={self.token}; Path=/; HttpOnly; SameSite=Lax"

    def options(self, given: dict[str, Any]) -> dict[str, Any]:
        """The arguments of ``websockets.serve`` with the rules and limits in them."""
        self.guards = True
        return {
            **given,
            "process_request": self.answering(given.get("process_request")),
            "open_timeout": HANDSHAKE_SECONDS,
            "max_size": MESSAGE_BYTES,
            "server_header": None,
            "logger": _logger(),
            "create_connection": _limited_connection(CONNECTIONS),
        }


@contextmanager
def guarded(door: Door) -> Iterator[None]:
    """Servers that viser starts inside get the rules of ``door``: viser has no argument for them. See ``door.guards`` afterwards."""
    from websockets.asyncio import server as library

    original = library.serve

    def serve(handler: Any, *arguments: Any, **options: Any) -> Any:
        ours = str(getattr(handler, "__module__", "")).partition(".")[0] == "viser"
        return original(handler, *arguments, **(door.options(options) if ours else options))

    with _patching:
        library.serve = serve  # type: ignore[assignment,misc]
        try:
            yield
        finally:
            library.serve = original  # type: ignore[misc]


def _limited_connection(most: int) -> type[ServerConnection]:
    """Connections beyond ``most`` open ones are dropped, so that half-open ones cannot pile up."""
    from websockets.asyncio.server import ServerConnection

    class Connection(ServerConnection):
        count = 0
        counted = False

        def connection_made(self, transport: Any) -> None:
            if Connection.count >= most:
                transport.abort()
                return
            Connection.count += 1
            self.counted = True
            super().connection_made(transport)

        def data_received(self, data: bytes) -> None:
            if self.counted:
                super().data_received(data)

        def eof_received(self) -> None:
            if self.counted:
                super().eof_received()

        def connection_lost(self, exc: Exception | None) -> None:
            if self.counted:
                Connection.count -= 1
                super().connection_lost(exc)

    return Connection


async def _in_a_thread(job: Callable[[Request], T], request: Request, answer: Callable[[T], Response | None]) -> Response | None:
    """What reads many files is not for the loop of the server."""
    return answer(await asyncio.to_thread(job, request))


def _response(connection: ServerConnection, reply: Reply) -> Response:
    response = connection.respond(reply.status, "")
    caching = "private, max-age=3600" if reply.keep else "no-store"
    for name, value in (("Content-Type", reply.content_type), ("Content-Length", str(len(reply.body))), ("Cache-Control", caching)):
        if name in response.headers:
            del response.headers[name]
        response.headers[name] = value
    response.body = reply.body
    return response


def _protected(response: Response, request: Request) -> Response:
    for name, value in PROTECTION.items():
        response.headers[name] = value
    hosts = request.headers.get_all("Host")
    known = len(hosts) == 1 and _HOST.fullmatch(hosts[0].lower())
    response.headers["Content-Security-Policy"] = _POLICY.format(host=hosts[0].lower() if known else "localhost")
    return response


def _wants_socket(request: Request) -> bool:
    return any(name in request.headers for name in ("Upgrade", "Sec-WebSocket-Key", "Sec-WebSocket-Version"))


def _only(request: Request, name: str) -> str | None:
    values = request.headers.get_all(name)
    return values[0] if len(values) == 1 else None


def _tokens_in_address(request: Request) -> list[str]:
    return parse_qs(request.path.partition("?")[2]).get("token", [])


def _bearers(request: Request) -> list[str]:
    """Programs say it in a header of their own, which no page of another site can set."""
    return [header[len("Bearer ") :].strip() for header in request.headers.get_all("Authorization") if header.startswith("Bearer ")]


def _cookies(request: Request, name: str) -> list[str]:
    found = []
    for header in request.headers.get_all("Cookie"):
        try:
            jar = SimpleCookie(header)
        except CookieError:
            continue
        if name in jar:
            found.append(jar[name].value)
    return found


def _logger() -> logging.Logger:
    """Port scanners and closed laptops are no news for the terminal; ``logging.DEBUG`` on this name shows them."""
    logger = logging.getLogger("fsd_gs.viewer.connections")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.CRITICAL)
    return logger
