"""What one guidance step costs: encode V renders, one guided prediction, and the way back through the encoder."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import Tensor

from fsd_gs.core.cameras import orbit_cameras
from fsd_gs.priors.latent_prior import LatentPrior

PARTS = ("encode", "predict", "backward")


def guidance_step(prior: LatentPrior, rgb: Tensor, noise: Tensor, t: Tensor, guided: Callable[[Tensor], Tensor]) -> dict[str, float]:
    """Milliseconds of each part of one step at time t; ``guided``: x_t → ε_φ."""
    began = _now(rgb.device)
    latents = prior.encode(rgb)
    encoded = _now(rgb.device)
    x_t = float(prior.schedule.alpha(t)) * latents.detach() + float(prior.schedule.sigma(t)) * noise
    residual = guided(x_t) - noise
    predicted = _now(rgb.device)
    (latents * residual).sum().backward()
    done = _now(rgb.device)
    return {"encode": 1e3 * (encoded - began), "predict": 1e3 * (predicted - encoded), "backward": 1e3 * (done - predicted)}


def _now(device: torch.device) -> float:
    """Seconds, once the device is done with what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def time_steps(prior: LatentPrior, prompt: str, cfg_scale: float, at: float, repetitions: int) -> dict[str, Any]:
    """Median milliseconds of a step at time ``at`` of the path, and of its parts, with the prior's own number of views."""
    cameras = orbit_cameras(
        [360.0 * v / prior.views for v in range(prior.views)], 15.0, distance=2.2, width=prior.image_size, device=prior.device
    )
    text = prior.encode_text(prompt, "", cameras)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(prior.views, *prior.latent_shape, generator=generator).to(prior.device)
    t = torch.tensor(at, dtype=torch.float64)

    def guided(x_t: Tensor) -> Tensor:
        return prior.predict_noise(x_t, t, text, cameras, cfg_scale)

    runs = []
    for _ in range(repetitions + 3):
        rgb = torch.rand(prior.views, 3, prior.image_size, prior.image_size, generator=generator).to(prior.device).requires_grad_()
        runs.append(guidance_step(prior, rgb, noise, t, guided))
    kept = runs[3:]  # the first ones choose kernels
    parts = {part: median(run[part] for run in kept) for part in PARTS}
    return {"step_ms": median(sum(run.values()) for run in kept), "parts_ms": parts, "repetitions": repetitions, "views": prior.views}
