"""Pages of other sites in a real browser, beside a running viewer: they can neither talk to it, nor frame it, nor take its page over."""

import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from export_scenes import egg
from foreign_page import foreign_page
from pages import coverage, screenshot, wait_until

from fsd_gs.export.ply import save_ply
from fsd_gs.render import make_rasterizer
from fsd_gs.viewer import access
from fsd_gs.viewer.inspector import Inspector
from fsd_gs.viewer.server import address, door_of, open_server

viser = pytest.importorskip("viser", reason="the live pages need viser: pip install 'fsd-gs[viewer]'")


class Site:
    """A web site on this machine, so another origin; remembers who asked for what."""

    def __init__(self, content: str) -> None:
        self.requests = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                site.requests.append((self.path, self.headers.get("Upgrade")))
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.end_headers()
                self.wfile.write(content.encode())

            log_message = partial(lambda *_: None)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.where = f"localhost:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def viewer(tmp_path):
    save_ply(egg(500), tmp_path / "egg.ply")
    server = open_server(port=0, say=lambda _: None)
    inspector = Inspector(server, {"egg": tmp_path / "egg.ply"}, make_rasterizer("cpu"))
    yield server
    inspector.close()
    server.stop()


@pytest.fixture
def evil(viewer):
    site = Site(foreign_page(address(viewer).removeprefix("http://"), viser.__version__))
    yield site
    site.close()


def test_another_page_gets_nothing(page, viewer, evil):
    page.goto(f"http://{evil.where}/")
    assert wait_until(page, lambda: page.evaluate("'socket' in outcome && 'fetch' in outcome"))
    page.wait_for_timeout(300)
    assert page.evaluate("outcome.socket") == "refused"
    assert page.evaluate("outcome.fetch") == "refused"
    assert not viewer.get_clients()
    framed = page.frames[1]
    assert framed.url.startswith("chrome-error:")  # not ours to click on
    assert framed.get_by_role("button").count() == 0


def test_the_page_itself_connects(page, viewer):
    page.goto(address(viewer))
    assert wait_until(page, lambda: len(viewer.get_clients()) == 1)
    assert wait_until(page, lambda: coverage(screenshot(page, clip={"x": 0, "y": 200, "width": 880, "height": 660})) > 0.02)


@pytest.mark.parametrize("query", ["websocket=ws://WHERE/", "playbackPath=http://WHERE/x.viser"])
def test_a_link_cannot_connect_our_page_to_another_server(browser, viewer, evil, monkeypatch, query):
    """viser's page takes ?websocket= and ?playbackPath=; what comes from there could run scripts with our page's rights."""

    def visit(seconds):
        context = browser.new_context()  # a page of its own: the refused load is an error there
        page, loaded = context.new_page(), []
        page.on("console", lambda line: loaded.append(line.text))
        page.goto(f"{address(viewer)}/?{query.replace('WHERE', evil.where)}")
        assert wait_until(page, lambda: loaded)
        wait_until(page, lambda: evil.requests, seconds)
        context.close()
        return evil.requests

    assert visit(2) == []
    monkeypatch.setattr(access, "_POLICY", "img-src * data:")
    assert visit(15)  # the policy is what keeps it from connecting


def test_the_token_opens_the_page_once_and_for_all(browser):
    server = open_server("0.0.0.0", 0, say=lambda _: None)
    context = browser.new_context()
    try:
        page, base = context.new_page(), f"http://localhost:{server.get_port()}/"
        page.goto(base)
        assert "Refused: open the address with its token" in page.content()
        page.goto(address(server))
        assert wait_until(page, lambda: len(server.get_clients()) == 1)
        assert door_of(server).token not in page.url
        page.goto(base)  # the cookie
        assert wait_until(page, lambda: page.get_by_text("fsd-gs").count() > 0)
    finally:
        context.close()
        server.stop()
