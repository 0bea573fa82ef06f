"""``gallery.html``: all assets of a prompt on one page that works offline, from a double click, for ever.

Everything is inside the file: a sorted splat view of each asset (``export.html``), its contact sheet and turntable, the buttons' downloads.
A content security policy forbids every request. The text on the page comes from prompts and settings, so all of it is escaped.

Size. The page aims at no more than ``MAX_BYTES``. Each of A assets gets an equal share; the splat view takes up to half of it (the most
important splats, if they are too many), then the turntable and the .ply are embedded if they still fit, and linked to beside the page
if not.
"""

from __future__ import annotations

import base64
import html
import io
import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

import numpy as np

from fsd_gs.config import Config, describe_settings
from fsd_gs.core.types import Gaussians
from fsd_gs.errors import FileFormatError, FsdGsError
from fsd_gs.export.filters import keep_most_important
from fsd_gs.export.formats import ExportOptions, export, load_splats
from fsd_gs.export.framing import framed
from fsd_gs.export.html import figure_html, viewer_script, viewer_style
from fsd_gs.io import write_text
from fsd_gs.render import Rasterizer, make_rasterizer
from fsd_gs.train import runs
from fsd_gs.train.variants import VARIANTS, Variant, VariantSet, diversity_score, load_variants

GALLERY = "gallery.html"
MAX_BYTES = 24_000_000
_BYTES_PER_SPLAT = 32 * 4 / 3  # a .splat row in base64
_FEWEST_SHARES = 6  # a lone asset gets no more than it would in a set of six


@dataclass(frozen=True)
class Asset:
    """A finished run as the gallery shows it. variant: how its seed was chosen, where that is known."""

    folder: Path
    config: Config
    splats: Gaussians
    variant: Variant | None = None


def write_gallery(prompt_folder: str | os.PathLike[str], rasterizer: Rasterizer | None = None) -> Path:
    """Write ``gallery.html`` into the folder of a prompt (``outputs/<prompt>/``) from its finished runs.

    rasterizer: for the diversity score; None takes the CPU kernels. Unfinished runs and seeds that were replaced are left out. Raises
    FileFormatError where there is nothing to show.
    """
    folder = Path(prompt_folder)
    variants = load_variants(folder / VARIANTS)
    assets = read_assets(folder, variants)
    score = diversity_score([a.splats for a in assets], assets[0].config, rasterizer or make_rasterizer("cpu"))
    path = folder / GALLERY
    write_text(path, gallery_page(assets, score))
    return path


def read_assets(folder: Path, variants: VariantSet | None = None) -> list[Asset]:
    """The finished runs of a prompt's folder by seed, without the seeds that ``variants`` says were replaced."""
    if not folder.is_dir():
        raise FileFormatError(f"{folder}: no such folder; give the folder of a prompt, such as outputs/a-red-chair")
    slots = {} if variants is None else {variant.seed: variant for variant in variants.variants}
    replaced = set() if variants is None else {a.seed for v in variants.variants for a in v.attempts[:-1]}
    assets = []
    for run in sorted(path for path in folder.glob("seed-*") if runs.is_finished(path)):
        try:
            config = runs.load_run_config(run)
            if config.seed in replaced and config.seed not in slots:
                continue
            splats = load_splats(run / runs.SPLATS)
        except FsdGsError as error:  # one damaged neighbour must not cost the others their page
            logging.getLogger(__name__).warning("%s; left out of the gallery", error)
            continue
        assets.append(Asset(run, config, splats, slots.get(config.seed)))
    if not assets:
        raise FileFormatError(f"{folder}: no finished assets here (expected seed-*/{runs.SPLATS}); finish a run with resume=true first")
    order = {seed: i for i, seed in enumerate(slots)}
    return sorted(assets, key=lambda a: (order.get(a.config.seed, len(order)), a.config.seed))


# -- the page --------------------------------------------------------------------------------------------------------------


def gallery_page(assets: Sequence[Asset], score: float | None) -> str:
    """The whole page as text."""
    first = assets[0].config
    budget = MAX_BYTES / max(len(assets), _FEWEST_SHARES)
    count = f"{len(assets)} asset{'s' if len(assets) != 1 else ''}"
    parts = {
        "TITLE": html.escape(first.prompt),
        "COUNT": count,
        "SCORE": _score(score),
        "SETTINGS": _settings(first),
        "CARDS": "\n".join(_card(asset, budget) for asset in assets),
        "STYLE": viewer_style() + _resource("gallery.css"),
        "SCRIPT": viewer_script() + _resource("gallery.js"),
    }
    # One pass, so that a prompt cannot name another part.
    return re.sub("@@([A-Z]+)@@", lambda match: parts[match.group(1)], _resource("gallery.html.template"))


def _resource(name: str) -> str:
    return resources.files("fsd_gs.viewer").joinpath(name).read_text("utf-8")


def _score(score: float | None) -> str:
    if score is None:
        return ""
    explanation = (
        "Mean pairwise distance of the assets' views: 0 means all alike, 1 nothing in common. "
        "It compares shape, edges and colour, up to turning, so compare sets of the same prompt only."
    )
    return (
        f'<div class="score" title="{html.escape(explanation)}"><span class="score-label">diversity</span>'
        f'<span class="score-bar"><span style="width:{100 * score:.0f}%"></span></span><output>{score:.2f}</output></div>'
    )


def _settings(config: Config) -> str:
    """What differs from the defaults, and what everybody asks for."""
    always = ("steps", "prior.name", "noise.kind", "noise.beta", "guidance.method", "guidance.cfg_scale")
    personal = ("prompt", "seed", "count", "output", "resume", "overwrite", "viewer", "viewer_host", "viewer_port")
    rows = []
    for key, default, meaning in describe_settings():
        value = _lookup(config, key)
        if key not in personal and (key in always or value != default):
            rows.append(f'<tr title="{html.escape(meaning)}"><th>{html.escape(key)}</th><td>{html.escape(_shown(value))}</td></tr>')
    return "".join(rows)


def _lookup(config: object, key: str) -> object:
    for part in key.split("."):
        config = getattr(config, part)
    return config


def _shown(value: object) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _card(asset: Asset, budget: float) -> str:
    """One asset: splat view, turntable and views as tabs; seed, notes and buttons below."""
    folder, config, name = asset.folder, asset.config, download_name(asset)
    caption = f"seed {config.seed}"
    splats, shown = _figure(asset, caption, budget / 2)
    budget -= len(splats)
    sheet = _data(folder / runs.PREVIEW, "image/png", budget)
    budget -= len(sheet or "")
    turntable = _data(folder / runs.TURNTABLE, "video/mp4", budget)
    budget -= len(turntable or "")
    panels = [
        ("splats", "Splats", splats),
        ("turntable", "Turntable", _video(asset, turntable)),
        ("views", "Views", f'<img alt="{html.escape(caption)}, eight views" src="{sheet}">' if sheet else ""),
    ]
    tabs = "".join(
        f'<button type="button" role="tab" data-tab="{key}" aria-selected="{str(key == "splats").lower()}">{label}</button>'
        for key, label, content in panels
        if content
    )
    stage = "".join(
        f'<div class="panel" data-panel="{key}"{hidden}>{content}</div>'
        for (key, _, content), hidden in zip(panels, ("", " hidden", " hidden"), strict=True)
        if content
    )
    downloads = [
        _ply_download(asset, name, budget),
        _media_download(".mp4", "the turntable", f"{name}.mp4", asset.folder / runs.TURNTABLE, turntable),
        _media_download(".png", "eight views", f"{name}.png", asset.folder / runs.PREVIEW, sheet),
    ]
    count = f"{len(asset.splats):,} splats" + (f" ({shown:,} shown)" if shown < len(asset.splats) else "")
    return (
        f'<article class="card" data-seed="{config.seed}"><div class="tabs" role="tablist">{tabs}</div><div class="stage">{stage}</div>'
        f'<div class="facts"><h2>{caption}</h2><span class="count">{count}</span></div>{_notes(asset)}'
        f'<div class="downloads">{"".join(downloads)}</div>{_more_like_this(config)}</article>'
    )


def download_name(asset: Asset) -> str:
    return f"{runs.slug(asset.config.prompt)}-seed-{asset.config.seed:04d}"


def _figure(asset: Asset, caption: str, budget: float) -> tuple[str, int]:
    """The splat view within ``budget`` bytes, and the number of splats in it."""
    if not len(asset.splats):
        return '<p class="nothing">This asset has no splats.</p>', 0
    splats = keep_most_important(asset.splats, max(1, int(budget / _BYTES_PER_SPLAT)))
    return figure_html(framed(splats).gaussians, caption), len(splats)


def _notes(asset: Asset) -> str:
    variant, notes = asset.variant, []
    if variant is not None and variant.failures:
        notes.append(("bad", variant.note))
    elif variant is not None and variant.note:
        notes.append(("made-again", variant.note))
    like = asset.config.noise.like
    if like is not None:
        notes.append(("like", f"like seed {like}, sharing {asset.config.noise.like_mix:.0%} of its noise"))
    return "".join(f'<p class="note {kind}">{html.escape(text)}</p>' for kind, text in notes)


def _more_like_this(config: Config) -> str:
    command = f"noise.like={config.seed} noise.like_mix=0.7 seed={config.seed + 1_000_000} count=4"
    return (
        f'<details class="like"><summary>More like this one</summary><p>Add to the command that made it; <code>like_mix</code> from 0 '
        f'(free) to 1 (as close as it gets):</p><p><code class="command">{html.escape(command)}</code>'
        f'<button type="button" data-copy="{html.escape(command)}">Copy</button></p></details>'
    )


# -- files in the page -----------------------------------------------------------------------------------------------------


def _data(path: Path, mime: str, budget: float) -> str | None:
    """The file as a data URL; None where it is missing or would not fit into ``budget`` bytes."""
    try:
        if path.stat().st_size * 4 / 3 > budget:
            return None
        return f"data:{mime};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"
    except OSError:
        return None


def _relative(path: Path) -> str:
    """``seed-0000/splats.ply`` for a file of a run: the page lies in the prompt's folder."""
    return quote(f"{path.parent.name}/{path.name}")


def _video(asset: Asset, data: str | None) -> str:
    path = asset.folder / runs.TURNTABLE
    if not path.is_file():
        return ""
    if data is None:
        return f'<p class="nothing">The turntable is too large for this page: <a href="{_relative(path)}">open it</a>.</p>'
    poster = _poster(asset.folder / runs.PREVIEW)
    return f'<video controls loop muted playsinline preload="none"{poster} src="{data}"></video>'


def _poster(preview: Path) -> str:
    """A still for the video: the first view of the contact sheet, as an attribute; empty where there is none."""
    from PIL import Image

    try:
        sheet = Image.open(preview)
        side = min((sheet.width - 12) // 4, sheet.height)  # four views a row, three gaps
        still = sheet.convert("RGB").crop((0, 0, side, side))
    except (OSError, ValueError):
        return ""
    with io.BytesIO() as buffer:
        still.save(buffer, format="JPEG", quality=85)
        return f' poster="data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode("ascii")}"'


def _ply_download(asset: Asset, name: str, budget: float) -> str:
    """The splats turned for the viewers that most people use, inside the page if they fit, else the run's own file beside it."""
    rows = len(asset.splats) * (14 + 3 * asset.splats.sh.shape[1]) * np.dtype(np.float32).itemsize
    if not len(asset.splats):
        return ""
    if rows * 4 / 3 > budget:
        link = _relative(asset.folder / runs.SPLATS)
        return f'<a class="button main" download href="{link}" title="as trained, z up; too large to be inside this page">.ply</a>'
    with TemporaryDirectory() as scratch:
        path = Path(scratch) / "splats.ply"
        export(asset.splats, path, "ply", ExportOptions())
        content = base64.b64encode(path.read_bytes()).decode("ascii")
    hint = "3D Gaussian splats, upright in SuperSplat and most viewers"
    return _blob_button(".ply", f"{name}.ply", "application/octet-stream", content, hint, main=True)


def _media_download(label: str, hint: str, name: str, path: Path, data: str | None) -> str:
    """A button for something that the card already holds as a data URL, or a link to the file."""
    if data is not None:
        mime = data.partition(";")[0].removeprefix("data:")
        button = f'<button type="button" class="button" data-save="{html.escape(name)}" data-mime="{mime}"'
        return f'{button} title="{hint}">{label}</button>'
    if path.is_file():
        return f'<a class="button" download href="{_relative(path)}" title="{hint}">{label}</a>'
    return ""


def _blob_button(label: str, name: str, mime: str, content: str, hint: str, *, main: bool) -> str:
    style = "button main" if main else "button"
    return (
        f'<button type="button" class="{style}" data-save="{html.escape(name)}" data-mime="{mime}" title="{html.escape(hint)}">{label}'
        f'<script type="text/plain">{content}</script></button>'
    )
