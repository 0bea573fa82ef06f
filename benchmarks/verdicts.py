"""What an artist would say of finished assets: the signs of the verdict, p(keep) and what the judge sees, a row each, and their medians.

Run: python benchmarks/verdicts.py FOLDER [--sheet sheet.png]. FOLDER (a run, a batch, a sweep) is searched for splats.ply beside a
config.yaml. The judge looks at the verdict's eight views; colour and design count where the prompt names one. The sheet shows three
views of each asset.

The table of docs/results.md:

    fsd-gs batch configs/evaluate/artist.txt --output outputs/artist --seeds 0
    python benchmarks/verdicts.py outputs/artist --sheet artist.png
"""

import argparse
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import torch
from PIL import Image

from fsd_gs.core.sheets import contact_sheet, to_uint8
from fsd_gs.errors import InputError
from fsd_gs.export.formats import load_splats
from fsd_gs.metrics.judge import Judge
from fsd_gs.metrics.verdict import NAMES, Signs, Verdict, VerdictModel, load_verdict, look, signs_of
from fsd_gs.render import make_rasterizer
from fsd_gs.train.runs import load_run_config

SHOWN = (0, 1, 3)  # of eight views around: front, three quarters, from behind


@dataclass(frozen=True)
class Row:
    """One asset. ``right``: of category, colour and design those that the prompt names, and whether most views show them."""

    name: str
    prompt: str
    seed: int
    verdict: Verdict
    right: dict[str, bool]
    rgb: torch.Tensor


def row_of(path: Path, root: Path, judge: Judge, model: VerdictModel, rasterizer) -> Row:
    config = load_run_config(path.parent)
    gaussians = load_splats(path)
    views, cameras = look(rasterizer, gaussians)
    verdict = model(signs_of(views, cameras, gaussians, judge=judge, prompt=config.prompt))
    right = seen(judge, views.rgb, config.prompt)
    return Row(path.parent.relative_to(root).as_posix(), config.prompt, config.seed, verdict, right, views.rgb)


def seen(judge: Judge, rgb: torch.Tensor, prompt: str) -> dict[str, bool]:
    """What the judge's majority over the views says of each part that ``prompt`` names; {} where it names nothing that it knows."""
    try:
        asked = judge.read(prompt)
    except InputError:
        return {}
    modes = judge.modes(judge(rgb.permute(0, 3, 1, 2)))
    parts = {part: getattr(asked, part) for part in ("category", "color", "design")}
    return {part: getattr(modes, part) == value for part, value in parts.items() if value}


def table(rows: list[Row]) -> str:
    lines = ["| asset | p(keep) | " + " | ".join(NAMES) + " | right |", "|---|---|" + "---|" * (len(NAMES) + 1)]
    for row in rows:
        right = ", ".join(f"{'' if good else 'not '}{part}" for part, good in row.right.items()) or "–"
        lines.append(f"| {row.name} | {row.verdict.score:.2f} | {numbers(row.verdict.signs)} | {right} |")
    middle = Signs(*(known_median([getattr(row.verdict.signs, name) for row in rows]) for name in NAMES))
    lines.append(f"| median | {median(row.verdict.score for row in rows):.2f} | {numbers(middle)} | |")
    return "\n".join(lines)


def known_median(values: list[float]) -> float:
    """The median of those that are no NaN; NaN where all are."""
    known = [value for value in values if not math.isnan(value)]
    return median(known) if known else math.nan


def numbers(signs: Signs) -> str:
    return " | ".join(f"{value:.3f}" for value in signs.as_tuple())


def label(row: Row) -> dict:
    """As fsd_gs/metrics/verdict/weights/labelled.json has it; ``kept`` is the verdict's own until somebody looks."""
    signs = {name: None if math.isnan(value) else round(value, 4) for name, value in asdict(row.verdict.signs).items()}
    return {"group": "batch", "prompt": row.prompt, "seed": row.seed, "kept": row.verdict.keep, "held_out": False, "signs": signs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sheet", type=Path, help="a picture of all of them, three views each")
    parser.add_argument("--rows", type=Path, help="the signs as rows of labelled.json, for somebody to say which are kept")
    parser.add_argument("--columns", type=int, default=4)
    given = parser.parse_args()
    judge, model, rasterizer = Judge.load(), load_verdict(), make_rasterizer("cpu")
    paths = [path for path in sorted(given.folder.rglob("splats.ply")) if (path.parent / "config.yaml").exists()]
    if not paths:
        parser.error(f"{given.folder}: no splats.ply beside a config.yaml")
    rows = [row_of(path, given.folder, judge, model, rasterizer) for path in paths]
    print(table(rows))
    print(f"\nkept: {sum(row.verdict.keep for row in rows)} of {len(rows)}")
    for part in ("category", "color", "design"):
        named = [row.right[part] for row in rows if part in row.right]
        if named:
            print(f"{part} right: {sum(named)} of {len(named)}")
    if given.rows:
        given.rows.write_text("[\n" + ",\n".join(json.dumps(label(row)) for row in rows) + "\n]\n")
    if given.sheet:
        frames = [to_uint8(torch.cat([row.rgb[v] for v in SHOWN], dim=1)) for row in rows]
        captions = [f"{row.prompt}   p(keep) {row.verdict.score:.2f}" for row in rows]
        Image.fromarray(contact_sheet(frames, given.columns, captions=captions)).save(given.sheet)


if __name__ == "__main__":
    main()
