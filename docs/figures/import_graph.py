"""Draws docs/images/import-graph.png: the rooms of the package, their size, and who imports whom.

    python docs/figures/import_graph.py

Rooms stand at the level that tests/test_architecture.py gives them. A line from a room down to another means that it imports it, at import
or at first use; the darker, the more imports. Lines that follow from others (a → b → c, hence a → c) are faint, and those to the
ground, which everybody imports, are left out.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from test_architecture import FILES, imports_of, level, room  # noqa: E402

GROUND = ("core", "io", "interrupts", "errors")  # imported by nearly everybody
WIDTH, STEP = 13.0, 1.4
COLOURS = {"commands": "#f4d6c6", "around": "#f7e6b5", "training": "#d9ead0", "families": "#cfe3f1", "ground": "#e3e0ee"}


def colour(stand: float) -> str:
    for least, name in ((11, "commands"), (9, "around"), (5, "training"), (4, "families"), (0, "ground")):
        if stand >= least:
            return COLOURS[name]
    raise AssertionError


def draw_box(axis: Axes, x: float, y: float, width: float, title: str, below: str, face: str) -> None:
    shape = FancyBboxPatch((x - width / 2, y - 0.22), width, 0.44, boxstyle="round,pad=0.02", facecolor=face, edgecolor="0.3", zorder=2)
    axis.add_patch(shape)
    axis.text(x, y + 0.06, title, ha="center", va="center", fontsize=10, weight="bold", zorder=3)
    axis.text(x, y - 0.12, below, ha="center", va="center", fontsize=7, color="0.3", zorder=3)


def main() -> None:
    edges: Counter[tuple[str, str]] = Counter()
    lines: Counter[str] = Counter()
    stand: dict[str, float] = {}
    for name, path in FILES.items():
        here = room(name)
        lines[here] += len(path.read_text(encoding="utf-8").splitlines())
        stand[here] = max(stand.get(here, 0), level(f"fsd_gs.{here}"))
        for found in {i.module for i in imports_of(path) if i.when != "typing"} & FILES.keys():
            if room(found) != here:
                edges[here, room(found)] += 1
    rooms = [r for r in stand if r not in ("types", "cameras", *GROUND)]  # the first two are public names of core's
    rows = sorted({stand[r] for r in rooms})
    place: dict[str, tuple[float, float]] = {}
    for y, row in enumerate(rows):
        members = sorted((r for r in rooms if stand[r] == row), key=lambda r: -lines[r])
        members = members[::2] + members[1::2][::-1]
        for i, r in enumerate(members):
            place[r] = ((i + 1) / (len(members) + 1) * WIDTH, (y + 1) * STEP)
    drawn = {e: n for e, n in edges.items() if e[0] in place and e[1] in place and stand[e[0]] >= stand[e[1]]}

    def implied(a: str, b: str) -> bool:
        todo, seen = [c for x, c in drawn if x == a and c != b], set()
        while todo:
            c = todo.pop()
            if c == b:
                return True
            if c not in seen:
                seen.add(c)
                todo += [d for x, d in drawn if x == c]
        return False

    figure, axis = plt.subplots(figsize=(WIDTH, 1.3 * len(rows) + 1.3))
    for (a, b), n in sorted(drawn.items(), key=lambda item: item[1]):
        weak = implied(a, b)
        (xa, ya), (xb, yb) = place[a], place[b]
        bend = 0.0 if ya != yb else -0.35
        axis.add_patch(
            FancyArrowPatch(
                (xa, ya - 0.24), (xb, yb + 0.24), arrowstyle="-|>", mutation_scale=9, linewidth=0.6 if weak else 0.8 + min(n, 24) / 16,
                color="0.55" if weak else "0.15", alpha=0.25 if weak else 0.85, connectionstyle=f"arc3,rad={bend}", zorder=1,
            )
        )  # fmt: skip
    for r, (x, y) in place.items():
        draw_box(axis, x, y, 0.85 + 0.3 * (lines[r] / 1000) ** 0.5, r, f"{lines[r]} lines", colour(stand[r]))
    ground = ", ".join(f"{r} {lines[r]}" for r in GROUND)
    draw_box(axis, WIDTH / 2, 0, WIDTH - 1, " · ".join(GROUND), f"imported by every room; lines: {ground}", COLOURS["ground"])
    axis.set_xlim(0, WIDTH)
    axis.set_ylim(-0.4, len(rows) * STEP + 0.4)
    axis.axis("off")
    figure.tight_layout(pad=0.3)
    figure.savefig(ROOT / "docs" / "images" / "import-graph.png", dpi=110)
    for r in sorted([*rooms, *GROUND], key=lambda r: (-stand[r], r)):
        print(f"{r:12} level {stand[r]:g}  {lines[r]:6} lines")


if __name__ == "__main__":
    main()
