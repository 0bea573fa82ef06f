"""All assets of an output folder on one page: thumbnails by prompt and seed, searched and sorted in the browser; a click opens one.

The page and its pictures come from the live server itself, behind the same rules (``viewer.access``). A request names an asset by its
number in a list that was made when the page was started, never by a path.
"""

from __future__ import annotations

import http
import io
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from fsd_gs.core.pages import page_style, render_page, resource
from fsd_gs.errors import FsdGsError
from fsd_gs.train import runs

if TYPE_CHECKING:
    from websockets.http11 import Request

PAGE, ASSET_PAGE, THUMBNAIL = "/", "/index.html", "/thumbnail"
THUMBNAIL_SIDE = 256
_HERE = "fsd_gs.viewer"


@dataclass(frozen=True)
class Entry:
    """A finished run.

    Attributes:
        made: seconds since 1970.
        steps: that were asked for.
    """

    run: Path
    prompt: str
    seed: int
    steps: int
    made: float

    @property
    def name(self) -> str:
        return f"{self.run.parent.name}-{self.run.name}"


@dataclass(frozen=True)
class Reply:
    """An HTTP answer; ``body`` of a content type."""

    status: http.HTTPStatus
    content_type: str
    body: bytes


def finished_runs(outputs: Path) -> list[Entry]:
    """The finished runs of all prompts in ``outputs``, the newest first; damaged ones are left out with a warning."""
    found = []
    for run in outputs.glob("*/seed-*"):
        if not runs.is_finished(run):
            continue
        try:
            config = runs.load_run_config(run)
            made = (run / runs.SPLATS).stat().st_mtime
        except (FsdGsError, OSError) as error:
            logging.getLogger(__name__).warning("%s; left out of the overview", error)
            continue
        found.append(Entry(run, config.prompt, config.seed, config.steps, made))
    return sorted(found, key=lambda entry: (-entry.made, entry.name))


class Overview:
    """Answers for :class:`~fsd_gs.viewer.access.Door`.

    Args:
        choose: shows the asset of that name to everybody who looks at the asset page.
    """

    def __init__(self, entries: list[Entry], choose: Callable[[str], None]) -> None:
        self.entries, self._choose = entries, choose
        self._thumbnail = lru_cache(maxsize=4096)(thumbnail)

    def answer(self, request: Request) -> Reply | None:
        """The overview or a thumbnail; None for everything else, which is viser's."""
        path, _, query = request.path.partition("?")
        entry = self._entry(query)
        if path == PAGE:
            return Reply(http.HTTPStatus.OK, "text/html; charset=utf-8", overview_page(self.entries).encode())
        if path == THUMBNAIL:
            picture = None if entry is None else self._thumbnail(entry.run / runs.PREVIEW)
            if picture is None:
                return Reply(http.HTTPStatus.NOT_FOUND, "text/plain", b"no picture\n")
            return Reply(http.HTTPStatus.OK, "image/jpeg", picture)
        if path == ASSET_PAGE and entry is not None and request.headers.get("Sec-Fetch-Site", "same-origin") in ("same-origin", "none"):
            self._choose(entry.name)
        return None

    def _entry(self, query: str) -> Entry | None:
        number = "".join(parse_qs(query).get("asset", []))
        if not (number.isascii() and number.isdigit()) or len(number) > 9 or int(number) >= len(self.entries):
            return None
        return self.entries[int(number)]


def overview_page(entries: list[Entry]) -> str:
    """The page of all prompts and seeds, HTML."""
    return render_page(
        f"{_HERE}/overview.html.j2",
        entries=entries,
        prompts=len({entry.run.parent for entry in entries}),
        style=page_style(_HERE, "overview.css"),
        script=resource(_HERE, "overview.js"),
    )


def thumbnail(preview: Path) -> bytes | None:
    """The first view of a contact sheet as JPEG; None where there is no readable one."""
    from PIL import Image

    try:
        with Image.open(preview) as sheet:
            side = min((sheet.width - 12) // 4, sheet.height)  # four views a row, three gaps
            still = sheet.convert("RGB").crop((0, 0, side, side))
    except (OSError, ValueError):
        return None
    still.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    with io.BytesIO() as buffer:
        still.save(buffer, format="JPEG", quality=85)
        return buffer.getvalue()
