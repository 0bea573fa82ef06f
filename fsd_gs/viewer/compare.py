"""Two to four assets side by side: one camera for all of them, or one each. A page of the live server (``viewer.overview``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fsd_gs.core.pages import Markup, page_style, render_page, resource
from fsd_gs.errors import InputError
from fsd_gs.export.filters import keep_most_important
from fsd_gs.export.formats import load_splats
from fsd_gs.export.framing import framed
from fsd_gs.export.html import figure_html, viewer_script, viewer_style
from fsd_gs.export.versions import newest_version
from fsd_gs.train import runs
from fsd_gs.viewer.house import Entry

FEWEST, MOST = 2, 4
SPLATS = 200_000  # of all together: 8.5 MB of page
_HERE = "fsd_gs.viewer"


@dataclass(frozen=True)
class Side:
    """One of the assets: its facts, how many splats it has and how many are drawn, and the view of them."""

    entry: Entry
    splats: int
    shown: int
    figure: Markup


def compare_page(entries: Sequence[Entry]) -> str:
    """The page, HTML.

    Raises:
        InputError: there are fewer than two or more than four assets, or one has no splats.
    """
    if not FEWEST <= len(entries) <= MOST or len({entry.name for entry in entries}) < len(entries):
        raise InputError(f"compare: expected {FEWEST} to {MOST} different assets, got {len(entries)}; mark them on the overview")
    return render_page(
        f"{_HERE}/compare.html.j2",
        sides=[_side(entry, SPLATS // len(entries)) for entry in entries],
        style=viewer_style() + page_style(_HERE, "compare.css"),
        script=viewer_script() + resource(_HERE, "compare.js"),
    )


def _side(entry: Entry, most: int) -> Side:
    splats = load_splats(newest_version(entry.run / runs.SPLATS))
    if not len(splats):
        raise InputError(f"compare: {entry.name} has no splats; choose others")
    kept = keep_most_important(splats, most)
    return Side(entry, len(splats), len(kept), Markup(figure_html(framed(kept).gaussians, entry.title)))
