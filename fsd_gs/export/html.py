"""A single HTML file that shows splats offline: our own small sorted WebGL2 viewer with the data inside.

The data are the 32-byte rows of the .splat layout in base64; colour is the base colour (SH degree 0). All text is escaped, and a
content security policy forbids every request, so that the page cannot reach the network. :func:`figure_html`, :func:`viewer_style` and
:func:`viewer_script` are the parts, for pages that show several assets: any number of figures, then the script once.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence

from fsd_gs.core.pages import Markup, render_page, resource
from fsd_gs.core.types import Gaussians
from fsd_gs.errors import InputError
from fsd_gs.export.framing import framed
from fsd_gs.export.splat import pack_rows
from fsd_gs.io import write_text

_HERE = "fsd_gs.export"


def save_html(gaussians: Gaussians, path: str | os.PathLike[str], *, title: str = "splats", provenance: str = "") -> None:
    """Write one self-contained page that shows ``gaussians`` (scaled into view if they are far from the unit ball).

    provenance: one line for a meta element of the page's head.
    """
    if not len(gaussians):
        raise InputError(f"cannot write {path}: there are no splats; loosen the filters")
    write_text(path, page_html(title, [figure_html(framed(gaussians).gaussians, title)], provenance))


def page_html(title: str, figures: Sequence[str], provenance: str = "") -> str:
    """A whole page with the ``figures`` of :func:`figure_html`."""
    parts = [Markup(figure) for figure in figures]
    return render_page(
        f"{_HERE}/viewer.html.j2", title=title, figures=parts, style=viewer_style(), script=viewer_script(), provenance=provenance
    )


def figure_html(gaussians: Gaussians, caption: str) -> str:
    """<figure class="splats">: canvas, buttons, escaped caption and the data. The splats should lie in the unit ball."""
    data = base64.b64encode(pack_rows(gaussians).tobytes()).decode("ascii")
    return render_page(f"{_HERE}/figure.html.j2", caption=caption, data=data)


def viewer_style() -> Markup:
    """CSS for the figures; the page decides how high a canvas is."""
    return resource(_HERE, "figure.css")


def viewer_script() -> Markup:
    """JavaScript that brings every figure of the page to life; put it after the last one."""
    return resource(_HERE, "viewer.js")
