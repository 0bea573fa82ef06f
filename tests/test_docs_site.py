"""The link checker of the documentation site finds what leads nowhere, and the Markdown pages lead to files that are there.

The site itself is built by ``.ci/run``: ``python -m sphinx -W docs build/site && python docs/check_links.py build/site``.
"""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "integrations").rglob("*.md")]


@pytest.fixture(scope="module")
def checker():
    spec = importlib.util.spec_from_file_location("check_links", ROOT / "docs" / "check_links.py")
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules["check_links"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ('<a href="other.html#here">', None),
        ('<a href="https://example.org/x">', None),
        ('<a href="#top">', None),
        ('<a href="missing.html">', "no such file"),
        ('<a href="other.html#gone">', "no such anchor"),
        ('<img src="gone.png">', "no such file"),
        ('<a href="../../etc/passwd">', "leads out of the site"),
        ('<script src="https://cdn.example.org/x.js"></script>', "loaded from another server"),
        ('<link rel="stylesheet" href="//fonts.example.org/f.css">', "loaded from another server"),
        ('<a href="http://example.org">', "expected https"),
    ],
)
def test_what_leads_nowhere_is_found(checker, tmp_path, body, reason):
    (tmp_path / "index.html").write_text(f'<h1 id="top">x</h1>{body}')
    (tmp_path / "other.html").write_text('<h1 id="here">x</h1>')
    found = checker.problems(tmp_path)
    assert (found == []) if reason is None else reason in found[0]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_relative_links_of_markdown_lead_to_files(page):
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.M | re.S)
    text = re.sub(r"`[^`\n]*`", "", text)
    for target in re.findall(r"\]\(([^)\s#]+)(?:#[^)]*)?\)", text):
        if not re.match(r"[a-z]+:", target):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_page_is_on_the_site():
    index = (ROOT / "docs" / "index.md").read_text("utf-8")
    listed = set(re.findall(r"^[\w/]+$", index, re.M))
    pages = {path.relative_to(ROOT / "docs").with_suffix("").as_posix() for path in (ROOT / "docs").rglob("*.md")} - {"index"}
    assert pages <= listed, f"add to the toctree of docs/index.md: {pages - listed}"
