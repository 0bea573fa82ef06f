"""The overview in a real browser: search, sort, a click opens the asset that was clicked."""

import pytest
from export_scenes import egg
from pages import coverage, screenshot, wait_until

from fsd_gs.config import load_config
from fsd_gs.export.pictures import save_png
from fsd_gs.export.ply import save_ply
from fsd_gs.render import make_rasterizer
from fsd_gs.train import runs
from fsd_gs.train.result import draw_preview
from fsd_gs.viewer.inspector import Inspector
from fsd_gs.viewer.overview import Overview, finished_runs
from fsd_gs.viewer.server import address, door_of, open_server

pytest.importorskip("viser", reason="the live pages need viser: pip install 'fsd-gs[viewer]'")
CPU = make_rasterizer("cpu")


@pytest.fixture
def overview(tmp_path):
    for prompt, seed, count in (("a red chair", 0, 300), ("a red chair", 1, 400), ("a <b>blue</b> lamp", 0, 500)):
        config = load_config(overrides=[f"prompt={prompt}", f"output={tmp_path}", f"seed={seed}"])
        run, splats = runs.prepare_folder(config), egg(count)
        save_png(draw_preview(CPU, splats, config), run / runs.PREVIEW)
        save_ply(splats, run / runs.SPLATS)
    server, entries = open_server(port=0, say=lambda _: None), finished_runs(tmp_path)
    inspector = Inspector(server, {entry.name: entry.run / runs.SPLATS for entry in entries}, CPU)
    door_of(server).overview = Overview(entries, inspector.choose)
    yield server
    inspector.close()
    server.stop()


@pytest.mark.parametrize("width", [1280, 390])
def test_search_sort_and_open(page, overview, width):
    page.set_viewport_size({"width": width, "height": 844})
    page.goto(address(overview))
    cards = page.locator(".card:visible")
    assert cards.count() == 3
    assert wait_until(page, lambda: coverage(screenshot(cards.nth(0).locator("img"))) > 0.05)  # its thumbnail
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.get_by_label("Sort").select_option("prompt")
    assert cards.nth(0).inner_text().startswith("a <b>blue</b> lamp")
    page.get_by_label("Search").fill("chair RED 1")
    assert cards.count() == 1
    page.get_by_label("Search").fill("nothing like it")
    assert page.get_by_text("Nothing has these words.").is_visible()
    page.get_by_label("Search").fill("chair 1")
    cards.nth(0).click()
    assert wait_until(page, lambda: page.get_by_text("400 splats").count() == 1)
