"""One guidance step on a GPU, split into its stages, with full-size networks of random weights (they cost the same as trained ones).

    python benchmarks/step_gpu.py                        sd15, sd21 and mvdream, 4 views, half precision
    python benchmarks/step_gpu.py --tiny --device cpu    the same code on tiny networks, to see that it runs

Stages: render (splats → images), noise (ε(c)), encode (VAE encoder, forward), network (both CFG halves), backward (encoder and rasterizer),
optimizer. The floor is what nobody can avoid: encode + network + the encoder's own backward. "other" is the share of the step above it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from fsd_gs.core.cameras import OrbitSampler
from fsd_gs.core.rng import make_generator
from fsd_gs.guidance import ScoreGuidance, inject
from fsd_gs.noise import WorldMapNoise
from fsd_gs.priors import LoadOptions
from fsd_gs.priors.backbones.mvdream import MVDreamPrior
from fsd_gs.priors.backbones.sd import StableDiffusionPrior
from fsd_gs.priors.latent import LatentCodec
from fsd_gs.priors.latent_prior import place
from fsd_gs.priors.mvdream_checkpoint import OFFICIAL_UNET, unet_config
from fsd_gs.priors.schedule import DiscreteSchedule
from fsd_gs.priors.text import EmbeddedText, Embedding, TextBank, TextEncoders
from fsd_gs.render import make_rasterizer
from fsd_gs.splats.initialize import ball
from fsd_gs.splats.optimizers import LearningRates, build_optimizers, step_all
from fsd_gs.splats.parameters import activate, from_gaussians

STAGES = ("render", "noise", "encode", "network", "backward", "optimizer")


@dataclass
class Clock:
    """Milliseconds of each stage, device work included."""

    device: torch.device
    times: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in (*STAGES, "encoder_backward")})

    @contextmanager
    def __call__(self, name: str):
        self._wait()
        start = time.perf_counter()
        yield
        self._wait()
        self.times[name].append(1000 * (time.perf_counter() - start))

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def median(self, name: str) -> float:
        return statistics.median(self.times[name])


def networks(name: str, tiny: bool):
    """(UNet, VAE, width of the text) with random weights."""
    from diffusers import AutoencoderKL, UNet2DConditionModel

    if name == "mvdream":
        settings = unet_config({**OFFICIAL_UNET, **({"model_channels": 32, "num_head_channels": 16, "context_dim": 64} if tiny else {})})
    else:
        width = 768 if name == "sd15" else 1024
        heads = {"attention_head_dim": 8} if name == "sd15" else {"attention_head_dim": [5, 10, 20, 20], "use_linear_projection": True}
        settings = {"sample_size": 64, "cross_attention_dim": width, **heads}
        if tiny:
            settings |= {"block_out_channels": (32, 64), "attention_head_dim": 8, "sample_size": 8, "cross_attention_dim": 64}
            settings |= {"down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"), "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D")}
    channels = (8, 16, 16, 16) if tiny else (128, 256, 512, 512)
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    vae = AutoencoderKL(latent_channels=4, layers_per_block=2, block_out_channels=channels, norm_num_groups=8 if tiny else 32, **blocks)
    return UNet2DConditionModel(**settings), vae, settings["cross_attention_dim"]


def build_prior(name: str, device: torch.device, dtype: torch.dtype, options: LoadOptions, tiny: bool):
    unet, vae, width = networks(name, tiny)
    unet, vae = (place(m.to(dtype).eval().requires_grad_(False), device, options) for m in (unet, vae))
    codec = LatentCodec(vae, 8 * unet.config.sample_size, options)

    def no_text() -> TextEncoders:
        raise RuntimeError("this benchmark has no text encoder")

    bank = TextBank(no_text, device=device, dtype=dtype)
    cls = MVDreamPrior if name == "mvdream" else StableDiffusionPrior
    prior = cls(unet, codec, bank, DiscreteSchedule.scaled_linear(), options, "epsilon")
    rows = [Embedding(torch.randn(1, 77, width, device=device, dtype=dtype)) for _ in range(2)]
    return prior, EmbeddedText("", "", *rows)


def measure(name: str, arguments: argparse.Namespace) -> dict:
    device, dtype = torch.device(arguments.device), getattr(torch, arguments.dtype)
    options = LoadOptions(compile=arguments.compile, vae_checkpointing=not arguments.no_checkpointing)
    prior, text = build_prior(name, device, dtype, options, arguments.tiny)
    params = from_gaussians(ball(arguments.splats, 0.6, make_generator(0, "splats")).to(device))
    optimizers = build_optimizers(params, LearningRates())
    rasterize = make_rasterizer("auto", device)
    sampler = OrbitSampler(views=arguments.views, width=prior.image_size, height=prior.image_size)
    noise_fn = WorldMapNoise(prior.latent_shape, seed=0).to(device)
    guidance = ScoreGuidance(7.5, "one")
    clock, generator = Clock(device), make_generator(0, "views")
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    for step in range(arguments.warmup + arguments.steps):
        if step == arguments.warmup:
            clock = Clock(device)
        cameras = sampler(generator).to(device)
        t = torch.tensor(0.5, device=device)
        with clock("render"):
            view = rasterize(activate(params), cameras, background=torch.ones(3, device=device))
        with clock("noise"):
            noise = noise_fn(cameras, view.alpha.detach())
        with clock("encode"):
            latents = prior.encode(view.rgb.permute(0, 3, 1, 2))
        with clock("network"):
            grad = guidance(prior, latents.detach(), noise, t, text, cameras)
        with clock("backward"):
            inject(latents, grad).backward()
        with clock("optimizer"):
            step_all(optimizers)
        leaf = view.rgb.detach().permute(0, 3, 1, 2).requires_grad_()
        alone = prior.encode(leaf)
        with clock("encoder_backward"):
            torch.autograd.grad(alone, leaf, grad)
    return summary(name, prior, clock, device)


def summary(name: str, prior, clock: Clock, device: torch.device) -> dict:
    stages = {stage: round(clock.median(stage), 2) for stage in STAGES}
    total = sum(stages.values())
    floor = stages["encode"] + stages["network"] + clock.median("encoder_backward")
    peak = round(torch.cuda.max_memory_allocated(device) / 1e9, 2) if device.type == "cuda" else None
    return {
        "prior": name,
        "image": prior.image_size,
        **stages,
        "step_ms": round(total, 2),
        "floor_ms": round(floor, 2),
        "other": f"{100 * max(0.0, total - floor) / total:.1f} %",
        "peak_gb": peak,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--priors", default="sd15,sd21,mvdream")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float16", "float32"))
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--splats", type=int, default=50_000)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--warmup", type=int, default=5)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--no-checkpointing", action="store_true")
    parser.add_argument("--tiny", action="store_true", help="tiny networks: only to see that the script runs")
    arguments = parser.parse_args()
    if arguments.device.startswith("cuda") and not torch.cuda.is_available():
        print("skipped: no CUDA GPU here, and full-size networks are only worth timing on one (--tiny --device cpu checks the script)")
        return 0
    if arguments.device.startswith("cuda"):
        print(torch.cuda.get_device_name(), f"torch {torch.__version__}", arguments.dtype, file=sys.stderr)
    for name in arguments.priors.split(","):
        print(json.dumps(measure(name, arguments)), flush=True)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
