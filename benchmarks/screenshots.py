"""The pages as pictures: ``python benchmarks/screenshots.py outputs --out docs/images`` writes studio-<page>-<width>.jpg, 1280 and 390 px.

Needs a folder of finished assets (of two prompts at least, one of them with ``count=8 keep=3`` for a gallery to look at), a Chromium
(``CHROMIUM``, or ``chromium`` on the path) and the package playwright. It clicks through the pages as a person would, and starts one draft
on the start page to show it live.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from fsd_gs.app.command import make_server
from fsd_gs.app.limits import Limits
from fsd_gs.train import runs
from fsd_gs.viewer.access import Door
from fsd_gs.viewer.gallery import GALLERY
from fsd_gs.viewer.house import House
from fsd_gs.viewer.overview import Overview
from fsd_gs.viewer.server import address, door_of, open_server
from fsd_gs.viewer.start_page import StartPage

FLAGS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-background-networking"]
WIDTHS = {1280: 800, 390: 844}
CHEAP = "steps=24 render.sizes=[32] render.size_at=[0.0] splats.count=1500 densify.every=6"
MOST_BYTES = 150_000
Shot = Callable[[Any, Path, Path], None]


@contextmanager
def pages(width: int) -> Iterator[Any]:
    """A fresh page of a headless browser; narrow ones are a phone's."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        executable = os.environ.get("CHROMIUM") or shutil.which("chromium")
        browser = driver.chromium.launch(executable_path=executable, headless=True, args=FLAGS)
        phone = width < 600
        context = browser.new_context(viewport={"width": width, "height": WIDTHS[width]}, is_mobile=phone, has_touch=phone)
        yield context.new_page()
        browser.close()


def shoot(page: Any, path: Path) -> None:
    """The page as it stands, as JPEG, as good as fits."""
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    for quality in (85, 75, 65, 50):
        picture.save(path, quality=quality, optimize=True)
        if path.stat().st_size <= MOST_BYTES:
            break
    print(f"{path} {path.stat().st_size / 1000:.0f} kB")


def quiet(page: Any) -> None:
    """Close viser's notice about software rendering, and wait for the splats."""
    page.wait_for_timeout(2500)
    for button in page.locator(".mantine-Notification-closeButton").all():
        button.click()
    page.wait_for_timeout(800)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("outputs", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    parser.add_argument("--width", type=int, choices=WIDTHS, default=None, help="only this one")
    parser.add_argument("--only", nargs="*", default=None, help="names of pages")
    options = parser.parse_args()
    for width in (options.width,) if options.width else WIDTHS:
        with pages(width) as page:
            for name, visit in PAGES.items():
                if options.only is None or name in options.only:
                    visit(page, options.outputs, options.out / f"studio-{name}-{width}.jpg")


@contextmanager
def studio(outputs: Path, home: bool = True) -> Iterator[tuple[str, House]]:
    """The address of the live pages, and the assets."""
    server = open_server(port=0, say=lambda _: None)
    start = StartPage(server, output=str(outputs), say=lambda _: None)
    door_of(server).overview = Overview(start.house, start, home=home)
    try:
        yield address(server), start.house
    finally:
        start.close()
        server.stop()


def largest_set(house: House) -> Path:
    """The folder of the prompt with the most seeds."""
    return max({entry.run.parent for entry in house.entries()}, key=lambda folder: len(list(folder.glob("seed-*"))))


def overview(page: Any, outputs: Path, path: Path) -> None:
    """All assets, two of them starred."""
    with studio(outputs) as (url, house):
        for entry in house.entries()[:2]:
            house.star(entry.name, True)
        page.goto(url)
        page.wait_for_timeout(1500)
        shoot(page, path)


def compare(page: Any, outputs: Path, path: Path) -> None:
    """Four seeds, turned together; on a phone two."""
    with studio(outputs) as (url, house):
        names = [e.name for e in sorted(house.entries(), key=lambda e: -(e.score or 0)) if e.run.parent == largest_set(house)]
        query = "&".join(f"asset={name}" for name in names[: 4 if page.viewport_size["width"] > 600 else 2])
        page.goto(f"{url}/compare?{query}")
        page.wait_for_timeout(1000)
        page.keyboard.press("ArrowLeft")
        page.wait_for_timeout(1500)
        shoot(page, path)


def words(page: Any, outputs: Path, path: Path) -> None:
    """What the prior knows."""
    with studio(outputs) as (url, _):
        page.goto(f"{url}/words")
        page.wait_for_timeout(6000)
        shoot(page, path)


def start(page: Any, outputs: Path, path: Path) -> None:
    """A prompt in the middle of being typed."""
    with studio(outputs, home=False) as (url, _):
        page.goto(f"{url}/index.html?words=two%20red%20chairs%20with%20")
        quiet(page)
        shoot(page, path)


def edit(page: Any, outputs: Path, path: Path) -> None:
    """The form for an edit of the best asset."""
    with studio(outputs) as (url, house):
        best = max(house.entries(), key=lambda entry: entry.score or 0)
        page.goto(f"{url}/index.html?edit={best.name}")
        quiet(page)
        shoot(page, path)


def inspect(page: Any, outputs: Path, path: Path) -> None:
    """Cleaning: the faint splats, selected."""
    with studio(outputs) as (url, house):
        best = max((e for e in house.entries() if e.run.parent == largest_set(house)), key=lambda entry: entry.score or 0)
        page.goto(f"{url}/index.html?asset={best.name}")
        page.wait_for_timeout(2000)
        page.get_by_role("tab", name="Clean").click()
        page.get_by_label("By", exact=True).first.click()
        page.get_by_role("option", name="fainter than", exact=True).click()
        page.get_by_text("Limit", exact=True).locator("xpath=../../..").get_by_role("textbox").fill("0.03")
        page.keyboard.press("Tab")
        page.get_by_role("button", name="Select by rule").click()
        quiet(page)
        shoot(page, path)


def live(page: Any, outputs: Path, path: Path) -> None:
    """A run at half of its steps."""
    with studio(outputs.parent / f"{outputs.name}-live", home=False) as (url, _):
        page.goto(f"{url}/index.html?words=a%20green%20lamp")
        page.wait_for_timeout(1500)
        page.get_by_label("Count", exact=True).fill("1")
        page.get_by_label("Seed", exact=True).fill(str(page.viewport_size["width"]))
        page.get_by_text("Settings", exact=True).locator("xpath=../../..").get_by_role("textbox").fill(CHEAP)
        page.get_by_role("button", name="Make assets").click()
        page.get_by_text(re.compile(r"step 1[4-9] of 24")).first.wait_for(timeout=300_000)
        for button in page.locator(".mantine-Notification-closeButton").all():
            button.click()
        page.wait_for_timeout(1500)
        shoot(page, path)
        page.get_by_role("button", name="Stop", exact=True).click()
        page.wait_for_timeout(2000)


def gallery(page: Any, outputs: Path, path: Path) -> None:
    """The offline page of a prompt, the best first."""
    several = max(outputs.iterdir(), key=lambda folder: len(list(folder.glob(f"seed-*/{runs.SPLATS}"))))
    page.goto((several / GALLERY).resolve().as_uri())
    page.wait_for_timeout(3000)
    shoot(page, path)


def app(page: Any, outputs: Path, path: Path) -> None:
    """The page for several people, with what was made before."""
    server = make_server(Door.of("127.0.0.1"), 8097, output=str(outputs), limits=Limits())
    serving = threading.Thread(target=server.run, daemon=True)
    serving.start()
    try:
        page.wait_for_timeout(4000)
        page.goto("http://127.0.0.1:8097/")
        page.locator("[name=prompt]").fill("a blue house with a")
        page.wait_for_timeout(2500)
        shoot(page, path)
    finally:
        page.goto("about:blank")  # lets go of the events
        server.should_exit = True
        serving.join(10)


PAGES: dict[str, Shot] = {
    "start": start,
    "edit": edit,
    "live": live,
    "inspect": inspect,
    "gallery": gallery,
    "overview": overview,
    "compare": compare,
    "words": words,
    "app": app,
}

if __name__ == "__main__":
    main()
