"""One guidance step on a GPU, split into its stages, with full-size networks of random weights (they cost the same as trained ones).

    python benchmarks/step_gpu.py                        sd15, sd21, sdxl and mvdream, 4 views, half precision
    python benchmarks/step_gpu.py --tiny --device cpu    the same code on tiny networks, to see that it runs

Stages: render (splats → images), noise (ε(c)), encode (VAE encoder, forward), network (both CFG halves), backward (encoder and rasterizer),
optimizer. The floor is what nobody can avoid: encode + network + the encoder's own backward. "other" is the share of the step above it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from acceptance import folders

from fsd_gs import priors
from fsd_gs.core.cameras import OrbitSampler
from fsd_gs.core.rng import make_generator
from fsd_gs.guidance import ScoreGuidance, inject
from fsd_gs.noise import WorldMapNoise
from fsd_gs.priors import LoadOptions
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


def measure(folder: Path, arguments: argparse.Namespace) -> dict:
    """Medians of the stages with the network of ``folder``."""
    device = torch.device(arguments.device)
    options = LoadOptions(compile=arguments.compile, vae_checkpointing=not arguments.no_checkpointing)
    prior = priors.load(str(folder), device=arguments.device, dtype=arguments.dtype, options=options)
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
        text = prior.encode_text("a red chair", "", cameras)
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
    return summary(folder.name, prior, clock, device)


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
    parser.add_argument("--priors", default="sd15,sd21,sdxl,mvdream", help=", ".join(folders.FAMILIES))
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
        with tempfile.TemporaryDirectory() as scratch:
            folder = folders.write(
                name, Path(scratch) / name, tiny=arguments.tiny, device=arguments.device, dtype=getattr(torch, arguments.dtype)
            )
            print(json.dumps(measure(folder, arguments)), flush=True)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
