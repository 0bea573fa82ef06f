"""How sound the geometry of an asset is, from its splats and rendered views of it; no network, no ground truth.

    report = geometry_report(splats, rasterizer)          # renders an orbit of 24 views itself
    report.failures, report.as_dict()

One idea a file: ``report`` puts together what ``holes`` (one sees the background through the object), ``tears`` (one sees its inside),
``haze``, ``silhouettes``, ``floaters`` and ``splats`` measure. Definitions, validation and limits: docs/geometry.md.
"""

from fsd_gs.core.points import splat_components
from fsd_gs.metrics.geometry.haze import HazeReport, haze_report, haze_share
from fsd_gs.metrics.geometry.holes import GapReport, gap_report, share_of_rays_that_miss
from fsd_gs.metrics.geometry.report import GeometryReport, geometry_report
from fsd_gs.metrics.geometry.settings import GeometrySettings
from fsd_gs.metrics.geometry.silhouettes import border_share, image_floaters, outline, regions
from fsd_gs.metrics.geometry.splats import SplatStatistics, splat_statistics
from fsd_gs.metrics.geometry.tears import TearReport, tear_report

__all__ = [
    "GapReport",
    "GeometryReport",
    "GeometrySettings",
    "HazeReport",
    "SplatStatistics",
    "TearReport",
    "border_share",
    "gap_report",
    "geometry_report",
    "haze_report",
    "haze_share",
    "image_floaters",
    "outline",
    "regions",
    "share_of_rays_that_miss",
    "splat_components",
    "splat_statistics",
    "tear_report",
]
