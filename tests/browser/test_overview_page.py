"""The overview in a real browser: search, sort, open; star, rename, delete and undo by mouse and by keys; four side by side."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "campaign"))
from export_scenes import egg
from pages import coverage, fill, screenshot, wait_until
from stub_prior import TINY as TINY_RUN
from stub_prior import GreenPrior

from fsd_gs.config import load_config
from fsd_gs.export.pictures import save_png
from fsd_gs.export.ply import save_ply
from fsd_gs.render import make_rasterizer
from fsd_gs.train import runs
from fsd_gs.train.backbones import PriorCache
from fsd_gs.train.result import draw_preview
from fsd_gs.viewer.overview import Overview
from fsd_gs.viewer.server import address, door_of, open_server
from fsd_gs.viewer.start_page import StartPage

pytest.importorskip("viser", reason="the live pages need viser: pip install 'fsd-gs[viewer]'")
CPU = make_rasterizer("cpu")
TINY = [setting for setting in TINY_RUN if not setting.startswith("prompt")]


@pytest.fixture
def overview(tmp_path):
    for prompt, seed, count in (("a red chair", 0, 300), ("a red chair", 1, 400), ("a <b>blue</b> lamp", 0, 500)):
        config = load_config(overrides=[f"prompt={prompt}", f"output={tmp_path}", f"seed={seed}"])
        run, splats = runs.prepare_folder(config), egg(count)
        save_png(draw_preview(CPU, splats, config), run / runs.PREVIEW)
        save_ply(splats, run / runs.SPLATS)
    server = open_server(port=0, say=lambda _: None)
    studio = StartPage(server, output=str(tmp_path), say=lambda _: None)
    door_of(server).overview = Overview(studio.house, studio)
    door_of(server).overview.galleries.renew = lambda folder: None  # not what is looked at here
    server.studio = studio
    yield server
    studio.close()
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
    cards.nth(0).locator(".open").click()
    assert wait_until(page, lambda: page.get_by_text("400 splats").count() == 1)
    page.get_by_text("All assets").first.click()
    assert wait_until(page, lambda: cards.count() > 0)


def focused(page):
    return page.evaluate("document.activeElement.closest('.card')?.dataset.asset")


def test_everything_by_keyboard(page, overview, tmp_path):
    page.goto(address(overview))
    page.get_by_label("Sort").select_option("prompt")
    page.get_by_label("Sort").blur()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert focused(page) == "a-red-chair-seed-0000"
    card = page.locator("[data-asset=a-red-chair-seed-0000]")
    page.keyboard.press("s")
    assert wait_until(page, lambda: card.get_attribute("data-starred") == "true")
    page.keyboard.press("r")
    page.keyboard.type("the <i>throne</i>")
    page.keyboard.press("Enter")
    assert wait_until(page, lambda: card.locator(".prompt").inner_text() == "the <i>throne</i>")
    assert focused(page) == "a-red-chair-seed-0000"
    page.keyboard.press("Delete")
    assert wait_until(page, lambda: page.locator(".card").count() == 2)
    assert not (tmp_path / "a-red-chair" / "seed-0000").exists()
    assert page.get_by_text("in the bin").is_visible()
    assert focused(page) == "a-red-chair-seed-0001"
    page.keyboard.press("u")
    assert wait_until(page, lambda: page.locator(".card").count() == 3)
    assert (tmp_path / "a-red-chair" / "seed-0000" / "splats.ply").is_file()
    page.keyboard.press("/")
    page.keyboard.type("throne")
    assert page.locator(".card:visible").count() == 1
    page.keyboard.press("Escape")
    page.keyboard.press("m")
    page.keyboard.press("l")  # more like this: the form, filled
    settings = page.get_by_text("Settings", exact=True).locator("xpath=../../..").get_by_role("textbox")
    assert wait_until(page, lambda: settings.count() == 1 and settings.input_value() == "noise.like=0 noise.like_mix=0.7")
    assert page.get_by_label("Seed", exact=True).input_value() == "1000000"


def field(page, name):
    return page.get_by_text(name, exact=True).locator("xpath=../../..").get_by_role("textbox")


@pytest.mark.parametrize("width", [1280, 390])
def test_edit_and_refine(page, overview, tmp_path, width):
    """From a card to the form, what is wrong with it as the terminal says it, and the edit beside its original."""
    server, studio = overview, overview.studio
    studio._overrides, studio._priors = tuple(TINY), PriorCache(lambda config, device: GreenPrior())
    page.set_viewport_size({"width": width, "height": 844})
    page.goto(address(server))
    page.locator("[data-asset=a-red-chair-seed-0001] .open").focus()
    page.keyboard.press("e")
    assert wait_until(page, lambda: page.get_by_text("Edit of a-red-chair-seed-0001").count() == 1)
    assert field(page, "Prompt").input_value() == "a red chair"
    assert page.get_by_label("Count", exact=True).count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    button = page.get_by_role("button", name="Make the edit")
    fill(field(page, "Settings"), "splats.init=/etc/passwd")
    button.click()
    assert wait_until(page, lambda: page.get_by_text("splats.init: '/etc/passwd' cannot be chosen from a page").count() == 1)
    fill(field(page, "Settings"), "")
    fill(field(page, "Prompt"), "a blue chair")
    button.click()
    assert wait_until(page, lambda: page.get_by_text("silhouette: IoU").count() == 1)
    assert wait_until(page, lambda: page.get_by_text("400 splats").count() == 1)
    assert (tmp_path / "a-blue-chair" / "seed-0001" / runs.SPLATS).is_file()
    page.goto(f"{address(server)}/assets")
    page.locator("[data-asset=a-red-chair-seed-0000] .more").click()
    page.get_by_role("button", name="Refine").click()
    assert wait_until(page, lambda: page.get_by_text("Refine a-red-chair-seed-0000 at twice its resolution").count() == 1)
    assert field(page, "Settings").input_value() == f"steps={load_config().steps}"
    assert page.get_by_label("Hold", exact=True).count() == 0


def test_side_by_side_with_one_camera(page, overview):
    page.goto(address(overview))
    page.keyboard.press("ArrowRight")
    for _ in range(3):
        page.keyboard.press("c")
        page.keyboard.press("ArrowRight")
    assert page.get_by_role("button", name="Compare 3").is_enabled()
    page.keyboard.press("v")
    canvases = page.locator("figure canvas")
    assert wait_until(page, lambda: canvases.count() == 3 and coverage(screenshot(canvases.nth(2))) > 0.02)
    azimuths = "splatViewers.map((viewer) => viewer.camera.azimuth.toFixed(3))"
    box = canvases.nth(1).bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 40, y, steps=2)
    page.mouse.up()
    assert len(set(page.evaluate(azimuths))) == 1
    assert page.evaluate(azimuths)[0] == "0.280"  # 0.6 − 40 · 0.008, all three
    page.keyboard.press("l")
    page.keyboard.press("ArrowLeft")
    assert len(set(page.evaluate(azimuths))) == 2
    page.keyboard.press("2")
    assert wait_until(page, lambda: page.locator("article").nth(1).locator(".star").get_attribute("aria-pressed") == "true")
    page.keyboard.press("Escape")
    assert wait_until(page, lambda: page.locator(".card").count() == 3)
    assert page.locator("[data-starred=true]").count() == 1
