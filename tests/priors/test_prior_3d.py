"""Every family in 3D: a few steps of the whole pipeline on a CPU, and gradients through encoder and rasterizer."""

import json
from pathlib import Path

import pytest
import tiny_pipelines as tiny
import torch
from safetensors.torch import load_file

import fsd_gs
from fsd_gs import priors
from fsd_gs.core.cameras import orbit_cameras
from fsd_gs.core.types import Gaussians
from fsd_gs.priors import LoadOptions, mvdream_checkpoint
from fsd_gs.priors.prompts import PerpNeg
from fsd_gs.render import make_rasterizer

GOLDEN = Path(__file__).parent.parent / "golden" / "mvdream"
SMALL = [
    "steps=5", "splats.count=60", "render.sizes=[24]", "render.size_at=[0.0]", "cameras.views=4", "device=cpu", "prior.name=sd15",
    "densify.kind=none", "outputs.turntable_frames=0", "outputs.clean=false", "guidance.weight=one",
]  # fmt: skip


def tiny_mvdream(root: Path) -> Path:
    """The golden multi-view network as one of our folders, with tiny VAE and text encoder."""
    pipeline = tiny.stable_diffusion(cross_attention_dim=40)
    torch.manual_seed(3)
    pipeline.register_modules(text_encoder=tiny.CLIPTextModel(tiny.clip_config(40)).eval())
    official = json.loads((GOLDEN / "mvdream_tiny_unet_config.json").read_text())
    pipeline.register_modules(
        unet=mvdream_checkpoint.build_unet(load_file(GOLDEN / "mvdream_tiny_official_layout.safetensors"), official, torch.float32)
    )
    return tiny.save(pipeline, root)


FAMILIES = {
    "sd": (tiny.stable_diffusion, LoadOptions(), 7.5),
    "sd-v-perp-neg": (lambda: tiny.stable_diffusion("v_prediction"), LoadOptions(perp_neg=PerpNeg(), cfg_rescale=0.5), 7.5),
    "sdxl": (tiny.stable_diffusion_xl, LoadOptions(), 7.5),
    "lcm": (tiny.latent_consistency, LoadOptions(), 7.5),
    "sd3": (lambda: tiny.stable_diffusion_3(t5=True), LoadOptions(), 5.0),
    "flux-dev": (tiny.flux, LoadOptions(image_size=16), 3.5),
    "mvdream": (None, LoadOptions(), 7.5),
}


QUICK = ("sd", "flux-dev", "mvdream")  # an ε-network, a flow, views together; the others are variants


@pytest.mark.parametrize("family", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in FAMILIES])
def test_five_steps_in_3d(family, tmp_path):
    make, options, scale = FAMILIES[family]
    folder = tiny_mvdream(tmp_path / family) if make is None else tiny.save(make(), tmp_path / family)
    prior = priors.load(folder, options=options)
    assert isinstance(prior, priors.Prior)
    seen = []
    prior.network.register_forward_pre_hook(lambda module, args, kwargs: seen.append(1), with_kwargs=True)
    overrides = [*SMALL, f"guidance.cfg_scale={scale}"]
    result = fsd_gs.generate("a mug", seed=0, overrides=overrides, prior=prior)
    again = fsd_gs.generate("a mug", seed=1, overrides=overrides, prior=prior)
    assert len(seen) == 10  # one batch a step, CFG included
    start = fsd_gs.generate("a mug", seed=0, overrides=[*overrides, "steps=1", "rates.means=0", "rates.means_end=0"], prior=prior)
    assert result.splats.means.isfinite().all()
    assert (result.splats.means - start.splats.means).abs().max() > 1e-3
    assert not torch.equal(result.splats.means, again.splats.means)


@pytest.mark.parametrize("family", ["sd", "sd3"])
def test_gradient_through_encoder_and_rasterizer_agrees_with_finite_differences(family, tmp_path):
    """Σ c · encode(render(θ)) along a random direction of means, scales, opacities and colours, in float64 on the reference rasterizer"""
    make, options, _ = FAMILIES[family]
    prior = priors.load(tiny.save(make(), tmp_path / family), dtype="float64", options=options)
    rasterize, generator = make_rasterizer("reference"), torch.Generator().manual_seed(0)
    cameras = orbit_cameras([10.0, 130.0], 20.0, distance=2.5, width=24).to("cpu", torch.float64)
    cotangent = torch.randn(2, *prior.latent_shape, generator=generator, dtype=torch.float64)

    def draw(count: int, *shape: int) -> torch.Tensor:
        return torch.randn(count, *shape, generator=generator, dtype=torch.float64)

    start = {"means": 0.3 * draw(6, 3), "log_scales": -1.5 + 0.1 * draw(6, 3), "logits": draw(6), "sh": 0.5 * draw(6, 1, 3)}
    direction = {name: draw(*value.shape) for name, value in start.items()}
    quats = torch.nn.functional.normalize(draw(6, 4), dim=1)

    def value(theta: dict[str, torch.Tensor]) -> torch.Tensor:
        splats = Gaussians(theta["means"], quats, theta["log_scales"].exp(), theta["logits"].sigmoid(), theta["sh"])
        rgb = rasterize(splats, cameras).rgb.permute(0, 3, 1, 2)
        return (prior.encode(rgb) * cotangent).sum()

    theta = {name: v.clone().requires_grad_() for name, v in start.items()}
    gradients = torch.autograd.grad(value(theta), list(theta.values()))
    slope = sum((g * direction[name]).sum() for g, name in zip(gradients, theta, strict=True))
    with torch.no_grad():
        plus, minus = (value({name: v + s * 1e-6 * direction[name] for name, v in start.items()}) for s in (1, -1))
    assert torch.isclose(slope, (plus - minus) / 2e-6, rtol=1e-4)
