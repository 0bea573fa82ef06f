"""The table that FSD is about: 8 modes in 16 dimensions, 400 seeds, the ideal denoiser, one mode for each seed.

Entropy of the modes reached (log 8 = 2.079 at best) and how often a seed reaches the mode that DDIM takes it to. Time is one number for all
seeds, as in a 3D batch, so the whole experiment is one batch.
"""

from __future__ import annotations

import math

import pytest
import torch

from fsd_gs.core.types import TextCondition
from fsd_gs.guidance import make_guidance
from fsd_gs.guidance.time_schedules import RandomUniform
from fsd_gs.image2d import AdamRule, Grid, generate, seed_noise
from fsd_gs.priors.schedule import DiscreteSchedule

MODES, DIMENSIONS = 8, 16
# One rate for all. Fixed noise does not mind (91.5–91.75 % in DDIM’s mode from .005 to .05); fresh noise averages less at larger rates:
# annealed SDS has an entropy of .53, .85 and 1.16 at .005, .01 and .02, with 12–14 % of its seeds in DDIM’s mode, which is chance.
RATE = 0.01


class MixturePrior:
    """Data: equal shares of N(μ_k, s²). ε_φ = (x_t − α Σ_k w_k E[x_0 | x_t, k])/σ with posterior weights w_k."""

    latent_shape = (DIMENSIONS, 1, 1)
    image_size = 1
    views = 1

    def __init__(self, deviation=0.05):
        self.schedule = DiscreteSchedule.scaled_linear()
        self.means = torch.randn(MODES, DIMENSIONS, generator=torch.Generator().manual_seed(0))
        self.deviation = deviation

    def encode_text(self, prompt, negative_prompt, cameras, background=None):
        return TextCondition(prompt, negative_prompt)

    def encode(self, rgb):
        return rgb

    def decode(self, latents):
        return latents[:, :3]

    def predict_noise(self, latents_t, t, text, cameras, cfg_scale):
        x = latents_t.flatten(1)
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        variance = alpha**2 * self.deviation**2 + sigma**2
        away = x[:, None] - alpha * self.means
        weights = torch.softmax(-away.square().sum(2) / (2 * variance), dim=1)
        return (sigma * (weights[:, :, None] * away).sum(1) / variance).view_as(latents_t)

    def modes(self, latents):
        return torch.cdist(latents.flatten(1), self.means).argmin(1)


def entropy(modes):
    share = torch.bincount(modes, minlength=MODES).double() / len(modes)
    return -(share[share > 0] * share[share > 0].log()).sum().item()


@pytest.fixture(scope="module", params=[(128, 500), pytest.param((400, 1000), marks=pytest.mark.slow)], ids=str)
def table(request):
    """mode of each seed, by method, for (seeds, steps)."""
    seeds, steps = request.param
    prior = MixturePrior()
    noise = seed_noise(prior, range(seeds))

    def run(rule, adam=None):
        result = generate(
            prior, "", noise=noise, steps=steps, rule=rule, cfg_scale=1.0, grid=Grid("trailing"), adam=adam, seed=range(seeds)
        )
        assert torch.cdist(result.latents.flatten(1), prior.means).min(1).values.median() < 0.5  # they arrive
        return prior.modes(result.latents)

    return {
        "DDIM": run("exact"),
        "fixed, Adam": run("adam", AdamRule(rate=RATE)),
        "fixed, PFD": run("adam", AdamRule(rate=RATE, guidance=make_guidance("pfd", 1.0, "one", params={"steps": 2}))),
        "fresh, Adam": run("adam", AdamRule(fresh_noise=True, rate=RATE)),
        "fresh, random t, Adam": run("adam", AdamRule(fresh_noise=True, schedule=RandomUniform(), rate=RATE)),
    }


def test_fixed_noise_reaches_every_mode(table):
    for method in ("DDIM", "fixed, Adam", "fixed, PFD"):
        assert entropy(table[method]) >= 2.0
        assert len(table[method].unique()) == MODES


def test_fixed_noise_goes_where_ddim_goes(table):
    assert (table["fixed, Adam"] == table["DDIM"]).double().mean() >= 0.8
    assert (table["fixed, PFD"] == table["DDIM"]).double().mean() >= 0.9  # its target is DDIM's own end


def test_fresh_noise_collapses(table):
    for method in ("fresh, Adam", "fresh, random t, Adam"):
        assert entropy(table[method]) <= 1.0
        assert (table[method] == table["DDIM"]).double().mean() < 0.4


def test_entropy_is_measured_right():
    assert entropy(torch.arange(MODES)) == pytest.approx(math.log(MODES))
    assert entropy(torch.zeros(5, dtype=torch.long)) == 0.0
