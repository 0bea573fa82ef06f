"""What a run is made of and everything that changes during it, in one place, so that a checkpoint is simply all of it.

A session's ``state_dict`` is flat: tensors under dotted names and plain numbers. Restored, it continues bit for bit as if it had never
stopped (on the CPU; CUDA kernels add atomically, so there the last bits may differ).

    step, rate_factor                                numbers
    generators.{views, guidance}                     uint8, torch's generator state
    params.NAME                                      [N, …] float32, the stored splats (splats/parameters)
    optimizers.NAME.{step, exp_avg, exp_avg_sq}      Adam's state, all three or none
    densify.*, noise.*, guidance.*                   whatever their owners remember
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fsd_gs.core.types import Gaussians
from fsd_gs.errors import FileFormatError, FsdGsError
from fsd_gs.guidance import Guidance
from fsd_gs.guidance.time_schedules import TimeSchedule
from fsd_gs.noise import NoiseFunction
from fsd_gs.priors.base import Prior
from fsd_gs.render import Rasterizer
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
from fsd_gs.splats.regularizers import Regularizers
from fsd_gs.train.views import BackgroundSampler, ViewSampler

State = dict[str, Any]
_OWNERS = ("densify", "noise", "guidance")


@dataclass(frozen=True)
class Parts:
    """The exchangeable pieces of a run; none of them knows another."""

    prior: Prior
    rasterize: Rasterizer
    sample_views: ViewSampler
    sample_background: BackgroundSampler
    noise: NoiseFunction
    schedule: TimeSchedule
    guidance: Guidance
    regularize: Regularizers
    prompt: str
    negative_prompt: str
    with_depth: bool = False  # only surface noise looks at depth


@dataclass(frozen=True)
class Generators:
    """The random streams of a step: cameras and backgrounds; whatever a guidance draws besides ε and t. The noise keeps its own."""

    views: torch.Generator
    guidance: torch.Generator


@dataclass
class Session:
    """The splats of one run and all that their optimisation remembers.

    Attributes:
        step: steps done.
        rate_factor: the guard's multiplier on every learning rate.
        generators: the random streams of the steps.
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
        set_learning_rates(self.optimizers, self.rates, min(self.step / max(self.steps, 1), 1.0))
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
        """Take over what :meth:`state_dict` of a session with the same settings gave.

        Raises:
            FileFormatError: an entry is missing, unknown or of the wrong type or shape; the session is then unusable.
        """
        self._check(state)
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

    def _check(self, state: State) -> None:
        """The schema: every entry that must be there, none that nobody asked for, one N for all splat tensors."""
        step, factor = state.get("step"), state.get("rate_factor")
        if not isinstance(step, int) or isinstance(step, bool) or not 0 <= step <= self.steps:
            raise _misfit("step", f"a whole number from 0 to {self.steps}", step)
        if not isinstance(factor, float) or not 0 < factor <= 1:
            raise _misfit("rate_factor", "a number in (0, 1]", factor)
        expected = {f"generators.{name}": generator.get_state() for name, generator in vars(self.generators).items()}
        count = len(state["params.means"]) if isinstance(state.get("params.means"), Tensor) and state["params.means"].ndim else 0
        if not count:
            raise _misfit("params.means", "at least one splat", state.get("params.means"))
        for name, parameter in self.params.items():
            expected[f"params.{name}"] = parameter.new_empty(()).expand(count, *parameter.shape[1:])
            moments = [f"optimizers.{name}.{key}" for key in ("exp_avg", "exp_avg_sq")]
            if any(key in state for key in (*moments, f"optimizers.{name}.step")):
                expected |= dict.fromkeys(moments, expected[f"params.{name}"])
                expected[f"optimizers.{name}.step"] = torch.empty(())
        for key, like in expected.items():
            value = state.get(key)
            if not isinstance(value, Tensor) or value.shape != like.shape or value.dtype != like.dtype:
                raise _misfit(key, f"{_kind(like)}", value)
        for key, value in state.items():
            if key.startswith("densify.") and value.ndim == 1 and len(value) != count:
                raise _misfit(key, f"{count} values", value)
        unknown = [key for key in state if key not in expected and key not in ("step", "rate_factor") and key.split(".")[0] not in _OWNERS]
        if unknown:
            raise FileFormatError(f"checkpoint: unknown entry '{unknown[0]}'; use overwrite=true to start again")

    def _stateful(self) -> list[tuple[str, Any]]:
        owners: list[Any] = [self.densifier, self.parts.noise, self.parts.guidance]
        return [(name, owner) for name, owner in zip(_OWNERS, owners, strict=True) if hasattr(owner, "state_dict")]


def _below(state: State, prefix: str) -> State:
    return {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}


def _kind(value: object) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    return "nothing" if value is None else repr(value)


def _misfit(key: str, expected: str, got: object) -> FsdGsError:
    return FileFormatError(f"checkpoint: '{key}': expected {expected}, got {_kind(got)}; use overwrite=true to start again")
