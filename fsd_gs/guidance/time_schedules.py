"""Which diffusion time t an optimisation step τ = 0 … N−1 uses. One t for the whole batch.

    Linear         t = start + (end − start) p                        p = τ/(N−1)
    Sqrt           t = start − (start − end) √p                       HiFA (arXiv 2305.18766): leaves the noisy part quickly
    DreamTime      ∫_t^start W / ∫_end^start W = p                    arXiv 2306.12422v1: as long at each t as its weight W says,
                   W(t) = exp(−(t−m1)²/2s1²) above m1, exp(−(t−m2)²/2s2²) below m2, 1 between
    Piecewise      straight lines through given points (p, t)         CFD's settings: (0, .98), (.5, .60), (1, .31)
    RandomUniform  t ~ U(t_min, t_max)                                SDS; not monotone
    RandomAnnealed t ~ U(t_min, t_max(p)), t_max falling at first     LucidDreamer; not monotone

The PF-ODE runs from noise to data once, so for FSD t must never rise: the monotone schedules refuse settings that would make it.
"""

from __future__ import annotations

import bisect
import itertools
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch

from fsd_gs.core.rng import make_generator
from fsd_gs.errors import ConfigError


@runtime_checkable
class TimeSchedule(Protocol):
    """step (from 0) → t ∈ [0, 1]. Steps at or beyond the last one keep the last t. A pure function: nothing to save or resume."""

    def __call__(self, step: int) -> float: ...


@dataclass(frozen=True)
class Linear:
    """t falls evenly from ``start`` to ``end`` over ``steps`` steps, both included."""

    start: float = 0.98
    end: float = 0.02
    steps: int = 300

    def __post_init__(self) -> None:
        _check_falling("Linear", self.start, self.end, self.steps)

    def __call__(self, step: int) -> float:
        return self.start + (self.end - self.start) * _progress(step, self.steps)


@dataclass(frozen=True)
class Sqrt:
    """HiFA: t falls with the square root of the progress."""

    start: float = 0.98
    end: float = 0.02
    steps: int = 300

    def __post_init__(self) -> None:
        _check_falling("Sqrt", self.start, self.end, self.steps)

    def __call__(self, step: int) -> float:
        return self.start - (self.start - self.end) * math.sqrt(_progress(step, self.steps))


@dataclass(frozen=True)
class DreamTime:
    """Time spent at t is proportional to W(t): slow between m2 and m1, faster outside. m1, m2, s1, s2 in units of t."""

    start: float = 0.98
    end: float = 0.02
    steps: int = 300
    m1: float = 0.8
    m2: float = 0.5
    s1: float = 0.3
    s2: float = 0.1

    def __post_init__(self) -> None:
        _check_falling("DreamTime", self.start, self.end, self.steps)
        if self.m2 > self.m1 or min(self.s1, self.s2) <= 0:
            raise ConfigError(f"DreamTime: expected m2 ≤ m1 and s1, s2 above 0, got m1={self.m1}, m2={self.m2}, s1={self.s1}, s2={self.s2}")

    def __call__(self, step: int) -> float:
        # The integral of W in closed form is increasing in t, so t follows by bisection.
        target = self._integral(self.start) - _progress(step, self.steps) * (self._integral(self.start) - self._integral(self.end))
        low, high = self.end, self.start
        for _ in range(50):
            middle = (low + high) / 2
            low, high = (middle, high) if self._integral(middle) < target else (low, middle)
        return (low + high) / 2

    def weight(self, t: float) -> float:
        if t > self.m1:
            return math.exp(-((t - self.m1) ** 2) / (2 * self.s1**2))
        return math.exp(-((t - self.m2) ** 2) / (2 * self.s2**2)) if t < self.m2 else 1.0

    def _integral(self, t: float) -> float:
        """∫ W from m2 to t: error functions outside [m2, m1], t itself inside."""
        below = self.s2 * math.sqrt(math.pi / 2) * math.erf(min(t - self.m2, 0.0) / (self.s2 * math.sqrt(2)))
        above = self.s1 * math.sqrt(math.pi / 2) * math.erf(max(t - self.m1, 0.0) / (self.s1 * math.sqrt(2)))
        return below + min(max(t - self.m2, 0.0), self.m1 - self.m2) + above


@dataclass(frozen=True)
class Piecewise:
    """Straight lines through ``points`` = ((progress, t), …) with progress rising from 0 to 1 and t never rising."""

    points: tuple[tuple[float, float], ...] = ((0.0, 0.98), (0.5, 0.60), (1.0, 0.31))
    steps: int = 300

    def __post_init__(self) -> None:
        if len(self.points) < 2 or any(len(point) != 2 for point in self.points):
            raise ConfigError(f"Piecewise: expected at least two points (progress, t), got {self.points}")
        progress = [p for p, _ in self.points]
        if progress[0] != 0 or progress[-1] != 1 or any(a >= b for a, b in itertools.pairwise(progress)):
            raise ConfigError(f"Piecewise: expected progress rising from 0 to 1, got {progress}")
        for (_, start), (_, end) in itertools.pairwise(self.points):
            _check_falling("Piecewise", start, end, self.steps)

    @cached_property
    def _progress_points(self) -> list[float]:
        return [p for p, _ in self.points]

    def __call__(self, step: int) -> float:
        p = _progress(step, self.steps)
        i = min(bisect.bisect_right(self._progress_points, p), len(self.points) - 1)
        (p0, t0), (p1, t1) = self.points[i - 1], self.points[i]
        return t0 + (t1 - t0) * (p - p0) / (p1 - p0)


@dataclass(frozen=True)
class RandomUniform:
    """SDS: t ~ U(t_min, t_max), a function of (seed, step) alone, so a resumed run draws the same times."""

    t_min: float = 0.02
    t_max: float = 0.98
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.t_min <= self.t_max <= 1:
            raise ConfigError(f"RandomUniform: expected 0 ≤ t_min ≤ t_max ≤ 1, got t_min={self.t_min}, t_max={self.t_max}")

    def __call__(self, step: int) -> float:
        generator = make_generator(self.seed, f"time/{step}")
        return self.t_min + (self.t_max - self.t_min) * torch.rand((), generator=generator, dtype=torch.float64).item()


@dataclass(frozen=True)
class RandomAnnealed:
    """t ~ U(end, t_max), t_max falling from ``start`` to ``settled`` over the first ``warmup`` of the run (LucidDreamer), or all at once
    after that share, where it is ``sudden`` (ProlificDreamer, Dive3D)."""

    start: float = 0.98
    end: float = 0.02
    steps: int = 300
    seed: int = 0
    settled: float = 0.5
    warmup: float = 0.3
    sudden: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.end <= self.settled <= self.start <= 1:
            raise ConfigError(f"settled: expected end ≤ settled ≤ start in [0, 1], got {self.end:g}, {self.settled:g} and {self.start:g}")
        if not 0 < self.warmup <= 1:
            raise ConfigError(f"warmup: expected a share of the run in (0, 1], got {self.warmup}")

    def __call__(self, step: int) -> float:
        warm = 1 - min(_progress(step, self.steps) / self.warmup, 1.0)
        if self.sudden:
            warm = math.ceil(warm)
        return RandomUniform(self.end, self.settled + (self.start - self.settled) * warm, self.seed)(step)


def _progress(step: int, steps: int) -> float:
    """0 at the first step, 1 at the last and beyond."""
    return min(max(step / max(steps - 1, 1), 0.0), 1.0)


def _check_falling(name: str, start: float, end: float, steps: int) -> None:
    if not (0 <= end <= 1 and 0 <= start <= 1):
        raise ConfigError(f"{name}: expected times in [0, 1], got start={start}, end={end}")
    if end > start:
        raise ConfigError(f"{name}: expected t to fall, got start={start} < end={end}; swap them (t = 1 is noise), or use 'random' for SDS")
    if steps < 1:
        raise ConfigError(f"{name}: expected steps of at least 1, got {steps}")
