"""What a ControlNet is shown during a run: the splats' own depth, or that of a mesh that stands where ``splats.init`` would put it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from fsd_gs.catalogue.mesh import Mesh
from fsd_gs.catalogue.render import render_mesh_and_depth
from fsd_gs.core.types import Cameras, Geometry, Render, TextCondition
from fsd_gs.errors import FileFormatError
from fsd_gs.meshes.read import SUFFIXES, read_surfaces, to_world, up_of
from fsd_gs.priors.base import ControlledPrior, Prior
from fsd_gs.splats.initialize import fit_to_ball

SAMPLES = 2  # a pixel side, of a mesh


@dataclass(frozen=True)
class GeometryControl:
    """(text, cameras, render) → the text for a prior that was shown the geometry; the text itself where nobody wants to see it.

    Attributes:
        prior: With a ControlNet; None for any other.
        mesh: What it is shown instead of the splats.
    """

    prior: ControlledPrior | None = None
    mesh: Mesh | None = None

    @property
    def needs_depth(self) -> bool:
        """Of the splats' render."""
        return self.prior is not None and self.mesh is None

    def __call__(self, text: TextCondition, cameras: Cameras, view: Render) -> TextCondition:
        if self.prior is None:
            return text
        if self.mesh is not None:
            geometry = mesh_geometry(self.mesh, cameras)
        else:
            assert view.depth is not None
            geometry = Geometry(cameras, view.depth.detach(), view.alpha.detach())
        return self.prior.with_control(text, self.prior.control_picture(geometry))


def build_control(prior: Prior, mesh_file: str | None, radius: float) -> GeometryControl:
    """What ``prior`` is shown. mesh_file: ``prior.control_mesh``. radius: of the ball that a mesh is fitted to, as ``splats.radius``."""
    if not isinstance(prior, ControlledPrior) or not prior.wants_geometry:
        return GeometryControl()
    return GeometryControl(prior, None if mesh_file is None else read_mesh(Path(mesh_file).expanduser(), radius))


def read_mesh(path: Path, radius: float) -> Mesh:
    """A mesh file, z up, centred on its bounding box, in the ball of ``radius``. FileFormatError if it is none."""
    if not path.is_file() or path.suffix.lower() not in SUFFIXES:
        what = "no file" if not path.is_file() else f"a '{path.suffix}' file"
        raise FileFormatError(f"prior.control_mesh: {path} is {what}; expected a mesh ({', '.join(SUFFIXES)})")
    corners = to_world(np.concatenate([surface.corners.reshape(-1, 3) for surface in read_surfaces(path)]), up_of(path))
    if not np.isfinite(corners).all() or not np.ptp(corners, axis=0).max() > 0:
        raise FileFormatError(f"prior.control_mesh: {path}: its faces lie in one point, or some are not finite")
    vertices = fit_to_ball(torch.from_numpy(corners), radius).float().numpy()
    faces = np.arange(len(vertices), dtype=np.int32).reshape(-1, 3)
    return Mesh(vertices, faces, np.full((len(vertices), 3), 0.5, np.float32))


def mesh_geometry(mesh: Mesh, cameras: Cameras) -> Geometry:
    """What the cameras see of a mesh, on their device; drawn on the CPU."""
    views, depth = render_mesh_and_depth(mesh, cameras, supersample=SAMPLES)
    return Geometry(cameras, depth[..., None].to(cameras.viewmats), views[..., 3:4].to(cameras.viewmats))
