"""What a guidance is: the rule that turns a rendered batch into a gradient for it.

    x_t  = α x + σ ε                       the render's latents x [V, C, h, w], noised with ε(c) at one time t for the whole batch
    grad = w(t) · residual(x_t, …)         without a graph, to be given to ``inject``

The lines that every method shares are here, once; a method is its residual (``score``, ``ism``, …) and nothing else, given one
:class:`Noised`. All share prior, schedule, weights and CFG, so they compare on equal terms.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Literal

import torch
from torch import Tensor

from fsd_gs.core.setting import check
from fsd_gs.core.types import Cameras, Render, TextCondition, check_shape
from fsd_gs.errors import ConfigError, unknown_name
from fsd_gs.guidance import GUIDANCES, WEIGHTS
from fsd_gs.guidance.cfg import guided_noise, noise_and_clean
from fsd_gs.guidance.ode import ddim_path
from fsd_gs.priors.base import ControlledPrior, FlowPrior, Prior


@dataclass(frozen=True)
class Noised:
    """One batch at one time.

    Attributes:
        prior: the frozen diffusion model.
        x: latents of the render [V, C, h, w], without a graph.
        epsilon: ε(c) of the noise function, same shape, dtype and device.
        t: diffusion time [] in [0, 1].
        text, cameras: y and c of the V views (cameras may be None in 2D).
        generator: for whatever a method draws besides ε and t; a CPU generator, or None.
    """

    prior: Prior
    x: Tensor
    epsilon: Tensor
    t: Tensor
    text: TextCondition
    cameras: Cameras | None
    generator: torch.Generator | None = None

    @cached_property
    def alpha(self) -> Tensor:
        return self.prior.schedule.alpha(self.t)

    @cached_property
    def sigma(self) -> Tensor:
        return self.prior.schedule.sigma(self.t)

    @cached_property
    def x_t(self) -> Tensor:
        """α x + σ ε [V, C, h, w]."""
        return (self.alpha * self.x).add_(self.sigma * self.epsilon)

    def at(self, t: Tensor, epsilon: Tensor) -> Noised:
        """The same render at another time and with another noise."""
        return replace(self, t=t, epsilon=epsilon)

    def with_negative(self, negative_prompt: str) -> Noised:
        """The same batch with another negative prompt ("" is ∅), in front of the same background, shown the same geometry."""
        if negative_prompt == self.text.negative_prompt:
            return self
        text = self.prior.encode_text(self.text.prompt, negative_prompt, self.cameras, self.text.background)
        if self.text.control is not None and isinstance(self.prior, ControlledPrior):
            text = self.prior.with_control(text, self.text.control)
        return replace(self, text=text)

    def noise(self, scale: float, rescale: float = 0.0) -> Tensor:
        """ε_φ(x_t, t, y) [V, C, h, w]; scale 1: the text alone, 0: the negative prompt alone."""
        return guided_noise(self.prior, self.x_t, self.t, self.text, self.cameras, scale, rescale)

    def velocity_residual(self, scale: float) -> Tensor:
        """u_φ(x_t, t, y) − (ε − x) of a flow prior [V, C, h, w]."""
        assert isinstance(self.prior, FlowPrior)
        return self.prior.predict_velocity(self.x_t, self.t, self.text, self.cameras, scale) - (self.epsilon - self.x)

    def path(self, x: Tensor, times: Tensor, scale: float, rescale: float = 0.0) -> Tensor:
        """x moved along ``times`` [n] of the probability-flow ODE, see ``ode``."""
        return ddim_path(self.prior, x, times, self.text, self.cameras, scale, rescale)

    def noise_and_clean(self, x_t: Tensor, t: Tensor, scale: float, rescale: float = 0.0) -> tuple[Tensor, Tensor]:
        """(ε̂, x̂_0) of other latents than this batch's, see ``cfg``."""
        return noise_and_clean(self.prior, x_t, t, self.text, self.cameras, scale, rescale)

    def random(self) -> torch.Generator:
        """The generator; ConfigError where there is none."""
        if self.generator is None:
            raise ConfigError("generator: this method draws random numbers; pass an explicit torch.Generator")
        return self.generator

    def randn(self) -> Tensor:
        """N(0, 1) of x's shape, dtype and device, drawn on the CPU."""
        return torch.randn(self.x.shape, generator=self.random()).to(self.x)

    def rand(self) -> float:
        """One number, uniform in [0, 1)."""
        return torch.rand((), generator=self.random(), dtype=torch.float64).item()


@dataclass
class Guidance(ABC):
    """The gradient of one optimisation step with respect to the latents.

    Attributes:
        cfg_scale: s of classifier-free guidance, ε_neg + s (ε_text − ε_neg); 1 is none.
        cfg_late: share of s that is left at times below ``cfg_late_from``, where the text has said what it is and a high s only paints over
            it (guidance in an interval of t, arXiv 2404.07724); never less than no guidance.
        weight: name of w(t), see ``weights``.
        cfg_rescale: φ ∈ [0, 1] of CFG rescale, see ``cfg``.
        needs_depth: whether ``geometry_loss`` looks at the rendered depth, which costs time.
    """

    needs_depth: ClassVar[bool] = False

    cfg_scale: float = 7.5
    weight: str = "one"
    cfg_rescale: float = 0.0
    cfg_late: float = 1.0
    cfg_late_from: float = 0.6

    def __post_init__(self) -> None:
        if self.weight not in WEIGHTS:
            raise ConfigError(unknown_name("guidance.weight", self.weight, WEIGHTS))
        if not 0 <= self.cfg_rescale <= 1:
            raise ConfigError(f"cfg_rescale: expected a number in [0, 1], got {self.cfg_rescale}")
        check(self)

    @abstractmethod
    def residual(self, b: Noised) -> Tensor:
        """What stands behind w(t): [V, C, h, w]. Called without gradients."""

    def scale(self, t: float | Tensor) -> float:
        """s at one time t."""
        if self.cfg_late == 1 or float(t) >= self.cfg_late_from:
            return self.cfg_scale
        return min(self.cfg_scale, max(1.0, self.cfg_late * self.cfg_scale))

    @torch.no_grad()
    def __call__(
        self,
        prior: Prior,
        latents: Tensor,
        noise: Tensor,
        t: float | Tensor,
        text: TextCondition,
        cameras: Cameras | None,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """grad [V, C, h, w], without a graph.

        Args:
            prior: where ε_φ comes from.
            latents: x [V, C, h, w]; V a multiple of ``prior.views``.
            noise: ε(c), same shape (targets that find their own ignore it).
            t: one number in [0, 1] for the whole batch.
            text: y, from ``prior.encode_text``.
            cameras: c of the V views; None in 2D.
            generator: a CPU generator for whatever the method draws besides ε and t; only VSD, Dive3D, DSD, SDI and RFDS may need it.

        Raises:
            ConfigError: a time outside [0, 1], a weight that is infinite there, a prior that the method cannot use.
            InputError: latents or noise of another shape.
        """
        x, time = latents.detach(), uniform_time(t, latents)
        check_shape("latents", x, (x.shape[0] if cameras is None else len(cameras), *prior.latent_shape))
        check_shape("noise", noise, tuple(x.shape))
        w = finite_weight(self.weight, prior, time)
        return w * self.residual(Noised(prior, x, noise.to(x), time, text, cameras, generator))

    def geometry_loss(self, grad: Tensor, cameras: Cameras, view: Render) -> Tensor:
        """A loss [] on the rendered geometry that goes with the gradient; 0 for methods that speak to the latents alone.

        Args:
            grad: what the call returned, [V, C, h, w]; constant.
            cameras: of the V views.
            view: the render, with its graph; with its depth if ``needs_depth``.
        """
        return view.alpha.new_zeros(())

    def state_dict(self) -> dict[str, Tensor]:
        """What has to be saved with a run; nothing, for most methods."""
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        if state:
            raise ConfigError(f"guidance: {type(self).__name__} keeps no state, got entries {sorted(state)}; was it another method?")


def inject(latents: Tensor, grad: Tensor, reduction: Literal["sum", "mean", "views"] = "sum") -> Tensor:
    """A loss whose gradient with respect to the latents is exactly a given residual: L = Σ sg[g] · x, so that ∂L/∂x = g, which autograd
    carries on through the encoder and the rasterizer. The value of L means nothing and is not worth logging; the norm of g is.

    A scalar loss with ∂loss/∂latents = grad ("sum"), grad / V ("views", independent of the batch size) or grad / numel ("mean").

    latents: [V, C, h, w], part of a graph. grad: same shape; treated as constant.
    """
    check_shape("grad", grad, tuple(latents.shape))
    divisor = {"sum": 1, "views": latents.shape[0], "mean": latents.numel()}.get(reduction)
    if divisor is None:
        raise ConfigError(f"reduction: expected 'sum', 'views' or 'mean', got '{reduction}'")
    return latents.flatten().dot(grad.detach().to(latents).flatten()) / divisor  # one pass over memory forwards, one backwards


def uniform_time(t: float | Tensor, latents: Tensor) -> Tensor:
    """t as a scalar tensor of the latents' dtype and device, checked to lie in [0, 1]."""
    time = torch.as_tensor(t, dtype=latents.dtype, device=latents.device)
    if time.ndim != 0 or not 0 <= float(time) <= 1:
        raise ConfigError(f"t: expected one number in [0, 1] for the whole batch, got {t}")
    return time


def finite_weight(name: str, prior: Prior, t: Tensor) -> Tensor:
    """w(t), or an error where the schedule makes it infinite (λ of flow models at t = 1)."""
    w = WEIGHTS[name](prior.schedule, t)
    if not torch.isfinite(w):
        raise ConfigError(
            f"weight: w({float(t):g}) is not finite; start the time schedule below 1, or use 'lambda_capped', 'sigma2' or 'one'"
        )
    return w


def refuse_rescale(guidance: Guidance, because: str, instead: str) -> None:
    """ConfigError where ``guidance`` is asked to rescale: a setting that does nothing must not look as if it did."""
    if guidance.cfg_rescale > 0:
        raise ConfigError(
            f"cfg_rescale: '{name_of(guidance)}' {because} and does not rescale, got {guidance.cfg_rescale}; set 0, or {instead}"
        )


@dataclass
class FlowGuidance(Guidance):
    """A method in the flow's own words, u = ε − x_0: for flow-matching priors only, and without a rescale of its own."""

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_rescale(self, "works on velocities", "use method=score")

    def residual(self, b: Noised) -> Tensor:
        if not isinstance(b.prior, FlowPrior):
            others = ", ".join(f"'{name}'" for name, method in GUIDANCES.items() if not issubclass(method, FlowGuidance))
            raise ConfigError(
                f"guidance.method: '{name_of(self)}' needs a flow-matching prior (sd3, flux), got {type(b.prior).__name__}, "
                f"which predicts noise; use one of {others} with it, or choose prior.name=sd3"
            )
        return self.velocity_residual(b)

    @abstractmethod
    def velocity_residual(self, b: Noised) -> Tensor:
        """What stands behind w(t): [V, C, h, w]. The prior is a flow prior."""


def name_of(guidance: Guidance) -> str:
    """The name of the method in ``GUIDANCES``, for messages."""
    names = [name for name, method in GUIDANCES.items() if method is type(guidance)]
    return names[0] if names else type(guidance).__name__
