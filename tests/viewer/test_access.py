"""Who may talk to the live pages, at the level of sockets: origins, hosts, tokens, limits. The browser's side is in tests/browser."""

import asyncio
import http.client
import logging
import socket
import time

import pytest
from export_scenes import egg

from fsd_gs.errors import BackendError
from fsd_gs.export.ply import save_ply
from fsd_gs.render import make_rasterizer
from fsd_gs.viewer import access
from fsd_gs.viewer.access import Door, is_loopback
from fsd_gs.viewer.inspector import Inspector
from fsd_gs.viewer.live import LiveViewer
from fsd_gs.viewer.server import address, door_of, open_server
from fsd_gs.viewer.start_page import StartPage

viser = pytest.importorskip("viser", reason="the live pages need viser: pip install 'fsd-gs[viewer]'")
websockets = pytest.importorskip("websockets")
EVERYWHERE = "0.0.0.0"
PATIENCE = 60.0  # seconds, for what takes a hundredth of one on a machine that does nothing else


@pytest.fixture
def server():
    server = open_server(port=0, say=lambda _: None)
    yield server
    server.stop()


@pytest.fixture
def reachable():
    """A server beyond loopback, and its token."""
    server = open_server(EVERYWHERE, 0, say=lambda _: None)
    yield server, door_of(server).token
    server.stop()


@pytest.fixture(params=["start page", "inspector", "live page"])
def page(request, server, tmp_path):
    if request.param == "start page":
        page = StartPage(server, output=str(tmp_path), say=lambda _: None)
    elif request.param == "inspector":
        save_ply(egg(20), tmp_path / "egg.ply")
        page = Inspector(server, {"egg": tmp_path / "egg.ply"}, make_rasterizer("cpu"))
    else:
        page = LiveViewer(server, "a chair", tmp_path)
        page.close = lambda: None
    yield server
    page.close()


def socket_status(port, **headers):
    """101 if the WebSocket opens and says something, else the HTTP status of the refusal. Headers named with _ for -."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    async def connect():
        url, protocol = f"ws://127.0.0.1:{port}/", f"viser-v{viser.__version__}"
        try:
            async with websockets.connect(url, additional_headers=named, subprotocols=[protocol], max_size=None, proxy=None) as connection:
                assert len(await asyncio.wait_for(connection.recv(), PATIENCE)) > 16
                return 101
        except websockets.exceptions.InvalidStatus as refused:
            return refused.response.status_code

    return asyncio.run(connect())


def http_answer(port, path="/", host="127.0.0.1", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    connection.putrequest("GET", path, skip_host=True)
    if host is not None:
        connection.putheader("Host", host)
    for name, value in headers.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()
    answer = connection.getresponse()
    answer.text = answer.read().decode(errors="replace")
    return answer


# -- only its own page -----------------------------------------------------------------------------------------------------


def test_every_page_serves_itself_and_no_other_origin(page):
    port = page.get_port()
    assert socket_status(port, Origin=f"http://127.0.0.1:{port}") == 101
    for foreign in (
        "http://evil.example",
        f"http://evil.example:{port}",
        "http://127.0.0.1",  # the same machine, another program's page
        f"http://127.0.0.1:{port + 1}",
        f"http://localhost:{port}",  # another name is another origin to a browser
        f"http://127.0.0.1:{port}.evil.example",
        f"http://127.0.0.1:{port}@evil.example",
        "null",  # sandboxed frames and files
        "",
    ):
        assert socket_status(port, Origin=foreign) == 403, foreign
    assert socket_status(port) == 403  # a browser always names the page


def test_a_page_is_its_own_under_every_name_of_this_machine(server):
    port = server.get_port()
    for name in ("localhost", "127.0.0.1", "127.1.2.3", "[::1]"):
        host = f"{name}:9999"  # behind ssh -L 9999:localhost:PORT
        assert http_answer(port, host=host).status == 200, name
        assert Door("127.0.0.1").refusal(request(Host=host, Origin=f"http://{host}", Upgrade="websocket")) is None
    assert http_answer(port, host=f"LOCALHOST:{port}").status == 200


def test_foreign_hosts_are_refused(page):
    port = page.get_port()
    for host in ("evil.example", f"evil.example:{port}", "localhost.evil.example", "127.0.0.1.evil.example", "192.0.2.7", "", "a b", None):
        answer = http_answer(port, host=host)
        assert answer.status in (400, 403), host
        assert "<html" not in answer.text
    assert http_answer(port, host="evil.example").text == "Refused: this page is not 'evil.example'; open it as localhost.\n"
    assert socket_status(port, Host="evil.example", Origin="http://evil.example") == 403  # a rebound name is its own origin


def test_doubled_headers_are_refused():
    door = Door("127.0.0.1")
    assert door.refusal(request(("Host", "localhost"), ("Host", "evil.example"))) == "the request names no host"
    both = request(("Host", "localhost:1"), ("Origin", "http://localhost:1"), ("Origin", "http://evil.example"), ("Upgrade", "websocket"))
    assert door.refusal(both) is not None


def test_scripts_of_other_sites_are_refused_over_http_too(server):
    assert http_answer(server.get_port(), Origin="http://evil.example").status == 403


def test_pages_cannot_be_framed_nor_led_to_other_servers(server):
    port = server.get_port()
    answer = http_answer(port, host=f"localhost:{port}")
    policy = answer.getheader("Content-Security-Policy")
    assert "frame-ancestors 'none'" in policy
    assert f"connect-src 'self' data: blob: ws://localhost:{port} wss://localhost:{port};" in policy
    assert answer.getheader("X-Frame-Options") == "DENY"
    assert answer.getheader("Server") is None
    assert "evil" not in http_answer(port, host="evil.example; script-src *").getheader("Content-Security-Policy")


def request(*pairs, path="/", **headers):
    from websockets.datastructures import Headers
    from websockets.http11 import Request

    return Request(path, Headers([*pairs, *((name.replace("_", "-"), value) for name, value in headers.items())]))


# -- beyond this machine ---------------------------------------------------------------------------------------------------


def test_what_is_loopback():
    for host in ("127.0.0.1", "127.9.9.9", "localhost", "::1"):
        assert is_loopback(host), host
    for host in ("0.0.0.0", "::", "192.0.2.1", "no.such.host.invalid"):
        assert not is_loopback(host), host


def test_beyond_loopback_a_token_is_needed(reachable):
    server, token = reachable
    port = server.get_port()
    assert len(token) >= 43  # 256 bits
    assert address(server) == f"http://localhost:{port}/?token={token}"
    own = f"http://127.0.0.1:{port}"
    assert http_answer(port).status == 403
    assert "with its token" in http_answer(port).text
    assert http_answer(port, f"/?token={token[:-1]}").status == 403
    assert http_answer(port, "/?token=").status == 403
    assert http_answer(port, Cookie=f"fsd-gs-{port}=").status == 403
    assert socket_status(port, Origin=own) == 403
    first = http_answer(port, f"/?token={token}", host=f"127.0.0.1:{port}")
    assert first.status == 303
    assert first.getheader("Location") == "/"  # the token leaves the address bar
    cookie, *attributes = first.getheader("Set-Cookie").split("; ")
    assert set(attributes) == {"Path=/", "HttpOnly", "SameSite=Lax"}
    assert http_answer(port, host=f"127.0.0.1:{port}", Cookie=cookie).status == 200
    assert http_answer(port, host="a-name-of-ours.example", Cookie=f"fsd-gs-80={token}").status == 200  # any name: the token decides
    assert socket_status(port, Origin=own, Cookie=cookie) == 101
    assert socket_status(port, Origin="http://evil.example", Cookie=cookie) == 403


def test_a_valid_token_leads_nowhere_else(reachable):
    server, token = reachable
    assert http_answer(server.get_port(), f"//evil.example/?token={token}").getheader("Location") == "/"


def test_tokens_are_fresh_secret_and_compared_whatever_their_letters():
    assert Door.of(EVERYWHERE).token != Door.of(EVERYWHERE).token
    assert Door.of("127.0.0.1").token == ""
    door = Door.of(EVERYWHERE)
    assert door.token not in repr(door)
    odd = request(path="/?token=%C3%A9", Host="localhost", Cookie="fsd-gs-80=ä; =; ;;")
    assert door.refusal(odd) is not None


# -- limits ----------------------------------------------------------------------------------------------------------------


def test_slow_requests_are_cut_off(monkeypatch):
    monkeypatch.setattr(access, "HANDSHAKE_SECONDS", 0.3)
    server = open_server(port=0, say=lambda _: None)
    try:
        with socket.create_connection(("127.0.0.1", server.get_port()), timeout=PATIENCE) as slow:
            slow.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")  # and never the end of it
            began = time.monotonic()
            answer = slow.recv(1000)
            assert b"<html" not in answer
            assert time.monotonic() - began < 8
        assert http_answer(server.get_port()).status == 200
    finally:
        server.stop()


def test_half_open_connections_do_not_pile_up(monkeypatch):
    monkeypatch.setattr(access, "CONNECTIONS", 5)
    server = open_server(port=0, say=lambda _: None)
    where = ("127.0.0.1", server.get_port())
    idle = []
    try:
        for _ in range(5):
            idle.append(socket.create_connection(where, timeout=PATIENCE))
        assert not answered(server.get_port())  # reset, or closed without a word
        for connection in idle:
            connection.close()
        assert eventually(lambda: answered(server.get_port()))  # and there is room again
    finally:
        server.stop()


def answered(port):
    try:
        return http_answer(port).status == 200
    except (ConnectionError, http.client.HTTPException):
        return False


def eventually(condition, seconds=PATIENCE):
    end = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < end:
        time.sleep(0.02)
    return met


def test_huge_messages_and_garbage_end_the_connection_quietly(server, capfd, caplog):
    port = server.get_port()

    async def send(content):
        own, protocol = f"http://127.0.0.1:{port}", f"viser-v{viser.__version__}"
        async with websockets.connect(
            f"ws://127.0.0.1:{port}/", origin=own, subprotocols=[protocol], max_size=None, proxy=None
        ) as connection:
            await connection.send(content)
            while True:
                await asyncio.wait_for(connection.recv(), PATIENCE)

    with caplog.at_level(logging.WARNING):
        with pytest.raises(websockets.exceptions.ConnectionClosedError) as closed:
            asyncio.run(send(b"x" * (access.MESSAGE_BYTES + 1)))
        assert closed.value.rcvd.code == 1009  # message too big
        for garbage in ("a text frame", b"\xc1 not msgpack"):
            with pytest.raises(websockets.exceptions.ConnectionClosed):
                asyncio.run(send(garbage))
        for request_ in (b"\x16\x03\x01 TLS here", b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"a" * 9000):
            with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as stranger:
                stranger.sendall(request_ + b"\r\n\r\n")
                assert b"<html" not in stranger.recv(1000)
    assert http_answer(port).status == 200
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


# -- viser -----------------------------------------------------------------------------------------------------------------


def test_a_viser_that_cannot_be_guarded_is_not_served(monkeypatch):
    monkeypatch.setattr(Door, "options", lambda self, given: given)  # as if it no longer started its server through websockets.serve
    with pytest.raises(BackendError, match="takes no rules for who may connect"):
        open_server(port=0)


def test_other_servers_of_websockets_are_left_alone():
    from websockets.asyncio import server as library

    original = library.serve

    async def handler(connection):
        await connection.send("hello")

    async def serve_and_ask():
        with access.guarded(door):
            async with library.serve(handler, "127.0.0.1", 0) as other:
                port = other.sockets[0].getsockname()[1]
                async with websockets.connect(f"ws://127.0.0.1:{port}/", origin="http://evil.example", proxy=None) as connection:
                    return await connection.recv()

    door = Door("127.0.0.1")
    assert asyncio.run(serve_and_ask()) == "hello"
    assert not door.guards
    assert library.serve is original
