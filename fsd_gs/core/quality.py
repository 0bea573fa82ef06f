"""``quality=draft|good|best``: one word for how much an asset may cost, in place of a dozen numbers.

A word multiplies what the preset says, so that it means the same for a small embedded prior and for a large network on a GPU:

    =====================  ======  =====  =====
    setting                draft   good   best
    =====================  ======  =====  =====
    steps                  × 0.4   × 1    × 2
    cameras.views          × 1     × 1    × 2     (a multiple of what the prior denoises jointly either way)
    render.sizes           × 0.75  × 1    × 1.5   (to a multiple of 8)
    splats.count           × 0.5   × 1    × 2
    densify.cap            × 0.5   × 1    × 2.5
    densify.every          × 0.4   × 1    × 2     (as many rounds)
    turntable_frames       × 0.5   × 1    × 2
    turntable_size         × 0.75  × 1    × 2
    reseed                 × 0     × 1    × 1     (most drafts are too soft for the verdict: making them again would double their time)
    =====================  ======  =====  =====

The stages of a run (``core.stages``) are scaled alike, but for their steps, which are shares of the run's. A word stands below the
settings that are given beside it: ``quality=best steps=300`` is best with 300 steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fsd_gs.core.configure import value_of

DRAFT, GOOD, BEST = QUALITIES = ("draft", "good", "best")


@dataclass(frozen=True)
class Quality:
    """Factors on a preset's numbers."""

    steps: float
    views: int
    sizes: float
    splats: float
    cap: float
    frames: float
    turntable: float
    reseed: int


FACTORS = {
    DRAFT: Quality(steps=0.4, views=1, sizes=0.75, splats=0.5, cap=0.5, frames=0.5, turntable=0.75, reseed=0),
    BEST: Quality(steps=2, views=2, sizes=1.5, splats=2, cap=2.5, frames=2, turntable=2, reseed=1),
}


def quality_settings(settings: Any, word: str) -> dict[str, Any]:
    """What ``word`` makes of ``settings`` (a :class:`~fsd_gs.config.Config` of defaults and preset), by dotted name; {} for "good"."""
    factors = FACTORS.get(word)
    if factors is None:
        return {}
    scaled = {
        "steps": _scaled(settings, "steps", factors.steps),
        "splats.count": _scaled(settings, "splats.count", factors.splats),
        **_scaled_part(settings, factors),
        "outputs.turntable_frames": _scaled(settings, "outputs.turntable_frames", factors.frames),
        "outputs.turntable_size": 2 * round(value_of(settings, "outputs.turntable_size") * factors.turntable / 2),
        "reseed": value_of(settings, "reseed") * factors.reseed,
    }
    if value_of(settings, "stages"):
        scaled["stages"] = [
            _with(entry, _scaled_part(part.settings, factors)) for entry, part in zip(settings.stages, settings.split(), strict=True)
        ]
    return scaled


def _scaled_part(settings: Any, factors: Quality) -> dict[str, Any]:
    """What a stage may have of its own."""
    views, grid = value_of(settings, "cameras.views") * factors.views, value_of(settings, "cameras.azimuth_grid")
    return {
        "cameras.views": views,
        "cameras.azimuth_grid": -(-grid // views) * views,
        "render.sizes": [max(8, round(size * factors.sizes / 8) * 8) for size in value_of(settings, "render.sizes")],
        "densify.cap": _scaled(settings, "densify.cap", factors.cap),
        "densify.every": _scaled(settings, "densify.every", factors.steps),
    }


def _with(entry: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """A stage with values by dotted name in its groups."""
    stage = dict(entry)
    for key, value in values.items():
        group, _, name = key.partition(".")
        stage[group] = {**stage.get(group, {}), name: value}
    return stage


def _scaled(settings: Any, key: str, factor: float) -> int:
    """0 stays 0 (no steps, no turntable), everything else at least 1."""
    value = value_of(settings, key)
    return max(1, round(value * factor)) if value else value
