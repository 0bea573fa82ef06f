"""The prior that a worker holds."""

from __future__ import annotations

from fsd_gs.train.backbones import PriorCache

__all__ = ["PriorCache"]
