"""Diffusion priors: the protocol, and ``load`` for every backbone by name, path or hub id."""

from typing import TYPE_CHECKING

from fsd_gs.core.lazy import exports

if TYPE_CHECKING:
    from fsd_gs.priors.base import CleanPrior, FlowPrior, Prior
    from fsd_gs.priors.loading import load
    from fsd_gs.priors.options import LoadOptions, RunShape

__all__ = ["CleanPrior", "FlowPrior", "LoadOptions", "Prior", "RunShape", "load"]

# At first use: the settings of a prior are read without torch.
__getattr__ = exports(
    __name__,
    {"CleanPrior": "base", "FlowPrior": "base", "Prior": "base", "load": "loading", "LoadOptions": "options", "RunShape": "options"},
)
