"""``gallery.html``: all assets of a prompt on one page that works offline, from a double click, for ever.

Everything is inside the file: a sorted splat view of each asset (``export.html``), its contact sheet and turntable, the buttons' downloads.
A content security policy forbids every request. The text on the page comes from prompts and settings, so the template escapes all of it.

Size. The page aims at no more than ``MAX_BYTES``. Each of A assets gets an equal share; the splat view takes up to half of it (the most
important splats, if they are too many), then the turntable and the .ply are embedded if they still fit, and linked to beside the page
if not.
"""

from __future__ import annotations

import base64
import io
import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

import numpy as np

from fsd_gs.config import Config, describe_settings
from fsd_gs.core.pages import Markup, data_url, page_style, render_page, resource
from fsd_gs.core.types import Gaussians
from fsd_gs.errors import FileFormatError, FsdGsError
from fsd_gs.export.filters import keep_most_important
from fsd_gs.export.formats import ExportOptions, export, load_splats
from fsd_gs.export.framing import framed
from fsd_gs.export.html import figure_html, viewer_script, viewer_style
from fsd_gs.export.versions import newest_version
from fsd_gs.io import write_text
from fsd_gs.render import Rasterizer, make_rasterizer
from fsd_gs.train import runs
from fsd_gs.train.ranking import RANKING, load_ranking
from fsd_gs.train.variants import VARIANTS, Variant, VariantSet, diversity_score, load_variants
from fsd_gs.viewer.card import read_card

GALLERY = "gallery.html"
REFINED, EDITED = "refined", "edited"
_HERE = "fsd_gs.viewer"
MAX_BYTES = 24_000_000
_BYTES_PER_SPLAT = 32 * 4 / 3  # a .splat row in base64
_FEWEST_SHARES = 6  # a lone asset gets no more than it would in a set of six


@dataclass(frozen=True)
class Asset:
    """A finished run as the gallery shows it.

    Attributes:
        variant: how its seed was chosen, where that is known.
        rank: its place among the assets of the prompt and why, where they were ranked.
    """

    folder: Path
    config: Config
    splats: Gaussians
    variant: Variant | None = None
    rank: str = ""

    @property
    def kind(self) -> str:
        return kind_of(self.folder, self.config)


def kind_of(run: Path, config: Config) -> str:
    """What a run is to the asset that it began with; "" where it began with none."""
    if re.fullmatch(r"seed-\d+-refined(-\d+)?", run.name):
        return REFINED
    return EDITED if config.pull.active else ""


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
            splats = load_splats(newest_version(run / runs.SPLATS))
        except FsdGsError as error:  # one damaged neighbour must not cost the others their page
            logging.getLogger(__name__).warning("%s; left out of the gallery", error)
            continue
        own = kind_of(run, config) != REFINED  # what was said of a seed was said of the original
        assets.append(Asset(run, config, splats, slots.get(config.seed) if own else None))
    if not assets:
        raise FileFormatError(f"{folder}: no finished assets here (expected seed-*/{runs.SPLATS}); finish a run with resume=true first")
    ranking = load_ranking(folder / RANKING)
    places = ranking.seeds if ranking is not None else []
    order = {seed: i for i, seed in enumerate([*places, *(seed for seed in slots if seed not in places)])}
    if ranking is not None:
        assets = [a if a.kind == REFINED else replace(a, rank=ranking.note(a.config.seed)) for a in assets]
    return sorted(assets, key=lambda a: (order.get(a.config.seed, len(order)), a.config.seed))


# -- the page --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Media:
    """A picture or a video of a run: inside the page (``data``, a data URL), or beside it (``link``) where it is too large."""

    mime: str
    link: str
    data: str | None


@dataclass(frozen=True)
class Card:
    """One asset as the template shows it.

    Attributes:
        splats, shown: how many there are and how many are drawn.
        ply: base64, None where too large.
        score: p(keep) of the verdict, None where nobody looked.
    """

    seed: int
    kind: str
    name: str
    splats: int
    shown: int
    figure: Markup | None
    sheet: Media | None
    turntable: Media | None
    poster: str | None
    ply: str | None
    splats_link: str
    notes: list[tuple[str, str]]
    like: str
    score: float | None = None


def gallery_page(assets: Sequence[Asset], score: float | None) -> str:
    """The whole page as text."""
    budget = MAX_BYTES / max(len(assets), _FEWEST_SHARES)
    return render_page(
        f"{_HERE}/gallery.html.j2",
        title=assets[0].config.prompt,
        score=score,
        settings=settings_rows(assets[0].config),
        cards=[make_card(asset, budget) for asset in assets],
        style=viewer_style() + page_style(_HERE, "gallery.css"),
        script=viewer_script() + resource(_HERE, "gallery.js"),
    )


def settings_rows(config: Config) -> list[tuple[str, str, str]]:
    """(key, value, meaning) of what differs from the defaults, and of what everybody asks for."""
    always = ("steps", "prior.name", "noise.kind", "noise.beta", "guidance.method", "guidance.cfg_scale")
    personal = ("prompt", "seed", "count", "output", "resume", "overwrite", "viewer", "viewer_host", "viewer_port")
    rows = []
    for key, default, meaning in describe_settings():
        value = _lookup(config, key)
        if key not in personal and (key in always or value != default):
            rows.append((key, _shown(value), meaning))
    return rows


def _lookup(config: object, key: str) -> object:
    for part in key.split("."):
        config = getattr(config, part)
    return config


def _shown(value: object) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def make_card(asset: Asset, budget: float) -> Card:
    """The card of an asset in ``budget`` bytes: half of them for the splat view, the rest for what fits, in order of use."""
    folder, config = asset.folder, asset.config
    figure, shown = _figure(asset, f"seed {config.seed}", budget / 2)
    budget -= len(figure or "")
    sheet = _media(folder / runs.PREVIEW, "image/png", budget)
    budget -= len(sheet.data or "") if sheet else 0
    turntable = _media(folder / runs.TURNTABLE, "video/mp4", budget)
    budget -= len(turntable.data or "") if turntable else 0
    return Card(
        seed=config.seed,
        kind=asset.kind,
        name=download_name(asset),
        splats=len(asset.splats),
        shown=shown,
        figure=figure,
        sheet=sheet,
        turntable=turntable,
        poster=_poster(folder / runs.PREVIEW) if turntable else None,
        ply=_ply(asset, budget),
        splats_link=_relative(newest_version(folder / runs.SPLATS)),
        notes=_notes(asset),
        like=f"noise.like={config.seed} noise.like_mix=0.7 seed={config.seed + 1_000_000} count=4",
        score=None if asset.variant is None else asset.variant.score,
    )


def download_name(asset: Asset) -> str:
    """What a downloaded asset is called, without a suffix."""
    return f"{runs.slug(asset.config.prompt)}-{asset.folder.name if asset.kind == REFINED else runs.seed_name(asset.config.seed)}"


def _figure(asset: Asset, caption: str, budget: float) -> tuple[Markup | None, int]:
    """The splat view within ``budget`` bytes, None where there are no splats; the number of splats in it."""
    if not len(asset.splats):
        return None, 0
    splats = keep_most_important(asset.splats, max(1, int(budget / _BYTES_PER_SPLAT)))
    return Markup(figure_html(framed(splats).gaussians, caption)), len(splats)


def _notes(asset: Asset) -> list[tuple[str, str]]:
    """(style, text) of what is worth knowing about how the asset came about."""
    variant, notes = asset.variant, []
    if title := read_card(asset.folder).title:
        notes.append(("name", title))
    if asset.kind:
        notes.append(("like", _origin(asset)))
    if asset.rank:
        notes.append(("rank", asset.rank))
    newest = newest_version(asset.folder / runs.SPLATS)
    if newest.name != runs.SPLATS:
        notes.append(("like", f"cleaned by hand: {newest.name}"))
    if variant is not None and variant.failures:
        notes.append(("bad", variant.note))
    elif variant is not None and variant.note:
        notes.append(("made-again", variant.note))
    like = asset.config.noise.like
    if like is not None:
        notes.append(("like", f"like seed {like}, sharing {asset.config.noise.like_mix:.0%} of its noise"))
    return notes


def _origin(asset: Asset) -> str:
    """Where an edit or a refinement comes from, without a folder of this machine."""
    if asset.kind == REFINED:
        return f"refined from seed {asset.config.seed}"
    file = Path(asset.config.splats.init)
    return f"edited from {f'{file.parent.parent.name}, {file.parent.name}' if file.parent.name.startswith('seed-') else file.name}"


# -- files in the page -----------------------------------------------------------------------------------------------------


def _media(path: Path, mime: str, budget: float) -> Media | None:
    """The file, inside the page if it takes no more than ``budget`` bytes there; None where it is missing."""
    try:
        inside = path.stat().st_size * 4 / 3 <= budget
        return Media(mime, _relative(path), data_url(path.read_bytes(), mime) if inside else None)
    except OSError:
        return None


def _relative(path: Path) -> str:
    """``seed-0000/splats.ply`` for a file of a run: the page lies in the prompt's folder."""
    return quote(f"{path.parent.name}/{path.name}")


def _poster(preview: Path) -> str | None:
    """A still for the video: the first view of the contact sheet as a data URL; None where there is none."""
    from PIL import Image

    try:
        sheet = Image.open(preview)
        side = min((sheet.width - 12) // 4, sheet.height)  # four views a row, three gaps
        still = sheet.convert("RGB").crop((0, 0, side, side))
    except (OSError, ValueError):
        return None
    with io.BytesIO() as buffer:
        still.save(buffer, format="JPEG", quality=85)
        return data_url(buffer.getvalue(), "image/jpeg")


def _ply(asset: Asset, budget: float) -> str | None:
    """The splats turned for the viewers that most people use, in base64; None where there are none, or they would not fit."""
    rows = len(asset.splats) * (14 + 3 * asset.splats.sh.shape[1]) * np.dtype(np.float32).itemsize
    if not len(asset.splats) or rows * 4 / 3 > budget:
        return None
    with TemporaryDirectory() as scratch:
        path = Path(scratch) / "splats.ply"
        export(asset.splats, path, "ply", ExportOptions())
        return base64.b64encode(path.read_bytes()).decode("ascii")
