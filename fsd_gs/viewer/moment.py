"""A moment of a run, as its page shows it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fsd_gs.core.types import Gaussians


@dataclass(frozen=True)
class Snapshot:
    """A moment of a run.

    Attributes:
        views: [V, H, W, 3] as rendered in the step.
    """

    splats: Gaussians
    views: Tensor
    step: int
    steps: int
    t: float
    eta_seconds: float
    views_per_second: float


@dataclass(frozen=True)
class Update:
    """What the panels show of a moment.

    Attributes:
        shown: splats drawn.
        losses: (step, loss, smoothed loss).
    """

    snapshot: Snapshot
    shown: int
    losses: list[tuple[int, float, float]]
    paused: bool
