"""ε_φ and x̂_0 after classifier-free guidance and, if asked for, CFG rescale.

    ε_cfg = ε_neg + s (ε_text − ε_neg)                        the prior's own doing: only it knows how it guides (Perp-Neg, for one)
    x̂     = (x_t − σ ε_cfg)/α
    x̂_φ   = φ x̂ · std(x̂_text)/std(x̂) + (1 − φ) x̂,   ε = (x_t − α x̂_φ)/σ          as MVDream does (arXiv 2308.16512, appendix)

Standard deviations are taken over the images that are denoised jointly. This rescale works with every prior whatever its network predicts,
and costs one more prediction, the text's alone. Diffusers backbones rescale inside their own combination for nothing, on the network's
output (``prior.cfg_rescale``): the shipped presets use that. x̂ comes from the prior itself where it offers it (flow and clean priors), so
that nothing is divided by α = 0 at t = 1. At t = 0, where x_t = x̂, nothing is rescaled.

Networks were never shown t = 0; there ε̂ is taken at the smallest time they know, ``T_FIRST`` = 1/1000, and x̂_0 is x.
"""

from __future__ import annotations

from torch import Tensor

from fsd_gs.core.types import Cameras, TextCondition
from fsd_gs.priors.base import CleanPrior, FlowPrior, Prior
from fsd_gs.priors.schedule import clean_from_flow, noise_from_flow, rescale_cfg

T_FIRST = 1e-3


def guided_noise(
    prior: Prior, x_t: Tensor, t: Tensor, text: TextCondition, cameras: Cameras | None, scale: float, rescale: float = 0.0
) -> Tensor:
    """ε_φ after classifier-free guidance.

    Args:
        prior: whose ε_φ.
        x_t: noisy latents [V, C, h, w].
        t: their time [], in [0, 1].
        text: y and the negative prompt.
        cameras: of the V views; None in 2D.
        scale: s; 1 is the text alone, 0 the negative prompt alone, one network pass each.
        rescale: φ ∈ [0, 1]; 0 costs nothing.

    Returns:
        ε_φ [V, C, h, w].
    """
    if not _rescales(scale, rescale):
        return prior.predict_noise(x_t, t, text, cameras, scale)
    return noise_and_clean(prior, x_t, t, text, cameras, scale, rescale)[0]


def noise_and_clean(
    prior: Prior, x_t: Tensor, t: Tensor, text: TextCondition, cameras: Cameras | None, scale: float, rescale: float = 0.0
) -> tuple[Tensor, Tensor]:
    """(ε̂, x̂_0), each [V, C, h, w], of noisy latents x_t at time t []; arguments as in :func:`guided_noise`."""
    epsilon, clean = _prediction(prior, x_t, t, text, cameras, scale)
    alpha, sigma = prior.schedule.alpha(t), prior.schedule.sigma(t)
    if not _rescales(scale, rescale) or sigma == 0:
        return epsilon, clean
    _, clean_text = _prediction(prior, x_t, t, text, cameras, 1.0)
    clean = _rescale_jointly(clean, clean_text, rescale, prior.views)
    return (x_t - alpha * clean) / sigma, clean


def _rescales(scale: float, rescale: float) -> bool:
    return rescale > 0 and scale != 1


def _prediction(prior: Prior, x_t: Tensor, t: Tensor, text: TextCondition, cameras: Cameras | None, scale: float) -> tuple[Tensor, Tensor]:
    alpha, sigma = prior.schedule.alpha(t), prior.schedule.sigma(t)
    seen_at = t.clamp_min(T_FIRST)
    if isinstance(prior, FlowPrior):
        u = prior.predict_velocity(x_t, seen_at, text, cameras, scale)
        return noise_from_flow(u, x_t, sigma), clean_from_flow(u, x_t, sigma)
    if isinstance(prior, CleanPrior) and t > T_FIRST:
        clean, epsilon = prior.predict_clean_and_noise(x_t, t, text, cameras, scale)
        return epsilon, clean
    epsilon = prior.predict_noise(x_t, seen_at, text, cameras, scale)
    return epsilon, (x_t - sigma * epsilon) / alpha


def _rescale_jointly(guided: Tensor, positive: Tensor, rescale: float, views: int) -> Tensor:
    """CFG rescale with one factor for each group of ``views`` images: separate factors would make the views disagree in contrast."""
    grouped = (-1, views * guided.shape[1], *guided.shape[2:])
    return rescale_cfg(guided.reshape(grouped), positive.reshape(grouped), rescale).reshape(guided.shape)
