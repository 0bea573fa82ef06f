"""Draws the pictures of docs/method.md and prints its measured tables.

python docs/figures/method_figures.py            # from the repository's root; needs the extras plots and test
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from matplotlib.patches import Rectangle
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / "docs" / "images"
sys.path.insert(0, str(ROOT / "tests" / "guidance"))  # the toy mixture is defined once, where it is asserted

from test_toy_mixture import RATE, MixturePrior, entropy  # noqa: E402

from fsd_gs.core.cameras import orbit_cameras  # noqa: E402
from fsd_gs.core.sh import sh0_from_rgb  # noqa: E402
from fsd_gs.core.types import Gaussians, Render  # noqa: E402
from fsd_gs.guidance import SCHEDULES, WEIGHTS, make_guidance  # noqa: E402
from fsd_gs.guidance.base import Guidance, Noised  # noqa: E402
from fsd_gs.guidance.dive3d import sim_loss  # noqa: E402
from fsd_gs.guidance.time_schedules import RandomAnnealed, RandomUniform  # noqa: E402
from fsd_gs.image2d import AdamRule, Grid, generate, seed_noise  # noqa: E402
from fsd_gs.noise import SurfaceNoise, WorldMapNoise  # noqa: E402
from fsd_gs.priors.schedule import DiscreteSchedule  # noqa: E402
from fsd_gs.render.base import make_rasterizer  # noqa: E402

SEEDS, STEPS = 400, 1000  # of the toy
COLOURS = ("#d62728", "#1f77b4", "#2ca02c", "#9467bd")


def snowman() -> Gaussians:
    """Three balls of splats on one another, with a nose towards +x."""
    parts = [((0, 0, -0.3), 0.36, 900), ((0, 0, 0.18), 0.25, 500), ((0, 0, 0.5), 0.16, 260), ((0.2, 0, 0.5), 0.05, 60)]
    means, colours, scales = [], [], []
    for centre, radius, count in parts:
        i = torch.arange(count) + 0.5
        z, azimuth = 1 - 2 * i / count, i * math.pi * (3 - 5**0.5)
        ring = (1 - z**2).sqrt()
        directions = torch.stack([ring * azimuth.cos(), ring * azimuth.sin(), z], 1)
        means.append(torch.tensor(centre) + radius * directions)
        light = 0.55 + 0.35 * directions[:, 2:3] + 0.1 * directions[:, 1:2]
        tint = torch.tensor([1.0, 0.5, 0.1]) if count == 60 else torch.ones(3)
        colours.append((light * tint).clamp(0, 1))
        scales.append(torch.full((count, 3), 0.7 * radius * (4 * math.pi / count) ** 0.5))
    count = sum(len(m) for m in means)
    sh = sh0_from_rgb(torch.cat(colours))[:, None]
    return Gaussians(torch.cat(means), torch.tensor([1.0, 0, 0, 0]).repeat(count, 1), torch.cat(scales), torch.full((count,), 0.95), sh)


def as_picture(noise: Tensor) -> Tensor:
    """[C, h, w] N(0, 1) → [h, w, 3] in [0, 1], three channels as colours."""
    return (0.5 + noise[:3].permute(1, 2, 0) / 5).clamp(0, 1)


def faded(picture: Tensor, opaque: Tensor) -> Tensor:
    """Background cells drawn pale."""
    return torch.where(opaque[..., None] > 0, picture, 0.35 * picture + 0.65)


def draw_world_map() -> None:
    """The map with the patches of four cameras, and what each camera gets out of it."""
    azimuths, elevations = [20.0, 50.0, 140.0, 340.0], [10.0, 10.0, 40.0, -10.0]
    cameras = orbit_cameras(azimuths, elevations, width=128, distance=2.0)
    render = make_rasterizer("cpu")(snowman(), cameras, background=torch.ones(3), depth=True)
    noise, painted = WorldMapNoise((4, 24, 24), 90.0, seed=3), SurfaceNoise((4, 24, 24), seed=3)
    figure = plt.figure(figsize=(9, 13))
    layout = figure.add_gridspec(6, 4, height_ratios=[2.5, 1, 1, 1, 1, 1], hspace=0.08, wspace=0.05)
    top = figure.add_subplot(layout[0, :])
    top.imshow(0.55 * as_picture(noise.map) + 0.45, interpolation="nearest")
    top.axhline(noise.rows - 0.5, color="black", linestyle=":", linewidth=1)
    for (row, column), colour, azimuth, elevation in zip(
        zip(*noise.offsets(cameras), strict=True), COLOURS, azimuths, elevations, strict=True
    ):
        for shift in (0, -noise.columns):  # the second is the part that wraps around the back
            top.add_patch(
                Rectangle(
                    (round(column.item()) - 0.5 + shift, round(row.item()) - 0.5), 24, 24, fill=False, edgecolor=colour, linewidth=2.5
                )
            )
        top.annotate(
            f"{azimuth:.0f}°, {elevation:.0f}°",
            (min(column.item(), noise.columns - 14) + 0.5, row.item() + 1.5),
            color="white",
            backgroundcolor=colour,
            fontsize=8,
        )
    top.set_xlim(-0.5, noise.columns - 0.5)
    top.set_xticks([])
    top.set_title(
        f"Θ = 90°: {noise.columns} columns (360° of azimuth, periodic) × {noise.rows} rows (elevation 90° … −90°)\n"
        "and one patch height below the dotted line",
        fontsize=10,
    )
    draw_views(figure, layout, render, noise, noise(cameras), noise(cameras, render.alpha), painted(cameras, render.alpha, render.depth))
    figure.savefig(IMAGES / "method-world-map.png", dpi=80, bbox_inches="tight")


def draw_views(
    figure: plt.Figure, layout: object, render: Render, noise: WorldMapNoise, patches: Tensor, masked: Tensor, painted: Tensor
) -> None:
    opaque = noise.opaque_cells(render.alpha, 4)[:, 0].float()
    rows = {
        "render": render.rgb.clamp(0, 1),
        "patch": torch.stack([as_picture(p) for p in patches]),
        "opacity ≥ ½": opaque,
        "ε(c), world map": torch.stack([faded(as_picture(p), m) for p, m in zip(masked, opaque, strict=True)]),
        "ε(c), surface (CFD)": torch.stack([faded(as_picture(p), m) for p, m in zip(painted, opaque, strict=True)]),
    }
    for i, (name, pictures) in enumerate(rows.items()):
        for v, picture in enumerate(pictures):
            axes = figure.add_subplot(layout[i + 1, v])  # type: ignore[index]
            axes.imshow(picture, interpolation="nearest", cmap="gray", vmin=0, vmax=1)
            axes.set_xticks([])
            axes.set_yticks([])
            for spine in axes.spines.values():
                spine.set_color(COLOURS[v])
                spine.set_linewidth(2.5)
            if v == 0:
                axes.set_ylabel(name)


@dataclass
class SimLimit(Guidance):
    """Dive3D's SIM with the LoRA that its training leads to for one seed: one that knows its only render, ε_q = (x_t − α x)/σ."""

    def residual(self, b: Noised) -> Tensor:
        with torch.enable_grad():
            x = b.x.clone().requires_grad_()
            return torch.autograd.grad(sim_loss(KnowsTheRender(b.prior, b.x), replace(b, x=x), self.cfg_scale), x)[0]


@dataclass
class KnowsTheRender:
    prior: Any
    render: Tensor

    def predict_noise_differentiable(self, x_t: Tensor, t: Tensor, text: Any, cameras: None, cfg_scale: float) -> Tensor:
        return self.prior.predict_noise(x_t, t, text, cameras, cfg_scale)

    def predict_noise_trainable(self, x_t: Tensor, t: Tensor, text: Any, cameras: None) -> Tensor:
        return (x_t - self.prior.schedule.alpha(t) * self.render) / self.prior.schedule.sigma(t)


def print_sim_limit() -> None:
    """The toy with Dive3D's times, 600 steps: SDS, SIM in its limit, and SIM with FSD's noise and times."""
    prior, times = MixturePrior(), RandomAnnealed(0.98, 0.02, 600, 0, settled=0.5, warmup=0.2, sudden=True)
    noise, sim = seed_noise(prior, range(SEEDS)), SimLimit(1.0, "lambda")
    methods = {
        "SDS with Dive3D's times": AdamRule(rate=RATE, fresh_noise=True, schedule=times),
        "Dive3D, a perfect LoRA": AdamRule(rate=RATE, fresh_noise=True, schedule=times, guidance=sim),
        "the same, fixed noise, falling t": AdamRule(rate=RATE, guidance=sim),
    }
    print("\n| method | entropy | modes |\n|---|---|---|")
    for name, adam in methods.items():
        x = generate(prior, "", noise=noise, steps=600, rule="adam", cfg_scale=1.0, adam=adam, seed=range(SEEDS)).latents
        print(f"| {name} | {entropy(prior.modes(x)):.2f} | {len(prior.modes(x).unique())} |")


def draw_toy() -> None:
    """Modes reached by each method on the Gaussian mixture, and the table."""
    prior = MixturePrior()
    noise = seed_noise(prior, range(SEEDS))
    methods = {
        "DDIM = fixed noise, exact rule": None,
        "FSD: fixed noise, Adam": AdamRule(rate=RATE),
        "PFD: fixed noise, 4 moves, Adam": AdamRule(rate=RATE, guidance=make_guidance("pfd", 1.0, "one", params={"steps": 4})),
        "annealed SDS: fresh noise, Adam": AdamRule(rate=RATE, fresh_noise=True),
        "SDS: fresh noise, random t, Adam": AdamRule(rate=RATE, fresh_noise=True, schedule=RandomUniform()),
    }
    figure, axes = plt.subplots(1, 5, figsize=(16, 2.6), sharey=True)
    reference = None
    print(f"\nGaussian mixture, {SEEDS} seeds, {STEPS} steps, rate {RATE}")
    print("| method | entropy | modes | DDIM's mode | distance to the mode |\n|---|---|---|---|---|")
    for axis, (name, adam) in zip(axes, methods.items(), strict=True):
        rule = "exact" if adam is None else "adam"
        x = generate(
            prior, "", noise=noise, steps=STEPS, rule=rule, cfg_scale=1.0, grid=Grid("trailing"), adam=adam, seed=range(SEEDS)
        ).latents
        modes = prior.modes(x)
        reference = modes if reference is None else reference
        same = (modes == reference).double().mean().item()
        distance = torch.cdist(x.flatten(1), prior.means).min(1).values.median()
        print(f"| {name} | {entropy(modes):.2f} | {len(modes.unique())} | {100 * same:.0f} % | {distance:.2f} |")
        axis.bar(range(8), torch.bincount(modes, minlength=8), color="#1f77b4" if "fixed" in name else "#d62728")
        axis.set_title(f"{name}\nentropy {entropy(modes):.2f}, DDIM's mode {100 * same:.0f} %", fontsize=9)
        axis.set_xlabel("mode")
    axes[0].set_ylabel("seeds of 400")
    figure.savefig(IMAGES / "method-toy.png", dpi=80, bbox_inches="tight")


def draw_schedules() -> None:
    """t over a run, and w over t for Stable Diffusion's schedule."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.2))
    for name, make in SCHEDULES.items():
        schedule = make(seed=0) if name == "random" else make(steps=300)
        times = [schedule(step) for step in range(300)]
        left.plot(times, ".", markersize=2, label=name) if name == "random" else left.plot(times, label=name)
    left.set_xlabel("step τ of 300")
    left.set_ylabel("t")
    left.legend(fontsize=8)
    t = torch.linspace(0.02, 0.98, 97, dtype=torch.float64)
    for name, weight in WEIGHTS.items():
        right.plot(t, weight(DiscreteSchedule.scaled_linear(), t), "--" if name == "lambda" else "-", label=name)
    right.set_yscale("log")
    right.set_xlabel("t")
    right.set_ylabel("w(t)")
    right.legend(fontsize=8)
    figure.savefig(IMAGES / "method-schedules.png", dpi=80, bbox_inches="tight")


def bilinear_patches(noise: WorldMapNoise, azimuths: Tensor) -> Tensor:
    """What the obvious sub-cell shift would do: linear weights between two columns, divided by √Σw²."""
    _, column = noise.offsets(orbit_cameras(azimuths, 0.0))
    whole, fraction = column.floor().long(), (column - column.floor()).float()
    columns = (whole[:, None] + torch.arange(noise.latent_shape[2])) % noise.columns
    rows = noise.map[:, noise.rows // 2 : noise.rows // 2 + noise.latent_shape[1]]
    a, b = rows[:, :, columns].movedim(2, 0), rows[:, :, (columns + 1) % noise.columns].movedim(2, 0)
    f = fraction[:, None, None, None]
    return ((1 - f) * a + f * b) / ((1 - f) ** 2 + f**2).sqrt()


def print_subcell() -> None:
    """Whole cells against the two sub-cell shifts: variance, correlation of neighbouring cells, smallest correlation of close views."""
    size, seeds = 32, 40
    print("\n| shift | variance | neighbours in a row, worst azimuth | views 1/8 cell apart, worst pair |\n|---|---|---|---|")
    for name in ("whole cells", "fourier", "bilinear"):
        patches = []
        for seed in range(seeds):
            noise = WorldMapNoise((4, size, size), 180.0, seed=seed, subcell="fourier" if name == "fourier" else "off")
            azimuths = torch.arange(17) / 8 * 360 / noise.columns
            patches.append(bilinear_patches(noise, azimuths) if name == "bilinear" else noise(orbit_cameras(azimuths, 0.0)))
        x = torch.stack(patches).double()  # [seeds, views, C, h, w]
        neighbours = (x[..., 1:] * x[..., :-1]).mean(dim=(0, 2, 3, 4)).abs().max()
        close = (x[:, 1:] * x[:, :-1]).mean(dim=(0, 2, 3, 4)).min()
        print(f"| {name} | {x.var():.3f} | {neighbours:.3f} | {close:.3f} |")


if __name__ == "__main__":
    IMAGES.mkdir(exist_ok=True)
    torch.set_num_threads(1)
    draw_world_map()
    draw_schedules()
    print_subcell()
    draw_toy()
    print_sim_limit()
