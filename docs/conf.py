"""The documentation site (extra ``docs``): ``python -m sphinx -W docs build/site``, then ``python docs/check_links.py build/site``.

The pages are those that one reads in the repository; here they get an index, an API reference from the docstrings, and a gallery whose
viewers are made from the splats in ``docs/assets`` by the exporter itself. Nothing on the site is loaded from elsewhere.
"""

import re
import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent))

from fsd_gs import __version__  # noqa: E402

project, author, release = "fsd_gs", "The fsd_gs contributors", __version__
copyright = author
version = release
root_doc = "index"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["data", "figures", "_build"]

# Markdown. Notebooks are stored with their outputs; tests/test_notebook.py executes them.
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
nb_execution_mode = "off"

# API reference
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True}
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False

# Appearance: no fonts, scripts or pictures from other servers
html_theme = "furo"
html_title = f"fsd_gs {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_favicon = "_static/favicon.svg"
html_extra_path: list[str] = []  # filled by make_viewers
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#c2410c", "color-brand-content": "#c2410c"},
    "dark_css_variables": {"color-brand-primary": "#fb923c", "color-brand-content": "#fb923c"},
}


def make_viewers(app: object) -> None:
    """``viewers/NAME.html`` for every splat file of ``docs/assets``: the offline page that ``export.py --format html`` writes."""
    from fsd_gs.export.formats import export, load_splats
    from fsd_gs.export.options import ExportOptions

    made = Path(app.doctreedir) / "extra"  # type: ignore[attr-defined]
    for source in sorted((DOCS / "assets").glob("*.spz")):
        page = made / "viewers" / f"{source.stem}.html"
        if not page.is_file() or page.stat().st_mtime < source.stat().st_mtime:
            page.parent.mkdir(parents=True, exist_ok=True)
            export(load_splats(source), page, "html", ExportOptions(title=source.stem.replace("-", " ")))
    app.config.html_extra_path = [str(made)]  # type: ignore[attr-defined]


#: Pages of the site that are files of the repository's top.
TOP = {"contributing": "CONTRIBUTING.md", "changelog": "CHANGELOG.md"}
_LINK = re.compile(r"\[([^\]]+)\]\((?:\.\./)*([^):#]+)(#[^)]*)?\)")


def fit_links(app: object, name: str, source: list[str]) -> None:
    """Links into the source tree, which is not on the site, become their text; links to and from the top's pages find them here."""
    text = (DOCS.parent / TOP[name]).read_text("utf-8") if name in TOP else source[0]

    def fitted(match: re.Match[str]) -> str:
        words, target, anchor = match[1], match[2], match[3] or ""
        page = next((page for page, file in TOP.items() if target == file), None)
        if page is not None:
            return f"[{words}]({'../' * name.count('/')}{page}.md{anchor})"
        if name in TOP and target.startswith("docs/"):
            return f"[{words}]({target.removeprefix('docs/')}{anchor})"
        return words if target.split("/")[0] in ("fsd_gs", "configs", "tests", "benchmarks", "README.md", "LICENSE") else match[0]

    source[0] = _LINK.sub(fitted, text)


def setup(app: object) -> None:
    app.connect("builder-inited", make_viewers)  # type: ignore[attr-defined]
    app.connect("source-read", fit_links)  # type: ignore[attr-defined]
