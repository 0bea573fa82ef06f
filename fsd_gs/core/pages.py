"""HTML pages from Jinja2 templates that lie beside the code that fills them. Everything put into a template is escaped unless it is Markup.

A template's name is its package and file, ``"fsd_gs.viewer/gallery.html.j2"``, also where one template imports from another.
"""

from __future__ import annotations

import base64
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

__all__ = ["Markup", "data_url", "page_style", "render_page", "resource"]


def render_page(template: str, **values: Any) -> str:
    """The text of the template filled with ``values``; a name that it uses and nobody gives is an error, not a gap."""
    return _environment().get_template(template).render(**values)


def resource(package: str, name: str) -> Markup:
    """A style or a script of ours, to stand in a page as it is."""
    return Markup(resources.files(package).joinpath(name).read_text("utf-8"))


def page_style(package: str, name: str) -> Markup:
    """The style of a page: the colours that all pages share, and its own after them."""
    return resource("fsd_gs.core", "page.css") + resource(package, name)


def data_url(content: bytes, mime: str) -> str:
    """``content`` for a ``src`` attribute."""
    return f"data:{mime};base64,{base64.b64encode(content).decode('ascii')}"


@cache
def _environment() -> Environment:
    return Environment(
        loader=FunctionLoader(_source),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=False,
    )


def _source(name: str) -> str | None:
    package, _, file = name.partition("/")
    found = resources.files(package).joinpath(file)
    return found.read_text("utf-8") if found.is_file() else None
