"""The rules of ``viewer.access`` for an ASGI application: who may talk to the app, how much a request may bring, and protective headers.

A browser proves itself by its ``Origin`` and, beyond loopback, the token, which the first address puts into a cookie; a program sends
``Authorization: Bearer TOKEN``. Everything refused is one line in the API's own form, ``{"detail": …}``.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs

from fsd_gs.viewer.access import PROTECTION, Door

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self'; connect-src 'self'; frame-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
#: The offline viewer brings its script with it, and needs nothing else; its origin is its own.
VIEWER_POLICY = (
    "sandbox allow-scripts allow-downloads; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; frame-ancestors 'self'"
)


class Headers:
    """Headers of an ASGI scope as ``viewer.access`` reads them."""

    def __init__(self, raw: Iterable[tuple[bytes, bytes]]) -> None:
        self._pairs = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in raw]

    def get_all(self, name: str) -> list[str]:
        return [value for key, value in self._pairs if key == name.lower()]

    def get(self, name: str, default: str | None = None) -> str | None:
        return next(iter(self.get_all(name)), default)

    def __contains__(self, name: str) -> bool:
        return bool(self.get_all(name))

    def __getitem__(self, name: str) -> str:
        return self.get_all(name)[0]


class Asked:
    """A request as ``viewer.access`` reads it."""

    def __init__(self, scope: MutableMapping[str, Any]) -> None:
        query = scope.get("query_string", b"").decode("latin-1")
        self.path = scope["path"] + (f"?{query}" if query else "")
        self.headers = Headers(scope["headers"])


class BodyTooLargeError(Exception):
    """Raised while a body is read."""


class Guard:
    """ASGI middleware.

    Args:
        door: the rules.
        body_bytes: most that a request may bring.
    """

    def __init__(self, app: App, door: Door, body_bytes: int) -> None:
        self._app, self._door, self._most = app, door, body_bytes

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        if scope["type"] != "http":
            return await send({"type": "websocket.close", "code": 1008})
        asked = Asked(scope)
        reason = self._door.refusal(asked)  # type: ignore[arg-type]
        if reason is not None:
            return await _answer(send, 403, f"refused: {reason}")
        if self._door.token and scope["method"] == "GET" and scope["path"] == "/" and "token" in parse_qs(asked.path.partition("?")[2]):
            cookie = self._door.cookie(asked).encode()  # type: ignore[arg-type]
            return await _answer(send, 303, "see /", [(b"location", b"/"), (b"set-cookie", cookie)])
        length = asked.headers.get("Content-Length") or "0"
        if not length.isdigit() or int(length) > self._most:
            return await self._too_large(send)
        body = _Body(receive, self._most)

        async def protected(message: Message) -> None:
            if body.too_large:
                return  # whatever the application makes of half a body
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_protection(message.get("headers", ()))]
            await send(message)

        with suppress(BodyTooLargeError):
            await self._app(scope, body.receive, protected)
        if body.too_large:
            await self._too_large(send)
        return None

    async def _too_large(self, send: Send) -> None:
        await _answer(send, 413, f"the request is too large: at most {self._most} bytes")


class _Body:
    """What a request brings, up to ``most`` bytes; more ends the application's reading."""

    def __init__(self, receive: Receive, most: int) -> None:
        self._receive, self._left = receive, most

    @property
    def too_large(self) -> bool:
        return self._left < 0

    async def receive(self) -> Message:
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self.too_large:
            raise BodyTooLargeError
        return message


def _protection(given: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """What every answer says; a policy of its own stays, and only the page may show the viewer in a frame."""
    own = {name.lower() for name, _ in given}
    headers = dict(PROTECTION) if b"content-security-policy" not in own else {k: v for k, v in PROTECTION.items() if k != "X-Frame-Options"}
    headers.setdefault("Content-Security-Policy", PAGE_POLICY)
    return [(name.lower().encode(), value.encode()) for name, value in headers.items() if name.lower().encode() not in own]


async def _answer(send: Send, status: int, detail: str, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
    body = json.dumps({"detail": detail}).encode()
    own = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": [*own, *_protection(own)]})
    await send({"type": "http.response.body", "body": body})
