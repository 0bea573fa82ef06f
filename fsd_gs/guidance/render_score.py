"""ε_lora, the score of the *renders*: what VSD and Dive3D subtract. A LoRA (low-rank weights added to the frozen network) learns what noise
the renders contain, one Adam step each step of the run:

    ‖ ε_lora(α' x + σ' ε', t', y, c) − ε' ‖²,   t' ~ U(t_min, t_max), ε' ~ N(0, 1)

It is attached at the first call and saved with the run. ε_lora is unguided.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from fsd_gs.core.setting import setting
from fsd_gs.core.types import Cameras, TextCondition
from fsd_gs.errors import ConfigError, InputError
from fsd_gs.guidance.base import Guidance, Noised, name_of
from fsd_gs.priors.base import Prior


@runtime_checkable
class TrainablePrior(Prior, Protocol):
    """A prior with a second, trainable copy of its prediction: the same network plus LoRA adapters (peft)."""

    def add_lora(self, rank: int, generator: torch.Generator) -> Sequence[torch.nn.Parameter]:
        """Attach adapters of ``rank``, initialised so that they change nothing yet, and return their parameters in a fixed order.

        ``predict_noise`` must go on giving the frozen network's answer. Calling it again replaces the adapters.
        """
        ...

    def predict_noise_trainable(self, latents_t: Tensor, t: Tensor, text: TextCondition, cameras: Cameras | None) -> Tensor:
        """ε_lora [V, C, h, w], text only (no CFG), differentiable in the parameters that ``add_lora`` returned and in the latents."""
        ...


@dataclass
class RenderScoreGuidance(Guidance):
    """A method with a LoRA of its own. last_loss: its denoising loss, for logs."""

    rank: int = setting(4, "rank of the LoRA", low=1, high=1024)
    rate: float = setting(1e-4, "learning rate of the LoRA (Adam)", above=0)
    t_min: float = setting(0.02, "lowest time that the LoRA is trained at", low=0, high=1)
    t_max: float = setting(0.98, "highest time that the LoRA is trained at", low=0, high=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._parameters: list[torch.nn.Parameter] = []
        self._optimizer: torch.optim.Adam | None = None
        self._pending: dict[str, Tensor] | None = None
        self.last_loss = float("nan")

    def state_dict(self) -> dict[str, Tensor]:
        """LoRA weights and Adam's moments, in the order of ``add_lora``; empty before the first call."""
        if self._optimizer is None:
            return dict(self._pending or {})
        state = {f"lora.{i}": p.detach().cpu().clone() for i, p in enumerate(self._parameters)}
        for i, p in enumerate(self._parameters):
            state |= {f"adam.{i}.{name}": value.detach().cpu().clone() for name, value in self._optimizer.state[p].items()}
        return state

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Takes effect at once, or at the first call if the LoRA is not attached yet."""
        self._pending = dict(state)
        if self._optimizer is not None:
            self._restore()

    def _attach(self, prior: Prior, generator: torch.Generator) -> TrainablePrior:
        if not isinstance(prior, TrainablePrior):
            raise ConfigError(
                f"guidance.method: '{name_of(self)}' trains a LoRA, which {type(prior).__name__} does not offer; use a diffusers backbone "
                "(sd15, sdxl, …), or another method"
            )
        if self._optimizer is None:
            self._parameters = list(prior.add_lora(self.rank, generator))
            self._optimizer = torch.optim.Adam(self._parameters, lr=self.rate)
            if self._pending:
                self._restore()
        return prior

    def _restore(self) -> None:
        state, optimizer = self._pending or {}, self._optimizer
        assert optimizer is not None
        if sum(name.startswith("lora.") for name in state) != len(self._parameters):
            raise InputError(
                f"{name_of(self)} state: expected {len(self._parameters)} LoRA tensors, got {sorted(state)}; another backbone or rank?"
            )
        with torch.no_grad():
            for i, p in enumerate(self._parameters):
                p.copy_(state[f"lora.{i}"])
                prefix = f"adam.{i}."
                moments = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
                # Adam keeps its step counter on the CPU whatever the device of the parameter.
                optimizer.state[p] = {name: v.clone() if name == "step" else v.to(p) for name, v in moments.items()}
        self._pending = None

    def _train(self, prior: TrainablePrior, b: Noised) -> None:
        """One Adam step of the LoRA on its denoising loss, at a time and with a noise of its own."""
        assert self._optimizer is not None
        epsilon = b.randn()
        t = (self.t_min + (self.t_max - self.t_min) * torch.rand((), generator=b.random())).to(b.x)
        with torch.enable_grad():
            predicted = prior.predict_noise_trainable(b.at(t, epsilon).x_t, t, b.text, b.cameras)
            loss = (predicted - epsilon).square().mean()
            gradients = torch.autograd.grad(loss, self._parameters)
        for p, gradient in zip(self._parameters, gradients, strict=True):
            p.grad = gradient
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self.last_loss = float(loss.detach())
