"""The live pages in a real browser: splats grow, the buttons reach the run, exports arrive, the start page makes an asset."""

import threading

import pytest
import torch
from export_scenes import egg
from pages import coverage, fill, mean_colour, painted, screenshot, wait_until

from fsd_gs.core.cameras import orbit_cameras
from fsd_gs.export.formats import load_splats
from fsd_gs.export.ply import save_ply
from fsd_gs.render import make_rasterizer
from fsd_gs.train.api import generate
from fsd_gs.viewer.inspector import Inspector
from fsd_gs.viewer.live import LiveViewer
from fsd_gs.viewer.server import FOV_Y_DEG, HOME_AZIMUTH_DEG, HOME_DISTANCE, HOME_ELEVATION_DEG, address, open_server
from fsd_gs.viewer.start_page import StartPage

pytest.importorskip("viser", reason="the live pages need viser: pip install 'fsd-gs[viewer]'")
CPU = make_rasterizer("cpu")
SCENE = {"x": 0, "y": 200, "width": 880, "height": 660}  # left of the panel, below the notice about software rendering
TINY = ("render.sizes=[32]", "render.size_at=[0.0]", "splats.count=200", "densify.kind=none", "prior.objects=4", "prior.distractors=2",
        "prior.name=exact", "guidance.cfg_scale=1.0",
        "cameras.azimuth_grid=4", "cameras.elevation_grid=1", "outputs.turntable_frames=2", "outputs.turntable_size=32")  # fmt: skip


@pytest.fixture
def server():
    server = open_server(port=0, say=lambda _: None)
    yield server
    server.stop()


def scene_picture(page):
    return screenshot(page, clip=SCENE)


def test_watching_a_run(browser, page, server, tmp_path):
    viewer = LiveViewer(server, "a <b>red</b> chair", tmp_path)
    results = []
    overrides = [*TINY, "steps=100000"]
    training = threading.Thread(target=lambda: results.append(generate("a red chair", overrides=overrides, callbacks=[viewer])))
    training.start()
    try:
        page.goto(address(server))
        page.get_by_role("button", name="Pause").click()
        assert page.get_by_text("a <b>red</b> chair").is_visible()  # a prompt is no markup
        assert wait_until(page, lambda: painted(scene_picture(page)) > 0.02)
        assert page.locator("canvas").count() >= 2  # the scene and the loss curve
        assert wait_until(page, viewer.paused.is_set)
        page.get_by_role("button", name="Save now").click()
        saved = wait_until(page, lambda: list((tmp_path / "snapshots").glob("step-*.ply")))  # also while paused
        assert len(load_splats(saved[0])) == 200
        page.wait_for_timeout(300)
        stopped_at = viewer._losses[-1][0]
        assert saved[0].name == f"step-{stopped_at:06d}.ply"
        page.get_by_role("button", name="Resume").click()
        assert wait_until(page, lambda: viewer._losses[-1][0] > stopped_at)
        page.get_by_role("button", name="Stop", exact=True).click()
    finally:
        wait_until(page, lambda: not training.is_alive())
        viewer.stopping.set()
        training.join(60)
    assert [result.complete for result in results] == [False]


def test_stop_and_keep_writes_the_asset(page, server, tmp_path):
    start = StartPage(server, output=str(tmp_path), overrides=(*TINY, "steps=100000"), say=lambda _: None)
    try:
        page.goto(address(server))
        fill(page.get_by_label("Count", exact=True), "1")
        page.get_by_role("button", name="Make assets").click()
        keep = page.get_by_role("button", name="Stop and keep")
        assert wait_until(page, lambda: page.get_by_text("step ").count() > 0)
        assert page.get_by_role("button", name="Make assets").count() == 0  # the form makes room
        keep.click()
        run = tmp_path / "a-red-chair" / "seed-0000"
        assert wait_until(page, (tmp_path / "a-red-chair" / "gallery.html").is_file)
        assert (run / "preview.png").is_file()
        assert len(load_splats(run / "splats.ply")) > 0
        assert wait_until(page, lambda: page.get_by_role("tab", name="Export").count() == 1)  # and it can be looked at
    finally:
        start.close()


def choose(page, label, option):
    page.get_by_role("combobox", name=label, exact=True).locator("visible=true").click()
    page.get_by_role("option", name=option, exact=True).locator("visible=true").click()


def test_inspecting_and_exporting(page, server, tmp_path):
    splats = egg(3000)
    save_ply(splats, tmp_path / "egg.ply")
    inspector = Inspector(server, {"egg": tmp_path / "egg.ply"}, CPU)
    try:
        page.goto(address(server))
        camera = orbit_cameras([HOME_AZIMUTH_DEG], HOME_ELEVATION_DEG, distance=HOME_DISTANCE, fov_y_deg=FOV_Y_DEG, width=880, height=860)
        expected = CPU(splats, camera, background=torch.ones(3)).rgb[0, 200:].numpy()

        def drawn():
            picture = scene_picture(page)
            return abs(coverage(picture) - coverage(expected)) < 0.05 and abs(mean_colour(picture) - mean_colour(expected)).max() < 0.06

        assert wait_until(page, drawn)  # by the browser …
        choose(page, "Show", "Rendered, with SH")
        page.wait_for_timeout(1200)
        assert wait_until(page, drawn)  # … and by us, from the browser's camera: the same place and colours
        choose(page, "Show", "Depth")
        assert wait_until(page, lambda: abs(mean_colour(scene_picture(page)) - mean_colour(expected)).max() > 0.1)
        page.get_by_role("tab", name="Export").click()
        choose(page, "For", "blender")
        with page.expect_download() as waiting:
            page.get_by_role("button", name="Export", exact=True).click()
        assert waiting.value.suggested_filename == "egg.ply"
        waiting.value.save_as(tmp_path / "download.ply")
        back = load_splats(tmp_path / "download.ply", target="blender")
        assert torch.allclose(back.means, splats.means, atol=1e-5)
    finally:
        inspector.close()


def ask_for_one(page, server, words):
    """Open the start page and ask for one asset; the field of the prompt."""
    page.goto(address(server))
    prompt = page.get_by_text("Prompt", exact=True).locator("xpath=../../..").get_by_role("textbox")
    fill(prompt, words)
    fill(page.get_by_label("Count", exact=True), "1")
    page.get_by_role("button", name="Make assets").click()
    return prompt


def test_the_start_page_makes_an_asset(page, server, tmp_path):
    start = StartPage(server, output=str(tmp_path), overrides=(*TINY, "steps=4"), say=lambda _: None)
    try:
        prompt = ask_for_one(page, server, "a wooden dragon queen")
        assert wait_until(page, lambda: page.get_by_text("prompt").locator("visible=true").count() > 1)  # the error names the argument
        fill(prompt, "a red chair")
        page.get_by_role("button", name="Make assets").click()
        assert wait_until(page, (tmp_path / "a-red-chair" / "gallery.html").is_file, 300)
        assert wait_until(page, lambda: page.get_by_role("tab", name="Export").count() == 1)
        assert page.get_by_role("button", name="Make assets").is_enabled()
    finally:
        start.close()


def test_words_are_asked_about_in_the_page(page, server, tmp_path):
    start = StartPage(server, output=str(tmp_path), overrides=(*TINY, "steps=1"), say=lambda _: None)
    try:
        ask_for_one(page, server, "two yelow ducks")
        asked = page.get_by_text("go on without them with the box Anyway")
        assert wait_until(page, lambda: asked.count() == 1 and asked.is_visible())
        assert "did you mean 'yellow'?" in asked.inner_text()
        left_out = page.get_by_text("left out: 'two' cannot be done: numbers are not understood")
        assert left_out.is_visible()
        assert not list(tmp_path.iterdir())  # nothing was begun
        page.get_by_label("Anyway", exact=True).check()
        page.get_by_role("button", name="Make assets").click()
        assert wait_until(page, lambda: len(list(tmp_path.glob("*/gallery.html"))) == 1, 300)
        assert left_out.is_visible()  # said again, of this run
        assert "'yelow' is not known here" in left_out.inner_text()
    finally:
        start.close()


@pytest.fixture
def phone(browser):
    context = browser.new_context(viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    yield context.new_page()
    context.close()


def test_on_a_phone_the_controls_do_not_cover_the_object(phone, server, tmp_path):
    save_ply(egg(3000), tmp_path / "egg.ply")
    inspector = Inspector(server, {"egg": tmp_path / "egg.ply"}, CPU)
    try:
        phone.goto(address(server))
        tab = phone.get_by_role("tab", name="Turntable")
        assert wait_until(phone, lambda: tab.count() == 1)
        tab.tap()  # the highest sheet
        assert phone.get_by_role("button", name="Save turntable").is_visible()
        upper = {"x": 0, "y": 140, "width": 390, "height": 844 * 0.55 - 140}  # below the notice about software rendering
        assert wait_until(phone, lambda: coverage(screenshot(phone, clip=upper)) > 0.1)
        scene = phone.locator("canvas").first.bounding_box()
        sheet = phone.get_by_text("fsd-gs", exact=True).bounding_box()
        assert scene["y"] + scene["height"] <= 844 * 0.55 + 1
        assert sheet["y"] >= scene["y"] + scene["height"] - 1
        edge = coverage(screenshot(phone, clip={"x": 0, "y": scene["height"] - 8, "width": 390, "height": 8}))
        assert edge < 0.01  # the whole object is above it
    finally:
        inspector.close()
