"""A single HTML file that shows splats offline: our own small sorted WebGL2 viewer with the data inside.

The data are the 32-byte rows of the .splat layout in base64; colour is the base colour (SH degree 0). All text is escaped, and a
content security policy forbids every request, so that the page cannot reach the network. :func:`figure_html`, :func:`viewer_style` and
:func:`viewer_script` are the parts, for pages that show several assets: any number of figures, then the script once.
"""

from __future__ import annotations

import base64
import html
import os
import re
from importlib import resources

from fsd_gs.core.types import Gaussians
from fsd_gs.errors import InputError
from fsd_gs.export.framing import framed
from fsd_gs.export.splat import pack_rows
from fsd_gs.io import write_text

_STYLE = """\
figure.splats { margin: 0; position: relative; overflow: hidden; }
figure.splats canvas { display: block; width: 100%; outline: none; cursor: grab; }
figure.splats canvas:active { cursor: grabbing; }
figure.splats figcaption { position: absolute; left: 10px; bottom: 8px; padding: 2px 8px; }
figure.splats .splat-buttons { position: absolute; right: 8px; top: 8px; display: flex; gap: 6px; }
figure.splats button { font: inherit; padding: 3px 10px; border: 1px solid #8888; }
figure.splats button, figure.splats figcaption { border-radius: 6px; background: #fffc; color: #222; }
"""


def save_html(gaussians: Gaussians, path: str | os.PathLike[str], *, title: str = "splats", provenance: str = "") -> None:
    """Write one self-contained page that shows ``gaussians`` (scaled into view if they are far from the unit ball).

    provenance: one line for a meta element of the page's head.
    """
    if not len(gaussians):
        raise InputError(f"cannot write {path}: there are no splats; loosen the filters")
    page = page_html(title, [figure_html(framed(gaussians).gaussians, title)])
    if provenance:
        page = page.replace("</head>", f'<meta name="fsd_gs" content="{html.escape(provenance)}">\n</head>', 1)
    write_text(path, page)


def page_html(title: str, figures: list[str]) -> str:
    """A whole page with the ``figures`` of :func:`figure_html`."""
    template = resources.files("fsd_gs.export").joinpath("viewer.html.template").read_text("utf-8")
    parts = {"TITLE": html.escape(title), "STYLE": _STYLE, "FIGURES": "\n".join(figures), "SCRIPT": viewer_script()}
    return re.sub("@@([A-Z]+)@@", lambda match: parts[match.group(1)], template)  # one pass: a title cannot name another part


def figure_html(gaussians: Gaussians, caption: str) -> str:
    """<figure class="splats">: canvas, buttons, escaped caption and the data. The splats should lie in the unit ball."""
    data = base64.b64encode(pack_rows(gaussians).tobytes()).decode("ascii")
    buttons = "".join(
        f'<button type="button" data-action="{action}" title="{hint}">{label}</button>'
        for action, label, hint in [
            ("spin", "Turn", "turn the object (drag: orbit, wheel or pinch: zoom, shift-drag: pan)"),
            ("nextBackground", "Background", "next background (key b)"),
            ("reset", "Reset", "reset the view (double-click or key r)"),
        ]
    )
    text = html.escape(caption)
    return (
        f'<figure class="splats"><canvas aria-label="{text}"></canvas><div class="splat-buttons">{buttons}</div>'
        f'<figcaption>{text}</figcaption><script class="splat-data" type="text/plain">{data}</script></figure>'
    )


def viewer_style() -> str:
    """CSS for the figures; the page decides how high a canvas is."""
    return _STYLE


def viewer_script() -> str:
    """JavaScript that brings every figure of the page to life; put it after the last one."""
    return resources.files("fsd_gs.export").joinpath("viewer.js").read_text("utf-8")
