"""``gsplat.rasterization`` on the CPU: the same contract, numba kernels, analytic gradients.

Three differentiable stages, as in gsplat, so that ``info["means2d"]`` is a node of the graph and receives its gradient:
:class:`_Project` (means, quats, scales, viewmats → means2d, depths, conics), :class:`_ShColors`, :class:`_Composite`.

Images and gradients have the same bits for any number of threads: gradients are written per intersection and summed per splat in a
fixed order. Memory is linear in splats, pixels and intersections. The first call compiles; the result is cached on disk.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fsd_gs.errors import InputError
from fsd_gs.render._composite import MOMENTS, composite_backward, composite_forward, reduce_slots
from fsd_gs.render._project import project_backward, project_forward
from fsd_gs.render._sh import colors_backward, colors_forward
from fsd_gs.render._threads import BLOCKS, run
from fsd_gs.render._tiles import GRAIN, TILE, Bins, bin_splats
from fsd_gs.render.contract import RasterizeMode, RenderMode, check_cuda_only, check_inputs


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
    near_plane: float = 0.01,
    far_plane: float = 1e10,
    radius_clip: float = 0.0,
    eps2d: float = 0.3,
    sh_degree: int | None = None,
    packed: bool = True,
    tile_size: int = 16,
    backgrounds: Tensor | None = None,
    render_mode: RenderMode = "RGB",
    sparse_grad: bool = False,
    absgrad: bool = False,
    rasterize_mode: RasterizeMode = "classic",
    channel_chunk: int = 32,
    distributed: bool = False,
    camera_model: str = "pinhole",
    segmented: bool = False,
    covars: Tensor | None = None,
    with_ut: bool = False,
    with_eval3d: bool = False,
    radial_coeffs: Tensor | None = None,
    tangential_coeffs: Tensor | None = None,
    thin_prism_coeffs: Tensor | None = None,
    ftheta_coeffs: Any = None,
    rolling_shutter: Any = None,
    viewmats_rs: Tensor | None = None,
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Draw N splats from C pinhole cameras; arguments, results and thresholds as in gsplat 1.5.3.

    means [N, 3]; quats [N, 4] wxyz of any length but 0; scales [N, 3]; opacities [N]; colors [(C,) N, D], or with ``sh_degree`` (0 to 3)
    SH coefficients [(C,) N, K, 3]; viewmats [C, 4, 4] camera_from_world, OpenCV; Ks [C, 3, 3] in pixels; backgrounds [C, D].
    eps2d: square pixels added to Σ'; radius_clip: pixels; near_plane, far_plane: along z. Computed in float32 (means2d and what else
    is in ``info`` too); other dtypes are cast, and the images cast back.

    Returns (images [C, H, W, X], alphas [C, H, W, 1], info). X = D, 1 or D + 1 by ``render_mode``. ``info`` has gsplat's keys, dense
    [C, N, …] or packed [nnz, …]; the tile entries describe this backend's own 8×8 tiles, nearest splat first, whatever ``tile_size``.
    Differentiable in means, quats, scales, opacities, colors, viewmats and backgrounds, once.

    Splats that are not finite, or whose quaternion is 0, are not drawn and get zero gradient. ``tile_size`` and ``channel_chunk`` only
    tune gsplat's kernels and change nothing here. Raises InputError for wrong shapes and for options that only gsplat's CUDA kernels have.
    """
    check_cuda_only(
        "CPU",
        sparse_grad=sparse_grad,
        distributed=distributed,
        camera_model=camera_model,
        segmented=segmented,
        covars=covars,
        with_ut=with_ut,
        with_eval3d=with_eval3d,
        radial_coeffs=radial_coeffs,
        tangential_coeffs=tangential_coeffs,
        thin_prism_coeffs=thin_prism_coeffs,
        ftheta_coeffs=ftheta_coeffs,
        rolling_shutter=rolling_shutter,
        viewmats_rs=viewmats_rs,
    )
    check_inputs(means, quats, scales, opacities, colors, viewmats, Ks, width, height, sh_degree, backgrounds, render_mode, rasterize_mode)
    if any(x.device.type != "cpu" for x in (means, quats, scales, opacities, colors, viewmats, Ks)):
        raise InputError(f"means: expected CPU tensors with the CPU backend, got {means.device}; move them or use render.backend=cuda")
    dtype, C, N = means.dtype, len(viewmats), len(means)
    means, quats, scales, opacities, colors, viewmats, Ks = (
        x.to(torch.float32) for x in (means, quats, scales, opacities, colors, viewmats, Ks)
    )
    settings = np.array([width, height, eps2d, near_plane, far_plane, radius_clip], np.float64)
    antialiased = rasterize_mode == "antialiased"
    radii, means2d, depths, conics, compensations = _Project.apply(  # pyright: ignore[reportGeneralTypeIssues]
        means, quats, scales, opacities, viewmats, Ks, settings, antialiased
    )
    if sh_degree is not None:
        colors = _ShColors.apply(sh_degree, means, torch.linalg.inv(viewmats)[:, :3, 3], colors, radii)
    assert isinstance(colors, Tensor)
    colors, opacities = colors.expand(C, N, -1), opacities.expand(C, N)
    if antialiased:
        opacities = opacities * compensations
    info: dict[str, Any] = {"batch_ids": None, "camera_ids": None, "gaussian_ids": None}
    view_ptr = np.arange(C + 1, dtype=np.int64) * N
    if packed:
        camera_ids, gaussian_ids = torch.nonzero((radii > 0).all(-1), as_tuple=True)
        info = {"batch_ids": torch.zeros_like(camera_ids), "camera_ids": camera_ids, "gaussian_ids": gaussian_ids}
        view_ptr = np.searchsorted(camera_ids.numpy(), np.arange(C + 1)).astype(np.int64)
        radii, means2d, depths, conics, opacities, colors = (
            x[camera_ids, gaussian_ids] for x in (radii, means2d, depths, conics, opacities, colors)
        )
    info |= {"radii": radii, "means2d": means2d, "depths": depths, "conics": conics, "opacities": opacities}
    features, backgrounds = _features(colors, depths, backgrounds, render_mode, C)
    images, alphas, bins = _Composite.apply(  # pyright: ignore[reportGeneralTypeIssues]
        means2d, conics, opacities, features, backgrounds, depths.detach(), radii, view_ptr, width, height, absgrad
    )
    info |= _tile_info(bins, radii.shape[:-1], C, width, height)
    info |= {"width": width, "height": height, "n_batches": 1, "n_cameras": C}
    if render_mode in ("ED", "RGB+ED"):
        images = torch.cat([images[..., :-1], images[..., -1:] / alphas.clamp_min(1e-10)], dim=-1)
    return images.to(dtype), alphas.to(dtype), info


def _features(colors: Tensor, depths: Tensor, backgrounds: Tensor | None, render_mode: str, views: int) -> tuple[Tensor, Tensor]:
    """What is composited, [C, N, D] or [nnz, D], and over what, [C, D]: depth is one more channel over 0."""
    if render_mode in ("D", "ED"):
        colors, backgrounds = depths[..., None], None
    elif render_mode != "RGB":
        colors = torch.cat([colors, depths[..., None]], dim=-1)
        if backgrounds is not None:
            backgrounds = torch.cat([backgrounds, torch.zeros_like(backgrounds[:, :1])], dim=1)
    if backgrounds is None:
        backgrounds = torch.zeros(views, colors.shape[-1])
    return colors, backgrounds.to(torch.float32)


def _tile_info(bins: Bins, rows_shape: torch.Size, views: int, width: int, height: int) -> dict[str, Any]:
    """gsplat's description of the intersections, of this backend's own tiles."""
    tile_width, tile_height = math.ceil(width / TILE), math.ceil(height / TILE)
    return {
        "tile_width": tile_width,
        "tile_height": tile_height,
        "tile_size": TILE,
        "tiles_per_gauss": torch.from_numpy(bins.tiles_per_row).reshape(rows_shape),
        "isect_ids": torch.from_numpy(bins.isect_ids),
        "flatten_ids": torch.from_numpy(bins.flatten_ids),
        "isect_offsets": torch.from_numpy(bins.tile_ptr[:-1].astype(np.int32)).reshape(views, tile_height, tile_width),
    }


def _array(tensor: Tensor | None, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """A contiguous float32 array that shares memory where it can; zeros of ``shape`` for a gradient that is None."""
    if tensor is None:
        assert shape is not None
        return np.zeros(shape, np.float32)
    return tensor.detach().contiguous().numpy()


def _zeros(*shape: int) -> np.ndarray:
    """float32 zeros by numpy: torch would start its own thread pool to fill them."""
    return np.zeros(shape, np.float32)


def _coefficients(tensor: Tensor) -> np.ndarray:
    """[1 or C, N, K, 3]."""
    return _array(tensor if tensor.ndim == 4 else tensor[None])


class _Project(torch.autograd.Function):
    """(means, quats, scales, viewmats) → radii, means2d, depths, conics, compensations, all [C, N, …]."""

    @staticmethod
    def forward(
        ctx: Any,
        means: Tensor,
        quats: Tensor,
        scales: Tensor,
        opacities: Tensor,
        viewmats: Tensor,
        Ks: Tensor,
        settings: np.ndarray,
        antialiased: bool,
    ) -> tuple[Tensor, ...]:
        C, N = len(viewmats), len(means)
        outputs = np.zeros((C, N, 2), np.int32), _zeros(C, N, 2), _zeros(C, N), _zeros(C, N, 3), _zeros(C, N)
        inputs = _array(means), _array(quats), _array(scales), _array(opacities), _array(viewmats), _array(Ks)
        run(project_forward, C * N, GRAIN, *inputs, settings, antialiased, *outputs)
        radii, *rest = (torch.from_numpy(x) for x in outputs)
        ctx.mark_non_differentiable(radii)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(means, quats, scales, viewmats, Ks, radii)
        ctx.settings = settings
        return radii, *rest

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        _, v_means2d, v_depths, v_conics, v_compensations = grad_outputs
        means, quats, scales, viewmats, Ks, radii = ctx.saved_tensors
        C, N = len(viewmats), len(means)
        grads = _array(v_means2d, (C, N, 2)), _array(v_depths, (C, N)), _array(v_conics, (C, N, 3)), _array(v_compensations, (C, N))
        outputs = _zeros(N, 3), _zeros(N, 4), _zeros(N, 3), np.zeros((BLOCKS, C, 3, 4))
        inputs = _array(means), _array(quats), _array(scales), _array(viewmats), _array(Ks)
        run(project_backward, C * N, GRAIN, *inputs, ctx.settings, radii.numpy(), *grads, *outputs)
        v_means, v_quats, v_scales, v_poses = (torch.from_numpy(x) for x in outputs)
        v_viewmats = torch.zeros(C, 4, 4)
        v_viewmats[:, :3] = v_poses.sum(0).to(torch.float32)
        return v_means, v_quats, v_scales, None, v_viewmats, None, None, None


class _ShColors(torch.autograd.Function):
    """(means [N, 3], centres [C, 3], coefficients [(C,) N, K, 3]) → colours [C, N, 3], at least 0; culled splats stay 0."""

    @staticmethod
    def forward(ctx: Any, degree: int, means: Tensor, centres: Tensor, coefficients: Tensor, radii: Tensor) -> Tensor:
        colors, size = _zeros(len(centres), len(means), 3), len(centres) * len(means)
        run(colors_forward, size, GRAIN, degree, _array(means), _array(centres), _coefficients(coefficients), radii.numpy(), colors)
        ctx.save_for_backward(means, centres, coefficients, radii)
        ctx.degree = degree
        return torch.from_numpy(colors)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        means, centres, coefficients, radii = ctx.saved_tensors
        shs, size = _coefficients(coefficients), len(centres) * len(means)
        v_shs, v_directions = np.zeros_like(shs), _zeros(len(centres), len(means), 3)
        inputs = _array(means), _array(centres), shs, radii.numpy(), _array(grad_outputs[0])
        run(colors_backward, size, GRAIN, ctx.degree, *inputs, v_directions, v_shs)
        v_coefficients = torch.from_numpy(v_shs).reshape(coefficients.shape)
        if ctx.degree == 0:
            return None, None, None, v_coefficients, None
        return None, torch.from_numpy(v_directions.sum(0)), torch.from_numpy(-v_directions.sum(1)), v_coefficients, None


class _Composite(torch.autograd.Function):
    """(means2d, conics, opacities, features, backgrounds) → images [C, H, W, D], alphas [C, H, W, 1] and the bins."""

    @staticmethod
    def forward(
        ctx: Any,
        means2d: Tensor,
        conics: Tensor,
        opacities: Tensor,
        features: Tensor,
        backgrounds: Tensor,
        depths: Tensor,
        radii: Tensor,
        view_ptr: np.ndarray,
        width: int,
        height: int,
        absgrad: bool,
    ) -> tuple[Tensor, Tensor, Bins]:
        D, C = features.shape[-1], len(view_ptr) - 1
        images, rests = np.empty((C, height, width, D), np.float32), np.empty((C, height, width), np.float32)
        rows = _array(means2d).reshape(-1, 2), _array(conics).reshape(-1, 3), _array(opacities).reshape(-1), _array(features).reshape(-1, D)
        visible = radii.detach().numpy().reshape(-1, 2)[:, 0] > 0
        bins = bin_splats(*rows, _array(depths).reshape(-1), visible, view_ptr, width, height)
        lists = bins.entries, bins.tile_ptr, bins.slot_rank, bins.slot_steps, bins.splats
        run(composite_forward, len(bins.entries), 2 * GRAIN, *lists, _array(backgrounds), images, rests)
        drawn, alphas = torch.from_numpy(images), torch.from_numpy(1 - rests[..., None])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(means2d, conics, opacities, drawn)
        ctx.bins, ctx.rests, ctx.absgrad = bins, rests, absgrad
        return drawn, alphas, bins

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        means2d, conics, opacities, images = ctx.saved_tensors
        bins, rests, rows, D = ctx.bins, ctx.rests, opacities.numel(), images.shape[-1]
        v_images, v_alphas = _array(grad_outputs[0], tuple(images.shape)), _array(grad_outputs[1], (*rests.shape, 1))
        v_slots = np.empty((len(bins.entries), MOMENTS + D), np.float32)
        outputs = _zeros(rows, 2), _zeros(rows, 2), _zeros(rows, 3), _zeros(rows), _zeros(rows, D)
        lists = bins.entries, bins.tile_ptr, bins.slot_rank, bins.slot_steps, bins.splats
        run(composite_backward, len(bins.entries), GRAIN, *lists, images.numpy(), rests, v_images, v_alphas[..., 0], ctx.absgrad, v_slots)
        inputs = _array(conics).reshape(-1, 3), _array(opacities).reshape(-1)
        run(reduce_slots, len(bins.entries), 8 * GRAIN, bins.order, bins.slot_ptr, v_slots, *inputs, *outputs)
        v_means2d, v_abs, v_conics, v_opacities, v_features = (torch.from_numpy(x) for x in outputs)
        if ctx.absgrad:
            means2d.absgrad = v_abs.reshape(means2d.shape)
        v_backgrounds = None
        if ctx.needs_input_grad[4]:
            v_backgrounds = torch.from_numpy(np.einsum("chwd,chw->cd", v_images, rests))
        lead = means2d.shape[:-1]
        grads = v_means2d.reshape(*lead, 2), v_conics.reshape(*lead, 3), v_opacities.reshape(lead), v_features.reshape(*lead, D)
        return *grads, v_backgrounds, None, None, None, None, None, None
