"""All assets of an output folder on one page: thumbnails by prompt and seed, searched and sorted in the browser; and what is done to them.

    /assets                       the page (/ as well, where the viewer was started with the folder)
    /thumbnail?asset=A            its first view
    /index.html?asset=A           opens one; ?again=A, ?seeds=A, ?like=A, ?edit=A, ?refine=A fill the start page with it,
                                  ?words=… with a prompt
    /compare?asset=A&asset=B      two to four side by side (``viewer.compare``)
    /words, /words/picture?kind=K what the prior understands (``train.words_page``)
    /do?act=…&asset=A             star, unstar, rename, delete, restore: JSON, in a form that no other site's page can ask for

The pages come from the live server itself, behind the same rules (``viewer.access``). A request names an asset by its name among those
that are there, never by a path. ``websockets`` serves GET only: what changes anything asks for a header of its own instead, which a page of
another site can only send after a preflight that this server refuses.
"""

from __future__ import annotations

import http
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import parse_qs

from fsd_gs.core.pages import page_style, render_page, resource
from fsd_gs.errors import FsdGsError, InputError
from fsd_gs.train import runs, words_page
from fsd_gs.viewer.again import edit_of, more_like, other_seeds, refinement_of, same_again
from fsd_gs.viewer.compare import compare_page
from fsd_gs.viewer.form import Request as Form
from fsd_gs.viewer.gallery import REFINED
from fsd_gs.viewer.house import BIN, Binned, Entry, Galleries, House, facts

if TYPE_CHECKING:
    from websockets.http11 import Request

    from fsd_gs.catalogue.vocabulary import Vocabulary

HOME, ASSETS, ASSET_PAGE, THUMBNAIL, COMPARE, DO = "/", "/assets", "/index.html", "/thumbnail", "/compare", "/do"
WORDS, KIND_PICTURE = "/words", "/words/picture"
HEADER = "X-Fsd-Gs"
THUMBNAIL_SIDE = 256
_HERE = "fsd_gs.viewer"


@dataclass(frozen=True)
class Reply:
    """An HTTP answer; ``body`` of a content type."""

    status: http.HTTPStatus
    content_type: str
    body: bytes
    keep: bool = False  # whether a browser may keep it for a while


class Studio(Protocol):
    """The page behind the overview, which everybody who looks at it shares (``viewer.start_page``)."""

    def show(self, name: str) -> None:
        """Show an asset."""

    def propose(self, request: Form) -> None:
        """Fill the form, for a person to change and to start."""

    def vocabulary(self) -> Vocabulary | None:
        """The words of the prior in use; None where any will do."""


class Overview:
    """Answers for :class:`~fsd_gs.viewer.access.Door`.

    Args:
        house: the assets.
        studio: shows one of them.
        home: whether "/" is the overview.
    """

    def __init__(self, house: House, studio: Studio, *, home: bool = True) -> None:
        self.house, self.galleries, self._studio, self._home = house, Galleries(), studio, home
        self._thumbnail = lru_cache(maxsize=4096)(lambda path, changed: thumbnail(path))
        self._kind = lru_cache(maxsize=256)(words_page.kind_picture)

    def answers(self, request: Request) -> bool:
        """Whether the request is for these pages; everything else is viser's."""
        path, _, query = request.path.partition("?")
        return path in (ASSETS, THUMBNAIL, COMPARE, DO, WORDS, KIND_PICTURE) or (path == HOME and self._home and not query)

    def chooses(self, request: Request) -> bool:
        """Whether viser's own page is asked for something, by a page of ours: a link of another site chooses nothing."""
        path, _, query = request.path.partition("?")
        return path == ASSET_PAGE and bool(query) and request.headers.get("Sec-Fetch-Site", "same-origin") in ("same-origin", "none")

    def choose(self, request: Request) -> None:
        """Bring what was asked for onto the page that everybody sees."""
        wanted = _fields(request.path.partition("?")[2])
        try:
            if "asset" in wanted:
                self._studio.show(self.house.find(wanted["asset"]).name)
            elif "words" in wanted:
                self._studio.propose(Form(prompt=wanted["words"][:500]))
            elif proposals := wanted.keys() & _FORMS.keys():
                entry = self.house.find(wanted[(how := proposals.pop())])
                self._studio.propose(_FORMS[how](self.house, entry))
        except FsdGsError:  # gone meanwhile; the page shows what it showed before
            return

    def answer(self, request: Request) -> Reply:
        """A page, a picture, or what came of an act. It may read many files: not for the loop of the server."""
        path, _, query = request.path.partition("?")
        try:
            if path == THUMBNAIL:
                return self._picture(_fields(query).get("asset", ""))
            if path == KIND_PICTURE:
                return _image(self._kind(_fields(query).get("kind", "")), "image/webp")
            if path == DO:
                return _json(self._act(request, _fields(query)))
            if path == WORDS:
                known = self._studio.vocabulary()
                kinds, meshes = (None, None) if known is None else (known.kinds.values(), known.mesh_words())
                return _page(words_page.words_page(kinds, meshes, live=True))
            if path == COMPARE:
                return _page(compare_page([self.house.find(name) for name in parse_qs(query).get("asset", [])]))
            return _page(overview_page(self.house.entries(), self.house.binned(), self.house.outputs))
        except FsdGsError as error:
            status = http.HTTPStatus.NOT_FOUND if path in (THUMBNAIL, KIND_PICTURE) else http.HTTPStatus.BAD_REQUEST
            if path == COMPARE:
                return _page(render_page(f"{_HERE}/wrong.html.j2", line=str(error), style=page_style(_HERE, "overview.css")), status)
            return _json({"detail": str(error)}, status)

    def _picture(self, name: str) -> Reply:
        preview = self.house.find(name).run / runs.PREVIEW
        changed = preview.stat().st_mtime if preview.is_file() else 0.0
        return _image(self._thumbnail(preview, changed), "image/jpeg")

    def _act(self, request: Request, wanted: dict[str, str]) -> dict[str, object]:
        act, name = wanted.get("act", ""), wanted.get("asset", "")
        if act not in _ACTS:
            raise InputError(f"act: expected one of {', '.join(_ACTS)}, got '{act[:40]}'")
        if request.headers.get(HEADER) != "act" or request.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
            raise InputError("only the page's own scripts may change anything")
        done, changed = _ACTS[act](self.house, name, wanted.get("title", ""))
        if changed is not None:
            self.galleries.renew(changed)
        return done


def _fields(query: str) -> dict[str, str]:
    """Name → value of those that stand once in a query."""
    return {name: values[0] for name, values in parse_qs(query, keep_blank_values=True).items() if len(values) == 1}


def _page(text: str, status: http.HTTPStatus = http.HTTPStatus.OK) -> Reply:
    return Reply(status, "text/html; charset=utf-8", text.encode())


def _json(content: dict[str, object], status: http.HTTPStatus = http.HTTPStatus.OK) -> Reply:
    return Reply(status, "application/json", json.dumps(content).encode("ascii"))


def _image(content: bytes | None, kind: str) -> Reply:
    if content is None:
        raise InputError("no picture")
    return Reply(http.HTTPStatus.OK, kind, content, keep=True)


# -- what can be done to an asset: (what the page is told, the prompt's folder whose gallery has to follow) -----------------------


def _star(house: House, name: str, title: str) -> tuple[dict[str, object], Path | None]:
    return facts(house.star(name, True)), None


def _unstar(house: House, name: str, title: str) -> tuple[dict[str, object], Path | None]:
    return facts(house.star(name, False)), None


def _rename(house: House, name: str, title: str) -> tuple[dict[str, object], Path | None]:
    entry = house.rename(name, title)
    return facts(entry), entry.run.parent


def _delete(house: House, name: str, title: str) -> tuple[dict[str, object], Path | None]:
    folder = house.find(name).run.parent
    binned = house.delete(name)
    return {**facts(binned.entry), "binned": binned.name}, folder


def _restore(house: House, name: str, title: str) -> tuple[dict[str, object], Path | None]:
    entry = house.restore(name)
    return facts(entry), entry.run.parent


_ACTS: dict[str, Callable[[House, str, str], tuple[dict[str, object], Path | None]]] = {
    "star": _star,
    "unstar": _unstar,
    "rename": _rename,
    "delete": _delete,
    "restore": _restore,
}


# -- an asset once more ------------------------------------------------------------------------------------------------------


def _again(house: House, entry: Entry) -> Form:
    """A refinement stands beside its original: what is made of its settings takes a seed of its own."""
    form = same_again(runs.load_run_config(entry.run))
    return replace(form, seed=house.free_seed(entry)) if entry.kind == REFINED else form


_FORMS: dict[str, Callable[[House, Entry], Form]] = {
    "again": _again,
    "seeds": lambda house, entry: other_seeds(runs.load_run_config(entry.run), house.free_seed(entry)),
    "like": lambda house, entry: more_like(runs.load_run_config(entry.run)),
    "edit": lambda house, entry: edit_of(runs.load_run_config(entry.run), entry.name),
    "refine": lambda house, entry: refinement_of(runs.load_run_config(entry.run), entry.name),
}


# -- the page ----------------------------------------------------------------------------------------------------------------


def overview_page(entries: list[Entry], binned: list[Binned] = [], outputs: Path = Path("outputs")) -> str:  # noqa: B006 (read only)
    """The page of all prompts and seeds, HTML."""
    return render_page(
        f"{_HERE}/overview.html.j2",
        entries=entries,
        binned=binned,
        bin=outputs / BIN,
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
