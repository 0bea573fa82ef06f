"""A headless Chromium for the pages that we write. Skipped, with the reason, where the browser or its driver is missing.

It is Debian's ``chromium`` (or any Chromium named by ``CHROMIUM``), driven by the ``playwright`` package; playwright's own browsers are
not needed. WebGL2 runs in software.
"""

import os
import shutil
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pages import PATIENCE

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # scenes shared with the other tests

FLAGS = [
    "--no-sandbox",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-background-networking",
    "--autoplay-policy=no-user-gesture-required",
]
LOCAL = ("127.0.0.1", "localhost", "")


def pytest_collection_modifyitems(items):
    """A page in a browser takes seconds: pytest -m long."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.long)


@pytest.fixture(scope="session")
def browser():
    executable = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if executable is None:
        pytest.skip("no Chromium here: apt-get install chromium, or name one in CHROMIUM")
    playwright = pytest.importorskip("playwright.sync_api", reason="the playwright package drives the browser: pip install playwright")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=executable, headless=True, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    """A fresh page; the test fails if a script of it failed, or it asked for anything outside this machine."""
    context = browser.new_context(viewport={"width": 1280, "height": 860}, accept_downloads=True)
    page = context.new_page()
    page.set_default_timeout(1000 * PATIENCE)
    errors, requests = [], []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.on("websocket", lambda socket: requests.append(socket.url))
    yield page
    page.wait_for_timeout(50)
    context.close()
    assert not errors
    outside = [url for url in requests if urlsplit(url).scheme not in ("data", "blob") and urlsplit(url).hostname not in (*LOCAL, None)]
    assert not outside
