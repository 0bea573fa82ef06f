"""Samples of several prompts, several views each, straight from a prior by DDIM: what it imagines, without any 3D.

    x_s = α_s x̂_0 + σ_s ε_φ        (η = 0; arXiv 2010.02502, eq. 12)

from x_1 ~ N(0, 1) down the times t = 1, 1 − 1/N, …, 0. These are the "trailing" timesteps of diffusers' DDIMScheduler with
``set_alpha_to_one``: the first step starts from pure noise, the last one ends on the clean image (arXiv 2305.08891, §3.3).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from fsd_gs.core.types import Cameras, check_shape
from fsd_gs.errors import InputError
from fsd_gs.priors.backbones.sd import StableDiffusionPrior
from fsd_gs.priors.text import EmbeddedText, concatenate


@torch.no_grad()
def sample_views(
    prior: StableDiffusionPrior,
    prompts: Sequence[str],
    cameras: Cameras | Sequence[Cameras] | None,
    *,
    generator: torch.Generator,
    steps: int = 30,
    cfg_scale: float = 3.0,
    background: Tensor | None = None,
    negative_prompt: str = "",
    batch: int = 8,
) -> Tensor:
    """Images [P, V, 3, H, W] in [0, 1] of P prompts as V cameras see them, on the prior's device.

    cameras: V for every prompt, or V of its own for each; every ``prior.views`` neighbours are denoised jointly (:func:`views_together`
    changes that number). None: single pictures (V = 1) of a prior that can do without cameras.
    background: [3] or [P, 3] in [0, 1] for a prior that is told what is behind the object; None leaves it open.
    generator: a CPU one; noise is drawn prompt by prompt, so ``batch`` (prompts a forward pass) changes only rounding.
    InputError for numbers that do not fit together. Flow priors are sampled by ``image2d``.
    """
    if not prompts or batch < 1:
        raise InputError(f"prompts, batch: expected at least 1 of each, got {len(prompts)} and {batch}")
    rigs = _rigs(prior, cameras, len(prompts))
    colors = _colors(prior, background, len(prompts))
    views = 1 if rigs[0] is None else len(rigs[0])
    noise = torch.randn(len(prompts), views, *prior.latent_shape, generator=generator)
    images = []
    for start in range(0, len(prompts), batch):
        some = range(start, min(start + batch, len(prompts)))
        texts = [_condition(prior, prompts[p], negative_prompt, rigs[p], colors[p]) for p in some]
        together = _side_by_side([rigs[p] for p in some])
        latents = ddim(prior, noise[some].flatten(0, 1), join_texts(texts, views), together, steps, cfg_scale)
        images.append(prior.decode(latents).unflatten(0, (len(some), views)))
    return torch.cat(images)


@torch.no_grad()
def ddim(prior: StableDiffusionPrior, noise: Tensor, text: EmbeddedText, cameras: Cameras | None, steps: int, cfg_scale: float) -> Tensor:
    """Clean latents [B, C, h, w] from ``noise`` x_1 [B, C, h, w], one camera each, in ``steps`` DDIM steps."""
    if steps < 1:
        raise InputError(f"steps: expected at least 1, got {steps}")
    times = 1 - torch.arange(steps + 1, dtype=torch.float64) / steps
    alpha, sigma = prior.schedule.alpha(times).tolist(), prior.schedule.sigma(times).tolist()
    x = noise.to(prior.device)
    for t, s in itertools.pairwise(range(steps + 1)):
        clean, epsilon = prior.predict_clean_and_noise(x, times[t], text, cameras, cfg_scale)
        x = alpha[s] * clean + sigma[s] * epsilon
    return x


def join_texts(texts: Sequence[EmbeddedText], views: int) -> EmbeddedText:
    """One condition of P·V rows from P prompts, the views of a prompt side by side. ``prompt`` is the first one's."""
    if len(texts) == 1:
        return texts[0]
    if any(text.repelled for text in texts):
        raise InputError("text: prompts with Perp-Neg cannot share a batch; set batch=1")
    positive = concatenate([text.positive.expand(views) for text in texts])
    negative = concatenate([text.negative.expand(views) for text in texts])
    return EmbeddedText(texts[0].prompt, texts[0].negative_prompt, positive, negative)


@contextmanager
def views_together(prior: StableDiffusionPrior, views: int) -> Iterator[None]:
    """``prior`` with ``views`` images denoised jointly instead of as many as it was trained on."""
    trained, prior.views = prior.views, views
    try:
        yield
    finally:
        prior.views = trained


def _rigs(prior: StableDiffusionPrior, cameras: Cameras | Sequence[Cameras] | None, prompts: int) -> list[Cameras | None]:
    """The cameras of each prompt, on the prior's device."""
    if cameras is None:
        return [None] * prompts
    rigs = [cameras] * prompts if isinstance(cameras, Cameras) else list(cameras)
    if len(rigs) != prompts:
        raise InputError(f"cameras: expected one rig for each of the {prompts} prompts, got {len(rigs)}")
    sizes = sorted({len(rig) for rig in rigs})
    if len(sizes) > 1 or sizes[0] % prior.views or not sizes[0]:
        raise InputError(f"cameras: expected the same multiple of {prior.views} views (denoised jointly) for each prompt, got {sizes}")
    return [rig.to(prior.device) for rig in rigs]


def _colors(prior: StableDiffusionPrior, background: Tensor | None, prompts: int) -> list[Tensor | None]:
    if background is None:
        return [None] * prompts
    if not prior.names_background:
        raise InputError("background: this prior is not told what is behind the object; leave it None")
    rows = background.expand(prompts, 3) if background.ndim == 1 else background
    check_shape("background", rows, (prompts, 3))
    return list(rows)


def _condition(
    prior: StableDiffusionPrior, prompt: str, negative_prompt: str, cameras: Cameras | None, background: Tensor | None
) -> EmbeddedText:
    return prior.encode_text(prompt, negative_prompt, cameras, background)


def _side_by_side(rigs: Sequence[Cameras | None]) -> Cameras | None:
    known = [rig for rig in rigs if rig is not None]
    if not known:
        return None
    return Cameras(torch.cat([r.viewmats for r in known]), torch.cat([r.Ks for r in known]), known[0].width, known[0].height)
