"""Stable Diffusion, SDXL and LCM: our loader and predict_noise against diffusers' own pipelines on tiny random networks."""

from functools import partial

import pytest
import tiny_pipelines as tiny
import torch
from diffusers import DDIMScheduler
from torch import Tensor

from fsd_gs import image2d, priors
from fsd_gs.core.cameras import orbit_cameras
from fsd_gs.errors import BackendError, ConfigError, FileFormatError, InputError
from fsd_gs.guidance import TrainablePrior, make_guidance
from fsd_gs.guidance.ode import ddim_path
from fsd_gs.priors import CleanPrior, LoadOptions
from fsd_gs.priors.options import resolve_dtype
from fsd_gs.priors.schedule import noise_from_v

PROMPT, NEGATIVE = "a red chair", "blurry"
PLAIN = LoadOptions(view_prompts=None)
VARIANTS = {
    "epsilon": lambda: tiny.stable_diffusion(),
    "v": lambda: tiny.stable_diffusion("v_prediction"),
    "v-zero-snr": lambda: tiny.stable_diffusion("v_prediction", {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}),
    "sample": lambda: tiny.stable_diffusion("sample"),
    "sdxl": tiny.stable_diffusion_xl,
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("pipelines")
    return {name: tiny.save(make(), root / name) for name, make in {**VARIANTS, "lcm": tiny.latent_consistency}.items()}


def run_pipeline(pipeline, latents: Tensor, steps: int, scale: float, negative: str | None, rescale: float = 0.0):
    """Final latents of the pipeline's own loop, and every (x_t, n, guided output) on the way."""
    seen = tiny.recorded(pipeline)
    result = pipeline(
        PROMPT,
        negative_prompt=negative,
        latents=latents.clone(),
        num_inference_steps=steps,
        guidance_scale=scale,
        guidance_rescale=rescale,
        height=16,
        width=16,
        output_type="latent",
    ).images
    del pipeline.scheduler.step
    return result, seen


def to_noise(kind: str, output: Tensor, x_t: Tensor, abar: Tensor) -> Tensor:
    alpha, sigma = abar.double().sqrt().float(), (1 - abar.double()).sqrt().float()
    if kind.startswith("v"):
        return noise_from_v(output, x_t, alpha, sigma)
    return (x_t - alpha * output) / sigma if kind == "sample" else output


@pytest.mark.parametrize("kind", VARIANTS)
@pytest.mark.parametrize(("scale", "rescale"), [(7.5, 0.0), (7.5, 0.7), pytest.param(1.0, 0.0, marks=pytest.mark.slow)])
def test_predict_noise_equals_the_pipelines(folders, kind, scale, rescale):
    pipeline = VARIANTS[kind]()
    prior = priors.load(folders[kind], options=LoadOptions(view_prompts=None, cfg_rescale=rescale))
    x_T = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    pipeline_latents = x_T  # two images of one prompt
    _, seen = run_pipeline(_two_images(pipeline), pipeline_latents, 4, scale, NEGATIVE, rescale)
    text = prior.encode_text(PROMPT, NEGATIVE, None)
    assert len(seen) == 4
    atol = 2e-4 if kind == "sample" else 1e-5  # ε = (x_t − α x̂_0)/σ at σ = 0.03 and s = 7.5 multiplies float32 rounding (measured 8e-5)
    for x_t, n, output in seen:
        expected = to_noise(kind, output, x_t, pipeline.scheduler.alphas_cumprod[n])
        ours = prior.predict_noise(x_t, prior.schedule.time(n), text, None, scale)
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=atol)


@pytest.mark.parametrize("kind", VARIANTS)
def test_clean_and_noise_belong_together(folders, kind):
    """x_t = α x̂_0 + σ ε for either time of a batch, with the ε of predict_noise; with zero terminal SNR at t = 1, too."""
    prior = priors.load(folders[kind], options=PLAIN)
    assert isinstance(prior, CleanPrior)
    x_t = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    text = prior.encode_text(PROMPT, NEGATIVE, None)
    t = torch.tensor([0.3, 1.0], dtype=torch.float64)
    clean, noise = prior.predict_clean_and_noise(x_t, t, text, None, 4.0)
    assert torch.equal(noise, prior.predict_noise(x_t, t, text, None, 4.0))
    alpha, sigma = (f(t).float().view(-1, 1, 1, 1) for f in (prior.schedule.alpha, prior.schedule.sigma))
    torch.testing.assert_close(alpha * clean + sigma * noise, x_t, rtol=1e-4, atol=1e-5)
    assert clean.isfinite().all()
    if kind == "v-zero-snr":  # here alone the sum says nothing about x̂_0
        assert alpha[1] == 0
        torch.testing.assert_close(clean[1], -prior.raw_prediction(x_t, t, text, None, 4.0)[1])


def test_noise_prediction_without_signal_says_nothing(tmp_path):
    prior = priors.load(tiny.save(tiny.stable_diffusion("epsilon", {"rescale_betas_zero_snr": True}), tmp_path), options=PLAIN)
    text, x_t = prior.encode_text(PROMPT, NEGATIVE, None), torch.randn(1, 4, 8, 8)
    with pytest.raises(InputError, match=r"says nothing at α = 0.*needs v-prediction"):
        prior.predict_clean_and_noise(x_t, torch.tensor(1.0), text, None, 4.0)
    assert prior.predict_clean_and_noise(x_t, torch.tensor(0.9), text, None, 4.0)[0].isfinite().all()


def _two_images(pipeline):
    """The pipeline with num_images_per_prompt fixed to 2."""

    def call(prompt, **settings):
        return pipeline(prompt, num_images_per_prompt=2, **settings)

    call.scheduler = pipeline.scheduler
    call.set_progress_bar_config = pipeline.set_progress_bar_config
    return call


@pytest.mark.parametrize("kind", ["v", "v-zero-snr", "sample"])
def test_exact_rule_from_pure_noise_is_diffusers(folders, kind):
    """Trailing timesteps begin at t = 1, where a schedule with zero terminal SNR has no signal left."""
    pipeline, prior = VARIANTS[kind](), priors.load(folders[kind], options=PLAIN)
    settings = {"timestep_spacing": "trailing", "set_alpha_to_one": True, "clip_sample": False}
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, **settings)
    x_T = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    expected, seen = run_pipeline(pipeline, x_T, 10, 5.0, NEGATIVE)
    assert seen[0][1] == 999
    make = partial(image2d.generate, prior, PROMPT, noise=x_T, steps=10, cfg_scale=5.0, negative_prompt=NEGATIVE)
    ours = make(grid=image2d.Grid("trailing"))
    assert (ours.latents - expected).norm() / expected.norm() < 1e-4
    if kind == "v-zero-snr":
        rescaled = make(grid=image2d.Grid("trailing"), cfg_rescale=0.5)  # x̂ comes from v, so that α = 0 divides nothing
        assert rescaled.latents.isfinite().all()
        assert (rescaled.latents - ours.latents).norm() / ours.latents.norm() > 1e-3
        assert make(grid=image2d.Grid("leading"), cfg_rescale=0.5).latents.isfinite().all()


@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_paths_through_a_schedule_without_signal_at_its_end(folders, scale):
    """DSD simulates its path from t = 1; ISM and SDI go up to it. x̂_0 must not be divided by α = 0."""
    prior = priors.load(folders["v-zero-snr"], options=PLAIN)
    x, noise = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    text = prior.encode_text(PROMPT, NEGATIVE, None)
    times = torch.tensor([1.0, 0.7])
    v = prior.raw_prediction(noise, times[0], text, None, scale)
    alpha, sigma = prior.schedule.alpha(times[1]), prior.schedule.sigma(times[1])
    moved = ddim_path(prior, noise, times, text, None, scale)
    torch.testing.assert_close(moved, -alpha * v + sigma * noise)  # x̂_0 = −v and ε = x where there is noise alone
    for method in ("dsd", "ism", "sdi"):
        guidance = make_guidance(method, scale, "one")
        grad = guidance(prior, x, noise, 0.98, text, orbit_cameras([0.0], width=16), generator=torch.Generator().manual_seed(0))
        assert grad.isfinite().all()
        assert grad.abs().mean() > 1e-4


@pytest.mark.parametrize("kind", ["epsilon", "v", "sdxl"])
def test_fsd_in_2d_with_the_exact_rule_gives_the_pipelines_image(folders, kind):
    pipeline = VARIANTS[kind]()
    prior = priors.load(folders[kind], options=PLAIN)
    x_T = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    expected, seen = run_pipeline(pipeline, x_T, 10, 5.0, NEGATIVE)
    assert len(seen) == 10
    grid = image2d.Grid(steps_offset=1)
    ours = image2d.generate(prior, PROMPT, noise=x_T, steps=10, cfg_scale=5.0, negative_prompt=NEGATIVE, grid=grid)
    assert (ours.latents - expected).norm() / expected.norm() < 1e-4
    with torch.no_grad():
        images = pipeline.vae.decode(expected / pipeline.vae.config.scaling_factor).sample / 2 + 0.5
    torch.testing.assert_close(ours.images, images.clamp(0, 1), rtol=0, atol=1e-4)


# The samplers that folders come with: Stable Diffusion's own habit, diffusers' defaults, the repaired schedule.
SAMPLERS = {
    "stable-diffusion": {"steps_offset": 1, "set_alpha_to_one": False},
    "defaults": {"steps_offset": 0},
    "trailing": {"timestep_spacing": "trailing", "rescale_betas_zero_snr": True},
}


@pytest.mark.parametrize("steps", [10, pytest.param(25, marks=pytest.mark.slow)])
@pytest.mark.parametrize("scale", [1.0, 7.5])
@pytest.mark.parametrize(
    ("prediction", "sampler"),
    [("epsilon", "stable-diffusion"), ("v_prediction", "stable-diffusion"), ("epsilon", "defaults"), ("v_prediction", "trailing")],
)
def test_2d_with_default_arguments_is_the_pipeline_of_the_folder(tmp_path, prediction, sampler, scale, steps):
    """Its timesteps, its last step, the prompt as it is typed: nothing has to be said."""
    pipeline = tiny.stable_diffusion(prediction)
    settings = {**tiny.SD_BETAS, "prediction_type": prediction, "clip_sample": False, **SAMPLERS[sampler]}
    pipeline.register_modules(scheduler=DDIMScheduler(**settings))
    prior = priors.load(tiny.save(pipeline, tmp_path / "folder"))  # with its view prompts, which are for 3D
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(4))
    expected, _ = run_pipeline(pipeline, noise, steps, scale, None)
    ours = image2d.generate(prior, PROMPT, noise=noise, steps=steps, cfg_scale=scale).latents
    error = (ours - expected).abs().max().item()
    print(f"{prediction} {sampler} cfg {scale:g} steps {steps}: {error:.1e} of {expected.abs().max():.1f}")
    assert error < 1e-4


def test_default_negative_of_sdxl_is_zero_as_in_the_pipeline(folders):
    pipeline, prior = VARIANTS["sdxl"](), priors.load(folders["sdxl"], options=PLAIN)
    x_T = torch.randn(1, 4, 8, 8)
    _, seen = run_pipeline(pipeline, x_T, 2, 5.0, None)
    text = prior.encode_text(PROMPT, "", None)
    assert not text.negative.tokens.any()
    for x_t, n, output in seen:
        torch.testing.assert_close(prior.predict_noise(x_t, prior.schedule.time(n), text, None, 5.0), output, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scale", [1.0, 8.0])
def test_lcm_gets_its_guidance_as_an_embedding_in_one_pass(folders, scale):
    pipeline, prior = tiny.latent_consistency(), priors.load(folders["lcm"], options=PLAIN)
    x_T = torch.randn(1, 4, 8, 8)
    _, seen = run_pipeline(pipeline, x_T, 3, scale, None)
    text = prior.encode_text(PROMPT, "", None)
    batches = []
    prior.network.register_forward_pre_hook(lambda module, args: batches.append(args[0].shape[0]))
    for x_t, n, output in seen:
        torch.testing.assert_close(prior.predict_noise(x_t, prior.schedule.time(n), text, None, scale), output, rtol=1e-4, atol=1e-5)
    assert batches == [1, 1, 1]


def test_number_of_passes_by_cfg_scale(folders):
    prior = priors.load(folders["epsilon"], options=PLAIN)
    text, x = prior.encode_text(PROMPT, NEGATIVE, None), torch.randn(3, 4, 8, 8)
    batches = []
    prior.network.register_forward_pre_hook(lambda module, args: batches.append(args[0].shape[0]))
    values = {s: prior.predict_noise(x, torch.tensor(0.4), text, None, s) for s in (0.0, 1.0, 3.0)}
    assert batches == [3, 3, 6]
    torch.testing.assert_close(values[3.0], values[0.0] + 3 * (values[1.0] - values[0.0]), rtol=1e-4, atol=1e-5)


def test_t_may_differ_by_image_and_batches_are_independent(folders):
    prior = priors.load(folders["v"], options=PLAIN)
    text, x, t = prior.encode_text(PROMPT, NEGATIVE, None), torch.randn(3, 4, 8, 8), torch.tensor([0.1, 0.5, 0.98])
    together = prior.predict_noise(x, t, text, None, 4.0)
    for i in range(3):
        torch.testing.assert_close(prior.predict_noise(x[i : i + 1], t[i], text, None, 4.0)[0], together[i], rtol=1e-4, atol=1e-5)


def test_encode_and_decode_agree_with_the_vae(folders):
    pipeline, prior = VARIANTS["epsilon"](), priors.load(folders["epsilon"], options=PLAIN)
    rgb = torch.rand(3, 3, 16, 16)
    with torch.no_grad():
        expected = pipeline.vae.encode(2 * rgb - 1).latent_dist.mean * 0.18215
        decoded = (pipeline.vae.decode(expected / 0.18215).sample / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(prior.encode(rgb), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(prior.decode(expected), decoded, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("side", [16, 40])
@pytest.mark.parametrize("checkpointing", [True, False])
def test_gradient_through_encode_agrees_with_finite_differences(folders, side, checkpointing):
    prior = priors.load(folders["epsilon"], dtype="float64", options=LoadOptions(vae_checkpointing=checkpointing))
    generator = torch.Generator().manual_seed(0)
    rgb = torch.rand(2, 3, side, side, generator=generator, dtype=torch.float64).requires_grad_()
    cotangent = torch.randn(2, 4, 8, 8, generator=generator, dtype=torch.float64)
    direction = torch.randn(rgb.shape, generator=generator, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((prior.encode(rgb) * cotangent).sum(), rgb)
    with torch.no_grad():
        plus, minus = ((prior.encode(rgb + s * 1e-5 * direction) * cotangent).sum() for s in (1, -1))
    assert torch.isclose((gradient * direction).sum(), (plus - minus) / 2e-5, rtol=1e-6)


def test_rendered_sizes_are_reduced_with_antialiasing(folders):
    prior = priors.load(folders["epsilon"])
    stripes = torch.zeros(1, 3, 64, 64)
    stripes[..., ::2] = 1.0
    grey = torch.full((1, 3, 16, 16), 0.5)
    # Without anti-aliasing a fourfold reduction would pick single columns: black or white, not grey.
    from_black = (prior.encode(torch.zeros_like(grey)) - prior.encode(grey)).abs().max()
    assert (prior.encode(stripes) - prior.encode(grey)).abs().max() < 0.1 * from_black


def test_tiny_vae_replaces_the_encoder(folders, tmp_path):
    reference = tiny.tiny_vae()
    reference.save_pretrained(tmp_path / "taesd")
    prior = priors.load(folders["epsilon"], options=LoadOptions(tiny_vae=str(tmp_path / "taesd")))
    rgb = torch.rand(1, 3, 64, 64)
    small = torch.nn.functional.interpolate(rgb, size=16)
    with torch.no_grad():
        torch.testing.assert_close(prior.encode(small), reference.encode(2 * small - 1).latents)
    assert prior.encode(rgb).shape == prior.encode(small).shape


def test_half_precision_networks_keep_float32_outside(folders):
    exact = priors.load(folders["epsilon"], options=PLAIN)
    prior = priors.load(folders["epsilon"], dtype=torch.bfloat16, options=PLAIN)
    assert {p.dtype for p in prior.network.parameters()} == {torch.bfloat16}
    x, t = torch.randn(2, 4, 8, 8), torch.tensor(0.5)
    ours = prior.predict_noise(x, t, prior.encode_text(PROMPT, "", None), None, 7.5)
    reference = exact.predict_noise(x, t, exact.encode_text(PROMPT, "", None), None, 7.5)
    assert ours.dtype == torch.float32
    assert (ours - reference).norm() / reference.norm() < 0.1  # measured 0.054: s = 7.5 multiplies bfloat16's rounding
    latents = prior.encode(torch.rand(1, 3, 16, 16))
    assert latents.dtype == torch.float32
    assert prior.decode(latents).dtype == torch.float32


def test_no_gradient_reaches_the_network(folders):
    prior = priors.load(folders["epsilon"], options=PLAIN)
    x = torch.randn(1, 4, 8, 8, requires_grad=True)
    assert not prior.predict_noise(x, torch.tensor(0.5), prior.encode_text(PROMPT, "", None), None, 7.5).requires_grad
    assert not any(p.requires_grad for p in prior.network.parameters())


def test_text_encoders_load_late_are_freed_and_come_back(folders):
    prior = priors.load(folders["epsilon"])
    cameras = orbit_cameras([0, 90, 180, 270])
    assert not prior.bank.loaded
    first = prior.encode_text(PROMPT, NEGATIVE, cameras)
    assert not prior.bank.loaded
    keeping = priors.load(folders["epsilon"], options=LoadOptions(text_encoder="keep"))
    calls = []
    keeping.encode_text(PROMPT, NEGATIVE, cameras)
    keeping.bank._encoders.encoders[0].register_forward_hook(lambda *args: calls.append(1))
    again = keeping.encode_text(PROMPT, NEGATIVE, orbit_cameras([33, 180, 91, 10], 80.0))
    assert not calls, "view prompts of the first call must serve all later cameras"
    assert again.positive.tokens.shape == first.positive.tokens.shape
    keeping.encode_text("something new", NEGATIVE, cameras)
    assert len(calls) == 1
    assert keeping.bank.loaded
    keeping.release_text_encoder()
    assert not keeping.bank.loaded
    torch.testing.assert_close(keeping.encode_text(PROMPT, NEGATIVE, cameras).positive.tokens, first.positive.tokens)


def test_compile_falls_back_with_a_warning(folders, monkeypatch):
    def broken(function):
        def call(*args, **kwargs):
            raise RuntimeError("no compiler")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    plain, prior = (priors.load(folders["epsilon"], options=LoadOptions(view_prompts=None, compile=c)) for c in (False, True))
    x, t, rgb = torch.randn(1, 4, 8, 8), torch.tensor(0.5), torch.rand(1, 3, 16, 16)
    text = prior.encode_text(PROMPT, "", None)
    with pytest.warns(RuntimeWarning, match=r"torch.compile of the network failed \(no compiler\)"):
        ours = prior.predict_noise(x, t, text, None, 2.0)
    torch.testing.assert_close(ours, plain.predict_noise(x, t, text, None, 2.0))
    with pytest.warns(RuntimeWarning, match="torch.compile of the encoder failed"):
        latents = prior.encode(rgb)
    torch.testing.assert_close(latents, plain.encode(rgb))


def test_lora_is_fused_with_its_scale(folders, tmp_path):
    from diffusers import StableDiffusionPipeline
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    pipeline = VARIANTS["epsilon"]()
    torch.manual_seed(7)
    pipeline.unet.add_adapter(
        LoraConfig(r=2, lora_alpha=4, init_lora_weights="gaussian", target_modules=["to_q", "to_k", "to_v", "to_out.0"])
    )
    for name, parameter in pipeline.unet.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(pipeline.unet))
    StableDiffusionPipeline.save_lora_weights(tmp_path, unet_lora_layers=layers, safe_serialization=True)
    file = tmp_path / "pytorch_lora_weights.safetensors"

    reference = VARIANTS["epsilon"]()
    reference.load_lora_weights(tmp_path, weight_name=file.name, adapter_name="x")
    reference.set_adapters(["x"], [0.5])
    _, seen = run_pipeline(reference, torch.randn(1, 4, 8, 8), 2, 5.0, NEGATIVE)
    prior = priors.load(folders["epsilon"], options=LoadOptions(view_prompts=None, lora=str(file), lora_scale=0.5))
    plain = priors.load(folders["epsilon"], options=PLAIN)
    text = prior.encode_text(PROMPT, NEGATIVE, None)
    for x_t, n, output in seen:
        t = prior.schedule.time(n)
        torch.testing.assert_close(prior.predict_noise(x_t, t, text, None, 5.0), output, rtol=1e-4, atol=1e-5)
        assert (plain.predict_noise(x_t, t, text, None, 5.0) - output).abs().max() > 1e-3
    (tmp_path / "x.bin").write_bytes(b"")
    with pytest.raises(FileFormatError, match="pickles are refused"):
        priors.load(folders["epsilon"], options=LoadOptions(lora=str(tmp_path / "x.bin")))
    with pytest.raises(FileFormatError, match="no file"):
        priors.load(folders["epsilon"], options=LoadOptions(lora=str(tmp_path / "none.safetensors")))


def test_bad_arguments_name_themselves(folders):
    with pytest.raises(ConfigError, match=r"dtype: expected float32.*got torch\.int64"):
        priors.load(folders["epsilon"], dtype=torch.int64)
    with pytest.raises(ConfigError, match="did you mean 'bfloat16'"):
        priors.load(folders["epsilon"], dtype="bfloat")
    if not torch.cuda.is_available():
        with pytest.raises(BackendError, match="sees no CUDA GPU"):
            priors.load(folders["epsilon"], device="cuda")
    prior = priors.load(folders["epsilon"])
    text = prior.encode_text(PROMPT, "", orbit_cameras([0, 90]))
    with pytest.raises(InputError, match="embedded for 2 cameras, but there are 3 latents"):
        prior.predict_noise(torch.randn(3, 4, 8, 8), torch.tensor(0.5), text, None, 1.0)
    with pytest.raises(InputError, match=r"latents_t: expected shape \[B, 4, h, w\], got \[3, 8, 8\]"):
        prior.predict_noise(torch.randn(3, 8, 8), torch.tensor(0.5), text, None, 1.0)
    with pytest.raises(InputError, match=r"rgb: expected shape \[B, 3, H, W\], got \[1, 16, 16, 3\]"):
        prior.encode(torch.rand(1, 16, 16, 3))
    with pytest.raises(ConfigError, match="cfg_rescale"):
        LoadOptions(cfg_rescale=1.5)
    with pytest.raises(ConfigError, match="image_size"):
        LoadOptions(image_size=50)


def test_auto_precision_is_float32_on_a_cpu():
    assert resolve_dtype("auto", torch.device("cpu")) == torch.float32


def test_the_guided_prediction_can_be_differentiated(folders):
    """What Dive3D asks for: predict_noise itself, to the bit, with a graph in the latents that finite differences agree with."""
    prior = priors.load(folders["v"], options=PLAIN)
    x, t, text = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor(0.5), prior.encode_text(PROMPT, "", None)
    leaf = x.clone().requires_grad_()
    epsilon = prior.predict_noise_differentiable(leaf, t, text, None, 7.5)
    frozen = prior.predict_noise(leaf, t, text, None, 7.5)
    assert torch.equal(epsilon, frozen)
    towards, along = torch.randn(2, *x.shape, generator=torch.Generator().manual_seed(1))
    (grad,) = torch.autograd.grad((epsilon * along).sum(), leaf)
    ahead, behind = (prior.predict_noise(x + step * towards, t, text, None, 7.5) for step in (0.01, -0.01))
    assert ((ahead - behind) * along).sum().item() / 0.02 == pytest.approx((grad * towards).sum().item(), rel=0.01)


def test_trainable_lora_starts_as_the_frozen_network_learns_and_leaves_it_alone(folders):
    prior = priors.load(folders["v"], options=PLAIN)
    x, t, text = torch.randn(2, 4, 8, 8), torch.tensor(0.5), None
    text = prior.encode_text(PROMPT, "", None)
    frozen = prior.predict_noise(x, t, text, None, 1.0)
    parameters = prior.add_lora(2, torch.Generator().manual_seed(0))
    first = [p.detach().clone() for p in parameters]
    torch.testing.assert_close(prior.predict_noise_trainable(x, t, text, None).detach(), frozen, rtol=1e-5, atol=1e-6)
    target = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    optimizer = torch.optim.Adam(parameters, lr=0.02)
    losses = []
    for _ in range(15):
        loss = (prior.predict_noise_trainable(x, t, text, None) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.97 * losses[0]  # a few low-rank attention weights cannot fit noise; unchanged weights would leave it at 1
    torch.testing.assert_close(prior.predict_noise(x, t, text, None, 1.0), frozen, rtol=0, atol=0)
    again = prior.add_lora(2, torch.Generator().manual_seed(0))
    assert all(torch.equal(a, b) for a, b in zip(again, first, strict=True))
    assert isinstance(prior, TrainablePrior)
