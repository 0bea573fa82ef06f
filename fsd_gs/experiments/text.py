"""Tables as text: Markdown for people, CSV for programs."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table without a line break at its end; | in a cell is escaped."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(text.replace("|", "\\|") for text in cells) + " |"

    return "\n".join([line(header), "|" + "---|" * len(header), *(line(row) for row in rows)])


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Lines of CSV; None and floats that are not finite are empty cells."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(["" if v is None or (isinstance(v, float) and not math.isfinite(v)) else v for v in row] for row in rows)
    return buffer.getvalue()
