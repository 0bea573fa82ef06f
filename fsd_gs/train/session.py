"""What a run is made of and everything that changes during it, in one place, so that a checkpoint is simply all of it.

A session's ``state_dict`` is flat: tensors under dotted names and plain numbers. Restored, it continues bit for bit as if it had never
stopped (on the CPU; CUDA kernels add atomically, so there the last bits may differ).

    step, rate_factor                                numbers; in a run with stages also the number of the stage
    generators.{views, guidance}                     uint8, torch's generator state
    params.NAME                                      [N, …] float32, the stored splats (splats/parameters)
    optimizers.NAME.{step, exp_avg, exp_avg_sq}      Adam's state, all three or none
    densify.*, noise.*, guidance.*                   whatever their owners remember

A run with stages (``core.stages``) has one :class:`Stage` plugged in at a time. At a border the splats, the random streams and the fixed
noise go on; Adam's moments, the densification's statistics and what a guidance trained are memories of another prior's gradients, and begin
anew. One function does that, :meth:`Session.load_state_dict`, on the state of the stage before, whether from memory or from a file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
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
from fsd_gs.splats.colour_floor import ColourFloor
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
from fsd_gs.splats.pull import Hold, Pull
from fsd_gs.splats.regularizers import Regularizers
from fsd_gs.train.control import GeometryControl
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
    hold: Callable[[Gaussians], Gaussians] = field(default_factory=Hold)  # takes the gradient from splats that must not change
    pull: Pull = field(default_factory=Pull)  # takes splats back towards those that an edit starts from
    lift: ColourFloor = field(default_factory=ColourFloor)  # keeps colours where they have a gradient
    control: GeometryControl = field(default_factory=GeometryControl)  # shows a ControlNet what is rendered
    with_depth: bool = False  # only surface noise, GSD and ControlNets look at depth


@dataclass(frozen=True)
class Generators:
    """The random streams of a step: cameras and backgrounds; whatever a guidance draws besides ε and t. The noise keeps its own."""

    views: torch.Generator
    guidance: torch.Generator


@dataclass(frozen=True)
class Stage:
    """What a part of the run is made of; its pieces count steps from the stage's first. A run without stages is one of them.

    Attributes:
        number: from 0.
        first: the run's step (from 0) that it begins with.
        steps: how many it has.
        keeps_noise: its noise is that of the stage before, on the grid of its own latents.
    """

    parts: Parts
    densifier: Densifier
    rates: LearningRates
    steps: int
    number: int = 0
    first: int = 0
    keeps_noise: bool = False


@dataclass
class Session:
    """The splats of one run and all that their optimisation remembers.

    Attributes:
        stage: what is plugged in now.
        borders: the steps at which the stages begin; the first is 0.
        build_stage: number → stage, with its prior loaded.
        step: steps done.
        rate_factor: the guard's multiplier on every learning rate.
        generators: the random streams of the steps.
    """

    params: SplatParameters
    optimizers: Optimizers
    stage: Stage
    generators: Generators
    steps: int
    borders: tuple[int, ...]
    build_stage: Callable[[int], Stage]
    step: int = 0
    rate_factor: float = 1.0

    @property
    def parts(self) -> Parts:
        return self.stage.parts

    @property
    def densifier(self) -> Densifier:
        return self.stage.densifier

    @property
    def rates(self) -> LearningRates:
        return self.stage.rates

    @property
    def stage_step(self) -> int:
        """Steps done of the stage: what its pieces count."""
        return self.step - self.stage.first

    def gaussians(self) -> Gaussians:
        """The splats as they are now, detached."""
        with torch.no_grad():
            return activate(self.params).detach()

    def apply_rates(self) -> None:
        """Set the learning rates of this point of the stage, times the guard's factor."""
        set_learning_rates(self.optimizers, self.rates, min(self.stage_step / max(self.stage.steps, 1), 1.0))
        for optimizer in self.optimizers.values():
            optimizer.param_groups[0]["lr"] *= self.rate_factor

    # -- stages ---------------------------------------------------------------------------------------------------------

    @property
    def at_border(self) -> bool:
        """Whether the next step belongs to the next stage."""
        return self.step in self.borders[self.stage.number + 1 :]

    def enter(self, number: int, state: State) -> None:
        """Plug in another stage and take over ``state``. The prior of the present one is let go before the other is loaded.

        Whatever goes wrong while loading, the session can still be saved as it was.
        """
        gone: Any = None
        self.stage = replace(self.stage, parts=replace(self.stage.parts, prior=gone))
        self.stage = self.build_stage(number)
        self.load_state_dict(state)

    # -- state ----------------------------------------------------------------------------------------------------------

    def state_dict(self) -> State:
        state: State = {"step": self.step, "rate_factor": self.rate_factor}
        if len(self.borders) > 1:
            state["stage"] = self.stage.number
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
        """Take over what :meth:`state_dict` of a session with the same settings gave, in this stage or at the end of the one before.

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
        if state.get("stage", 0) == self.stage.number:
            load_optimizer_tensors(self.optimizers, _below(state, "optimizers."))
            for part, owner in self._stateful():
                owner.load_state_dict(_below(state, f"{part}."))
        elif self.stage.keeps_noise:
            self.parts.noise.take_over(_below(state, "noise."))
        self.apply_rates()

    def _check(self, state: State) -> None:
        """The schema: every entry that must be there, none that nobody asked for, one N for all splat tensors."""
        step, factor = state.get("step"), state.get("rate_factor")
        if not isinstance(step, int) or isinstance(step, bool) or not 0 <= step <= self.steps:
            raise _misfit("step", f"a whole number from 0 to {self.steps}", step)
        if not isinstance(factor, float) or not 0 < factor <= 1:
            raise _misfit("rate_factor", "a number in (0, 1]", factor)
        self._check_stage(state.get("stage", 0), step)
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
        unknown = [
            key for key in state if key not in expected and key not in ("step", "rate_factor", "stage") and key.split(".")[0] not in _OWNERS
        ]
        if unknown:
            raise FileFormatError(f"checkpoint: unknown entry '{unknown[0]}'; use overwrite=true to start again")

    def _check_stage(self, number: object, step: int) -> None:
        """The state is of this stage, or of the end of the one before."""
        here, begin = self.stage.number, self.stage.first
        fits = number == here and begin <= step <= begin + self.stage.steps
        if not fits and not (number == here - 1 and step == begin):
            raise _misfit("stage", f"{here}, or {here - 1} at step {begin}", number)

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
