"""What a guidance is: the rule that turns a rendered batch into a gradient for it.

``ScoreGuidance`` (SDS, annealed SDS, FSD, CFD: see ``residual``) covers every method that differs only in noise and schedule. The other
files of this folder change the *target* as well. All share prior, schedule, weights and CFG, so they compare on equal terms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from fsd_gs.core.types import Cameras, TextCondition
from fsd_gs.errors import ConfigError, unknown_name
from fsd_gs.guidance.cfg import Cfg
from fsd_gs.guidance.residual import score_residual
from fsd_gs.guidance.weights import WEIGHTS, Weight
from fsd_gs.priors.base import FlowPrior, Prior


@runtime_checkable
class Guidance(Protocol):
    """The gradient of one optimisation step with respect to the latents."""

    def __call__(
        self,
        prior: Prior,
        latents: Tensor,
        noise: Tensor,
        t: float | Tensor,
        text: TextCondition,
        cameras: Cameras,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """grad [V, C, h, w], without a graph, to be given to ``inject``.

        latents: x [V, C, h, w]. noise: ε(c), same shape (ignored by targets that find their own). t: one number in [0, 1].
        generator: a CPU generator for whatever the method draws besides ε and t; only VSD, DSD and SDI with η > 0 need it.
        """
        ...

    def state_dict(self) -> dict[str, Tensor]: ...

    def load_state_dict(self, state: dict[str, Tensor]) -> None: ...


class Stateless:
    """For guidances with nothing to save."""

    def state_dict(self) -> dict[str, Tensor]:
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        if state:
            raise ConfigError(f"guidance: {type(self).__name__} keeps no state, got entries {sorted(state)}; was it another method?")


@dataclass
class ScoreGuidance(Stateless):
    """w(t) (ε_φ − ε): SDS, annealed SDS, constant noise, FSD or CFD, depending on the noise and the schedule it is used with."""

    cfg: Cfg
    weight: str = "one"

    def __post_init__(self) -> None:
        weight_by_name(self.weight)

    def __call__(
        self,
        prior: Prior,
        latents: Tensor,
        noise: Tensor,
        t: float | Tensor,
        text: TextCondition,
        cameras: Cameras,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        return score_residual(prior, latents, noise, t, text, cameras, cfg=self.cfg, weight=weight_by_name(self.weight))


def weight_by_name(name: str) -> Weight:
    if name not in WEIGHTS:
        raise ConfigError(unknown_name("guidance.weight", name, WEIGHTS))
    return WEIGHTS[name]


def require_flow(prior: Prior, method: str) -> FlowPrior:
    """The prior if it predicts velocities, else an error that names what works with it."""
    if not isinstance(prior, FlowPrior):
        raise ConfigError(
            f"guidance.method: '{method}' needs a flow-matching prior (sd3, flux), got {type(prior).__name__}, which predicts noise; "
            "use 'score', 'ism', 'sdi', 'dsd', 'nfsd' or 'vsd' with it, or choose prior=sd3"
        )
    return prior


def random_like(latents: Tensor, generator: torch.Generator | None, method: str) -> Tensor:
    """N(0, 1) of the latents' shape, dtype and device, drawn on the CPU."""
    if generator is None:
        raise ConfigError(f"generator: '{method}' draws random numbers; pass an explicit torch.Generator")
    return torch.randn(latents.shape, generator=generator).to(latents)
