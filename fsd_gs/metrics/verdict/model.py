"""From the signs of an asset to one number: a logistic regression.

    p(keep) = 1 / (1 + exp(−(b + Σ_i w_i (s_i − m_i) / d_i)))

m, d: mean and deviation of the labelled assets; a sign that is not known (NaN) counts as m_i. w_i ≤ 0 for haze, softness, dissent,
mismatch, floaters and doubt, ≥ 0 for the margin: more haze never speaks for an asset, however small the set that it was fitted on.
``python -m fsd_gs.metrics.verdict.fit`` fits it anew from the labelled signs beside the weights, and prints how well it tells assets
apart that it was not fitted on (docs/verdict.md).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from fsd_gs.core.types import Cameras, Gaussians
from fsd_gs.errors import FileFormatError
from fsd_gs.metrics.geometry.report import RenderSplats
from fsd_gs.metrics.judge.inference import Judge
from fsd_gs.metrics.verdict.signs import LIMIT, NAMES, Signs, look, signs_of

SHIPPED = Path(__file__).parent / "weights" / "verdict.json"


@dataclass(frozen=True)
class Verdict:
    """What is said of one asset.

    Attributes:
        score: p(keep) in [0, 1].
        keep: score at or above the threshold.
        signs: what it was said from.
        worst: the sign that speaks most against the asset.
    """

    score: float
    keep: bool
    signs: Signs
    worst: str

    def in_words(self) -> str:
        """``unclear (haze 0.41)``, or ``kept`` and the score."""
        return f"kept ({self.score:.2f})" if self.keep else f"unclear ({self.worst} {getattr(self.signs, self.worst):.2f})"


@dataclass(frozen=True)
class VerdictModel:
    """The fitted numbers.

    Attributes:
        weights, means, deviations: w, m and d for each name of ``NAMES``.
        bias: b.
        threshold: on p(keep).
    """

    weights: Mapping[str, float]
    means: Mapping[str, float]
    deviations: Mapping[str, float]
    bias: float
    threshold: float = 0.5

    def terms(self, signs: Signs) -> dict[str, float]:
        """What each sign adds to the log-odds of being kept; 0 where it is not known."""
        values = asdict(signs)
        scaled = {name: (values[name] - self.means[name]) / self.deviations[name] for name in NAMES}
        return {name: 0.0 if math.isnan(scaled[name]) else self.weights[name] * scaled[name] for name in NAMES}

    def __call__(self, signs: Signs) -> Verdict:
        terms = self.terms(signs)
        score = 1 / (1 + math.exp(-max(-60.0, min(60.0, self.bias + sum(terms.values())))))
        return Verdict(score, score >= self.threshold, signs, min(terms, key=lambda name: terms[name]))


def load_verdict(path: Path = SHIPPED) -> VerdictModel:
    """The model in ``path``; FileFormatError, naming it, where it is missing or of other signs."""
    try:
        stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        tables = {part: {name: float(stored[part][name]) for name in NAMES} for part in ("weights", "means", "deviations")}
        return VerdictModel(**tables, bias=float(stored["bias"]), threshold=float(stored["threshold"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FileFormatError(
            f"{path}: expected the numbers of the verdict for {', '.join(NAMES)} ({error}); reinstall the package"
        ) from error


@lru_cache(maxsize=1)
def _shipped() -> tuple[VerdictModel, Judge]:
    return load_verdict(), Judge.load()


def judge_asset(gaussians: Gaussians, prompt: str, rasterizer: RenderSplats, cameras: Cameras | None = None) -> Verdict:
    """Look at an asset from eight sides and say whether an artist would keep it.

    Args:
        gaussians: the asset, in the frame of training (``load_splats`` gives it back).
        prompt: what was asked for; kinds that the embedded judge does not know are judged by the other signs alone.
        rasterizer: ``fsd_gs.render.base.Rasterizer`` for the device of the splats.
        cameras: by default eight of the evaluation orbit, 192 pixels wide, with which the threshold was fitted.
    """
    model, judge = _shipped()
    if not len(gaussians):
        return model(Signs(1.0, 1.0, 1.0, 0.0, 0.0, 1.0, -LIMIT))
    views, cameras = look(rasterizer, gaussians, cameras)
    return model(signs_of(views, cameras, gaussians, judge=judge, prompt=prompt))
