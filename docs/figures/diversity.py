"""The same seeds with FSD and with SDS, on the exact prior: python docs/figures/diversity.py "a car" docs/images/diversity.png

Draws one row a method and one column a seed, two views each, and prints for each asset the catalogue object it is nearest to.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import torch

from fsd_gs.config import load_config
from fsd_gs.core.cameras import evaluation_orbit
from fsd_gs.core.device import resolve_device
from fsd_gs.core.sheets import contact_sheet, to_uint8
from fsd_gs.export.pictures import save_png
from fsd_gs.train.api import prepare, run
from fsd_gs.train.backbones import load_prior

ROWS = {"FSD": [], "SDS, annealed": ["methods/sds-annealed"], "SDS": ["methods/sds"]}
SEEDS, VIEW_SIZE = range(4), 144


def main(prompt: str, picture: str) -> None:
    prior = load_prior(load_config(["exact"], [f"prompt={prompt}"]), resolve_device("cpu"))
    frames, labels = [], []
    for row, files in ROWS.items():
        config = load_config(["exact", *files], [f"prompt={prompt}"])
        rows = []
        for seed in SEEDS:
            result = run(replace(config, seed=seed), prepare(replace(config, seed=seed), prior))
            cameras = evaluation_orbit(12, distance=2.2, width=VIEW_SIZE)
            views = result.render(cameras).rgb
            rows.append(result.render(cameras.resized(128, 128)).rgb)
            frames.append(np.concatenate([to_uint8(views[i]) for i in (1, 7)], axis=1))
            labels.append(f"{row}  seed {seed}")
            nearest, error = nearest_object(prior, prompt, rows[-1], cameras.resized(128, 128))
            print(f"{row:14} seed {seed}  nearest: {nearest}  (MSE {error:.4f}, {len(result.splats)} splats)", flush=True)
        pairs = [(a - b).square().mean().item() for i, a in enumerate(rows) for b in rows[:i]]
        print(f"{row:14} mean pairwise MSE {np.mean(pairs):.4f}", flush=True)
    save_png(contact_sheet(frames, columns=len(SEEDS), labels=labels), picture)


def nearest_object(prior, prompt: str, views: torch.Tensor, cameras) -> tuple[str, float]:
    """The object of the prompt's set that looks most like these views on white."""
    weights = prior.objects.weights(prompt, "")
    best = (float("inf"), 0)
    for index, log_weight in zip(weights.objects, weights.positive.tolist(), strict=True):
        if log_weight > -float("inf"):
            render = prior.objects.render(index, cameras)
            best = min(best, ((render[..., :3] + 1 - render[..., 3:] - views).square().mean().item(), index))
    return f"#{best[1]} {prior.objects[best[1]].caption}", best[0]


if __name__ == "__main__":
    main(*sys.argv[1:])
