"""The assets of an evaluation side by side: python docs/figures/suite_sheet.py OUTPUT/<report> picture.jpg ["prompt" …]

One line a prompt and method, one column a seed, four views of each. OUTPUT holds the report's folder and ``assets``; without prompts: all.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import fsd_gs
from fsd_gs.core.cameras import evaluation_orbit
from fsd_gs.core.sheets import contact_sheet, to_uint8
from fsd_gs.render.base import make_rasterizer

SIZE, VIEWS, LABEL = 80, 4, 14


def main(report: Path, picture: Path, prompts: list[str]) -> None:
    result = json.loads((report / "results.json").read_text())
    keys = {(asset["prompt"], asset["method"], asset["seed"]): asset["key"] for asset in result["assets"]}
    seeds = result["suite"]["seeds"]
    frames, labels = [], []
    for prompt in prompts or result["suite"]["prompts"]:
        for method in reversed(result["suite"]["methods"]):  # FSD comes last in a suite
            for seed in seeds:
                splats = fsd_gs.load_splats(report.parent / "assets" / keys[prompt, method, seed] / "splats.ply")
                frames.append(draw(splats))
                labels.append(f"{prompt}: {method}" if seed == seeds[0] else "")
    Image.fromarray(contact_sheet(frames, len(seeds), labels=labels, gap=0)).save(picture, quality=88)


def draw(splats) -> np.ndarray:
    """[LABEL + SIZE, VIEWS · SIZE, 3] on white, with room for a label above."""
    views = make_rasterizer("cpu")(splats, evaluation_orbit(VIEWS, distance=2.2, width=SIZE), background=torch.ones(3)).rgb
    row = np.concatenate([to_uint8(view) for view in views], axis=1)
    return np.pad(row, ((LABEL, 0), (0, 0), (0, 0)), constant_values=255)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
