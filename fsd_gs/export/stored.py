"""Between ``Gaussians`` (activated values) and what files store: log-scales, logits of the opacities, quaternions of any length."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fsd_gs.core.activations import to_log_scales, to_logits
from fsd_gs.core.types import Gaussians
from fsd_gs.errors import InputError

MAX_SH_DEGREE = 3


@dataclass(frozen=True)
class StoredSplats:
    """Splats as files store them, float32 numpy.

    Attributes:
        means: [N, 3].
        quats: [N, 4] wxyz.
        log_scales: [N, 3].
        logits: [N].
        f_dc: [N, 3], SH coefficients of degree 0.
        f_rest: [N, 3 (K − 1)], the higher ones, channel-major: all of red, then green, then blue.
    """

    means: NDArray[np.float32]
    quats: NDArray[np.float32]
    log_scales: NDArray[np.float32]
    logits: NDArray[np.float32]
    f_dc: NDArray[np.float32]
    f_rest: NDArray[np.float32]


def deactivate(gaussians: Gaussians) -> StoredSplats:
    """The stored form of activated splats; logits and log-scales are computed in float64 and kept finite."""
    sh = gaussians.sh.detach().cpu().float()
    return StoredSplats(
        means=gaussians.means.detach().cpu().float().numpy(),
        quats=unit_quats(gaussians.quats.detach().cpu().float()).numpy(),
        log_scales=to_log_scales(gaussians.scales.detach().cpu().double()).float().numpy(),
        logits=to_logits(gaussians.opacities.detach().cpu().double()).float().numpy(),
        f_dc=sh[:, 0].numpy(),
        f_rest=sh[:, 1:].transpose(1, 2).flatten(1).numpy(),
    )


def activate(means: Tensor, quats: Tensor, log_scales: Tensor, logits: Tensor, sh: Tensor, *, source: str) -> Gaussians:
    """Gaussians from stored values; see :func:`assemble`.

    An infinite logit is legitimate: a fully opaque or empty splat. In float64 until the end: exp and sigmoid then round once, so that
    reading what was written gives back the same float32.
    """
    return assemble(means, quats, log_scales.double().exp().float(), torch.sigmoid(logits.double()).float(), sh, source=source)


def assemble(means: Any, quats: Any, scales: Any, opacities: Any, sh: Any, *, source: str) -> Gaussians:
    """Gaussians from activated values (arrays or tensors); quaternions are normalised, zero ones become the identity.

    Args:
        means: [N, 3].
        quats: [N, 4] wxyz of any length.
        scales: [N, 3].
        opacities: [N] in [0, 1].
        sh: [N, K, 3].
        source: the file, for the warning that counts the rows dropped because a value is not finite, or a scale negative.
    """
    means, quats, scales, opacities, sh = (torch.as_tensor(values) for values in (means, quats, scales, opacities, sh))
    finite = torch.cat([means, quats, scales, sh.flatten(1), opacities[:, None]], dim=1).isfinite().all(dim=1) & (scales >= 0).all(dim=1)
    gaussians = Gaussians(means.contiguous(), unit_quats(quats), scales.contiguous(), opacities.contiguous(), sh.contiguous())
    dropped = int((~finite).sum())
    if not dropped:
        return gaussians
    warnings.warn(f"{source}: dropped {dropped} of {len(finite)} splats with values that are not finite", stacklevel=3)
    return gaussians.select(finite)


def unit_quats(quats: Tensor) -> Tensor:
    """[N, 4] normalised; zero becomes identity, and what is already unit length to float32 stays as it is, bit for bit."""
    norms = quats.double().norm(dim=1, keepdim=True)
    normalised = torch.where(norms > 1e-12, quats.double() / norms.clamp_min(1e-12), quats.new_tensor([1.0, 0, 0, 0]).double())
    return torch.where((norms - 1).abs() < 1e-6, quats, normalised.to(quats.dtype))


def pad_sh(gaussians: Gaussians, degree: int | None) -> Gaussians:
    """``gaussians`` with zero SH coefficients appended up to ``degree``; unchanged if None or already of that degree."""
    if degree is None or degree == gaussians.sh_degree:
        return gaussians
    if not 0 <= degree <= MAX_SH_DEGREE:
        raise InputError(f"sh_pad: expected an SH degree of 0 to {MAX_SH_DEGREE}, got {degree}")
    if degree < gaussians.sh_degree:
        raise InputError(f"sh_pad: expected at least the splats' own SH degree {gaussians.sh_degree}, got {degree}; give 3 or leave it out")
    missing = (degree + 1) ** 2 - gaussians.sh.shape[1]
    zeros = gaussians.sh.new_zeros(len(gaussians), missing, 3)
    return Gaussians(gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, torch.cat([gaussians.sh, zeros], dim=1))
