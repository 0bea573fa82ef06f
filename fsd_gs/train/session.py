"""Everything that changes during a run, in one place, so that a checkpoint is simply all of it.

A session's ``state_dict`` is flat: tensors under dotted names and plain numbers. Restored, it continues bit for bit as if it had never
stopped (on the CPU; CUDA kernels add atomically, so there the last bits may differ).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fsd_gs.core.types import Gaussians
from fsd_gs.splats.densify import Densifier
from fsd_gs.splats.optimizers import (
    LearningRates,
    Optimizers,
    build_optimizers,
    load_optimizer_tensors,
    optimizer_tensors,
    set_learning_rates,
)
from fsd_gs.splats.parameters import SplatParameters, activate
from fsd_gs.train.step import Generators, Parts

State = dict[str, Any]


@dataclass
class Session:
    """The splats of one run and all that their optimisation remembers.

    step: steps done. rate_factor: the guard's multiplier on every learning rate. generators: the random streams of the steps.
    """

    params: SplatParameters
    optimizers: Optimizers
    densifier: Densifier
    parts: Parts
    rates: LearningRates
    generators: Generators
    steps: int
    step: int = 0
    rate_factor: float = 1.0

    def gaussians(self) -> Gaussians:
        """The splats as they are now, detached."""
        with torch.no_grad():
            return activate(self.params).detach()

    def apply_rates(self) -> None:
        """Set the learning rates of this point of the run, times the guard's factor."""
        set_learning_rates(self.optimizers, self.rates, min(self.step / self.steps, 1.0))
        for optimizer in self.optimizers.values():
            optimizer.param_groups[0]["lr"] *= self.rate_factor

    # -- state ----------------------------------------------------------------------------------------------------------

    def state_dict(self) -> State:
        state: State = {"step": self.step, "rate_factor": self.rate_factor}
        for name, generator in vars(self.generators).items():
            state[f"generators.{name}"] = generator.get_state()
        for name, parameter in self.params.items():
            state[f"params.{name}"] = parameter.detach().clone()
        state.update({f"optimizers.{key}": value for key, value in optimizer_tensors(self.optimizers).items()})
        for part, owner in self._stateful():
            for key, value in owner.state_dict().items():
                state[f"{part}.{key}"] = value.clone() if isinstance(value, Tensor) else value
        return state

    def load_state_dict(self, state: State) -> None:
        device = self.params["means"].device
        self.step, self.rate_factor = int(state["step"]), float(state["rate_factor"])
        for name, generator in vars(self.generators).items():
            generator.set_state(state[f"generators.{name}"].cpu())
        for name in list(self.params):
            self.params[name] = torch.nn.Parameter(state[f"params.{name}"].to(device, copy=True))
        self.optimizers = build_optimizers(self.params, self.rates)
        load_optimizer_tensors(self.optimizers, _below(state, "optimizers."))
        for part, owner in self._stateful():
            owner.load_state_dict(_below(state, f"{part}."))
        self.apply_rates()

    def _stateful(self) -> list[tuple[str, Any]]:
        candidates: list[tuple[str, Any]] = [
            ("densify", self.densifier),
            ("noise", self.parts.noise),
            ("guidance", self.parts.guidance),
        ]
        return [(name, owner) for name, owner in candidates if hasattr(owner, "state_dict")]


def _below(state: State, prefix: str) -> State:
    return {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
