"""Do samples show what was asked for? The judge's labels against the caption, by majority over a sample's views and view by view.

A sample is *right* in its colour or design only among the captions that ask for one; a design is right if the category is, too. Rates are
means over captions (the seeds of a caption are not independent) with bootstrap 95 % intervals over captions.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from card.captions import Caption
from torch import Tensor

from fsd_gs.metrics.judge import Judge, JudgeOutput, Modes
from fsd_gs.metrics.judge.words import Asked
from fsd_gs.metrics.statistics import Estimate, estimate

LABELS = ("category", "color", "design")


@dataclass(frozen=True)
class Verdict:
    """One sample of caption number ``caption``. said: its labels by majority; right: label → whether, of those asked for;
    views_right: label → share of the single views, each judged on its own."""

    caption: int
    said: dict[str, str]
    right: dict[str, bool]
    views_right: dict[str, float]


def compare(asked: Asked, said: Modes) -> dict[str, bool]:
    """Label → whether it is the asked one, for the labels that were asked for."""
    wanted = {"category": asked.category, "color": asked.color, "design": asked.design}
    return {label: getattr(said, label) == name for label, name in wanted.items() if name is not None}


def verdict(judge: Judge, caption: int, asked: Asked, output: JudgeOutput) -> Verdict:
    """On one sample, from the judge's output for its V views."""
    modes = judge.modes(output)
    views = [compare(asked, judge.modes(_rows(output, slice(v, v + 1)))) for v in range(len(output.category))]
    shares = {label: sum(view[label] for view in views) / len(views) for label in views[0]}
    return Verdict(caption, {label: getattr(modes, label) for label in LABELS}, compare(asked, modes), shares)


def judge_samples(judge: Judge, captions: Sequence[Caption], numbers: Sequence[int], images: Tensor) -> list[Verdict]:
    """A verdict on each sample: images [S, V, 3, H, W] of the captions with these ``numbers`` [S]."""
    samples, views = images.shape[:2]
    output = judge(images.flatten(0, 1))
    return [
        verdict(judge, numbers[s], captions[numbers[s]].asked, _rows(output, slice(s * views, (s + 1) * views))) for s in range(samples)
    ]


def rate(verdicts: Sequence[Verdict], label: str, *, single_views: bool = False, resamples: int = 10_000) -> Estimate:
    """Mean over captions of the share of samples (or of single views) that are right in ``label``."""
    by_caption: dict[int, list[float]] = defaultdict(list)
    for v in verdicts:
        if label in v.right:
            by_caption[v.caption].append(v.views_right[label] if single_views else float(v.right[label]))
    values = {str(caption): float(np.mean(shares)) for caption, shares in by_caption.items()}
    return estimate(values, np.random.default_rng(0), resamples)


def summary(captions: Sequence[Caption], verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Rates of all captions and of each group, category by category, and what was taken for what."""
    groups = {"all": list(verdicts)}
    for v in verdicts:
        groups.setdefault(captions[v.caption].group, []).append(v)
    return {
        "samples": len(verdicts),
        "rates": {name: _rates(some) for name, some in groups.items()},
        "by_category": _by_category(captions, verdicts),
        "confusions": {label: _confusions(captions, verdicts, label) for label in LABELS},
    }


def _rates(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    return {
        label: {"majority": asdict(rate(verdicts, label)), "single_views": asdict(rate(verdicts, label, single_views=True))}
        for label in LABELS
    }


def _by_category(captions: Sequence[Caption], verdicts: Sequence[Verdict]) -> dict[str, dict[str, Any]]:
    """Category → samples and, for each label, the share that is right (None where none was asked for), worst categories first."""
    table: dict[str, list[Verdict]] = defaultdict(list)
    for v in verdicts:
        table[captions[v.caption].asked.category].append(v)
    rows = {}
    for name, some in table.items():
        shares = {label: [v.right[label] for v in some if label in v.right] for label in LABELS}
        rows[name] = {"samples": len(some)} | {label: float(np.mean(right)) if right else None for label, right in shares.items()}
    return dict(sorted(rows.items(), key=lambda row: (row[1]["category"], row[0])))


def _confusions(captions: Sequence[Caption], verdicts: Sequence[Verdict], label: str) -> dict[str, int]:
    """ "asked → said" → samples, the most frequent first."""
    wrong = [v for v in verdicts if not v.right.get(label, True) and (label == "category" or v.right["category"])]
    counts = Counter(f"{getattr(captions[v.caption].asked, label)} → {v.said[label]}" for v in wrong)
    return dict(counts.most_common())


def _rows(output: JudgeOutput, rows: slice) -> JudgeOutput:
    return JudgeOutput(output.category[rows], output.color[rows], output.design[rows], output.features[rows])
