"""What a page shows: the splats, how they are drawn, and what is behind them. Panels turn one scene into the next."""

from __future__ import annotations

from dataclasses import dataclass

from fsd_gs.core.types import Gaussians


@dataclass(frozen=True, eq=False)  # compared by identity: a new scene is painted, whatever is in it
class Scene:
    """What a page shows.

    Attributes:
        mode: one of ``export.pictures.MODES``, or None where the browser draws the splats.
        background: sRGB in [0, 1].
    """

    splats: Gaussians
    mode: str | None
    background: tuple[float, float, float] = (1.0, 1.0, 1.0)
