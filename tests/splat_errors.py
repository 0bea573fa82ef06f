"""How far splats move on their way through a file, and PlayCanvas' splat-transform as the other end of the way."""

import math
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from export_scenes import random_gaussians
from scipy.spatial import KDTree

from fsd_gs.core.cameras import orbit_cameras
from fsd_gs.core.types import Gaussians
from fsd_gs.export.axes import quat_multiply
from fsd_gs.render import make_rasterizer

RASTERIZER = make_rasterizer("cpu")
C0 = 0.28209479177387814


def scene(sh_degree: int, count: int = 500) -> Gaussians:
    """Splats of arbitrary orientation, far enough apart to be told apart, whose values every format can hold."""
    g = random_gaussians(count, sh_degree)
    return Gaussians(g.means, g.quats, g.scales, g.opacities, g.sh.clamp(-0.8, 0.8))


@dataclass
class Errors:
    """Largest error of each field, over all splats.

    position: over the object's radius. angle: degrees, up to half turns about an ellipsoid's own axes, which leave it as it is. scale:
    relative. opacity, colour: of [0, 1]. sh: of a coefficient.
    """

    position: float
    angle: float
    scale: float
    opacity: float
    colour: float
    sh: float


def errors(got: Gaussians, want: Gaussians) -> Errors:
    """Splats are matched by position, for most formats sort them; each must be there once, with no more SH than it had."""
    assert len(got) == len(want)
    assert got.sh.shape[1] in (1, want.sh.shape[1])
    match = torch.from_numpy(KDTree(got.means.numpy()).query(want.means.numpy())[1])
    assert len(match.unique()) == len(want)
    got = got.select(match)
    radius = float((want.means.amax(dim=0) - want.means.amin(dim=0)).max()) / 2
    inverse = torch.nn.functional.normalize(want.quats.double(), dim=1) * torch.tensor([1.0, -1, -1, -1])
    turn = quat_multiply(inverse, torch.nn.functional.normalize(got.quats.double(), dim=1))
    cosine = turn.abs().amax(dim=1).clamp(max=1)
    return Errors(
        position=float((got.means - want.means).abs().max()) / radius,
        angle=float(np.degrees(2 * torch.arccos(cosine)).max()),
        scale=float((got.scales / want.scales - 1).abs().max()),
        opacity=float((got.opacities - want.opacities).abs().max()),
        colour=float((got.sh[:, 0] - want.sh[:, 0]).abs().max()) * C0,
        sh=float((got.sh[:, 1:] - want.sh[:, 1 : got.sh.shape[1]]).abs().amax()) if got.sh.shape[1] > 1 else 0.0,
    )


def psnr(first: Gaussians, second: Gaussians) -> float:
    """dB between two views of 96 px of each, at most 120."""
    background = torch.tensor([0.2, 0.5, 0.8])
    cameras = orbit_cameras([30.0, 200.0], [15.0, -40.0], width=96)
    a, b = (RASTERIZER(g, cameras, background=background).rgb.clamp(0, 1) for g in (first, second))
    assert a.std() > 0.05  # an empty picture would agree with anything
    return -10 * math.log10(float((a - b).square().mean()) + 1e-12)


SPLAT_TRANSFORM = os.environ.get("SPLAT_TRANSFORM") or shutil.which("splat-transform")
needs_splat_transform = pytest.mark.skipif(
    not SPLAT_TRANSFORM, reason="splat-transform is not installed (npm install @playcanvas/splat-transform@2.7.1; SPLAT_TRANSFORM=its path)"
)


def splat_transform(source: Path, target: Path) -> Path:
    """``source`` read and written as ``target`` by splat-transform."""
    assert SPLAT_TRANSFORM
    command = [SPLAT_TRANSFORM, "--quiet", "--overwrite", "-g", "cpu", str(source), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-500:]
    return target
