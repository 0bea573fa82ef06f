"""Every link, picture, script and frame of a built site leads somewhere: ``python docs/check_links.py build/site``. Works offline.

A page of the site must exist, with the anchor that is named; what would be loaded from another server (script, style, picture, frame) is
refused; addresses of other sites in running text are only checked for their form.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {("img", "src"), ("script", "src"), ("iframe", "src"), ("source", "src"), ("video", "src"), ("link", "href")}


@dataclass
class Page(HTMLParser):
    """anchors: what can be linked to. links: (address, whether it is loaded rather than followed)."""

    anchors: set[str] = field(default_factory=set)
    links: list[tuple[str, bool]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value for name, value in attrs if value is not None}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        for name in ("href", "src"):
            if values.get(name):
                navigation = tag == "link" and values.get("rel") in ("canonical", "next", "prev", "search", "index")
                self.links.append((values[name], (tag, name) in LOADED and not navigation))


def problems(site: Path) -> list[str]:
    """One line for each link of the pages in ``site`` that leads nowhere."""
    pages = {path.resolve(): read(path) for path in sorted(site.rglob("*.html"))}
    found = []
    for path, page in pages.items():
        for address, loaded in page.links:
            reason = trouble(address, loaded, path, pages, site.resolve())
            if reason:
                found.append(f"{path.relative_to(site.resolve())}: {address}: {reason}")
    return found


def read(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text("utf-8"))
    return page


def trouble(address: str, loaded: bool, path: Path, pages: dict[Path, Page], site: Path) -> str | None:
    parts = urlsplit(address)
    if parts.scheme in ("data", "mailto", "javascript"):
        return None
    if parts.scheme or parts.netloc:
        if loaded:
            return "loaded from another server"
        return None if parts.scheme == "https" and "." in parts.netloc else "expected https://host.name/…"
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    target = target / "index.html" if target.is_dir() else target
    if not target.is_relative_to(site):
        return "leads out of the site"
    if not target.is_file():
        return "no such file"
    if parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
        return "no such anchor"
    return None


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or not Path(arguments[0]).is_dir():
        print("usage: python docs/check_links.py FOLDER_OF_THE_BUILT_SITE")
        return 2
    found = problems(Path(arguments[0]))
    print("\n".join(found) if found else "all links lead somewhere")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
