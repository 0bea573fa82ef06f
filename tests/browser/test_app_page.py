"""The page of the app in Chromium: two people's assets in one queue, one of them cancelled; refusals, results, the viewer, a phone."""

import re
import socket
import threading
import time

import pytest
import uvicorn
from pages import wait_until

from fsd_gs.app.api import make_api
from fsd_gs.app.guard import Guard
from fsd_gs.app.jobs import Queue
from fsd_gs.app.limits import Limits
from fsd_gs.catalogue.vocabulary import CATALOGUE
from fsd_gs.viewer.access import Door
from tests.app.makers import Stepwise


@pytest.fixture
def app(tmp_path):
    """(address, maker) of an app whose assets grow one step at each ``maker.go.release()``."""
    maker, limits = Stepwise(), Limits(waiting=3, stream_seconds=60)
    api = make_api(
        Queue(maker, limits.waiting), output=str(tmp_path / "outputs"), limits=limits, overrides=("steps=4",), vocabulary=CATALOGUE
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    guarded = Guard(api, Door("127.0.0.1"), limits.body_bytes)
    server = uvicorn.Server(uvicorn.Config(guarded, host="127.0.0.1", port=port, log_level="error", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{port}/", maker
    server.should_exit = True
    maker.go.release(100)
    thread.join()


def rows(page):
    return [" ".join(text.split()) for text in page.locator("#queue .job").all_inner_texts()]


def ask(page, prompt, by, **fields):
    for name, value in {"prompt": prompt, "by": by, **fields}.items():
        page.fill(f"[name={name}]", value)
    page.click("button[type=submit]")


def test_words_are_completed_and_asked_about_while_a_prompt_is_typed(app, page):
    page.goto(app[0])
    page.fill("[name=prompt]", "two red chairs with a t")
    offered = "[...document.querySelectorAll('#completions option')].map((option) => option.value)"
    assert wait_until(page, lambda: page.evaluate(offered) == ["two red chairs with a tall back"])
    assert "'two' cannot be done" in page.locator("#misunderstood").inner_text()
    page.fill("[name=prompt]", "a red chair")
    assert wait_until(page, lambda: page.locator("#misunderstood").is_hidden())


def test_two_people_share_a_queue(app, browser, page):
    address, maker = app
    page.goto(address)
    other = browser.new_context(viewport={"width": 390, "height": 844}).new_page()
    other.goto(address)
    ask(page, "a red chair", "Ada")
    ask(other, "a blue car", "Grace", count="2")
    for window in (page, other):
        assert wait_until(window, lambda window=window: len(rows(window)) == 3)
    assert wait_until(page, lambda: re.search(r"a red chair seed 0 · for Ada · starting", rows(page)[0]))
    assert [re.search(r"for (\w+) · waits, number (\d)", row).groups() for row in rows(page)[1:]] == [("Grace", "1"), ("Grace", "2")]
    assert other.evaluate("document.documentElement.scrollWidth <= innerWidth")

    maker.go.release()  # the first step of Ada's chair
    assert wait_until(other, lambda: "step 1 of 4" in rows(other)[0])
    page.locator("#queue .job", has_text="seed 0 · for Grace").get_by_role("button", name="Cancel").click()  # anybody may
    assert wait_until(other, lambda: len(rows(other)) == 2)
    assert wait_until(other, lambda: "seed 1 · for Grace · waits, number 1" in rows(other)[1])
    assert wait_until(page, lambda: page.locator("#results .card").count() == 1)
    assert "cancelled at step 0 of 4" in page.locator("#results").inner_text()

    maker.go.release(2 + 3)
    assert wait_until(page, lambda: page.locator("#results .card", has_text="4 steps").count() == 1)
    # what stops must be the car: its own page may hear of the end of the chair later than the other one
    assert wait_until(other, lambda: re.search(r"seed 1 · for Grace · step 2 of 4", rows(other)[0]))
    with other.expect_response(lambda response: response.request.method == "DELETE"):  # the next step must find the wish there
        other.get_by_role("button", name="Stop and keep").click()
    maker.go.release()
    assert wait_until(other, lambda: "kept at step" in other.locator("#results").inner_text())
    assert wait_until(page, lambda: page.locator("#idle").is_visible())

    page.locator("#results .card", has_text="a red chair").click()
    assert wait_until(page, lambda: page.locator("dialog .files a", has_text="asset.spz").is_visible())
    frame = wait_until(page, lambda: next((f for f in page.frames if f.url.endswith("view.html")), None))
    assert wait_until(page, lambda: frame.locator("canvas").count() == 1)
    with page.expect_download() as saved:
        page.locator("dialog .files a", has_text="asset.spz").click()
    assert saved.value.suggested_filename == "a-red-chair-seed-0000.spz"
    other.context.close()


def test_an_answer_that_an_event_overtook_changes_nothing(app, page):
    """The list that the page asks for when the asset begins arrives after the event of its first step."""
    address, maker = app
    held = []
    page.goto(address)
    page.route("**/assets?*", lambda route: held.append((route, route.fetch())))
    ask(page, "a red chair", "Ada")
    assert wait_until(page, lambda: held)
    maker.go.release()
    assert wait_until(page, lambda: "step 1 of 4" in rows(page)[0])
    for route, answer in held:
        with page.expect_response("**/assets?*"):
            route.fulfill(response=answer)
    page.wait_for_timeout(200)
    assert all(asset["step"] == 0 for _, answer in held for asset in answer.json())
    assert "step 1 of 4" in rows(page)[0]


def test_refusals_are_shown_and_text_stays_text(app, page):
    address, _ = app
    page.goto(address)
    page.click("summary")
    ask(page, "a chair", "Ada", settings="splats.init=/etc/passwd")
    assert wait_until(page, lambda: "cannot be chosen from a page" in page.locator("#said").inner_text())
    page.select_option("[name=quality]", "draft")
    ask(page, "<img src=x onerror=alert(1)>", "<b>Ada</b>", settings="")
    assert wait_until(page, lambda: rows(page))
    assert re.search(r"<img src=x onerror=alert\(1\)> ?seed 0 · draft · for <b>Ada</b>", rows(page)[0])
    assert page.locator("#queue b").count() == 0
    ask(page, "a chair", "", count="3")
    assert wait_until(page, lambda: len(rows(page)) == 4)
    ask(page, "a chair", "", count="1")
    assert wait_until(page, lambda: "the queue is full: 3 assets wait" in page.locator("#said").inner_text())
