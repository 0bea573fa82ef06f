"""Public name of :mod:`fsd_gs.core.types`."""

from fsd_gs.core.types import *  # noqa: F403
