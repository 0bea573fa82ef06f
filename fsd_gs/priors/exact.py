"""The ideal denoiser of a finite set of objects: a prior with no weights, in closed form.

Let object i of M look like x_i(c, b) = 2 [P_i(c) + (1 − A_i(c)) b] − 1 from camera c over the constant background colour b, where P_i is
the premultiplied render and A_i its alpha. With b ~ N(b̄, τ²) per channel and weights p(i | y) that the text sets, x_t = α x + σ ε is a
mixture of Gaussians, so the posterior mean, and with it the noise that an ideal network would predict, is known exactly:

    d_i    = x_t/α + 1 − 2 P_i − 2 b̄ (1 − A_i)              what is left of x_t/α for the background (and the noise) to explain
    m_i    = Σ 2 (1 − A_i) d_i,   q_i = Σ 4 (1 − A_i)²       per channel, over the pixels of all views of the set
    log w_i = log p(i | y) − Σ d_i²/2λ² + Σ_channels [ (m_i/λ²)²/2ρ_i − ½ log(ρ_i τ²) ],    ρ_i = q_i/λ² + 1/τ²
    x̂_0   = Σ_i w_i (2 P_i − 1 + 2 (1 − A_i) b̂_i),   b̂_i = b̄ + m_i/(λ² ρ_i)
    ε_φ    = (x_t − α x̂_0)/σ

"Latents" are the pixels themselves, in [−1, 1]. The views of a set share object and background: this is the joint, camera-conditioned
multi-view prior in its ideal form (the finite-set denoiser of Karras et al., arXiv 2206.00364, appendix B.3, with cameras).

λ grows with the resolution ("simple diffusion", arXiv 2301.11093): a set of V images of S² strongly correlated pixels tells two objects apart at
a noise level ∝ S √V, and without the shift the choice would be made before the first step.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from fsd_gs.errors import InputError
from fsd_gs.priors.schedule import DiscreteSchedule, ShiftedSchedule, combine_cfg
from fsd_gs.types import Cameras, TextCondition

BACKGROUND_MEAN, BACKGROUND_STD = 0.5, 0.3  # b̄, τ in [0, 1] colours: black, grey and white are all likely


class ObjectSet(Protocol):
    """A finite set of M objects that can be looked at, and what a text says about them."""

    def __len__(self) -> int: ...

    def render(self, index: int, cameras: Cameras) -> Tensor:
        """Premultiplied RGBA [V, H, W, 4] in [0, 1] of object ``index``."""
        ...

    def log_weights(self, prompt: str) -> Tensor:
        """log p(i | prompt) [M]; −inf excludes an object; the empty prompt is the unconditional weight of the set."""
        ...


@dataclass(frozen=True)
class ExactText(TextCondition):
    """log p(i | y) [M] for the prompt and for the negative prompt."""

    positive: Tensor
    negative: Tensor


@dataclass(frozen=True)
class _Evidence:
    """What the likelihoods of one set of views need: everything that does not depend on the noise level.

    z is x_t/α + 1. residual [M, 3] = Σ d², projection [M, 3] = m, background [M] = q.
    """

    residual: Tensor
    projection: Tensor
    background: Tensor


class ExactPrior:
    """The ideal denoiser over ``objects``, rendered at ``image_size`` pixels, ``views`` images jointly.

    cache_bytes: memory for renders (8 bits a channel); cameras from a grid are rendered once.
    """

    def __init__(
        self,
        objects: ObjectSet,
        *,
        image_size: int = 128,
        views: int = 4,
        shift: float | None = None,
        device: torch.device | str = "cpu",
        cache_bytes: int = 640 * 2**20,
    ) -> None:
        if len(objects) == 0:
            raise InputError("objects: expected at least one object in the finite set, got none")
        self.objects = objects
        self.image_size = image_size
        self.views = views
        self.latent_shape = (3, image_size, image_size)
        self.schedule = ShiftedSchedule(DiscreteSchedule.scaled_linear(), image_size / 32 if shift is None else shift)
        self.device = torch.device(device)
        self._cache: OrderedDict[bytes, Tensor] = OrderedDict()
        self._cache_entries = max(views, cache_bytes // (len(objects) * image_size**2 * 4))

    # -- text ---------------------------------------------------------------------------------------------------------

    def encode_text(self, prompt: str, negative_prompt: str, cameras: Cameras) -> ExactText:
        del cameras  # the renders carry the views; the words do not
        positive, negative = self.objects.log_weights(prompt), self.objects.log_weights(negative_prompt)
        return ExactText(prompt, negative_prompt, positive.to(self.device), negative.to(self.device))

    # -- pixels are the latents -----------------------------------------------------------------------------------------

    def encode(self, rgb: Tensor) -> Tensor:
        """rgb [B, 3, H, W] in [0, 1] → [B, 3, S, S] in [−1, 1]; other sizes are resized (area down, bilinear up)."""
        size = (self.image_size, self.image_size)
        if rgb.shape[-2:] != size:
            shrinking = rgb.shape[-1] > self.image_size
            rgb = torch.nn.functional.interpolate(
                rgb, size, mode="area" if shrinking else "bilinear", align_corners=None if shrinking else False
            )
        return 2 * rgb - 1

    def decode(self, latents: Tensor) -> Tensor:
        return ((latents + 1) / 2).clamp(0, 1)

    # -- the denoiser ---------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def predict_noise(self, latents_t: Tensor, t: Tensor, text: TextCondition, cameras: Cameras, cfg_scale: float) -> Tensor:
        """ε_φ [B, 3, S, S] after CFG; B must be a multiple of ``views`` and match ``cameras``."""
        if not isinstance(text, ExactText):
            raise InputError(f"text: expected the result of this prior's encode_text, got {type(text).__name__}")
        batch = latents_t.shape[0]
        if batch != len(cameras) or batch % self.views:
            raise InputError(
                f"latents_t: expected one latent a camera and a multiple of {self.views}, got {batch} for {len(cameras)} cameras"
            )
        times = t.to(latents_t).expand(batch)
        sets = [slice(i, i + self.views) for i in range(0, batch, self.views)]
        return torch.cat([self._predict_set(latents_t[s], times[s.start], text, cameras[s], cfg_scale) for s in sets])

    def _predict_set(self, x_t: Tensor, t: Tensor, text: ExactText, cameras: Cameras, cfg_scale: float) -> Tensor:
        alpha, sigma, lambda_ = self.schedule.alpha(t), self.schedule.sigma(t), self.schedule.lambda_(t)
        if sigma == 0:
            return torch.zeros_like(x_t)
        rgba = self._renders(cameras)  # V × [M, S, S, 4] uint8
        evidence = self._evidence(x_t / alpha + 1, rgba)

        def noise(log_prior: Tensor) -> Tensor:
            return (x_t - alpha * self._posterior_mean(evidence, log_prior, lambda_, rgba)) / sigma

        if cfg_scale == 1:
            return noise(text.positive)
        if cfg_scale == 0:
            return noise(text.negative)
        return combine_cfg(noise(text.negative), noise(text.positive), cfg_scale)

    def _evidence(self, z: Tensor, rgba: list[Tensor]) -> _Evidence:
        """Σ over views and pixels of d², 2(1 − A) d and 4(1 − A)², for z = x_t/α + 1 [V, 3, S, S]."""
        count = len(self.objects)
        residual = torch.zeros(count, 3, dtype=torch.float64, device=z.device)
        projection, background = torch.zeros_like(residual), torch.zeros(count, dtype=torch.float64, device=z.device)
        for view, renders in zip(z, rgba, strict=True):
            for i in range(count):
                foreground, clear = _split(renders[i], z.dtype)
                d = view - foreground - BACKGROUND_MEAN * clear
                residual[i] += d.square().sum((1, 2))
                projection[i] += (d * clear).sum((1, 2))
                background[i] += clear.square().sum()
        return _Evidence(residual, projection, background)

    def _posterior_mean(self, evidence: _Evidence, log_prior: Tensor, lambda_: Tensor, rgba: list[Tensor]) -> Tensor:
        """x̂_0 [V, 3, S, S] under p(i | y) = softmax(log_prior)."""
        precision_noise, precision_background = 1 / lambda_.double() ** 2, 1 / BACKGROUND_STD**2
        rho = evidence.background[:, None] * precision_noise + precision_background  # [M, 1]
        shift = evidence.projection * precision_noise / rho  # b̂ − b̄ [M, 3]
        log_likelihood = -0.5 * evidence.residual * precision_noise + 0.5 * rho * shift**2 - 0.5 * rho.log()
        weights = torch.softmax(log_prior.double() + log_likelihood.sum(1), dim=0)

        size = self.image_size
        mean = torch.full((len(rgba), 3, size, size), -1.0, dtype=torch.float32, device=weights.device)
        for i in torch.nonzero(weights > 1e-7).flatten().tolist():  # the rest changes no 8-bit colour
            colour = (BACKGROUND_MEAN + shift[i]).float()[:, None, None]
            for view, renders in enumerate(rgba):
                foreground, clear = _split(renders[i], torch.float32)
                mean[view] += weights[i].float() * (foreground + clear * colour)
        return mean

    def _renders(self, cameras: Cameras) -> list[Tensor]:
        """For each view [M, 4, S, S] uint8: the whole set, rendered once per camera."""
        cameras = cameras.to("cpu").resized(self.image_size, self.image_size)
        result = []
        for view in range(len(cameras)):
            camera = cameras[view]
            key = (camera.viewmats * 1e5).round().int().numpy().tobytes() + (camera.Ks * 1e3).round().int().numpy().tobytes()
            if key not in self._cache:
                images = [self.objects.render(i, camera)[0] for i in range(len(self.objects))]
                quantised = (torch.stack(images).permute(0, 3, 1, 2) * 255).round().to(torch.uint8).contiguous()
                self._cache[key] = quantised.to(self.device)
                if len(self._cache) > self._cache_entries:
                    self._cache.popitem(last=False)
            self._cache.move_to_end(key)
            result.append(self._cache[key])
        return result


def _split(render: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """uint8 RGBA [4, S, S] → 2 P [3, S, S] and 2 (1 − A) [S, S]."""
    values = render.to(dtype) * (2 / 255)
    return values[:3], 2 - values[3]


@dataclass(frozen=True)
class TensorObjects:
    """A set given by its images: for tests and for toy experiments. renders [M, V, S, S, 4] premultiplied, one per camera in order
    of azimuth on an even orbit; labels [M] of text."""

    renders: Tensor
    labels: Sequence[str]

    def __len__(self) -> int:
        return len(self.renders)

    def render(self, index: int, cameras: Cameras) -> Tensor:
        count = self.renders.shape[1]
        nearest_view = (cameras.azimuths_deg / (360 / count)).round().long() % count
        return self.renders[index][nearest_view]

    def log_weights(self, prompt: str) -> Tensor:
        matches = torch.tensor([not prompt or prompt == label for label in self.labels])
        if not matches.any():
            raise InputError(f"prompt: no object is labelled '{prompt}' (known: {', '.join(sorted(set(self.labels)))})")
        return torch.where(matches, 0.0, -torch.inf) - matches.sum().log()
