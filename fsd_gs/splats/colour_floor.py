"""Base colours that can always be coloured again.

    sh0 ← max( sh0, (floor − ½)/C₀ )     after each step of the optimiser

The rasterizer shows max(0, ½ + Σ SH), as every 3DGS viewer does, and a channel below 0 has no gradient: it stays dark whatever the prior
says. The first, coarse steps drive most splats there in one channel or two, so after each step of every run base colours are lifted to
``floor``, just above 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fsd_gs.core.sh import sh0_from_rgb
from fsd_gs.splats.parameters import SplatParameters


@dataclass(frozen=True)
class ColourFloor:
    """Lifts the stored colours of splats.

    Attributes:
        floor: in sRGB, [0, 1); 0 lifts none.
        kept: [N] splats that stay as they are; None for none.
    """

    floor: float = 0.0
    kept: Tensor | None = None

    @torch.no_grad()
    def __call__(self, params: SplatParameters) -> None:
        """Call after each step of the optimiser; changes ``params`` in place."""
        if self.floor:
            low = sh0_from_rgb(torch.tensor(self.floor, dtype=torch.float64)).to(params["sh0"])
            params["sh0"].clamp_(min=low if self.kept is None else torch.where(self.kept, -torch.inf, low)[:, None, None])
