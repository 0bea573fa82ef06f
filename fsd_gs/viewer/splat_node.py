"""Splats as viser draws them: Σ = R diag(s²) Rᵀ, base colour 0.5 + C₀ sh₀, opacity; no view-dependent colour.

viser sends 32 bytes a splat and keeps Σ in half precision, whose smallest step is 6·10⁻⁸: fine for standard deviations above 10⁻³, which
is why the display is framed into the unit ball first.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from fsd_gs.core.quaternions import matrix_from_quat
from fsd_gs.core.sh import rgb_from_sh0
from fsd_gs.core.types import Gaussians
from fsd_gs.export.filters import keep_most_important

if TYPE_CHECKING:
    import viser

PREVIEW_CAP = 50_000
SplatArrays = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]


@torch.no_grad()
def splat_arrays(gaussians: Gaussians, cap: int = PREVIEW_CAP) -> SplatArrays:
    """(centers [N, 3], covariances [N, 3, 3], rgbs [N, 3], opacities [N, 1]) of the ``cap`` most important finite splats."""
    finite = torch.isfinite(torch.cat([gaussians.means, gaussians.scales, gaussians.quats, gaussians.sh[:, 0]], dim=1)).all(dim=1)
    g = gaussians if bool(finite.all()) else gaussians.select(finite)
    g = keep_most_important(g, cap).to("cpu", torch.float32)
    factors = matrix_from_quat(g.quats) * g.scales[:, None, :]  # R diag(s)
    covariances = factors @ factors.transpose(1, 2)
    colours = rgb_from_sh0(g.sh[:, 0]).clamp(0, 1)
    return g.means.numpy(), covariances.numpy(), colours.numpy(), g.opacities[:, None].clamp(0, 1).numpy()


class SplatNode:
    """The splats of a scene; ``show`` replaces them in one message, whatever their number. Threads may share it."""

    def __init__(self, server: viser.ViserServer, name: str = "/splats") -> None:
        self._server, self._name = server, name
        self._handle: viser.GaussianSplatHandle | None = None
        self._visible = True
        self._changing = threading.RLock()  # a second node of the same name would take the first one's handle away

    def show(self, gaussians: Gaussians, cap: int = PREVIEW_CAP) -> int:
        """Draw up to ``cap`` of ``gaussians``; how many were drawn. None at all hides the node: viser cannot draw zero splats."""
        arrays = splat_arrays(gaussians, cap)
        with self._changing:
            if not len(arrays[0]):
                self.remove()
            elif self._handle is None:
                self._handle = self._server.scene.add_gaussian_splats(self._name, *arrays, visible=self._visible)
            else:
                self._handle.set_gaussians(*arrays)
        return len(arrays[0])

    def set_visible(self, visible: bool) -> None:
        with self._changing:
            self._visible = visible
            if self._handle is not None:
                self._handle.visible = visible

    def remove(self) -> None:
        with self._changing:
            if self._handle is not None:
                self._handle.remove()
                self._handle = None
