"""What a prior understands as a page: each kind with its picture, designs, colours and other names. A click makes a prompt of it."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fsd_gs.catalogue.kinds import Kind, article
from fsd_gs.catalogue.palette import COLORS
from fsd_gs.catalogue.vocabulary import CATALOGUE, COLOR_SYNONYMS
from fsd_gs.core.pages import data_url, page_style, render_page, resource

PICTURE_SIDE = 144
_HERE = "fsd_gs.train"


@dataclass(frozen=True)
class Section:
    """A kind on the page.

    Attributes:
        also: other names.
        designs: (words, prompt) each.
        colors: (name, CSS colour, prompt) each.
        picture: its address; empty for a kind that only captions of meshes know.
    """

    name: str
    also: str
    designs: list[tuple[str, str]]
    colors: list[tuple[str, str, str]]
    picture: str


def words_page(kinds: Iterable[Kind] | None = None, meshes: Mapping[str, Sequence[str]] | None = None, *, live: bool = False) -> str:
    """The page, HTML.

    Args:
        kinds: All of the catalogue's by default.
        meshes: Kinds that the prior knows from meshes, and for each what its captions say of it ("crate", "crate of carrots").
        live: Pictures come from the server at /words/picture and prompts lead to its start page; otherwise all is inside the page.
    """
    chosen = list(CATALOGUE.kinds.values()) if kinds is None else list(kinds)
    return render_page(
        f"{_HERE}/words.html.j2",
        sections=[*(_section(kind, live) for kind in chosen), *(_mesh_section(name, said) for name, said in (meshes or {}).items())],
        colors=[(name, ", ".join(COLOR_SYNONYMS[name])) for name in COLORS],
        live=live,
        style=page_style(_HERE, "words.css"),
        script=resource(_HERE, "words.js"),
    )


def _section(kind: Kind, live: bool) -> Section:
    also = [*kind.synonyms, *(f"{noun} ({design})" for noun, design in kind.design_nouns.items())]
    return Section(
        name=kind.name,
        also=", ".join(also),
        designs=[(design, f"{article(kind.name)} {design}") for design in kind.designs],
        colors=[(color, _css(color), f"{article(f'{color} {kind.name}')}") for color in kind.colors],
        picture=f"/words/picture?kind={kind.name}" if live else data_url(kind_picture(kind.name) or b"", "image/webp"),
    )


def _mesh_section(name: str, said: Sequence[str]) -> Section:
    return Section(name, "", [(words, words) for words in said], [], "")


def _css(color: str) -> str:
    red, green, blue = (round(255 * channel) for channel in COLORS[color])
    return f"rgb({red} {green} {blue})"


def kind_picture(name: str) -> bytes | None:
    """The first design of a kind in its first colour, WebP; None for a kind that there is not."""
    kind = CATALOGUE.kinds.get(name)
    if kind is None:
        return None
    from PIL import Image

    from fsd_gs.catalogue.contact_sheet import draw
    from fsd_gs.catalogue.objects import make_object

    mesh = make_object(kind.name, 0, design=kind.designs[0], color=kind.colors[0]).mesh
    with io.BytesIO() as buffer:
        Image.fromarray(draw(mesh, PICTURE_SIDE, azimuths_deg=(30.0,))).save(buffer, "webp", quality=80)
        return buffer.getvalue()
