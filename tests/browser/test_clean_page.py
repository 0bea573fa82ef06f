"""Cleaning in a real browser, with the mouse: a rectangle around a floater, delete, undo, delete, save; a brush; the file opens again."""

import pytest
import torch
from pages import wait_until

from fsd_gs.export.command import find_splats
from fsd_gs.export.formats import load_splats
from fsd_gs.export.ply import save_ply
from fsd_gs.render import make_rasterizer
from fsd_gs.viewer.inspector import Inspector
from fsd_gs.viewer.server import address, open_server
from tests.viewer.test_editing import with_floater

pytest.importorskip("viser", reason="the live pages need viser: pip install 'fsd-gs[viewer]'")


@pytest.fixture
def cleaning(page, tmp_path):
    path = tmp_path / "an-egg" / "seed-0000" / "splats.ply"
    path.parent.mkdir(parents=True)
    save_ply(with_floater(), path)
    server = open_server(port=0, say=lambda _: None)
    inspector = Inspector(server, {"egg": path}, make_rasterizer("cpu"))
    page.goto(address(server))
    assert wait_until(page, lambda: page.get_by_role("tab", name="Clean").count() > 0)
    page.get_by_role("tab", name="Clean").click()
    page.wait_for_timeout(500)
    yield page, inspector, path
    inspector.close()
    server.stop()


def choose(page, label, option):
    page.get_by_label(label, exact=True).first.click()
    page.get_by_role("option", name=option, exact=True).click()
    page.wait_for_timeout(200)  # see pages.fill


def press(page, x, y):
    """A click as a hand makes it: there, down, up."""
    page.mouse.move(x - 5, y - 5)
    page.mouse.move(x, y)
    page.wait_for_timeout(100)
    page.mouse.down()
    page.wait_for_timeout(100)
    page.mouse.up()


def floater_on_screen(page, inspector):
    """(x, y) in pixels of the floater, and the size of the canvas."""
    from fsd_gs.viewer.editing import on_screen
    from fsd_gs.viewer.painter import view_of

    client = next(iter(inspector._server.get_clients().values()))
    where = inspector.shown(inspector._editor.splats).means[-5:].mean(dim=0, keepdim=True)
    u, v = on_screen(where, view_of(client))[0][0].tolist()
    box = page.locator("canvas").first.bounding_box()
    return box["x"] + u * box["width"], box["y"] + v * box["height"]


def test_a_floater_is_deleted_and_saved(cleaning):
    page, inspector, path = cleaning
    editor = inspector._editor
    choose(page, "Tool", "rectangle")
    page.wait_for_timeout(500)
    x, y = floater_on_screen(page, inspector)
    page.mouse.move(x - 30, y - 30)
    page.mouse.down()
    page.mouse.move(x, y, steps=4)
    page.mouse.move(x + 30, y + 30, steps=4)
    page.mouse.up()
    assert wait_until(page, lambda: int(editor.selected.sum()) == 5, 20)
    assert wait_until(page, lambda: page.get_by_text("of 505 selected").count() > 0, 20)
    page.get_by_role("button", name="Delete selected").click()
    assert wait_until(page, lambda: len(editor.splats) == 500, 20)
    page.locator("canvas").first.focus()
    page.keyboard.press("Control+z")
    assert wait_until(page, lambda: len(editor.splats) == 505, 20)
    page.keyboard.press("x")  # the selection is back, too
    assert wait_until(page, lambda: len(editor.splats) == 500, 20)
    page.get_by_role("button", name="Undo").click()
    assert wait_until(page, lambda: len(editor.splats) == 505, 20)
    page.get_by_role("button", name="Redo").click()
    assert wait_until(page, lambda: len(editor.splats) == 500 and len(inspector._kept) == 500, 20)
    page.get_by_role("button", name="Save as new version").click()
    version = path.with_name("splats.v2.ply")
    assert wait_until(page, version.is_file, 20)
    assert find_splats(path.parent)[0] == version
    kept = load_splats(version)
    assert len(kept) == 500
    assert float(kept.means[:, 2].max()) < 0.8
    assert len(load_splats(path)) == 505  # the original is kept


def test_a_brush_adds_with_shift(cleaning):
    page, inspector, _ = cleaning
    choose(page, "Tool", "brush")
    page.wait_for_timeout(500)
    x, y = floater_on_screen(page, inspector)
    press(page, x, y)
    assert wait_until(page, lambda: 0 < int(inspector._editor.selected.sum()) <= 505, 20)
    taken = inspector._editor.selected.clone()
    assert bool(taken[-5:].all())
    page.keyboard.down("Shift")
    press(page, x, y + 150)
    page.keyboard.up("Shift")
    assert wait_until(page, lambda: int(inspector._editor.selected.sum()) > int(taken.sum()), 20)
    assert bool(inspector._editor.selected[taken].all())
    assert not torch.equal(inspector._editor.selected, taken)
