"""Words for the pages."""

from __future__ import annotations


def plain_markdown(text: str) -> str:
    """``text`` so that Markdown shows it as it is: prompts are no markup."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]()<>#+-.!|~&$" else c for c in " ".join(text.split()))


def duration(seconds: float) -> str:
    """45 s, 3 min 05 s, 2 h 07 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
