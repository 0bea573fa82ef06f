"""Text to many different 3D assets: Flow Score Distillation on Gaussian splats."""

from fsd_gs.cameras import evaluation_orbit, orbit_cameras
from fsd_gs.errors import FsdGsError
from fsd_gs.types import Cameras, Gaussians, Render

__version__ = "0.1.0"

__all__ = ["Cameras", "FsdGsError", "Gaussians", "Render", "__version__", "evaluation_orbit", "orbit_cameras"]
