"""Whoever is not the page itself, at the pages of ``fsd-gs view``, ``fsd-gs view FILE`` and ``train.py viewer=true``.

sockets    a handshake or a request with a foreign Origin or Host, or without the token where one is needed: HTTP 403, and not let in
Chromium   a page of another site opens the WebSocket, fetches the page and puts it into a frame: nothing of it succeeds
typed      settings that name files, hub ids or devices, sent as the start page's form would: refused, and nothing of it is read

lost: the page's own requests are not served. Chromium is left out where there is none (``CHROMIUM`` names one).
"""

from __future__ import annotations

import http.client
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import torch
from foreign_page import foreign_page
from row import Row

from fsd_gs.core.types import Gaussians
from fsd_gs.errors import FsdGsError
from fsd_gs.export.ply import save_ply
from fsd_gs.viewer.form import Request, requested_config

ROOT = Path(__file__).resolve().parents[2]
TRAIN = """steps=100000 splats.count=100 densify.kind=none cameras.views=4 render.sizes=[16] render.size_at=[0.0] prior.name=exact
prior.objects=2 prior.distractors=1 guidance.cfg_scale=1 outputs.preview_every=0"""
TYPED = r"""prior.name=/etc prior.name=../x prior.name=stabilityai/stable-diffusion-2-1 prior.name=C:\x prior.lora=/etc/passwd
splats.init=/etc/passwd splats.init=a.ply output=/tmp/x device=meta viewer_host=0.0.0.0 prompt=x steps=${oc.env:HOME} resume=/tmp
overwrite=true config=/etc/passwd --config mode=2d"""


@contextmanager
def page_of(*words: str) -> Iterator[tuple[int, str]]:
    """(port, token) of a command with a page, ended with Ctrl-C."""
    command = [sys.executable, "-u", "-m", "fsd_gs", *words]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                               env={**os.environ, "HF_HUB_OFFLINE": "1"})  # fmt: skip
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if found := re.search(r"http://\S+?:(\d+)/?(?:\?token=(\S+))?", line):
                break
        else:
            raise RuntimeError(f"no page: {' '.join(words)}")
        threading.Thread(target=process.stdout.read, daemon=True).start()
        yield int(found[1]), found[2] or ""
    finally:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(60)
        process.kill()
        process.wait()


def asked(port: int, *, host: str, origin: str | None, socket: bool, cookie: str = "") -> int:
    """The HTTP status of a request, 101 for a WebSocket that was opened, 0 where the connection was dropped."""
    headers = {"Host": host} | ({"Origin": origin} if origin is not None else {}) | ({"Cookie": cookie} if cookie else {})
    if socket:
        import viser

        headers |= {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
                    "Sec-WebSocket-Version": "13", "Sec-WebSocket-Protocol": f"viser-v{viser.__version__}"}  # fmt: skip
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.putrequest("GET", "/", skip_host=True, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        return connection.getresponse().status
    except (http.client.HTTPException, ConnectionError):
        return 0
    finally:
        connection.close()


def strangers(row: Row, port: int, token: str) -> None:
    """Requests of others, and the page's own between them."""
    own = f"127.0.0.1:{port}"
    cookie = f"fsd-gs-{port}={token}" if token else ""
    sites = ("evil.example", f"evil.example:{port}", "127.0.0.1", f"127.0.0.1:{port + 1}", f"localhost:{port}",
             f"{own}.evil.example", f"{own}@evil.example")  # fmt: skip
    foreign = (*(f"http://{site}" for site in sites), f"https://evil.example/{own}", "null", "", "file://", None)
    tries = [(own, origin, True, cookie) for origin in foreign]
    tries += [(own, origin, False, cookie) for origin in foreign if origin]  # scripts of other sites over HTTP
    if not token:  # beyond loopback any name will do: the token decides
        hosts = ("evil.example", f"evil.example:{port}", "localhost.evil.example", "127.0.0.1.evil.example", "192.0.2.7", "a b", "")
        tries += [(host, None if not socket else f"http://{host}", socket, "") for host in hosts for socket in (False, True)]
    else:
        for wrong in ("", f"fsd-gs-{port}=", f"fsd-gs-{port}={token[:-1]}", f"fsd-gs-{port}=é"):
            tries += [(own, None if not socket else f"http://{own}", socket, wrong) for socket in (False, True)]
    for host, origin, socket, given in tries:
        row.cases += 1
        row.let_in += asked(port, host=host, origin=origin, socket=socket, cookie=given) in (101, 200)
    row.lost += asked(port, host=own, origin=f"http://{own}", socket=True, cookie=cookie) != 101
    row.lost += asked(port, host=own, origin=None, socket=False, cookie=cookie) != 200


def typed() -> Row:
    """What may not be typed into the start page."""
    row = Row("files, hub ids and devices typed into a page")
    for setting in TYPED.split():
        row.cases += 1
        try:
            requested_config(Request("a red chair", settings=setting), "outputs")
            row.let_in += 1
        except FsdGsError:
            pass
        except Exception:
            row.traceback += 1
    row.lost += requested_config(Request("a red chair", settings="steps=20 noise.beta=0.5"), "outputs").steps != 20
    return row


def chromium() -> str | None:
    return os.environ.get("CHROMIUM") or shutil.which("chromium")


def in_a_browser(row: Row, port: int) -> None:
    """A page of another site in Chromium; the viewer's own page afterwards, to see that it would have worked."""
    import viser
    from playwright.sync_api import sync_playwright

    content = foreign_page(f"127.0.0.1:{port}", viser.__version__)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(content.encode())

        log_message = partial(lambda *_: None)

    site = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=site.serve_forever, daemon=True).start()
    flags = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-background-networking"]
    try:
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=chromium(), headless=True, args=flags)
            page = browser.new_page()
            for name in ("localhost", "127.0.0.1"):  # another host, and another port of the same
                page.goto(f"http://{name}:{site.server_port}/")
                end = time.monotonic() + 60
                while not page.evaluate("'socket' in outcome && 'fetch' in outcome") and time.monotonic() < end:
                    page.wait_for_timeout(50)
                page.wait_for_timeout(500)
                row.cases += 3
                row.let_in += page.evaluate("outcome.socket") != "refused"
                row.let_in += page.evaluate("outcome.fetch") != "refused"
                row.let_in += any(frame.url.startswith(f"http://127.0.0.1:{port}") for frame in page.frames)
            sockets: list[str] = []
            page.on("websocket", lambda socket: socket.on("framereceived", lambda _: sockets.append(socket.url)))
            page.goto(f"http://127.0.0.1:{port}/")
            end = time.monotonic() + 60
            while not sockets and time.monotonic() < end:
                page.wait_for_timeout(50)
            row.lost += not sockets
            browser.close()
    finally:
        site.shutdown()
        site.server_close()


def rows(long: bool) -> Iterator[Row]:
    yield typed()
    with tempfile.TemporaryDirectory() as place:
        save_ply(Gaussians(torch.rand(20, 3), torch.tensor([1.0, 0, 0, 0]).expand(20, 4), torch.full((20, 3), 0.1), torch.full((20,), 0.9),
                           torch.rand(20, 1, 3)), Path(place) / "a.ply")  # fmt: skip
        start = ("view", "--port", "0", "--output", place)
        pages = {"the start page": start}
        if long:
            pages["the page of a file"] = ("view", f"{place}/a.ply", "--port", "0", "--backend", "cpu")
            pages["the page of a run"] = ("train", "prompt=a house", *TRAIN.split(), "viewer=true", "viewer_port=0", f"output={place}/run")
            pages["the start page beyond loopback"] = (*start, "--host", "0.0.0.0")
        for name, words in pages.items():
            row = Row(f"strangers at {name}")
            with page_of(*words) as (port, token):
                strangers(row, port, token)
            yield row
        if long and chromium():
            for name, words in pages.items():
                if "beyond" not in name:
                    row = Row(f"another site in Chromium, at {name}")
                    with page_of(*words) as (port, _):
                        in_a_browser(row, port)
                    yield row
