"""The best of N: ``count=8 keep=3`` makes eight, orders them by one stated score and puts three in front; all of them stay on disk.

    score = Σ_k w_k v_k / Σ_k w_k,     v_k ∈ [0, 1], over what could be measured

    alignment   what the judge says the prompt's kind, colour and design are worth, mean over the views
    identity    the share of the views that show the same kind: one thing from all sides
    clear       1 − haze
    sound       1 where the geometry is sound, ½ with one failure, 0 with more

The judge knows the kinds of the catalogue; for other prompts the geometry decides alone, and the reason says so. *Diversity among equals*:
of those within ``EQUAL`` of the best that is left, the next one is the one farthest (``metrics.diversity``) from those in front of it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fsd_gs.config import Config
from fsd_gs.core.types import Gaussians
from fsd_gs.errors import FileFormatError, FsdGsError, InputError
from fsd_gs.export.formats import load_splats
from fsd_gs.export.versions import newest_version
from fsd_gs.io import write_text
from fsd_gs.metrics.diversity import DiversitySettings, pairwise_distances
from fsd_gs.metrics.geometry import geometry_report
from fsd_gs.metrics.judge import Judge
from fsd_gs.render import Rasterizer, make_rasterizer, render_frames
from fsd_gs.train import runs
from fsd_gs.train.variants import INSPECTION_SIZE, INSPECTION_VIEWS, SCORE_BACKGROUND, asset_views, orbit

RANKING = "ranking.json"
WEIGHTS = {"alignment": 0.45, "identity": 0.2, "clear": 0.15, "sound": 0.2}
EQUAL = 0.05
JUDGE_VIEWS, JUDGE_SIZE = 8, 96


@dataclass(frozen=True)
class Ranked:
    """An asset's place.

    Attributes:
        seed: of its run.
        score: in [0, 1].
        reason: why, in words.
        parts: what went into the score, by the names of ``WEIGHTS``.
    """

    seed: int
    score: float
    reason: str
    parts: dict[str, float]


@dataclass(frozen=True)
class Ranking:
    """A set in order, the best first.

    Attributes:
        keep: how many of them were asked for.
        ranked: all of them.
    """

    keep: int
    ranked: tuple[Ranked, ...]

    @property
    def seeds(self) -> list[int]:
        return [entry.seed for entry in self.ranked]

    def note(self, seed: int) -> str:
        """ "1 of 8, kept: score 0.91 (right kind, …)"; empty for a seed that is not ranked."""
        for place, entry in enumerate(self.ranked):
            if entry.seed == seed:
                kept = ", kept" if place < self.keep else ""
                return f"{place + 1} of {len(self.ranked)}{kept}: score {entry.score:.2f} ({entry.reason})"
        return ""


def combined(parts: dict[str, float]) -> float:
    """The weighted mean of what was measured."""
    total = sum(WEIGHTS[name] for name in parts)
    return sum(WEIGHTS[name] * value for name, value in parts.items()) / total if total else 0.0


def measure(splats: Gaussians, config: Config, rasterizer: Rasterizer, judge: Judge | None) -> dict[str, float]:
    """The parts of the score of one asset; without what cannot be measured."""
    if not len(splats):
        return {"clear": 0.0, "sound": 0.0}
    cameras = orbit(config, INSPECTION_VIEWS, INSPECTION_SIZE, splats.means.device)
    report = geometry_report(splats, render_frames(rasterizer, splats, cameras).alpha, cameras)
    parts = {"clear": 1.0 - min(max(report.haze, 0.0), 1.0), "sound": max(0.0, 1.0 - 0.5 * len(report.failures))}
    if judge is None:
        return parts
    cameras = orbit(config, JUDGE_VIEWS, JUDGE_SIZE, splats.means.device)
    output = judge(render_frames(rasterizer, splats, cameras, background=torch.ones(3)).rgb.clamp(0, 1).permute(0, 3, 1, 2))
    try:
        asked = judge.read(config.prompt)
    except InputError:  # not of the catalogue: the judge has no opinion
        return parts
    return {"alignment": float(judge.agreement(output, asked).mean()), "identity": judge.modes(output).category_share, **parts}


def in_words(parts: dict[str, float]) -> str:
    """Why an asset has its score: the names of the parts with their values, the weakest last."""
    names = {"alignment": "fits the prompt", "identity": "one thing from all sides", "clear": "free of haze", "sound": "sound"}
    told = ", ".join(f"{names[name]} {value:.0%}" for name, value in sorted(parts.items(), key=lambda part: -part[1]))
    return told if "alignment" in parts else f"{told}; the judge does not know the prompt"


def ordered(scores: Sequence[float], distances: Tensor) -> list[int]:
    """Places by falling score; among those within ``EQUAL`` of the best that is left, the one farthest from all in front comes next.

    Args:
        scores: N of them.
        distances: [N, N], as of ``pairwise_distances``.
    """
    left, order = set(range(len(scores))), []
    while left:
        best = max(scores[k] for k in left)
        equals = sorted((k for k in left if scores[k] >= best - EQUAL), key=lambda k: (-scores[k], k))
        if order:
            equals.sort(key=lambda k: -float(distances[k, order].min()))  # stable: the score decides where distances are equal
        order.append(equals[0])
        left.remove(equals[0])
    return order


def rank(config: Config, folder: Path, seeds: Sequence[int], rasterizer: Rasterizer | None = None) -> Ranking:
    """Order the finished assets of ``seeds`` in a prompt's folder, and write ``ranking.json`` there."""
    rasterizer = rasterizer or make_rasterizer("cpu")
    judge = _judge()
    found = [seed for seed in seeds if runs.is_finished(folder / runs.seed_name(seed))]
    assets = [load_splats(newest_version(folder / runs.seed_name(seed) / runs.SPLATS)) for seed in found]
    parts = [measure(splats, config, rasterizer, judge) for splats in assets]
    views = [asset_views(splats, config, rasterizer) for splats in assets]
    distances = torch.zeros(len(assets), len(assets))
    if len(assets) > 1:
        renders, alphas = torch.stack([rgb for rgb, _ in views]), torch.stack([alpha for _, alpha in views])
        distances = pairwise_distances(renders, alphas, DiversitySettings(background=SCORE_BACKGROUND))
    scores = [combined(values) for values in parts]
    order = ordered(scores, distances)
    ranking = Ranking(config.keep, tuple(Ranked(found[k], scores[k], in_words(parts[k]), parts[k]) for k in order))
    write_text(folder / RANKING, json.dumps({**asdict(ranking), "weights": WEIGHTS}, indent=1) + "\n")
    return ranking


def _judge() -> Judge | None:
    try:
        return Judge.load()
    except FsdGsError as error:
        logging.getLogger(__name__).warning("%s: assets are ranked by their geometry alone", error)
        return None


def load_ranking(path: Path) -> Ranking | None:
    """The order that was written to ``path``; None where there is none, or it cannot be read (a gallery works without)."""
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        ranked = [
            Ranked(int(entry["seed"]), float(entry["score"]), str(entry["reason"]), {str(k): float(v) for k, v in entry["parts"].items()})
            for entry in values["ranked"]
        ]
        return Ranking(int(values["keep"]), tuple(ranked))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        logging.getLogger(__name__).warning("%s", FileFormatError(f"{path}: not a ranking ({error}); shown in the order of the seeds"))
        return None
