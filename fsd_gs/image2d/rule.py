"""The same guidance on an image instead of splats: the first sanity check of a prior, and the proof that FSD is DDIM.

With a fixed noise ε̃ the DDIM sampler (η = 0), x_s = α_s x̂_0 + σ_s ε_φ, rewritten for the clean image x̂ = (x_t − σ_t ε̃)/α_t, reads

    exact rule       x̂ ← x̂ − (λ_t − λ_s) (ε_φ(α_t x̂ + σ_t ε̃, t, y) − ε̃)            λ = σ/α: gradient descent on ``score``
    flow models      x̂ ← x̂ − (σ_t − σ_s)/(1 − σ_s) · [u − (ε̃ − x̂)]

Samplers start from x_T = ε̃, so the first step is x̂ = x̂_0 + λ_s (ε_φ(ε̃, T, y) − ε̃), which needs no α_T > 0 (zero terminal SNR); for flow
models, σ_T = 1, the rule itself starts at x̂ = 0. ``rule="exact"`` does just that and equals diffusers' schedulers; ``rule="adam"`` is what
3D has to do: Adam on the residual along a time schedule, in latents or in pixels.

Grids of trained timesteps n (t = (n + 1)/T), as in diffusers: "leading" n = i ⌊T/N⌋ + offset, "trailing" n = round(T − i T/N) − 1,
"linspace" n = round(i (T − 1)/(N − 1)). Here a step always ends on the next n of the grid. diffusers' DDIM ends it at n − ⌊T/N⌋, which
is the same for "leading" and "trailing" if N divides T, and slightly inconsistent otherwise.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from fsd_gs.core.cameras import orbit_cameras
from fsd_gs.core.rng import make_generator
from fsd_gs.core.types import Cameras, TextCondition, check_shape
from fsd_gs.errors import ConfigError, InputError
from fsd_gs.guidance import Guidance, ScoreGuidance, TimeSchedule, inject
from fsd_gs.guidance.cfg import noise_and_clean
from fsd_gs.guidance.rfds import RectifiedFlowDistillation
from fsd_gs.guidance.time_schedules import Linear
from fsd_gs.priors.base import CleanPrior, ControlledPrior, FlowPrior, PipelinePrior, Prior
from fsd_gs.priors.schedule import DiscreteSchedule, ShiftedSchedule

Spacing = Literal["leading", "trailing", "linspace"]
Ends = Literal["shifted", "trained", "steps"]


@dataclass(frozen=True)
class Result2D:
    """latents [S, C, h, w], one for each seed; images [S, 3, H, W] in [0, 1]."""

    latents: Tensor
    images: Tensor


@dataclass(frozen=True)
class Grid:
    """The timesteps of ``rule="exact"``.

    Attributes:
        steps_offset, set_alpha_to_one: as in diffusers' DDIMScheduler; Stable Diffusion has 1 and False, which ends the last step on the
            first trained timestep (t = 1/T) instead of t = 0.
        shift: of flow models' σ (3 for SD3).
        ends: of flow models' grid, see :func:`flow_grid`.
    """

    spacing: Spacing = "leading"
    steps_offset: int = 0
    set_alpha_to_one: bool = True
    shift: float = 1.0
    ends: Ends = "shifted"

    @staticmethod
    def of(prior: Prior) -> Grid:
        """The grid of the DDIM (or flow-Euler) sampler with the config that came with the prior, so that the same noise ends on the same
        latents as in the pipeline of its folder; the defaults for a prior that came with none."""
        config = {k: v for k, v in prior.sampler.items() if v is not None} if isinstance(prior, PipelinePrior) else {}
        return Grid(
            config.get("timestep_spacing", "leading"),
            int(config.get("steps_offset", 0)),
            bool(config.get("set_alpha_to_one", True)),
            float(config.get("shift", 1.0)),
            config.get("ends", "shifted"),
        )


@dataclass(frozen=True)
class AdamRule:
    """The practical rule. schedule None: linear .98 → .02 over the steps. guidance None: the residual with w = 1 (SDS, FSD, …).

    Attributes:
        fresh_noise: new noise at every step (SDS, annealed SDS) instead of the seed's fixed one (FSD).
        space: what Adam moves, latents from 0 or pixels from grey, through the prior's encoder.
    """

    schedule: TimeSchedule | None = None
    guidance: Guidance | None = None
    fresh_noise: bool = False
    rate: float = 0.02
    betas: tuple[float, float] = (0.9, 0.99)
    space: Literal["latent", "image"] = "latent"


@dataclass(frozen=True)
class _Problem:
    """What both rules share."""

    prior: Prior
    noise: Tensor
    text: TextCondition
    cameras: Cameras | None
    cfg_scale: float
    cfg_rescale: float


def generate(
    prior: Prior,
    prompt: str,
    *,
    noise: Tensor | None = None,
    steps: int = 50,
    rule: Literal["exact", "adam"] = "exact",
    cfg_scale: float = 7.5,
    seed: int | Sequence[int] = 0,
    negative_prompt: str = "",
    cfg_rescale: float = 0.0,
    grid: Grid | None = None,
    adam: AdamRule | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    background: Tensor | None = None,
    control: Tensor | None = None,
) -> Result2D:
    """Make one image for each seed (for a multi-view prior: ``prior.views`` images, 360° around at elevation 15°).

    A single-view prior gets the prompt as it is typed, without view words, and no cameras. With default arguments and the exact rule it
    ends on the latents of its folder's pipeline (with DDIM, whose timesteps the folder's scheduler config sets) for the same noise.

    noise: ε̃ [S, C, h, w]; None draws it from ``seed``, each seed from its own stream, so that a seed's image does not depend on its
    neighbours in the batch. steps: sampler steps ("exact") or Adam steps ("adam"). device, dtype: of the latents; the prior's own.
    background: colour [3] in [0, 1] behind the object, for priors that can be told; others draw what they like.
    None leaves it open. control: pictures [S, 3, H, W] in [0, 1] that the ControlNet of a prior is shown, one for each image.
    """
    seeds = [seed] if isinstance(seed, int) else list(seed)
    if steps < 1:
        raise ConfigError(f"steps: expected at least 1, got {steps}")
    if noise is None:
        noise = seed_noise(prior, seeds)
    check_shape("noise", noise, ("S", *prior.latent_shape))
    noise = noise.to(device, dtype)
    cameras = None if prior.views == 1 else front_cameras(prior, len(noise)).to(device)
    text = prior.encode_text(prompt, negative_prompt, cameras, background)
    if control is not None:
        if not isinstance(prior, ControlledPrior):
            raise InputError(f"control: {type(prior).__name__} takes no ControlNet; leave it None")
        text = prior.with_control(text, control.to(device))
    problem = _Problem(prior, noise, text, cameras, cfg_scale, cfg_rescale)
    if rule == "exact":
        exact = _exact_flow if isinstance(prior, FlowPrior) else _exact
        latents = exact(problem, steps, Grid.of(prior) if grid is None else grid)
    elif rule == "adam":
        latents = _adam(problem, steps, adam or AdamRule(), seeds)
    else:
        raise ConfigError(f"rule: expected 'exact' or 'adam', got '{rule}'")
    with torch.no_grad():
        return Result2D(latents, prior.decode(latents).clamp(0, 1))


def seed_noise(prior: Prior, seeds: Sequence[int], stream: str = "image2d") -> Tensor:
    """ε̃ [S · views, C, h, w]: independent N(0, 1), each seed from its own generator."""
    shape = (prior.views, *prior.latent_shape)
    return torch.cat([torch.randn(shape, generator=make_generator(s, stream)) for s in seeds])


def front_cameras(prior: Prior, images: int) -> Cameras:
    """Cameras to go with ``images`` latents: the front for a single view, evenly spaced azimuths in groups for a multi-view one."""
    if images % prior.views:
        raise InputError(f"noise: expected a multiple of the prior's {prior.views} views, got {images} images")
    azimuths = [360.0 * view / prior.views for view in range(prior.views)] * (images // prior.views)
    return orbit_cameras(azimuths, width=prior.image_size)


def timestep_grid(timesteps: int, steps: int, spacing: Spacing, steps_offset: int = 0) -> list[int]:
    """Trained timesteps n, falling: diffusers' grids. timesteps: T."""
    if not 1 <= steps <= timesteps:
        raise ConfigError(f"steps: expected 1 to {timesteps} (the prior's trained timesteps), got {steps}")
    if spacing == "leading":
        grid = [i * (timesteps // steps) + steps_offset for i in range(steps)][::-1]
    elif spacing == "trailing":
        grid = [round(timesteps - i * timesteps / steps) - 1 for i in range(steps)]
    elif spacing == "linspace":
        # numpy rounds halves to even, and so does Python.
        grid = [round(i * (timesteps - 1) / max(steps - 1, 1)) for i in range(steps)][::-1]
    else:
        raise ConfigError(f"spacing: expected 'leading', 'trailing' or 'linspace', got '{spacing}'")
    return [min(n, timesteps - 1) for n in grid]


def flow_grid(steps: int, shift: float = 1.0, timesteps: int = 1000, ends: Ends = "shifted") -> list[float]:
    """σ of a flow sampler, falling from 1 to 0, ``steps`` + 1 values: the grids of diffusers' flow-Euler scheduler.

    Args:
        steps: of the sampler.
        shift: s of σ ← s σ/(1 + (s − 1) σ).
        timesteps: T, trained ones.
        ends: the last σ before 0, ahead of the shift: of the trained grid, to which a fixed shift has been applied before ("shifted": SD3)
            or a dynamic one has not ("trained"), or 1/steps ("steps": FLUX).
    """

    def shifted(sigma: float) -> float:
        return shift * sigma / (1 + (shift - 1) * sigma)

    last = {"shifted": shifted(1.0 / timesteps), "trained": 1.0 / timesteps, "steps": 1.0 / steps}[ends]
    return [shifted(1.0 + (last - 1.0) * i / max(steps - 1, 1)) for i in range(steps)] + [0.0]


@torch.no_grad()
def _exact(problem: _Problem, steps: int, grid: Grid) -> Tensor:
    """x at the end of the DDIM path."""
    schedule, noise = problem.prior.schedule, problem.noise
    trained = schedule.base if isinstance(schedule, ShiftedSchedule) else schedule
    if not isinstance(trained, DiscreteSchedule):
        raise ConfigError(
            f"rule: 'exact' needs a prior with trained timesteps or a flow prior, got {type(schedule).__name__}; use rule='adam'"
        )
    indices = timestep_grid(trained.timesteps, steps, grid.spacing, grid.steps_offset)
    indices.append(-1 if grid.set_alpha_to_one else 0)
    times = [trained.time(n).to(noise) for n in indices]
    if schedule.alpha(times[0]) == 0 and not isinstance(problem.prior, CleanPrior):
        raise ConfigError(
            f"spacing: '{grid.spacing}' begins at the prior's last timestep, pure noise (zero terminal SNR), which needs "
            f"a prior that gives its clean estimate; use spacing 'leading', which leaves this timestep out"
        )
    epsilon, clean = noise_and_clean(problem.prior, noise, times[0], problem.text, problem.cameras, problem.cfg_scale, problem.cfg_rescale)
    score = ScoreGuidance(problem.cfg_scale, "one", problem.cfg_rescale)
    x = clean + schedule.lambda_(times[1]) * (epsilon - noise)
    for t, s in itertools.pairwise(times[1:]):
        rate = schedule.lambda_(t) - schedule.lambda_(s)
        x = x - rate * score(problem.prior, x, noise, t, problem.text, problem.cameras)
    return schedule.alpha(times[-1]) * x + schedule.sigma(times[-1]) * noise


@torch.no_grad()
def _exact_flow(problem: _Problem, steps: int, grid: Grid) -> Tensor:
    """x at the end of the Euler path of a flow model."""
    prior, noise = problem.prior, problem.noise
    assert isinstance(prior, FlowPrior)
    if problem.cfg_rescale > 0:
        raise ConfigError(f"cfg_rescale: flow priors take none with rule='exact', got {problem.cfg_rescale}; set 0")
    velocity = RectifiedFlowDistillation(problem.cfg_scale)
    x = torch.zeros_like(noise)
    for t, s in itertools.pairwise(torch.tensor(flow_grid(steps, grid.shift, ends=grid.ends), dtype=torch.float64).to(noise)):
        rate = (t - s) / (1 - s)
        x = x - rate * velocity(prior, x, noise, t, problem.text, problem.cameras)
    return x


def _adam(problem: _Problem, steps: int, rule: AdamRule, seeds: Sequence[int]) -> Tensor:
    """Latents after ``steps`` steps of Adam on the injected residual."""
    prior, noise = problem.prior, problem.noise
    schedule = rule.schedule or Linear(steps=steps)
    guidance = rule.guidance or ScoreGuidance(problem.cfg_scale, cfg_rescale=problem.cfg_rescale)
    generators = [make_generator(s, "image2d/fresh") for s in seeds] if rule.fresh_noise else []
    extra = make_generator(seeds[0], "image2d/guidance")
    if rule.space == "image":
        parameter = torch.full((len(noise), 3, prior.image_size, prior.image_size), 0.5).to(noise).requires_grad_()
    else:
        parameter = torch.zeros_like(noise).requires_grad_()
    optimizer = torch.optim.Adam([parameter], lr=rule.rate, betas=rule.betas)
    for step in range(steps):
        latents = prior.encode(parameter.clamp(0, 1)) if rule.space == "image" else parameter
        if rule.fresh_noise:
            shape = (len(noise) // len(seeds), *prior.latent_shape)
            noise = torch.cat([torch.randn(shape, generator=g) for g in generators]).to(noise)
        grad = guidance(prior, latents, noise, schedule(step), problem.text, problem.cameras, generator=extra)
        optimizer.zero_grad(set_to_none=True)
        inject(latents, grad).backward()
        optimizer.step()
    with torch.no_grad():
        return prior.encode(parameter.clamp(0, 1)) if rule.space == "image" else parameter.detach()


@dataclass(frozen=True)
class Method2D:
    """One row of :func:`grid`: arguments of :func:`generate` that differ between methods."""

    rule: Literal["exact", "adam"] = "adam"
    steps: int = 200
    cfg_scale: float = 7.5
    adam: AdamRule = field(default_factory=AdamRule)
    grid: Grid = field(default_factory=Grid)


def grid(
    prior: Prior, prompt: str, methods: Mapping[str, Method2D], seeds: Sequence[int], *, device: torch.device | str = "cpu"
) -> tuple[Tensor, dict[str, Result2D]]:
    """The same seeds under several methods, side by side: (picture [3, H, W] in [0, 1], results by method).

    One row a method, in the order of ``methods``, one column a seed (and view). A row's FSD and DDIM start from the same noise.
    """
    if not methods or not seeds:
        raise InputError("grid: expected at least one method and one seed")
    results = {
        name: generate(
            prior, prompt, steps=m.steps, rule=m.rule, cfg_scale=m.cfg_scale, seed=seeds, grid=m.grid, adam=m.adam, device=device
        )
        for name, m in methods.items()
    }
    return tile([result.images for result in results.values()]), results


def save_picture(picture: Tensor, path: str | Path) -> None:
    """picture [3, H, W] in [0, 1] as an image file of the type its name says."""
    from PIL import Image

    Image.fromarray((picture.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()).save(path)


def tile(rows: Sequence[Tensor], gap: int = 2) -> Tensor:
    """Rows of images [S, 3, H, W] → one picture [3, H', W'] on white with ``gap`` pixels between."""
    framed = [torch.cat(list(torch.nn.functional.pad(row.detach().cpu().float(), (gap,) * 4, value=1.0)), dim=2) for row in rows]
    return torch.cat(framed, dim=1).clamp(0, 1)
