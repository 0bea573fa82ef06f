"""The road of an artist in one go: type a prompt, ask for a draft, the best of 3, delete a floater, export, open the file again."""

import threading

import pytest
import torch
from pages import fill, painted, screenshot, wait_until
from test_clean_page import choose
from test_live_page import SCENE, TINY

from fsd_gs.export.formats import load_splats
from fsd_gs.train.ranking import RANKING, load_ranking
from fsd_gs.train.runs import load_run_config
from fsd_gs.viewer import command
from fsd_gs.viewer.editing import on_screen
from fsd_gs.viewer.overview import Overview
from fsd_gs.viewer.painter import view_of
from fsd_gs.viewer.server import address, door_of, open_server
from fsd_gs.viewer.start_page import StartPage

pytest.importorskip("viser", reason="the live pages need viser: pip install 'fsd-gs[viewer]'")


REACH = 8  # pixels from the middle of a rectangle to its edges


@pytest.fixture
def studio(tmp_path):
    server = open_server(port=0, say=lambda _: None)
    start = StartPage(server, output=str(tmp_path / "outputs"), overrides=TINY, say=lambda _: None)
    door_of(server).overview = Overview(start.house, start, home=False)
    yield server, start
    start.close()
    server.stop()


def prompt_field(page):
    return page.get_by_text("Prompt", exact=True).locator("xpath=../../..").get_by_role("textbox")


def farthest(page, server, inspector):
    """(splat, x, y): the one that floats most among those that nothing of the page covers, and its place in pixels."""
    splats = inspector._editor.splats
    far = (splats.means - splats.means.median(dim=0).values).norm(dim=1)
    for index in far.argsort(descending=True).tolist():
        x, y = place_of(page, server, inspector, index)
        if all(on_canvas(page, x + dx, y + dy) for dx in (-REACH, REACH) for dy in (-REACH, REACH)):
            return index, x, y
    raise AssertionError("the page covers every splat")


@pytest.mark.slow  # .ci/run gives it a process of its own: it trains, and waits for WebGL in software
def test_prompt_draft_best_of_three_clean_export_open(page, studio, tmp_path, monkeypatch):
    server, start = studio
    page.set_viewport_size({"width": 1000, "height": 500})  # WebGL in software draws it again and again
    page.goto(address(server))
    # a prompt, completed by the words that the prior knows
    fill(prompt_field(page), "a red cha")
    page.get_by_role("button", name="chair", exact=True).click()
    assert wait_until(page, lambda: prompt_field(page).input_value() == "a red chair ")
    choose(page, "Quality", "draft")
    fill(page.get_by_label("Count", exact=True), "3")
    fill(page.get_by_label("Keep best", exact=True), "1")
    settings = page.get_by_text("Settings", exact=True).locator("xpath=../../..").get_by_role("textbox")
    fill(settings, "steps=4")
    page.get_by_role("button", name="Make assets").click()
    # the best of three comes first, with the reason
    folder = tmp_path / "outputs" / "a-red-chair"
    assert wait_until(page, (folder / RANKING).is_file, 240)
    assert wait_until(page, lambda: page.get_by_role("tab", name="Clean").count() == 1, 60)
    best = load_ranking(folder / RANKING).seeds[0]
    assert len(load_ranking(folder / RANKING).seeds) == 3
    assert page.get_by_text("is 1 of 3, kept: score").count() == 1
    run = folder / f"seed-{best:04d}"
    assert load_run_config(run).quality == "draft"
    assert start._inspector.names[0] == f"a-red-chair-seed-{best:04d}"
    # a floater goes, by the mouse
    page.get_by_role("tab", name="Clean").click()
    choose(page, "Tool", "rectangle")
    page.wait_for_timeout(500)
    editor = start._inspector._editor
    whole = len(editor.splats)
    floater, x, y = farthest(page, server, start._inspector)
    page.mouse.move(x - REACH, y - REACH)
    page.mouse.down()
    page.mouse.move(x, y, steps=3)
    page.mouse.move(x + REACH, y + REACH, steps=3)
    page.mouse.up()
    assert wait_until(page, lambda: bool(editor.selected[floater]), 20)
    page.get_by_role("button", name="Delete selected").click()
    assert wait_until(page, lambda: len(editor.splats) < whole, 20)
    left = len(editor.splats)
    page.get_by_role("button", name="Save as new version").click()
    assert wait_until(page, (run / "splats.v2.ply").is_file, 20)
    # export it …
    page.get_by_role("tab", name="Export").click()
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Export", exact=True).click()
    file = tmp_path / waiting.value.suggested_filename
    waiting.value.save_as(file)
    assert len(load_splats(file)) == left
    assert torch.equal(load_splats(file).opacities, load_splats(run / "splats.v2.ply").opacities)
    # … and it is in the house of all assets, and opens again as a file
    page.goto(f"{address(server)}/assets")
    assert page.locator(".card").count() == 3
    open_as_file(page, file, left, monkeypatch)


def on_canvas(page, x, y):
    return page.evaluate("([x, y]) => document.elementFromPoint(x, y)?.tagName == 'CANVAS'", [x, y])


def place_of(page, server, inspector, index):
    """(x, y) in pixels of a splat."""
    client = next(iter(server.get_clients().values()))
    where = inspector.shown(inspector._editor.splats).means[index : index + 1]
    u, v = on_screen(where, view_of(client))[0][0].tolist()
    box = page.locator("canvas").first.bounding_box()
    return box["x"] + u * box["width"], box["y"] + v * box["height"]


def open_as_file(page, file, count, monkeypatch):
    """``fsd-gs view FILE``, in the browser."""
    until, said = threading.Event(), []
    monkeypatch.setattr(command, "_say", said.append)
    viewing = threading.Thread(target=command.main, args=([str(file), "--port", "0"],), kwargs={"until": until})
    viewing.start()
    try:
        assert wait_until(page, lambda: bool(said))
        page.goto(said[0].split()[1])
        assert wait_until(page, lambda: page.get_by_text(f"{count} splats").count() == 1)
        assert wait_until(page, lambda: painted(screenshot(page, clip=SCENE)) > 0.02)
    finally:
        until.set()
        viewing.join(20)
