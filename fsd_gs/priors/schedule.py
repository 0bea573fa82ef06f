"""Noise schedules of the priors, conversions between what networks predict, and the one CFG convention.

Letters: x_t = α x_0 + σ ε with t ∈ [0, 1]; t = 0 is clean, t = 1 the noisiest. λ = σ/α grows with t.

    DiscreteSchedule   T trained timesteps n = 0 … T−1 at t = (n + 1)/T; between them t is *rounded* to the grid, so that α, σ and
                       the timestep that the network receives always belong together. α(0) = 1, σ(0) = 0.
    ShiftedSchedule    λ' = s λ of another schedule: the resolution shift of "simple diffusion" (arXiv 2301.11093, eq. 3).
    FlowSchedule       α = 1 − t, σ = t (rectified flow, SD3/FLUX); λ(1) is infinite.

    v-prediction       v = α ε − σ x_0        ε = α v + σ x_t        x_0 = α x_t − σ v
    flow velocity      u = ε − x_0            ε = x_t + (1 − σ) u    x_0 = x_t − σ u
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from fsd_gs.errors import ConfigError


@runtime_checkable
class NoiseSchedule(Protocol):
    """α, σ and λ = σ/α of t ∈ [0, 1]: tensor in, tensor of the same shape, dtype and device out."""

    def alpha(self, t: Tensor) -> Tensor: ...

    def sigma(self, t: Tensor) -> Tensor: ...

    def lambda_(self, t: Tensor) -> Tensor: ...


class DiscreteSchedule:
    """The variance-preserving schedule of a trained network, given by its cumulative products ᾱ_n, n = 0 … T−1."""

    def __init__(self, alphas_cumprod: Tensor) -> None:
        if alphas_cumprod.ndim != 1 or len(alphas_cumprod) < 2:
            raise ConfigError(f"alphas_cumprod: expected shape [T] with T ≥ 2, got {list(alphas_cumprod.shape)}")
        self.timesteps = len(alphas_cumprod)
        clean = torch.ones(1, dtype=torch.float64, device=alphas_cumprod.device)
        self._alphas_cumprod = torch.cat([clean, alphas_cumprod.double()]).cpu()  # index n + 1; 0 is clean

    @classmethod
    def scaled_linear(cls, timesteps: int = 1000, beta_start: float = 0.00085, beta_end: float = 0.012) -> DiscreteSchedule:
        """Stable Diffusion's betas: linear in √β (latent diffusion, arXiv 2112.10752)."""
        betas = torch.linspace(beta_start**0.5, beta_end**0.5, timesteps, dtype=torch.float64) ** 2
        return cls(torch.cumprod(1 - betas, dim=0))

    def index(self, t: Tensor) -> Tensor:
        """The trained timestep n nearest to t (−1 at t = 0): int64, on t's device."""
        return (t.double() * self.timesteps).round().long().clamp(0, self.timesteps) - 1

    def time(self, index: int | Tensor) -> Tensor:
        """t of the trained timestep n: the inverse of :meth:`index`, float64."""
        return (torch.as_tensor(index, dtype=torch.float64) + 1) / self.timesteps

    def _alpha_squared(self, t: Tensor) -> Tensor:
        if t.ndim == 0 and t.device.type == "cpu":  # one time for the batch, asked for several times a step: plain numbers cost a tenth
            return self._alphas_cumprod[min(max(round(float(t) * self.timesteps), 0), self.timesteps)]
        return self._alphas_cumprod.to(t.device)[self.index(t) + 1]

    def alpha(self, t: Tensor) -> Tensor:
        return self._alpha_squared(t).sqrt().to(t.dtype)

    def sigma(self, t: Tensor) -> Tensor:
        return (1 - self._alpha_squared(t)).sqrt().to(t.dtype)

    def lambda_(self, t: Tensor) -> Tensor:
        squared = self._alpha_squared(t)
        return ((1 - squared) / squared).sqrt().to(t.dtype)


@dataclass(frozen=True)
class ShiftedSchedule:
    """λ' = shift · λ of ``base``, variance preserving: more noise for images with more (correlated) pixels."""

    base: NoiseSchedule
    shift: float

    def lambda_(self, t: Tensor) -> Tensor:
        return self.shift * self.base.lambda_(t)

    def alpha(self, t: Tensor) -> Tensor:
        return (1 + self.lambda_(t) ** 2).rsqrt()

    def sigma(self, t: Tensor) -> Tensor:
        lambda_ = self.lambda_(t)
        return lambda_ * (1 + lambda_**2).rsqrt()


@dataclass(frozen=True)
class FlowSchedule:
    """Rectified flow: α = 1 − t, σ = t."""

    def alpha(self, t: Tensor) -> Tensor:
        return 1 - t

    def sigma(self, t: Tensor) -> Tensor:
        return t

    def lambda_(self, t: Tensor) -> Tensor:
        return t / (1 - t)


def noise_from_v(v: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """ε = α v + σ x_t."""
    return alpha * v + sigma * x_t


def clean_from_v(v: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """x_0 = α x_t − σ v."""
    return alpha * x_t - sigma * v


def noise_from_flow(u: Tensor, x_t: Tensor, sigma: Tensor) -> Tensor:
    """ε = x_t + (1 − σ) u, for u = ε − x_0."""
    return x_t + (1 - sigma) * u


def clean_from_flow(u: Tensor, x_t: Tensor, sigma: Tensor) -> Tensor:
    """x_0 = x_t − σ u."""
    return x_t - sigma * u


def combine_cfg(negative: Tensor, positive: Tensor, cfg_scale: float) -> Tensor:
    """Classifier-free guidance in the diffusers form: ε_neg + s (ε_text − ε_neg); s = 1 is no guidance.

    Papers that write ε_text + s (ε_text − ε_neg) use a scale smaller by one.
    """
    return negative + cfg_scale * (positive - negative)


def rescale_cfg(guided: Tensor, positive: Tensor, rescale: float) -> Tensor:
    """CFG rescale (arXiv 2305.08891, eq. 15–16): bring the guided prediction [B, …] back to the standard deviation of the
    text prediction, mixed with the original by ``rescale`` ∈ [0, 1]."""
    dims = tuple(range(1, guided.ndim))
    ratio = positive.std(dim=dims, keepdim=True) / guided.std(dim=dims, keepdim=True).clamp_min(1e-12)
    return guided * (rescale * ratio + (1 - rescale))
