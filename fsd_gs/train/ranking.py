"""The best of N: ``count=8 keep=3`` makes eight, orders them by one stated score and puts three in front; all of them stay on disk.

    score = p(keep) · ½^(failures of the geometry)

p(keep) is the verdict's (``metrics.verdict``: alignment and identity by the judge, haze and more; the fitted weights lie there only),
the failures are ``variants.inspect``'s.

*Diversity among equals*: of those within ``EQUAL`` of the best that is left, the next one is the one farthest (``metrics.diversity``) from
those in front of it.
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
from fsd_gs.errors import FileFormatError
from fsd_gs.export.formats import load_splats
from fsd_gs.export.versions import newest_version
from fsd_gs.io import write_text
from fsd_gs.metrics.diversity import DiversitySettings, pairwise_distances
from fsd_gs.render import Rasterizer, make_rasterizer
from fsd_gs.train import runs
from fsd_gs.train.variants import SCORE_BACKGROUND, asset_views, examine

RANKING = "ranking.json"
EQUAL = 0.05


@dataclass(frozen=True)
class Ranked:
    """An asset's place.

    Attributes:
        seed: of its run.
        score: in [0, 1].
        reason: why, in words.
    """

    seed: int
    score: float
    reason: str


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


def measure(splats: Gaussians, config: Config, rasterizer: Rasterizer) -> tuple[float, str]:
    """The score of one asset, and why."""
    failures, said = examine(splats, config, rasterizer)
    reason = ", ".join([said.in_words(), *failures])
    return said.score * 0.5 ** len(failures), reason


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
    found = [seed for seed in seeds if runs.is_finished(folder / runs.seed_name(seed))]
    assets = [load_splats(newest_version(folder / runs.seed_name(seed) / runs.SPLATS)) for seed in found]
    scored = [measure(splats, config, rasterizer) for splats in assets]
    views = [asset_views(splats, config, rasterizer) for splats in assets]
    distances = torch.zeros(len(assets), len(assets))
    if len(assets) > 1:
        renders, alphas = torch.stack([rgb for rgb, _ in views]), torch.stack([alpha for _, alpha in views])
        distances = pairwise_distances(renders, alphas, DiversitySettings(background=SCORE_BACKGROUND))
    order = ordered([score for score, _ in scored], distances)
    ranking = Ranking(config.keep, tuple(Ranked(found[k], *scored[k]) for k in order))
    write_text(folder / RANKING, json.dumps(asdict(ranking), indent=1) + "\n")
    return ranking


def load_ranking(path: Path) -> Ranking | None:
    """The order that was written to ``path``; None where there is none, or it cannot be read (a gallery works without)."""
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        ranked = [Ranked(int(entry["seed"]), float(entry["score"]), str(entry["reason"])) for entry in values["ranked"]]
        return Ranking(int(values["keep"]), tuple(ranked))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        logging.getLogger(__name__).warning("%s", FileFormatError(f"{path}: not a ranking ({error}); shown in the order of the seeds"))
        return None
