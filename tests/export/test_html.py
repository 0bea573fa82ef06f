"""The offline viewer: what is in the file, and what a real browser draws from it."""

import base64
import json
import math
import re
import shutil
import subprocess
from html import unescape

import numpy as np
import pytest
import torch
from export_scenes import egg, random_gaussians
from PIL import Image

from fsd_gs.core.cameras import orbit_cameras
from fsd_gs.export.html import figure_html, page_html, save_html, viewer_script
from fsd_gs.export.splat import pack_rows
from fsd_gs.render import make_rasterizer

NASTY = "<script>alert(1)</script> & \"q\" 'r' @@SCRIPT@@"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NODE = shutil.which("node")


def test_text_is_escaped_and_cannot_name_template_parts():
    page = page_html(NASTY, [figure_html(random_gaussians(2), NASTY)])
    assert "<script>alert" not in page
    assert unescape(page).count(NASTY) == 3  # title, label, caption
    assert page.count(viewer_script()) == 1


def test_the_data_are_the_splat_rows(tmp_path):
    splats = egg(300)
    save_html(splats, tmp_path / "a.html")
    page = (tmp_path / "a.html").read_text("utf-8")
    (data,) = re.findall(r'<script class="splat-data" type="text/plain">(.*?)</script>', page)
    assert base64.b64decode(data) == pack_rows(splats).tobytes()


def test_nothing_points_outside():
    page = page_html("t", [figure_html(random_gaussians(2), "a"), figure_html(random_gaussians(2), "b")])
    assert "default-src 'none'" in page
    code = re.sub(r'<script class="splat-data".*?</script>', "", page)
    assert not re.findall(r"https?:|//\w+\.\w|\bsrc=|\bhref=|\bfetch\(|XMLHttpRequest|import\(|url\(", code)


@pytest.mark.skipif(not NODE, reason="node is not installed")
def test_depth_sort_is_a_permutation_from_far_to_near():
    assert NODE
    centres = torch.rand(500, 3, generator=torch.Generator().manual_seed(0)).numpy().astype(np.float32)
    forward = [0.6, -0.48, 0.64]
    script = f"""
      globalThis.document = {{ querySelectorAll: () => [] }};
      {viewer_script()}
      const centres = new Float32Array({centres.ravel().tolist()});
      console.log(JSON.stringify([...SplatViewer.sortByDepth(centres, 500, {forward}, new Uint32Array(500))]));
    """
    order = json.loads(subprocess.run([NODE, "-e", script], check=True, capture_output=True, text=True, timeout=30).stdout)
    assert sorted(order) == list(range(500))
    depths = (centres @ np.array(forward))[order]
    assert (np.diff(depths) <= np.ptp(depths) / 65535 * 1.01).all()  # to the 16 bits of the sort


def screenshot(page, picture, width, height):
    """The page as headless Chromium draws it in software; every request to the network would fail at once (see --host-rules).

    On a loaded machine the budget can end before the first frame: a page with little colour gets more time. What is drawn is never redone.
    """
    assert CHROMIUM
    flags = ["--headless", "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-background-networking"]
    flags += ["--hide-scrollbars", "--force-device-scale-factor=1", "--host-rules=MAP * ~NOTFOUND"]
    flags += [f"--user-data-dir={picture.parent / 'profile'}", f"--window-size={width},{height}", f"--screenshot={picture}"]
    drawn = np.zeros((height, width, 3), np.uint8)
    for budget in (3000, 20_000, 60_000):
        command = [CHROMIUM, *flags, f"--virtual-time-budget={budget}", page.as_uri()]
        result = subprocess.run(command, capture_output=True, text=True, timeout=90)
        assert picture.is_file(), result.stderr[-2000:]
        drawn = np.asarray(Image.open(picture).convert("RGB"))
        if (np.ptp(drawn.astype(int), axis=-1) > 60).mean() > 0.05:  # the splats, not just a coloured button
            break
    return drawn


@pytest.mark.long
@pytest.mark.skipif(not CHROMIUM, reason="chromium is not installed (apt-get install chromium)")
def test_a_browser_draws_what_our_rasterizer_draws(tmp_path):
    """From file://, sorted: the same picture as ours to a few 8-bit steps. An unsorted one would show the dark back through the front."""
    splats = egg(2500)
    save_html(splats, tmp_path / "a.html", title=NASTY)
    drawn = screenshot(tmp_path / "a.html", tmp_path / "a.png", 300, 300).astype(float)
    size = drawn.shape[0]  # the canvas fills the page
    camera = orbit_cameras([math.degrees(0.6)], math.degrees(0.26), distance=2.6, width=300, height=size)
    ours = make_rasterizer("cpu")(splats, camera, background=torch.ones(3)).rgb[0].clamp(0, 1).numpy() * 255
    egg_rows = slice(60, size - 60)  # clear of the buttons and the caption
    assert (np.abs(ours[egg_rows] - 255).max(axis=-1) > 30).mean() > 0.1  # the egg covers some of it
    difference = np.abs(drawn[egg_rows] - ours[egg_rows])
    assert difference.mean() < 1.0
    assert np.quantile(difference, 0.99) < 10


@pytest.mark.long
@pytest.mark.skipif(not CHROMIUM, reason="chromium is not installed (apt-get install chromium)")
def test_two_figures_on_one_page(tmp_path):
    style = "<style>figure.splats { flex: none; height: 150px; }</style>"
    page = page_html("t", [style, figure_html(egg(800), "one"), figure_html(egg(800, seed=1), "two")])
    (tmp_path / "a.html").write_text(page, encoding="utf-8")
    drawn = screenshot(tmp_path / "a.html", tmp_path / "a.png", 200, 400)
    for top in (0, 150):
        part = drawn[top + 50 : top + 115, 60:140].astype(int)
        assert (np.ptp(part, axis=-1) > 60).mean() > 0.15  # saturated colour: the splats, not text or buttons
