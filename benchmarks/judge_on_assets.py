"""What the embedded judge says of finished assets of splats: how many views and assets show what the prompt asks for.

Run: python benchmarks/judge_on_assets.py FOLDER --limit 40. FOLDER (a run, a sweep, an evaluation) is searched for splats.ply beside a
config.yaml; prompts that name no object of the catalogue are passed over. 24 views an asset on white, the default cameras' distance.
"""

import argparse
from collections import Counter
from pathlib import Path

import torch
from omegaconf import OmegaConf

from fsd_gs.core.cameras import evaluation_orbit
from fsd_gs.errors import InputError
from fsd_gs.export.ply import load_ply
from fsd_gs.metrics.judge import Judge
from fsd_gs.render.base import make_rasterizer, render_frames


def report(label: str, assets: int, views: Counter, majority: Counter) -> None:
    if assets:
        print(
            f"{label} right: {views[label] / (24 * assets):.3f} of the views, {majority[label] / assets:.3f} of {assets} assets by majority"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--limit", type=int, default=40, help="assets, spread evenly over those found")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--where", default="", help="only assets whose config has this value, such as noise.beta=1.0")
    given = parser.parse_args()
    judge, rasterizer = Judge.load(), make_rasterizer("cpu")
    cameras = evaluation_orbit(24, distance=2.2, width=given.size)
    key, _, value = given.where.partition("=")
    found = []
    for path in sorted(given.folder.rglob("splats.ply")):
        config = OmegaConf.load(path.parent / "config.yaml")
        if not key or str(OmegaConf.select(config, key)) == value:
            found.append((path, config.prompt))
    views, majority, mistakes, assets = Counter(), Counter(), Counter(), 0
    for path, prompt in found[:: max(1, len(found) // given.limit)][: given.limit]:
        try:
            asked = judge.read(prompt)
        except InputError:
            continue
        images = render_frames(rasterizer, load_ply(path), cameras, background=torch.ones(3)).rgb.permute(0, 3, 1, 2)
        output = judge(images)
        modes, assets = judge.modes(output), assets + 1
        views["category"] += (output.category.argmax(1) == judge.categories.index(asked.category)).sum().item()
        majority["category"] += modes.category == asked.category
        if modes.category != asked.category:
            mistakes[f"{asked.category} → {modes.category}"] += 1
        if asked.color:
            views["color"] += (output.color.argmax(1) == judge.colors.index(asked.color)).sum().item()
            majority["color"] += modes.color == asked.color
            majority["color asked"] += 1
    report("category", assets, views, majority)
    report("color", majority["color asked"], views, majority)
    print("mistakes:", dict(mistakes.most_common()))


if __name__ == "__main__":
    main()
