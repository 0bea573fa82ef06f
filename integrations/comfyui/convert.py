"""Splats between our world and ComfyUI's ``SPLAT``.

SPLAT: positions, linear scales [B, N, 3], unit quaternions wxyz [B, N, 4], opacities [B, N, 1] in [0, 1], SH coefficients [B, N, K, 3],
zero-padded to the longest of the batch with the real lengths in ``counts`` [B], or None. It stands as 3DGS files do, y down and z away from
the viewer (``comfy_extras/nodes_gaussian_splat.py`` maps its y-up camera by (x, −y, −z)); our world has z up.
"""

from __future__ import annotations

from typing import Any

from fsd_gs.core.types import Gaussians
from fsd_gs.export.axes import from_target, to_target

COMFY_AXES = "supersplat"  # y down, front along −z: the frame of .ply files


def to_splat(splat_type: type, gaussians: Gaussians) -> Any:
    """A batch of one. splat_type: ``comfy_api.latest.Types.SPLAT``."""
    turned = to_target(gaussians.to("cpu"), COMFY_AXES)
    return splat_type(turned.means[None], turned.scales[None], turned.quats[None], turned.opacities[None, :, None], turned.sh[None])


def from_splat(splat: Any) -> list[Gaussians]:
    """The splats of a batch, in our world."""
    lengths = [splat.positions.shape[1]] * splat.positions.shape[0] if splat.counts is None else splat.counts.tolist()
    batch = []
    for i, n in enumerate(lengths):
        parts = (splat.positions[i, :n], splat.rotations[i, :n], splat.scales[i, :n], splat.opacities[i, :n, 0], splat.sh[i, :n])
        batch.append(from_target(Gaussians(*(part.detach().float().cpu() for part in parts)), COMFY_AXES))
    return batch
