"""Public name of :mod:`fsd_gs.core.cameras`."""

from fsd_gs.core.cameras import *  # noqa: F403
