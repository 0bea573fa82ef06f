"""The table "Round trips" of docs/formats.md: the largest error of every field, per format and SH degree.

    npm install --prefix /tmp/st @playcanvas/splat-transform@2.7.1
    SPLAT_TRANSFORM=/tmp/st/node_modules/.bin/splat-transform python benchmarks/round_trips.py

Without splat-transform its columns stay empty.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent.parent), str(Path(__file__).resolve().parent.parent / "tests")]

from splat_errors import SPLAT_TRANSFORM, Errors, errors, scene, splat_transform  # noqa: E402

from fsd_gs.export.formats import load_splats, save_splats  # noqa: E402

SUFFIXES = [".ply", ".compressed.ply", ".splat", ".spz", ".sog", ".splat.glb", ".usda", ".usdc", ".usdz"]
Y_UP = (".spz", ".splat.glb", ".usda", ".usdc", ".usdz")  # whatever the target
NOT_THEIRS = (".splat.glb", ".usda", ".usdc", ".usdz")  # splat-transform 2.7.1 writes .glb and reads none of these


def row(e: Errors) -> str:
    return f"{e.position:.1e} | {e.angle:.2f} | {e.scale:.1e} | {e.opacity:.4f} | {e.colour:.4f} | {e.sh:.3f}"


def main() -> None:
    columns = ["format", "SH", "read by", "position / radius", "angle °", "scale, relative", "opacity", "colour", "SH"]
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for suffix in SUFFIXES:
            for degree in range(4):
                before, target = scene(degree), None if suffix in Y_UP else "supersplat"
                path = folder / f"a{suffix}"
                save_splats(before, path, target=target)
                print(f"| {suffix} | {degree} | fsd_gs | {row(errors(load_splats(path, target=target), before))} |", flush=True)
                if SPLAT_TRANSFORM and suffix not in NOT_THEIRS:
                    theirs = load_splats(splat_transform(path, folder / "out.ply"), target="supersplat")
                    print(f"| {suffix} | {degree} | splat-transform | {row(errors(theirs, before))} |", flush=True)


if __name__ == "__main__":
    main()
