"""One optimisation step of Flow Score Distillation on Gaussian splats. Start reading here.

    ∇_θ L_FSD = E_c [ w(t) ( ε_φ(α g_θ(c) + σ ε(c), t(τ), y) − ε(c) ) ∂g_θ(c)/∂θ ]            arXiv 2405.10988

θ the splats, g_θ(c) their render from camera c (in the prior's latent space), ε(c) a noise that is *fixed* for the whole run and agrees
between views (the world map), t(τ) a diffusion time that only falls with the step τ, one for the whole batch. SDS is the same line
with fresh noise for ε(c) and random t: methods differ by what is plugged in, not by this function.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fsd_gs.core.types import Cameras, Render
from fsd_gs.guidance import Guidance, inject
from fsd_gs.guidance.time_schedules import TimeSchedule
from fsd_gs.noise import NoiseFunction
from fsd_gs.priors.base import Prior, tell_background
from fsd_gs.render import Rasterizer
from fsd_gs.splats.parameters import SplatParameters, activate
from fsd_gs.splats.regularizers import Regularizers
from fsd_gs.train.views import BackgroundSampler, ViewSampler


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


@dataclass(frozen=True)
class StepOutput:
    """What one step saw. loss is a tensor, still attached to the splats."""

    loss: Tensor
    score_norm: float
    t: float
    cameras: Cameras
    view: Render


def fsd_step(parts: Parts, params: SplatParameters, step: int, generators: Generators) -> StepOutput:
    """The loss whose gradient is ∇_θ L_FSD plus the regularisers', at optimisation step ``step`` (from 0)."""
    splats = activate(params)
    cameras = parts.sample_views(step, generators.views).to(splats.means.device)
    background = parts.sample_background(generators.views).to(splats.means.device)

    view = parts.rasterize(splats, cameras, background=background, depth=parts.with_depth)  # g_θ(c)
    noise = parts.noise(cameras, view.alpha.detach(), view.depth)  # ε(c)
    t = parts.schedule(step)  # t(τ)
    text = parts.prior.encode_text(parts.prompt, parts.negative_prompt, cameras)  # y
    text = tell_background(parts.prior, text, background)
    latents = parts.prior.encode(view.rgb.permute(0, 3, 1, 2))
    score = parts.guidance(parts.prior, latents.detach(), noise, t, text, cameras, generator=generators.guidance)  # w(t) (ε_φ − ε(c))

    loss = inject(latents, score, "mean") + parts.regularize(splats, view.alpha)
    return StepOutput(loss, score.norm().item(), float(t), cameras, view)
