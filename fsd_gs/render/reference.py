"""The definition of truth: splatting in plain torch, differentiable by autograd, in any floating dtype, on any device.

EWA splatting (Zwicker et al. 2001) as 3D Gaussian splatting has it (Kerbl et al. 2023, arXiv 2308.04079), letters as in gsplat:

    Σ = R S Sᵀ Rᵀ,   Σ' = J W Σ Wᵀ Jᵀ + ε I,   J = ∂(projection)/∂(camera point), evaluated inside the image plus a margin
    q(p) = ½ dᵀ Σ'⁻¹ d,   d = p − μ',   α = min(0.999, o e^{−q}),   skipped if α < 1/255
    C = Σ_i c_i α_i T_i + T_end c_bg,   T_i = Π_{j<i} (1 − α_j),   nearest splat first, until T_{i+1} ≤ 1e-4 (that splat excluded)

Every threshold is gsplat 1.5.3's. There are no tiles: memory is splats × pixels of one view, so this is for tests and small scenes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fsd_gs.core.quaternions import matrix_from_quat
from fsd_gs.core.sh import sh_basis
from fsd_gs.errors import InputError
from fsd_gs.render.contract import (
    ALPHA_MAX,
    ALPHA_MIN,
    EXTENT_MAX,
    JACOBIAN_MARGIN,
    TRANSMITTANCE_MIN,
    RasterizeMode,
    RenderMode,
    check_inputs,
)


def rasterization(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colors: Tensor,
    viewmats: Tensor,
    Ks: Tensor,
    width: int,
    height: int,
    *,
    near_plane: float = 0.01,
    far_plane: float = 1e10,
    radius_clip: float = 0.0,
    eps2d: float = 0.3,
    sh_degree: int | None = None,
    packed: bool = False,
    backgrounds: Tensor | None = None,
    render_mode: RenderMode = "RGB",
    absgrad: bool = False,
    rasterize_mode: RasterizeMode = "classic",
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """``gsplat.rasterization`` for pinhole cameras, dense layout; see :func:`fsd_gs.render.cpu.rasterization` for the arguments.

    Returns colors [C, H, W, X], alphas [C, H, W, 1] and info (means2d, radii, depths, conics, opacities, width, height, n_cameras).
    """
    check_inputs(means, quats, scales, opacities, colors, viewmats, Ks, width, height, sh_degree, backgrounds, render_mode, rasterize_mode)
    if packed or absgrad:
        raise InputError("packed, absgrad: expected False with the reference backend; use render.backend=cpu")
    finite = _finite_rows(means, quats, scales, opacities)
    means, quats, scales, opacities = _harmless(finite, means, quats, scales, opacities)
    view = project(means, quats, scales, viewmats, Ks, width, height, eps2d)
    visible_opacities = opacities * view["compensations"] if rasterize_mode == "antialiased" else opacities.expand(len(viewmats), -1)
    radii = screen_radii(view, visible_opacities, finite, width, height, near_plane, far_plane, radius_clip)
    visible = (radii > 0).all(-1)
    if sh_degree is not None:
        centres = torch.linalg.inv(viewmats)[:, :3, 3]
        colors = torch.clamp_min(spherical_harmonics(sh_degree, means - centres[:, None], colors) + 0.5, 0.0)
    features, backgrounds = _features(colors.expand(len(viewmats), -1, -1), view["depths"], backgrounds, render_mode)
    images, alphas = [], []
    for c in range(len(viewmats)):
        order = torch.argsort(view["depths"][c].detach().masked_fill(~visible[c], torch.inf), stable=True)[: int(visible[c].sum())]
        image, alpha = composite(
            view["means2d"][c][order], view["conics"][c][order], visible_opacities[c][order], features[c][order], width, height
        )
        images.append(image if backgrounds is None else image + (1 - alpha) * backgrounds[c])
        alphas.append(alpha)
    render, alpha = torch.stack(images), torch.stack(alphas)
    if render_mode in ("ED", "RGB+ED"):
        render = torch.cat([render[..., :-1], render[..., -1:] / alpha.clamp_min(1e-10)], dim=-1)
    info = {"means2d": view["means2d"], "radii": radii, "depths": view["depths"], "conics": view["conics"]}
    info |= {"opacities": visible_opacities, "width": width, "height": height, "n_cameras": len(viewmats), "gaussian_ids": None}
    return render, alpha, info


def project(
    means: Tensor, quats: Tensor, scales: Tensor, viewmats: Tensor, Ks: Tensor, width: int, height: int, eps2d: float
) -> dict[str, Tensor]:
    """means2d [C, N, 2], depths [C, N], covars2d [C, N, 2, 2] (with eps2d), conics [C, N, 3] = (a, b, c) of its inverse, compensations."""
    rotations = viewmats[:, None, :3, :3]
    x, y, z = ((rotations @ means[:, :, None])[..., 0] + viewmats[:, None, :3, 3]).unbind(-1)
    safe_z = torch.where(z.abs() > 1e-12, z, torch.ones_like(z))
    fx, fy, cx, cy = (Ks[:, i, j, None] for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
    margin_x, margin_y = JACOBIAN_MARGIN * width / fx, JACOBIAN_MARGIN * height / fy
    tx = safe_z * torch.minimum(torch.maximum(x / safe_z, -cx / fx - margin_x), (width - cx) / fx + margin_x)
    ty = safe_z * torch.minimum(torch.maximum(y / safe_z, -cy / fy - margin_y), (height - cy) / fy + margin_y)
    zero = torch.zeros_like(x)
    J = torch.stack([fx / safe_z, zero, -fx * tx / safe_z**2, zero, fy / safe_z, -fy * ty / safe_z**2], -1).unflatten(-1, (2, 3))
    M = J @ rotations @ (matrix_from_quat(quats) * scales[:, None, :])
    sharp = M @ M.transpose(-1, -2)
    covars2d = sharp + eps2d * torch.eye(2, dtype=means.dtype, device=means.device)
    det = torch.linalg.det(covars2d).clamp_min(1e-30)
    conics = torch.stack([covars2d[..., 1, 1], -covars2d[..., 0, 1], covars2d[..., 0, 0]], -1) / det[..., None]
    ratio = (torch.linalg.det(sharp) / det).clamp_min(0.0)
    compensations = torch.where(ratio > 0, ratio, torch.ones_like(ratio)).sqrt() * (ratio > 0)  # no √ at 0: its slope is infinite
    means2d = torch.stack([fx * x / safe_z + cx, fy * y / safe_z + cy], -1)
    return {"means2d": means2d, "depths": z, "covars2d": covars2d, "conics": conics, "compensations": compensations}


@torch.no_grad()
def screen_radii(
    view: dict[str, Tensor], opacities: Tensor, finite: Tensor, width: int, height: int, near: float, far: float, clip: float
) -> Tensor:
    """[C, N, 2] int32 half sizes of the bounding boxes in pixels; 0 = culled. The box is where α ≥ 1/255, at most 3.33 σ."""
    extent = torch.sqrt(2 * torch.log((opacities / ALPHA_MIN).clamp_min(1.0))).clamp_max(EXTENT_MAX)
    radii = torch.ceil(extent[..., None] * view["covars2d"].diagonal(dim1=-2, dim2=-1).sqrt())
    size = torch.tensor([width, height], dtype=radii.dtype, device=radii.device)
    inside = ((view["means2d"] + radii > 0) & (view["means2d"] - radii < size)).all(-1)
    keep = finite & inside & (view["depths"] >= near) & (view["depths"] <= far) & (opacities >= ALPHA_MIN) & (radii > clip).any(-1)
    return (radii.nan_to_num(0.0).clamp_max(2.0**30) * keep[..., None]).to(torch.int32)


def composite(means2d: Tensor, conics: Tensor, opacities: Tensor, features: Tensor, width: int, height: int) -> tuple[Tensor, Tensor]:
    """One view of M splats, nearest first: image [H, W, D] without background and alpha [H, W, 1]."""
    rows = torch.arange(height, dtype=means2d.dtype, device=means2d.device) + 0.5
    columns = torch.arange(width, dtype=means2d.dtype, device=means2d.device) + 0.5
    dx = columns[None, None, :] - means2d[:, 0, None, None]
    dy = rows[None, :, None] - means2d[:, 1, None, None]
    a, b, c = (conics[:, k, None, None] for k in range(3))
    q = 0.5 * (a * dx * dx + c * dy * dy) + b * dx * dy
    alpha = (opacities[:, None, None] * torch.exp(-q)).clamp_max(ALPHA_MAX)
    alpha = torch.where(alpha >= ALPHA_MIN, alpha, torch.zeros_like(alpha))
    after = torch.cumprod(1 - alpha, dim=0)
    alpha = torch.where(after > TRANSMITTANCE_MIN, alpha, torch.zeros_like(alpha))  # ``after`` only falls: once finished, always finished
    before = torch.cat([alpha.new_ones(1, height, width), torch.cumprod(1 - alpha, dim=0)], dim=0)
    image = torch.einsum("nhw,nd->hwd", alpha * before[:-1], features)
    return image, (1 - before[-1])[..., None]


def spherical_harmonics(degree: int, directions: Tensor, coefficients: Tensor) -> Tensor:
    """[C, N, 3] = Σ_k Y_k(d / |d|) sh_k for directions [C, N, 3], coefficients [(C,) N, K, 3], in gsplat's order and signs."""
    basis = sh_basis(torch.nn.functional.normalize(directions, dim=-1, eps=1e-30), degree)
    coefficients = coefficients[..., : basis.shape[-1], :]
    if coefficients.ndim == 3:
        return torch.einsum("cnk,nkd->cnd", basis, coefficients)
    return (basis[..., None] * coefficients).sum(-2)


def _features(colors: Tensor, depths: Tensor, backgrounds: Tensor | None, render_mode: str) -> tuple[Tensor, Tensor | None]:
    """What is composited: colours [C, N, D], depths as one more channel (over a background of 0), or depths alone."""
    if render_mode == "RGB":
        return colors, backgrounds
    if render_mode in ("D", "ED"):
        return depths[..., None], None
    if backgrounds is not None:
        backgrounds = torch.cat([backgrounds, torch.zeros_like(backgrounds[:, :1])], dim=1)
    return torch.cat([colors, depths[..., None]], dim=-1), backgrounds


def _finite_rows(means: Tensor, quats: Tensor, scales: Tensor, opacities: Tensor) -> Tensor:
    """[N] True where a splat can be drawn at all: every number finite and a quaternion with a direction."""
    numbers = torch.cat([means, quats, scales, opacities[:, None]], dim=1)
    return torch.isfinite(numbers).all(1) & (quats.detach().norm(dim=1) > 1e-15)


def _harmless(finite: Tensor, means: Tensor, quats: Tensor, scales: Tensor, opacities: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Culled rows replaced by constants, so that no NaN reaches a gradient."""
    unit = torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=quats.dtype, device=quats.device)
    keep = finite[:, None]
    ones = torch.ones((), dtype=means.dtype, device=means.device)
    return (
        torch.where(keep, means, ones),
        torch.where(keep, quats, unit),
        torch.where(keep, scales, ones),
        torch.where(finite, opacities, 0 * ones),
    )
