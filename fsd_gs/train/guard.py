"""The guard: finds values that are no longer finite, goes back to the last good state, lowers the learning rates, and says so.

Nothing is masked: a single non-finite gradient or parameter counts, and after too many rollbacks the run stops with an error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from fsd_gs.errors import DivergenceError
from fsd_gs.train.session import Session


def first_nonfinite(session: Session, loss: torch.Tensor) -> str | None:
    """The name of the first thing that is not finite (loss, a gradient, a parameter), or None.

    One reduction a tensor: a sum is finite only if every entry is (or entries overflow, which is as bad).
    """
    named = [("loss", loss.detach())]
    for name, parameter in session.params.items():
        named.append((name, parameter.detach()))
        if parameter.grad is not None:
            named.append((f"gradient of {name}", parameter.grad))
    sums = torch.stack([tensor.sum().float() for _, tensor in named])
    bad = (~torch.isfinite(sums)).nonzero().flatten().tolist()
    return named[bad[0]][0] if bad else None


@dataclass
class Guard:
    """Keeps the last good state of a session and returns to it when a step went wrong.

    say: called with one line for people.
    """

    snapshot_every: int
    max_rollbacks: int
    rate_factor: float
    say: Callable[[str], None]
    rollbacks: int = 0
    _snapshot: dict[str, Any] = field(default_factory=dict)

    def remember(self, session: Session) -> None:
        """Call before each step; takes a snapshot every ``snapshot_every`` steps."""
        if not self._snapshot or session.step % self.snapshot_every == 0:
            self._snapshot = session.state_dict()

    def roll_back(self, session: Session, culprit: str) -> None:
        """Restore the last good state with lower rates; DivergenceError after ``max_rollbacks``."""
        self.rollbacks += 1
        failed_at = session.step
        if self.rollbacks > self.max_rollbacks:
            raise DivergenceError(
                f"{culprit} is not finite at step {failed_at}, after {self.max_rollbacks} rollbacks; lower rates.* or guidance.cfg_scale"
            )
        rate_factor = session.rate_factor * self.rate_factor
        session.load_state_dict(self._snapshot)
        session.rate_factor = rate_factor
        # The generators continue from the snapshot, so the same draws meet a gentler step instead of failing in the same way.
        self._snapshot["rate_factor"] = rate_factor
        session.apply_rates()
        self.say(f"{culprit} is not finite at step {failed_at}: back to step {session.step}, learning rates × {rate_factor:g}")
