"""gsplat's ``DefaultStrategy`` (3DGS, Kerbl et al. 2023, §5.2) with a hard cap and a bounded prune. Imported only when it is used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from gsplat.strategy import DefaultStrategy

from fsd_gs.splats.optimizers import Optimizers
from fsd_gs.splats.parameters import SplatParameters
from fsd_gs.splats.prune import prune, removal_mask, top_scored


@dataclass
class CappedDefaultStrategy(DefaultStrategy):
    """gsplat's DefaultStrategy with a limit both ways.

    Attributes:
        cap_max: never more splats.
        max_prune_fraction: never fewer than 1 minus this share of them after one round.
    """

    cap_max: int = 1_000_000
    max_prune_fraction: float = 0.5
    pruned: int = 0  # by the last round

    @torch.no_grad()
    def _grow_gs(  # type: ignore[override]
        self, params: SplatParameters, optimizers: Optimizers, state: dict[str, Any], step: int
    ) -> tuple[int, int]:
        score = state["grad2d"] / state["count"].clamp_min(1)
        above = score > self.grow_grad2d
        chosen = top_scored(score, above, budget=self.cap_max - len(score))
        state["grad2d"][above & ~chosen] = 0  # every growing splat adds exactly one: only the highest scores still fit under the cap
        return super()._grow_gs(params, optimizers, state, step)  # type: ignore[arg-type]

    @torch.no_grad()
    def _prune_gs(  # type: ignore[override]
        self, params: SplatParameters, optimizers: Optimizers, state: dict[str, Any], step: int
    ) -> int:
        removed = removal_mask(params, self.prune_opa, self.prune_scale3d * state["scene_scale"], self.max_prune_fraction)
        self.pruned = prune(params, optimizers, state, removed)
        return self.pruned
