"""Densification: more splats where the image asks for them, fewer where they show nothing, never more than a cap.

Every kind edits parameters and Adam state through gsplat's own operations (duplicate, split, remove) and has the same calls:

    densifier = Densifier(settings, total_steps, seed)
    densifier.step_pre_backward(params, optimizers, step, info)      # info: the rasterizer's dictionary, gsplat's keys
    loss.backward(), step the optimizers
    densifier.step_post_backward(params, optimizers, step, info)

percentile (default)   With g_i^v = |∂L/∂(screen position of i)| in view v, in half images, the score of splat i is

        S_i = mean over steps and views that see i of   g_i^v / ⟨g⟩,      ⟨g⟩ the step's own mean over all visible (i, v),

    and every ``every`` steps the splats above the q-th quantile of S grow. Dividing by ⟨g⟩ frees the rule of the scale of the loss,
    which w(t) changes by orders of magnitude over a run: published absolute thresholds span 2e-4 … 2e-2. What some views draw and others
    do not (arms of a chair, say) settles at an opacity in between and would stay as a ghost: splats below ``ghost_opacity`` are pruned in
    every round, so that it either grows solid or goes. Not in the first steps, in which everything is still fog.
default                3DGS' rule through ``gsplat.DefaultStrategy`` with an absolute threshold, capped. gsplat multiplies gradients by the
    number of cameras, which is right for a loss averaged over views; a distillation loss is a sum over views, so it is undone here.
mcmc                   ``gsplat.MCMCStrategy`` (Kheradmand et al. 2024); its relocation kernel exists for CUDA only.

Growing keeps what is seen: two coincident splats of opacity o' cover as one of opacity o when 1 − o = (1 − o')², so both get
o' = 1 − √(1 − o) (Rota Bulò et al. 2024, arXiv:2404.06109).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fsd_gs.errors import BackendError, InputError
from fsd_gs.splats.optimizers import Optimizers
from fsd_gs.splats.parameters import SplatParameters
from fsd_gs.splats.prune import prune, removal_mask, top_scored
from fsd_gs.splats.scores import Info, accumulate_scores
from fsd_gs.splats.settings import DensifySettings

MIN_OPACITY = 1e-6  # of a splat that grows, and 1 − MIN_OPACITY above: a logit of ±13.8 can be optimised back
SOLID_AFTER = 50  # steps: from an opacity of 0.1 to 0.3 Adam takes (logit 0.3 − logit 0.1) / 0.05 = 27 of them at the default rate


@dataclass(frozen=True)
class DensifyReport:
    """How one call changed the set of splats."""

    grown: int
    pruned: int
    count: int


class Densifier:
    """Adds and removes splats during one run.

    Args:
        total_steps: length of the run.
        seed: decides every random draw, together with the step, so that there is no generator to save.
        extent: radius of the scene in world units.
    """

    def __init__(self, settings: DensifySettings, total_steps: int, seed: int, *, extent: float = 1.0) -> None:
        if total_steps < 1:
            raise InputError(f"total_steps: expected at least 1, got {total_steps}")
        if not extent > 0:
            raise InputError(f"extent: expected a length above 0, got {extent:g}")
        self.settings, self.seed, self.extent = settings, seed, extent
        # a round may follow the steps first_step … stop_step − 1; never step 0, when nothing is known yet
        self.first_step = max(1, math.ceil(settings.start * total_steps))
        self.stop_step = math.ceil(settings.stop * total_steps)
        self._running: dict[str, Tensor] = {}  # "grad2d" [N] summed scores, "count" [N] views that saw the splat; "binoms" with mcmc

    def check(self, params: SplatParameters, optimizers: Optimizers) -> None:
        """Raises before the run what would fail in the middle of it: InputError, or BackendError for a kind that cannot run here."""
        required = {"means", "scales", "quats", "opacities"}
        if not required <= set(params.keys()):
            raise InputError(f"params: expected the keys {', '.join(sorted(required))}, got {', '.join(params.keys())}")
        trainable = {name for name, param in params.items() if param.requires_grad}
        if trainable != set(optimizers):
            raise InputError(f"optimizers: expected one for each of {sorted(trainable)}, got {sorted(optimizers)}")
        if any(len(optimizer.param_groups) != 1 for optimizer in optimizers.values()):
            raise InputError("optimizers: expected exactly one parameter group in each")
        if self.settings.kind == "mcmc":
            _check_mcmc_backend(params["means"].device)

    def state_dict(self) -> dict[str, Tensor]:
        """The running statistics as plain tensors (copies); with the same arguments to ``__init__`` they make a bit-exact resume."""
        return {name: value.detach().clone() for name, value in self._running.items()}

    def load_state_dict(self, saved: Mapping[str, Tensor]) -> None:
        self._running = {name: value.detach().clone() for name, value in saved.items()}

    def is_round(self, step: int) -> bool:
        """Whether splats are added and removed after ``step`` (counted from 0)."""
        return self.settings.kind != "none" and self.first_step <= step < self.stop_step and step % self.settings.every == 0

    def step_pre_backward(self, params: SplatParameters, optimizers: Optimizers, step: int, info: Info) -> None:
        """Asks autograd to keep the gradient of the screen positions, info["means2d"] [C, N, 2]."""
        if self._watches_gradients(step):
            info["means2d"].retain_grad()

    def step_post_backward(self, params: SplatParameters, optimizers: Optimizers, step: int, info: Info) -> DensifyReport:
        """Collects statistics and, in a round, grows and prunes ``params`` and the optimizers' state in place.

        Parameters are replaced by new tensors then: fetch them from ``params`` again. The global random state is left untouched.
        """
        before, pruned = len(params["means"]), 0
        if self.settings.kind == "mcmc":
            with self._own_rng(params, step):
                self._mcmc_step(params, optimizers, step)
        elif self._watches_gradients(step):
            rule = self._percentile_step if self.settings.kind == "percentile" else self._default_step
            pruned = rule(params, optimizers, step, info)
        count = len(params["means"])
        return DensifyReport(grown=count - before + pruned, pruned=pruned, count=count)

    def _own_rng(self, params: SplatParameters, step: int) -> AbstractContextManager[None]:
        return seeded_global_rng(self.seed, step, params["means"].device)

    def _watches_gradients(self, step: int) -> bool:
        return self.settings.kind in ("percentile", "default") and step < self.stop_step

    def _percentile_step(self, params: SplatParameters, optimizers: Optimizers, step: int, info: Info) -> int:
        """The scale-free rule; returns the number of splats pruned."""
        s = self.settings
        accumulate_scores(self._running, info)
        if not self.is_round(step):
            return 0
        score = self._running["grad2d"] / self._running["count"].clamp_min(1)
        seen = score > 0
        share = max(1, round((1 - s.grow_percentile / 100) * int(seen.sum())))
        chosen = top_scored(score, seen, budget=min(share, s.cap - len(score)))
        with self._own_rng(params, step):
            grow(params, optimizers, self._running, chosen, split_sigma=s.split_scale * self.extent, keep_opacity=s.keep_opacity)
        removed = removal_mask(params, self._faintest(step), s.prune_scale * self.extent, s.max_prune_fraction)
        pruned = prune(params, optimizers, self._running, removed)
        self._running = {}  # a round judges only what happened since the last one
        return pruned

    def _faintest(self, step: int) -> float:
        """The opacity below which splats go after ``step``."""
        s = self.settings
        return max(s.prune_opacity, s.ghost_opacity) if step >= SOLID_AFTER else s.prune_opacity

    def _default_step(self, params: SplatParameters, optimizers: Optimizers, step: int, info: Info) -> int:
        """gsplat's DefaultStrategy; returns the number of splats pruned."""
        from fsd_gs.splats.capped_default import CappedDefaultStrategy

        s = self.settings
        strategy = CappedDefaultStrategy(
            prune_opa=s.prune_opacity,
            grow_grad2d=s.grow_grad2d,
            grow_scale3d=s.split_scale,
            prune_scale3d=s.prune_scale,
            refine_start_iter=self.first_step - 1,  # gsplat's test is step > start
            refine_stop_iter=self.stop_step,
            refine_every=s.every,
            reset_every=2**62,  # never: while reset opacities recover nothing is seen, and the prior would paint the void
            revised_opacity=s.keep_opacity,
            cap_max=s.cap,
            max_prune_fraction=s.max_prune_fraction,
        )
        running: dict[str, Any] = strategy.initialize_state(scene_scale=self.extent) | self._running
        with self._own_rng(params, step):
            strategy.step_post_backward(params, optimizers, running, step, {**info, "n_cameras": 1})  # type: ignore[arg-type]
        self._running = {name: value for name, value in running.items() if isinstance(value, Tensor)}
        return strategy.pruned

    def _mcmc_step(self, params: SplatParameters, optimizers: Optimizers, step: int) -> None:
        from gsplat.strategy import MCMCStrategy

        s = self.settings
        _check_mcmc_backend(params["means"].device)
        strategy = MCMCStrategy(
            cap_max=s.cap,  # gsplat adds up to it and never removes
            noise_lr=s.mcmc_noise,
            refine_start_iter=self.first_step - 1,
            refine_stop_iter=self.stop_step,
            refine_every=s.every,
            min_opacity=max(s.prune_opacity, MIN_OPACITY),
        )
        if not self._running:
            self._running = strategy.initialize_state()
        lr = optimizers["means"].param_groups[0]["lr"]
        strategy.step_post_backward(params, optimizers, self._running, step, {}, lr=lr)  # type: ignore[arg-type]


@torch.no_grad()
def grow(
    params: SplatParameters, optimizers: Optimizers, running: dict[str, Tensor], mask: Tensor, *, split_sigma: float, keep_opacity: bool
) -> None:
    """One more splat for each in ``mask`` [N]: split along its own covariance if its largest σ > ``split_sigma``, else duplicated.

    Draws from the global generator (gsplat's split does): call it inside :func:`seeded_global_rng`.
    """
    from gsplat.strategy.ops import duplicate, split

    if not bool(mask.any()):
        return
    if keep_opacity:
        params["opacities"][mask] = halved_opacity_logit(params["opacities"][mask])
    large = params["scales"].exp().amax(dim=1) > split_sigma
    copies, splits = mask & ~large, mask & large
    if bool(copies.any()):
        duplicate(params, optimizers, running, copies)  # type: ignore[arg-type]
    if bool(splits.any()):  # duplicates were appended: they are not split in the same round
        split(params, optimizers, running, torch.cat([splits, splits.new_zeros(int(copies.sum()))]))  # type: ignore[arg-type]


def halved_opacity_logit(logit: Tensor) -> Tensor:
    """logit(1 − √(1 − o)) with o = sigmoid(logit), clamped to the stored range."""
    through = torch.sigmoid(-logit).sqrt()  # √(1 − o), exact where o is near 1
    return torch.logit((1 - through).clamp(MIN_OPACITY, 1 - MIN_OPACITY))


@contextmanager
def seeded_global_rng(seed: int, step: int, device: torch.device) -> Iterator[None]:
    """gsplat's operations draw from the global generators: seed those from (seed, step) inside, and restore them after."""
    mixed = (seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9) % 2**63
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.default_generator.manual_seed(mixed)
        if cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(mixed)
        yield


def _check_mcmc_backend(device: torch.device) -> None:
    if device.type != "cuda":
        raise BackendError(f"densify.kind=mcmc: gsplat's relocation runs on CUDA only, got splats on {device}; use kind=percentile")
    try:
        from gsplat.cuda import _backend
    except Exception as error:  # a failed build raises whatever the compiler wrapper raises
        raise BackendError(f"densify.kind=mcmc: gsplat's CUDA kernels do not build here ({error}); use kind=percentile") from error
    if getattr(_backend, "_C", None) is None:
        raise BackendError("densify.kind=mcmc: gsplat's CUDA kernels need the CUDA toolkit (nvcc); install it or use kind=percentile")
