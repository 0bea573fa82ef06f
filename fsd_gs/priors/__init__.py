"""Diffusion priors: the protocol, and ``load`` for every backbone by name, path or hub id."""

from fsd_gs.priors.base import CleanPrior, FlowPrior, Prior
from fsd_gs.priors.loading import load
from fsd_gs.priors.options import LoadOptions, RunShape

__all__ = ["CleanPrior", "FlowPrior", "LoadOptions", "Prior", "RunShape", "load"]
