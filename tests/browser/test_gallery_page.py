"""gallery.html in a real browser, opened as a file: splats are drawn and sorted, tabs and downloads work."""

import numpy as np
import pytest
import torch
from export_scenes import egg
from pages import coverage, mean_colour, object_mask, screenshot, wait_until

from fsd_gs.config import load_config
from fsd_gs.core.cameras import orbit_cameras
from fsd_gs.core.types import Gaussians
from fsd_gs.export.formats import load_splats
from fsd_gs.export.pictures import TurntableSettings, save_png, turntable_frames
from fsd_gs.export.ply import save_ply
from fsd_gs.export.video import save_mp4
from fsd_gs.render import make_rasterizer
from fsd_gs.train import runs
from fsd_gs.train.result import draw_preview
from fsd_gs.viewer.gallery import write_gallery

CPU = make_rasterizer("cpu")
PROMPT = '<b onclick="alert(1)">an "egg"</b> & </script>'


@pytest.fixture(scope="module")
def gallery(tmp_path_factory):
    """Two assets: an egg, and the same egg around a bright ball that only wrong sorting can show."""
    folder = tmp_path_factory.mktemp("outputs")
    for seed, splats in enumerate((egg(3000), with_hidden_core(egg(3000)))):
        config = load_config(overrides=[f"prompt={PROMPT}", f"output={folder}", f"seed={seed}"])
        run = runs.prepare_folder(config)
        save_png(draw_preview(CPU, splats, config), run / runs.PREVIEW)
        save_mp4(turntable_frames(splats, CPU, TurntableSettings(frames=8, size=128)), run / runs.TURNTABLE, fps=8)
        save_ply(splats, run / runs.SPLATS)
    return write_gallery(run.parent, CPU)


def with_hidden_core(shell: Gaussians) -> Gaussians:
    """A yellow core of opaque splats inside, stored last: drawn in file order it would cover the shell."""
    core = egg(800)
    yellow = torch.tensor([0.9, 0.9, 0.0]).expand(800, 1, 3)
    core = Gaussians(core.means * 0.5, core.quats, core.scales, core.opacities, (yellow - 0.5) / 0.28209479177387814)
    parts = [[getattr(g, name) for g in (shell, core)] for name in ("means", "quats", "scales", "opacities", "sh")]
    return Gaussians(*(torch.cat(pair) for pair in parts))


def opened(page, gallery):
    page.goto(gallery.as_uri())
    assert wait_until(page, lambda: page.evaluate("splatViewers.every(v => v.frames > 0)"))
    return page.locator(".card")


def test_splats_are_drawn_like_our_renderer_draws_them(page, gallery):
    cards = opened(page, gallery)
    drawn = screenshot(cards.nth(0).locator("canvas"))
    height, width = drawn.shape[:2]
    assert height == width
    cameras = orbit_cameras([np.degrees(0.6)], np.degrees(0.26), distance=2.6, width=width)  # the viewer's home position
    expected = CPU(egg(3000), cameras, background=torch.ones(3)).rgb[0].numpy()
    assert 0.1 < coverage(drawn) < 0.6
    assert coverage(drawn) == pytest.approx(coverage(expected), rel=0.05)
    assert np.abs(mean_colour(drawn) - mean_colour(expected)).max() < 0.03
    both = object_mask(drawn) & object_mask(expected)
    assert np.abs(drawn - expected)[both].mean() < 0.03


def test_splats_are_sorted(page, gallery):
    cards = opened(page, gallery)
    plain, cored = (screenshot(cards.nth(i).locator("canvas"))[:360, :360] for i in (0, 1))  # sides may differ by a rounded pixel
    assert np.abs(plain - cored).mean() < 0.01  # the core stays hidden
    page.evaluate("() => { const v = splatViewers[1]; v.order.forEach((_, i) => v.order[i] = i); v.sortedAlong = String(v.frame().forward);"
                  " v.gl.bufferData(v.gl.ARRAY_BUFFER, v.order, v.gl.DYNAMIC_DRAW); v.draw(); }")  # fmt: skip
    unsorted = screenshot(cards.nth(1).locator("canvas"))[:360, :360]
    assert np.abs(plain - unsorted).mean() > 0.03  # and this test would see it


def test_dragging_turns_the_asset(page, gallery):
    canvas = opened(page, gallery).nth(0).locator("canvas")
    before, box = screenshot(canvas), canvas.bounding_box()
    page.mouse.move(box["x"] + 200, box["y"] + 150)
    page.mouse.down()
    page.mouse.move(box["x"] + 20, box["y"] + 150, steps=3)
    page.mouse.up()
    page.wait_for_timeout(200)
    turned = screenshot(canvas)
    assert np.abs(mean_colour(before) - mean_colour(turned)).max() > 0.03  # from the red front to the green side
    assert coverage(turned) > 0.1


def test_tabs_show_turntable_and_views(page, gallery):
    card = opened(page, gallery).nth(0)
    card.get_by_role("tab", name="Turntable").click()
    assert wait_until(page, lambda: page.evaluate("document.querySelector('video').currentTime > 0"))
    assert coverage(screenshot(card.locator("video"))) > 0.05
    card.get_by_role("tab", name="Views").click()
    assert coverage(screenshot(card.locator("[data-panel=views] img"))) > 0.05
    assert card.locator("canvas").is_hidden()
    card.get_by_role("tab", name="Splats").click()
    page.wait_for_timeout(300)
    assert coverage(screenshot(card.locator("canvas"))) > 0.1  # its WebGL context was given up and came back


def test_downloads(page, gallery, tmp_path):
    card = opened(page, gallery).nth(1)
    for button, start in ((".ply", b"ply\n"), (".mp4", b""), (".png", b"\x89PNG")):
        with page.expect_download() as waiting:
            card.get_by_role("button", name=button, exact=True).click()
        path = tmp_path / waiting.value.suggested_filename
        waiting.value.save_as(path)
        assert path.name.endswith(f"-seed-0001{button}")
        assert path.read_bytes().startswith(start)
    splats = load_splats(next(tmp_path.glob("*.ply")), target="supersplat")
    assert torch.allclose(splats.means, with_hidden_core(egg(3000)).means, atol=1e-5)
    assert next(tmp_path.glob("*.mp4")).read_bytes() == (gallery.parent / "seed-0001" / runs.TURNTABLE).read_bytes()


def test_the_prompt_is_text(page, gallery):
    opened(page, gallery)
    assert page.locator("h1").inner_text() == PROMPT
    assert page.title() == PROMPT
    assert page.locator("b").count() == 0
