"""Figures of images and splats; :func:`evaluate` gives all of one prompt's at once."""

from fsd_gs.metrics.summary import Summary, evaluate

__all__ = ["Summary", "evaluate"]
