"""Settings of the residual and of the time schedule. Need no torch, until one of them has parameters of its own to be checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fsd_gs.core.setting import check, make, setting
from fsd_gs.errors import ConfigError
from fsd_gs.guidance import GUIDANCES, SCHEDULES, WEIGHTS, make_guidance

if TYPE_CHECKING:
    from fsd_gs.guidance.base import Guidance
    from fsd_gs.guidance.time_schedules import TimeSchedule


@dataclass(frozen=True)
class GuidanceSettings:
    """Which method, how strongly the text counts, and the residual's weight."""

    method: str = setting("score", "the target: score is SDS, annealed SDS and FSD alike (docs/method.md)", choices=lambda: GUIDANCES)
    cfg_scale: float = setting(5.0, "classifier-free guidance, ε_neg + s (ε_text − ε_neg); 1: none", low=0, high=1000)
    cfg_late: float = setting(
        0.5, "share of cfg_scale at times below cfg_late_from, where all of it paints in what no other view shows (1: all)", low=0, high=1
    )
    cfg_late_from: float = setting(0.6, "time t below which cfg_late holds", low=0, high=1)
    cfg_rescale: float = setting(
        0.0, "CFG rescale, 0 to 1, measured on the denoised image: one more prediction a step (prior.cfg_rescale is free)", low=0, high=1
    )
    weight: str = setting("lambda", "w(t); auto: as the method was published", choices=lambda: ("auto", *WEIGHTS))
    params: dict[str, Any] = setting({}, "parameters of the method's own, such as guidance.params.steps=10")

    def __post_init__(self) -> None:
        check(self)
        if self.params:
            self.build()

    def build(self) -> Guidance:
        weight = None if self.weight == "auto" else self.weight
        return make_guidance(
            self.method,
            self.cfg_scale,
            weight,
            cfg_late=self.cfg_late,
            cfg_late_from=self.cfg_late_from,
            cfg_rescale=self.cfg_rescale,
            params=self.params,
        )


@dataclass(frozen=True)
class ScheduleSettings:
    """The diffusion time over a run."""

    kind: str = setting(
        "linear", "t over the run: falling (sqrt is HiFA's), or random (SDS; random_annealed: LucidDreamer)", choices=lambda: SCHEDULES
    )
    start: float = setting(0.98, "t at the first step", low=0, high=1)
    end: float = setting(
        0.4, "t at the last step: below this the embedded network spoils more than it adds (docs/results.md)", low=0, high=1
    )
    progress: list[float] = setting([0.0, 1.0], "piecewise: fractions of the run", low=0, high=1)
    values: list[float] = setting([0.98, 0.02], "piecewise: t at those fractions", low=0, high=1)
    params: dict[str, Any] = setting({}, "parameters of the kind's own, such as schedule.params.m1=0.8 (dreamtime)")

    def __post_init__(self) -> None:
        check(self)
        if self.kind != "random" and self.end > self.start:
            raise ConfigError(
                f"start, end: expected start ≥ end (t falls, so that the run follows the DDIM path), got {self.start:g} → {self.end:g}; "
                "schedule.kind=random has no order"
            )
        if self.kind == "piecewise" and len(self.progress) != len(self.values):
            raise ConfigError(f"progress, values: expected equal lengths, got {len(self.progress)} and {len(self.values)}")
        if self.params:
            self.build(2, 0)

    def build(self, steps: int, seed: int) -> TimeSchedule:
        """The schedule of a run of ``steps`` steps; seed: of the random times."""
        low, high = sorted((self.end, self.start))
        shared = {
            "start": self.start,
            "end": self.end,
            "steps": steps,
            "seed": seed,
            "t_min": low,
            "t_max": high,
            "points": tuple(zip(self.progress, self.values, strict=False)),
        }
        return make(SCHEDULES[self.kind], shared, self.params, "schedule.params")
