"""gallery.html: what is in it, how large it gets, and that nothing from a prompt becomes markup."""

import base64
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from export_scenes import egg

from fsd_gs.config import load_config
from fsd_gs.errors import FileFormatError
from fsd_gs.export.formats import load_splats
from fsd_gs.export.pictures import save_png
from fsd_gs.export.ply import save_ply
from fsd_gs.export.video import save_mp4
from fsd_gs.render import make_rasterizer
from fsd_gs.train import runs
from fsd_gs.train.variants import VARIANTS, Attempt, Variant, VariantSet, save_variants
from fsd_gs.viewer import gallery
from fsd_gs.viewer.gallery import write_gallery

CPU = make_rasterizer("cpu")
HOSTILE = "</script></title><img src=x onerror=alert(1)>\"' @@SCRIPT@@ <!-- {{y}} \\1"


def finished_run(folder, seed, splats, prompt="an egg", overrides=(), video=False):
    config = load_config(overrides=[f"prompt={prompt}", f"output={folder}", f"seed={seed}", *overrides])
    run = runs.prepare_folder(config)
    frames = np.random.default_rng(seed).integers(0, 255, (4, 388, 780, 3), dtype=np.uint8)
    save_png(frames[0], run / runs.PREVIEW)
    if video:
        save_mp4(frames[:, :64, :64], run / runs.TURNTABLE, fps=4)
    save_ply(splats, run / runs.SPLATS)
    return run.parent


class Page(HTMLParser):
    """Tags with their attributes and the text outside scripts and styles."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.words, self.stack = [], [], []
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self.stack.append(tag)

    def handle_endtag(self, tag):
        if self.stack and self.stack[-1] == tag:
            self.stack.pop()

    def handle_data(self, data):
        if not self.stack:
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def test_everything_is_inside(tmp_path):
    for seed in (0, 1):
        folder = finished_run(tmp_path, seed, egg(500, seed=seed), video=True, overrides=["steps=123"])
    path = write_gallery(folder, CPU)
    page, source = Page(path), path.read_text("utf-8")
    assert path == folder / "gallery.html"
    assert "an egg" in page.text
    for part in ("2 assets", "seed 0", "seed 1", "500 splats", "diversity", "steps 123", "prior.name nano"):
        assert part in page.text
    assert len(page.all("canvas")) == len(page.all("video")) == len(page.all("img")) == 2
    for media in page.all("img") + page.all("video"):
        assert media["src"].startswith(("data:image/png;base64,", "data:video/mp4;base64,"))
    assert page.all("video")[0]["poster"].startswith("data:image/jpeg;base64,")
    assert not re.search(r"(?:src|href)=\"(?!data:)", source)
    assert "default-src 'none'" in source
    assert "@@" not in re.sub(r"<script.*?</script>", "", source, flags=re.S)


def test_the_embedded_ply_is_the_asset(tmp_path):
    splats = egg(400, sh_degree=1)
    source = write_gallery(finished_run(tmp_path, 4, splats), CPU).read_text("utf-8")
    (name, content) = re.search(r'data-save="([^"]+\.ply)".*?<script type="text/plain">([^<]+)</script>', source).groups()
    assert name == "an-egg-seed-0004.ply"
    (tmp_path / name).write_bytes(base64.b64decode(content))
    back = load_splats(tmp_path / name, target="supersplat")
    assert torch.allclose(back.means, splats.means, atol=1e-6)
    assert torch.allclose(back.sh, splats.sh, atol=1e-5)
    assert torch.allclose(back.opacities, splats.opacities, atol=1e-5)


def test_hostile_prompts_stay_text(tmp_path):
    folder = finished_run(tmp_path, 0, egg(100), prompt=HOSTILE)
    page = Page(write_gallery(folder, CPU))
    assert HOSTILE in "".join(page.words)
    assert all("onerror" not in attributes for _, attributes in page.tags)
    assert [attributes["src"][:10] for attributes in page.all("img")] == ["data:image"]
    assert sum(1 for attributes in page.all("script") if "type" not in attributes) == 1


def test_a_big_set_stays_small(tmp_path, monkeypatch):
    """With room for a tenth, the views keep the most important splats and the rest is linked to, still with working paths."""
    folder = finished_run(tmp_path, 0, egg(3000), video=True)
    monkeypatch.setattr(gallery, "MAX_BYTES", 6 * 40_000)
    path = write_gallery(folder, CPU)
    page = Page(path)
    assert path.stat().st_size < 6 * 40_000
    assert "3,000 splats (468 shown)" in page.text
    links = [attributes["href"] for attributes in page.all("a")]
    assert "seed-0000/splats.ply" in links
    assert all((folder / link).is_file() for link in links)


@pytest.mark.long
def test_six_ordinary_assets_fit_into_25_mb(tmp_path):
    for seed in range(6):
        folder = finished_run(tmp_path, seed, egg(20_000, sh_degree=3, seed=seed))
    path = write_gallery(folder, CPU)
    assert path.stat().st_size <= 25_000_000
    assert len(Page(path).all("canvas")) == 6


def test_notes_order_and_replaced_seeds(tmp_path):
    for seed in (0, 1, 1001, 7):
        folder = finished_run(tmp_path, seed, egg(100), overrides=["noise.like=3", "noise.like_mix=0.7"] if seed == 7 else [])
    attempts = [(Attempt(0, ("hazy",)),), (Attempt(1, ("holes",)), Attempt(1001, ()))]
    save_variants(VariantSet("an egg", [Variant(i, a) for i, a in enumerate(attempts)], 0.0), folder / VARIANTS)
    page = Page(write_gallery(folder, CPU))
    assert [attributes["data-seed"] for attributes in page.all("article")] == ["0", "1001", "7"]
    for note in ("seed 0 is hazy", "seed 1 was full of holes: made again as seed 1001", "like seed 3, sharing 70% of its noise"):
        assert note in page.text


def test_an_asset_without_splats_is_said_to_be_empty(tmp_path):
    folder = finished_run(tmp_path, 0, egg(100).select(torch.arange(0)))
    page = Page(write_gallery(folder, CPU))
    assert "This asset has no splats." in page.text
    assert not page.all("canvas")


def test_unfinished_runs_are_left_out(tmp_path):
    folder = finished_run(tmp_path, 0, egg(100))
    runs.prepare_folder(load_config(overrides=["prompt=an egg", f"output={tmp_path}", "seed=1"]))
    assert [attributes["data-seed"] for attributes in Page(write_gallery(folder, CPU)).all("article")] == ["0"]


def test_bad_folders(tmp_path):
    with pytest.raises(FileFormatError, match="no such folder; give the folder of a prompt"):
        write_gallery(tmp_path / "nothing")
    with pytest.raises(FileFormatError, match="no finished assets here"):
        write_gallery(tmp_path)
