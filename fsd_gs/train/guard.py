"""The guard: finds values that are no longer finite, goes back to the last good state, lowers the learning rates, and says so.

Nothing is masked: after every step, the last one too, the loss, the splats and Adam's moments must be finite (a gradient of 1e20 overflows
the second moment and would freeze its splat without a sign). What is gone back to was itself checked, in full, when it was taken. After too
many rollbacks the run stops with an error, its session at the last good state.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fsd_gs.config import GuardSettings
from fsd_gs.errors import DivergenceError
from fsd_gs.train.checkpoint import nonfinite_entry
from fsd_gs.train.session import Session

ADVICE = "lower rates.* or guidance.cfg_scale"
_MOMENTS = {"exp_avg": "gradient of {}", "exp_avg_sq": "squared gradient of {}"}


def problem_after(session: Session, loss: Tensor) -> str | None:
    """What is wrong after a step, such as "gradient of means is not finite", or None. A gradient is known by its trace in Adam.

    One sum a tensor, read back at once: a sum is finite only if every entry is (or entries overflow, which is as bad).
    """
    if not len(session.params["means"]):
        return "no splats are left"
    named = [(name, parameter.detach()) for name, parameter in session.params.items()]
    for name, optimizer in session.optimizers.items():
        state = optimizer.state.get(session.params[name], {})
        named += [(_MOMENTS[key].format(name), state[key]) for key in _MOMENTS if key in state]
    named.sort(key=lambda entry: "gradient" not in entry[0])  # the cause before its effect
    named.append(("loss", loss.detach().float()))
    sums = torch.stack([tensor.sum() for _, tensor in named])
    bad = (~torch.isfinite(sums)).nonzero().flatten().tolist()
    return f"{named[bad[0]][0]} is not finite" if bad else None


@dataclass
class Guard:
    """Keeps the last good state of a session and returns to it when a step went wrong.

    Attributes:
        settings: How often it looks and how often it goes back.
        say: Called with one line for people.
        rollbacks: How often it has gone back.
    """

    settings: GuardSettings
    say: Callable[[str], None]
    rollbacks: int = 0
    _snapshot: dict[str, Any] = field(default_factory=dict)

    def remember(self, session: Session) -> None:
        """Call before each step; takes a snapshot every ``settings.snapshot_every`` steps.

        Raises:
            DivergenceError: the run starts from values that are not finite, so there is nothing to go back to.
        """
        if self._snapshot and session.step % self.settings.snapshot_every:
            return
        state = session.state_dict()
        bad = nonfinite_entry(state)
        if bad is None:
            self._snapshot = state
        elif not self._snapshot:
            raise DivergenceError(f"{bad} is not finite before step {session.step + 1}, so there is nothing to go back to; {ADVICE}")
        else:  # something the check of every step does not see, such as the weights that a guidance trains
            self.roll_back(session, f"{bad} is not finite")

    def forget(self) -> None:
        """Nothing before this point is to be gone back to (another stage begins)."""
        self._snapshot = {}

    def roll_back(self, session: Session, problem: str) -> None:
        """Restore the last good state with lower rates; DivergenceError after ``max_rollbacks``, with the last good state restored."""
        self.rollbacks += 1
        failed_at = session.step
        rate_factor = session.rate_factor * self.settings.rate_factor
        session.load_state_dict(self._snapshot)
        session.rate_factor = rate_factor
        # The generators continue from the snapshot, so the same draws meet a gentler step instead of failing in the same way.
        self._snapshot["rate_factor"] = rate_factor
        session.apply_rates()
        if self.rollbacks > self.settings.max_rollbacks:
            raise DivergenceError(f"{problem} at step {failed_at}, after {self.settings.max_rollbacks} rollbacks; {ADVICE}")
        self.say(f"{problem} at step {failed_at}: back to step {session.step}, learning rates × {rate_factor:g}")
