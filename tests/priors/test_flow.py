"""SD3 and FLUX: our loader and velocities against diffusers' own pipelines on tiny random networks."""

import itertools
import shutil

import pytest
import tiny_pipelines as tiny
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from fsd_gs import image2d, priors
from fsd_gs.errors import ConfigError, FileFormatError
from fsd_gs.priors import FlowPrior, LoadOptions
from fsd_gs.priors.backbones.flux import image_ids, pack, unpack

PROMPT, NEGATIVE = "a red chair", "blurry"
PLAIN = LoadOptions(view_prompts=None, image_size=16)
FAMILIES = {
    "sd3": lambda: tiny.stable_diffusion_3(t5=True),
    "sd3-without-t5": lambda: tiny.stable_diffusion_3(t5=False),
    "flux-dev": lambda: tiny.flux(guidance_embeds=True),
    "flux-schnell": lambda: tiny.flux(guidance_embeds=False),
}
SCALES = {"sd3": 5.0, "sd3-without-t5": 5.0, "flux-dev": 3.5, "flux-schnell": 1.0}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("flow")
    return {name: tiny.save(make(), root / name) for name, make in FAMILIES.items()}


def run_pipeline(kind: str, pipeline, noise: Tensor, steps: int):
    """Final latents of the pipeline's own loop and every (x_t, σ, velocity), all as [B, 16, 8, 8]."""

    def as_image(x: Tensor) -> Tensor:
        return unpack(x, 8, 8) if kind.startswith("flux") else x

    seen = tiny.recorded(pipeline)
    negative = {} if kind.startswith("flux") else {"negative_prompt": NEGATIVE}
    latents = pack(noise) if kind.startswith("flux") else noise
    settings = {"num_inference_steps": steps, "guidance_scale": SCALES[kind], "height": 16, "width": 16, "output_type": "latent"}
    result = pipeline(PROMPT, latents=latents.clone(), **negative, **settings).images
    return as_image(result), [(as_image(x_t), n / 1000, as_image(output)) for x_t, n, output in seen]


@pytest.mark.parametrize("kind", FAMILIES)
def test_velocity_equals_the_pipelines(folders, kind):
    pipeline, prior = FAMILIES[kind](), priors.load(folders[kind], options=PLAIN)
    assert isinstance(prior, FlowPrior)
    assert prior.latent_shape == (16, 8, 8)
    noise = torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(0))
    _, seen = run_pipeline(kind, pipeline, noise, 3)
    text = prior.encode_text(PROMPT, NEGATIVE, None)
    assert len(seen) == 3
    for x_t, sigma, velocity in seen:
        t = torch.tensor(sigma)
        ours = prior.predict_velocity(x_t, t, text, None, SCALES[kind])
        torch.testing.assert_close(ours, velocity, rtol=1e-4, atol=2e-5)
        clean, noise = prior.predict_clean_and_noise(x_t, t, text, None, SCALES[kind])
        torch.testing.assert_close(noise, x_t + (1 - t) * ours)
        torch.testing.assert_close(clean, x_t - t * ours)
        torch.testing.assert_close(prior.predict_noise(x_t, t, text, None, SCALES[kind]), noise)


@pytest.mark.parametrize("kind", ["sd3", "flux-dev"])
def test_fixed_noise_with_the_exact_rule_gives_the_pipelines_image(folders, kind):
    """x̂ ← x̂ − (σ_t − σ_s)/(1 − σ_s) [u − (ε̃ − x̂)] from x̂ = 0 is the flow-Euler sampler."""
    pipeline, prior = FAMILIES[kind](), priors.load(folders[kind], options=PLAIN)
    noise = torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(1))
    expected, seen = run_pipeline(kind, pipeline, noise, 8)
    sigmas = [sigma for _, sigma, _ in seen] + [0.0]
    text, clean = prior.encode_text(PROMPT, NEGATIVE, None), torch.zeros_like(noise)
    for sigma, following in itertools.pairwise(sigmas):
        x_t = (1 - sigma) * clean + sigma * noise
        velocity = prior.predict_velocity(x_t, torch.tensor(sigma), text, None, SCALES[kind])
        clean = clean - (sigma - following) / (1 - following) * (velocity - (noise - clean))
    assert (clean - expected).norm() / expected.norm() < 1e-4
    vae = pipeline.vae
    with torch.no_grad():
        image = vae.decode(expected / vae.config.scaling_factor + vae.config.shift_factor).sample / 2 + 0.5
    torch.testing.assert_close(prior.decode(clean), image.clamp(0, 1), rtol=0, atol=1e-4)


SHIFTS = {
    "fixed": {"shift": 3.0},
    "dynamic": {"use_dynamic_shifting": True, "base_image_seq_len": 4, "max_image_seq_len": 40, "base_shift": 0.4, "max_shift": 1.3},
    "linear": {"use_dynamic_shifting": True, "time_shift_type": "linear", "max_image_seq_len": 600, "base_shift": 0.9},
}


@pytest.mark.parametrize(
    ("kind", "shift"), [("sd3", "fixed"), ("sd3", "dynamic"), ("flux-dev", "fixed"), ("flux-dev", "dynamic"), ("flux-schnell", "linear")]
)
def test_2d_with_default_arguments_is_the_pipeline_of_the_folder(folders, tmp_path, kind, shift):
    """The folder's own grid of σ: a fixed shift or one by the number of tokens, and the ends that each pipeline gives it."""
    pipeline = FAMILIES[kind]()
    pipeline.register_modules(scheduler=FlowMatchEulerDiscreteScheduler(**SHIFTS[shift]))
    shutil.copytree(folders[kind], tmp_path / "folder")
    pipeline.scheduler.save_pretrained(tmp_path / "folder" / "scheduler")
    prior = priors.load(tmp_path / "folder", options=PLAIN)
    noise = torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(2))
    expected, seen = run_pipeline(kind, pipeline, noise, 10)
    grid = image2d.Grid.of(prior)
    assert image2d.flow_grid(10, grid.shift, ends=grid.ends)[:-1] == pytest.approx([sigma for _, sigma, _ in seen], rel=1e-5)
    negative = "" if kind.startswith("flux") else NEGATIVE
    ours = image2d.generate(prior, PROMPT, noise=noise, steps=10, cfg_scale=SCALES[kind], negative_prompt=negative)
    error = (ours.latents - expected).abs().max().item()
    print(f"{kind} {shift}: {error:.1e} of {expected.abs().max():.1f}")
    assert error < 1e-4


def test_encode_uses_scale_and_shift(folders):
    prior, vae = priors.load(folders["sd3"], options=PLAIN), tiny.stable_diffusion_3(t5=False).vae
    rgb = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        expected = (vae.encode(2 * rgb - 1).latent_dist.mean - vae.config.shift_factor) * vae.config.scaling_factor
    torch.testing.assert_close(prior.encode(rgb), expected, rtol=1e-5, atol=1e-5)


def test_number_of_passes(folders):
    for kind, batches_expected in (("sd3", [2, 2, 4]), ("flux-dev", [2, 2, 2])):
        prior = priors.load(folders[kind], options=PLAIN)
        text, x, batches = prior.encode_text(PROMPT, NEGATIVE, None), torch.randn(2, 16, 8, 8), []
        prior.network.register_forward_pre_hook(lambda m, a, k, seen=batches: seen.append(k["hidden_states"].shape[0]), with_kwargs=True)
        negative, positive, _ = (prior.predict_velocity(x, torch.tensor(0.4), text, None, s) for s in (0.0, 1.0, 3.0))
        assert batches == batches_expected
        assert (negative - positive).abs().max() > 1e-4


def test_velocity_is_finite_at_pure_noise(folders):
    prior = priors.load(folders["sd3"], options=PLAIN)
    x, text = torch.randn(1, 16, 8, 8), prior.encode_text(PROMPT, "", None)
    assert prior.predict_velocity(x, torch.tensor(1.0), text, None, 4.0).isfinite().all()
    torch.testing.assert_close(prior.predict_noise(x, torch.tensor(1.0), text, None, 4.0), x)


def test_packing_is_the_pipelines_and_invertible():
    from diffusers import FluxPipeline

    latents = torch.randn(2, 16, 6, 10)
    packed = pack(latents)
    torch.testing.assert_close(packed, FluxPipeline._pack_latents(latents, 2, 16, 6, 10))
    torch.testing.assert_close(unpack(packed, 6, 10), latents)
    theirs = FluxPipeline._prepare_latent_image_ids(1, 3, 5, torch.device("cpu"), torch.float32)
    torch.testing.assert_close(image_ids(3, 5).float(), theirs)


def test_gradient_through_encode_agrees_with_finite_differences(folders):
    prior = priors.load(folders["flux-dev"], dtype="float64", options=PLAIN)
    generator = torch.Generator().manual_seed(0)
    rgb = torch.rand(1, 3, 24, 24, generator=generator, dtype=torch.float64).requires_grad_()
    cotangent, direction = (torch.randn(s, generator=generator, dtype=torch.float64) for s in ((1, 16, 8, 8), rgb.shape))
    (gradient,) = torch.autograd.grad((prior.encode(rgb) * cotangent).sum(), rgb)
    with torch.no_grad():
        plus, minus = ((prior.encode(rgb + s * 1e-5 * direction) * cotangent).sum() for s in (1, -1))
    assert torch.isclose((gradient * direction).sum(), (plus - minus) / 2e-5, rtol=1e-6)


def test_schnell_refuses_guidance_and_odd_sizes_are_named(folders):
    prior = priors.load(folders["flux-schnell"], options=PLAIN)
    text = prior.encode_text(PROMPT, "", None)
    with pytest.raises(ConfigError, match=r"distilled without guidance; expected 1, got 3\.5"):
        prior.predict_velocity(torch.randn(1, 16, 8, 8), torch.tensor(0.5), text, None, 3.5)
    with pytest.raises(ConfigError, match="even number of latent cells a side, got 7×7"):
        prior.predict_velocity(torch.randn(1, 16, 7, 7), torch.tensor(0.5), text, None, 1.0)


def test_unsupported_transformer_is_named(folders, tmp_path):
    import json
    import shutil

    folder = tmp_path / "other"
    shutil.copytree(folders["sd3-without-t5"], folder)
    config = json.loads((folder / "transformer" / "config.json").read_text())
    (folder / "transformer" / "config.json").write_text(json.dumps({**config, "_class_name": "PixArtTransformer2DModel"}))
    with pytest.raises(FileFormatError, match=r"holds a PixArtTransformer2DModel; supported networks: .*SD3Transformer2DModel"):
        priors.load(folder)
