"""Public name of :mod:`fsd_gs.catalogue.vocabulary`."""

from fsd_gs.catalogue.vocabulary import *  # noqa: F403
