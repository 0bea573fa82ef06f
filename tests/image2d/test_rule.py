"""FSD in 2D is the sampler: equality with diffusers' schedulers, and the practical rule."""

from __future__ import annotations

import itertools

import pytest
import torch
from guidance_priors import GaussianFlowPrior, GaussianPrior, TinyUNetPrior

from fsd_gs.errors import ConfigError, InputError
from fsd_gs.image2d import AdamRule, Grid, Method2D, flow_grid, generate, grid, save_picture, seed_noise, timestep_grid


def ddim(prior, scheduler, noise, steps, cfg_scale):
    """diffusers' own loop over its own scheduler."""
    from fsd_gs.priors.schedule import combine_cfg

    scheduler.set_timesteps(steps)
    x = noise * scheduler.init_noise_sigma
    with torch.no_grad():
        for n in scheduler.timesteps:
            output = combine_cfg(prior.network(x, n, 0), prior.network(x, n, 1), cfg_scale)
            x = scheduler.step(output, n, x, eta=0.0).prev_sample
    return x


def make_ddim(prediction_type, spacing, offset, to_one, dtype):
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=to_one,
        prediction_type=prediction_type, timestep_spacing=spacing, steps_offset=offset,
    )  # fmt: skip
    # The scheduler keeps its ᾱ in float32 and would take their square roots in float32 too.
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.to(dtype)
    scheduler.final_alpha_cumprod = scheduler.final_alpha_cumprod.to(dtype)
    return scheduler


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [pytest.param(torch.float32, 1e-4, marks=pytest.mark.slow), pytest.param(torch.float64, 1e-10)]
)
@pytest.mark.parametrize(
    ("prediction", "spacing", "offset", "to_one", "scale"),
    [
        ("epsilon", "leading", 0, True, 1.0),
        ("epsilon", "leading", 1, False, 7.5),
        ("epsilon", "trailing", 0, True, 7.5),
        ("epsilon", "trailing", 0, False, 1.0),
        ("v_prediction", "leading", 1, False, 1.0),
        ("v_prediction", "leading", 0, True, 7.5),
        ("v_prediction", "trailing", 0, True, 1.0),
        ("v_prediction", "trailing", 0, False, 7.5),
    ],
)
def test_exact_rule_equals_ddim(prediction, spacing, offset, to_one, scale, dtype, tolerance):
    scheduler = make_ddim(prediction, spacing, offset, to_one, dtype)
    prior = TinyUNetPrior(prediction, dtype, scheduler.alphas_cumprod)
    noise = seed_noise(prior, [0, 1]).to(dtype)
    expected = ddim(prior, scheduler, noise, 10, scale)
    result = generate(
        prior, "a", noise=noise, steps=10, cfg_scale=scale, dtype=dtype, grid=Grid(spacing, steps_offset=offset, set_alpha_to_one=to_one)
    )
    assert (result.latents - expected).norm() / expected.norm() < tolerance
    # The final step really has two ends: the other setting must not pass.
    other = generate(
        prior,
        "a",
        noise=noise,
        steps=10,
        cfg_scale=scale,
        dtype=dtype,
        grid=Grid(spacing, steps_offset=offset, set_alpha_to_one=not to_one),
    )
    assert (other.latents - expected).norm() / expected.norm() > 1e-4


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("steps", [1, 3, 7, 20, 50, 333, 1000])
def test_grids_are_diffusers(spacing, steps):
    scheduler = make_ddim("epsilon", spacing, 0, True, torch.float64)
    scheduler.set_timesteps(steps)
    assert timestep_grid(1000, steps, spacing) == scheduler.timesteps.tolist()


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_rule_equals_euler(shift):
    """float32 against diffusers' scheduler (which casts to float32 inside), float64 against Euler's formula on the same grid."""
    from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler

    prior = GaussianFlowPrior()
    text, cameras = prior.encode_text("red", "dull", None), None
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(12)
    assert torch.allclose(scheduler.sigmas.double(), torch.tensor(flow_grid(12, shift)).double(), atol=1e-6)

    noise = seed_noise(prior, range(4))
    x = noise
    for timestep in scheduler.timesteps:
        x = scheduler.step(prior.predict_velocity(x, timestep / 1000, text, cameras, 3.0), timestep, x).prev_sample
    ours = generate(prior, "red", negative_prompt="dull", noise=noise, steps=12, cfg_scale=3.0, grid=Grid(shift=shift))
    assert (ours.latents - x).norm() / x.norm() < 1e-4

    x, sigmas = noise.double(), torch.tensor(flow_grid(12, shift), dtype=torch.float64)
    for t, s in itertools.pairwise(sigmas):
        x = x + (s - t) * prior.predict_velocity(x, t, text, cameras, 3.0)
    ours = generate(
        prior, "red", negative_prompt="dull", noise=noise.double(), steps=12, cfg_scale=3.0, grid=Grid(shift=shift), dtype=torch.float64
    )
    assert (ours.latents - x).norm() / x.norm() < 1e-10


def test_exact_rule_follows_the_ode_of_a_gaussian():
    """For Gaussian data the PF-ODE is linear: x_0 = m + s · (x_T − α_T m)/√(α_T² s² + σ_T²)."""
    prior = GaussianPrior(deviation=0.5)
    noise = seed_noise(prior, range(8)).double()
    t = prior.schedule.time(999)
    alpha, sigma = prior.schedule.alpha(t), prior.schedule.sigma(t)
    exact = 2.0 + 0.5 * (noise - alpha * 2.0) / (alpha**2 * 0.25 + sigma**2).sqrt()
    errors = []
    for steps in (50, 500):
        result = generate(prior, "red", noise=noise, steps=steps, cfg_scale=1.0, dtype=torch.float64, grid=Grid("trailing"))
        errors.append((result.latents - exact).abs().max())
    assert errors[1] < 0.02  # of a spread of about 1
    assert errors[1] < errors[0] / 5  # first order


def test_adam_rule_with_fixed_noise_stays_close_to_ddim_and_fresh_noise_does_not():
    prior = GaussianPrior(deviation=0.5)
    sampled = generate(prior, "red", steps=100, cfg_scale=1.0, seed=range(16)).latents
    fixed = generate(prior, "red", steps=600, rule="adam", cfg_scale=1.0, seed=range(16), adam=AdamRule(rate=0.02)).latents
    fresh = generate(
        prior, "red", steps=600, rule="adam", cfg_scale=1.0, seed=range(16), adam=AdamRule(rate=0.02, fresh_noise=True)
    ).latents

    def correlation(a, b):
        return torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1]

    assert correlation(fixed, sampled) > 0.9
    assert correlation(fresh, sampled) < 0.5
    assert fresh.std() < 0.6 * sampled.std()  # SDS seeks the mode


def test_seeds_do_not_depend_on_their_neighbours():
    prior = GaussianPrior()
    for rule in ("exact", "adam"):
        for fresh in (False, True):
            adam = AdamRule(fresh_noise=fresh)
            batch = generate(prior, "red", steps=20, rule=rule, seed=[3, 5], adam=adam).latents
            alone = generate(prior, "red", steps=20, rule=rule, seed=5, adam=adam).latents
            assert torch.equal(batch[1:], alone)


def test_pixels_can_be_optimised_through_the_encoder():
    prior = GaussianPrior(latent_shape=(3, 4, 4), deviation=0.05)
    result = generate(prior, "", steps=150, rule="adam", cfg_scale=1.0, seed=[0, 1], adam=AdamRule(space="image", rate=0.02))
    assert result.images.mean() < 0.1  # "" means black here
    assert result.images.min() >= 0
    assert result.images.max() <= 1


def test_grid_puts_methods_below_one_another(tmp_path):
    prior = GaussianPrior(latent_shape=(3, 4, 4))
    methods = {"DDIM": Method2D("exact", steps=5), "SDS": Method2D(steps=5, adam=AdamRule(fresh_noise=True))}
    picture, results = grid(prior, "red", methods, [0, 1, 2])
    assert picture.shape == (3, 2 * (4 + 4), 3 * (4 + 4))
    assert torch.allclose(picture[:, 2:6, 10:14], results["DDIM"].images[1])
    assert torch.allclose(picture[:, 10:14, 18:22], results["SDS"].images[2])
    save_picture(picture, tmp_path / "grid.png")
    assert (tmp_path / "grid.png").stat().st_size > 0


def test_bad_input_is_named():
    prior = GaussianPrior()
    with pytest.raises(ConfigError, match="rule: expected 'exact' or 'adam', got 'euler'"):
        generate(prior, "red", rule="euler")
    with pytest.raises(ConfigError, match="steps: expected at least 1, got 0"):
        generate(prior, "red", steps=0)
    with pytest.raises(ConfigError, match="spacing: expected 'leading'"):
        generate(prior, "red", grid=Grid("karras"))
    with pytest.raises(ConfigError, match="expected 1 to 1000"):
        generate(prior, "red", steps=1001)
    with pytest.raises(InputError, match=r"noise: expected shape"):
        generate(prior, "red", noise=torch.zeros(1, 2, 3, 4))
