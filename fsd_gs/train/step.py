"""One optimisation step of Flow Score Distillation on Gaussian splats. Start reading here: ``fsd_step``, then ``advance``.

    ∇_θ L_FSD = E_c [ w(t) ( ε_φ(α g_θ(c) + σ ε(c), t(τ), y) − ε(c) ) ∂g_θ(c)/∂θ ]            arXiv 2405.10988

θ the splats, g_θ(c) their render from camera c (in the prior's latent space), ε(c) a noise that is *fixed* for the whole run and agrees
between views (the world map), t(τ) a diffusion time that only falls with the step τ, one for the whole batch. SDS is the same line
with fresh noise for ε(c) and random t: methods differ by what is plugged in, not by this function.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from torch import Tensor

from fsd_gs.core.types import Cameras, Render
from fsd_gs.guidance import inject
from fsd_gs.splats.optimizers import step_all
from fsd_gs.splats.parameters import SplatParameters, activate
from fsd_gs.train.guard import Guard, problem_after
from fsd_gs.train.session import Generators, Parts, Session


@dataclass(frozen=True)
class StepOutput:
    """What one step saw. loss is a tensor, still attached to the splats."""

    loss: Tensor
    score_norm: float
    t: float
    cameras: Cameras
    view: Render


def fsd_step(parts: Parts, params: SplatParameters, step: int, generators: Generators) -> StepOutput:
    """The loss whose gradient is ∇_θ L_FSD plus the regularisers', at step ``step`` (from 0) of the stage."""
    splats = parts.hold(activate(params, unit_quats=False))
    cameras = parts.sample_views(step, generators.views).to(splats.means.device)
    background = parts.sample_background(generators.views).to(splats.means.device)

    view = parts.rasterize(splats, cameras, background=background, depth=parts.with_depth)  # g_θ(c)
    noise = parts.noise(cameras, view.alpha.detach(), view.depth)  # ε(c)
    t = parts.schedule(step)  # t(τ)
    text = parts.prior.encode_text(parts.prompt, parts.negative_prompt, cameras, background)  # y
    text = parts.control(text, cameras, view)  # of a ControlNet; else as it is
    latents = parts.prior.encode(view.rgb.permute(0, 3, 1, 2).contiguous())  # planes: all that follows is faster on them
    score = parts.guidance(parts.prior, latents.detach(), noise, t, text, cameras, generator=generators.guidance)  # w(t) (ε_φ − ε(c))

    loss = inject(latents, score, "mean") + parts.guidance.geometry_loss(score, cameras, view) + parts.regularize(splats, view.alpha)
    return StepOutput(loss, score.norm().item(), float(t), cameras, view)


@dataclass(frozen=True)
class StepReport:
    """What observers are told after a step. step counts from 1 to steps; loss and score_norm are plain numbers."""

    step: int
    steps: int
    loss: float
    score_norm: float
    t: float
    splats: int
    views: int
    seconds: float
    output: StepOutput


def advance(session: Session, guard: Guard) -> StepReport | None:
    """One step with its optimiser and densification; None if something was no longer finite and the guard went back."""
    began = time.perf_counter()
    guard.remember(session)
    session.apply_rates()
    params, optimizers, densifier, step = session.params, session.optimizers, session.densifier, session.stage_step
    output = fsd_step(session.parts, params, step, session.generators)
    densifier.step_pre_backward(params, optimizers, step, output.view.info)
    output.loss.backward()
    step_all(optimizers)
    session.parts.pull(params)
    session.parts.lift(params)
    densifier.step_post_backward(params, optimizers, step, output.view.info)
    session.parts.noise.step()
    problem = problem_after(session, output.loss)
    if problem is not None:
        guard.roll_back(session, problem)
        return None
    session.step += 1
    return StepReport(
        step=session.step,
        steps=session.steps,
        loss=output.loss.item(),
        score_norm=output.score_norm,
        t=output.t,
        splats=len(session.params["means"]),
        views=len(output.cameras),
        seconds=time.perf_counter() - began,
        output=output,
    )
