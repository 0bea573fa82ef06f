"""What ``rasterization`` accepts: the checks that the CPU kernels and the reference twin share.

The contract is that of ``gsplat.rasterization`` 1.5.3 for pinhole cameras without leading batch dimensions. Options of gsplat that
only its CUDA kernels have are refused by name instead of being ignored.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

from torch import Tensor

from fsd_gs.core.types import check_shape
from fsd_gs.errors import InputError

RenderMode = Literal["RGB", "D", "ED", "RGB+D", "RGB+ED"]
RasterizeMode = Literal["classic", "antialiased"]

ALPHA_MIN = 1.0 / 255.0  # contributions below are skipped
ALPHA_MAX = 0.999  # no splat is fully opaque, so that T / (1 − α) stays finite
TRANSMITTANCE_MIN = 1e-4  # a pixel is finished once its transmittance would fall to this
EXTENT_MAX = 3.33  # standard deviations, bound on the screen extent
JACOBIAN_MARGIN = 0.15  # of the image size: how far beyond the border the projection is still linearised exactly

# gsplat's keyword → the only value the CPU and reference backends accept
CUDA_ONLY: dict[str, Any] = {
    "sparse_grad": False,
    "distributed": False,
    "camera_model": "pinhole",
    "segmented": False,
    "covars": None,
    "with_ut": False,
    "with_eval3d": False,
    "radial_coeffs": None,
    "tangential_coeffs": None,
    "thin_prism_coeffs": None,
    "ftheta_coeffs": None,
    "rolling_shutter": None,
    "viewmats_rs": None,
}


def check_cuda_only(backend: str, **options: object) -> None:
    """Raise :class:`InputError` if an option that only gsplat's CUDA kernels know is set."""
    for name, value in options.items():
        allowed = CUDA_ONLY[name]
        if isinstance(value, Tensor) or (value != allowed and getattr(value, "name", None) != "GLOBAL"):  # gsplat's RollingShutterType
            got = f"a tensor of shape {list(value.shape)}" if isinstance(value, Tensor) else repr(value)
            raise InputError(f"{name}: expected {allowed!r} with the {backend} backend, got {got}; use render.backend=cuda for it")


def check_inputs(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colors: Tensor,
    viewmats: Tensor,
    Ks: Tensor,
    width: int,
    height: int,
    sh_degree: int | None,
    backgrounds: Tensor | None,
    render_mode: str,
    rasterize_mode: str,
) -> None:
    """Raise :class:`InputError` on the first argument that does not fit; shapes as in ``rasterization``."""
    N = means.shape[0] if means.ndim else 0
    C = viewmats.shape[0] if viewmats.ndim else 0
    check_shape("means", means, (N, 3))
    check_shape("quats", quats, (N, 4))
    check_shape("scales", scales, (N, 3))
    check_shape("opacities", opacities, (N,))
    check_shape("viewmats", viewmats, (C, 4, 4))
    check_shape("Ks", Ks, (C, 3, 3))
    if width < 1 or height < 1:
        raise InputError(f"width, height: expected at least 1 pixel, got {width}×{height}")
    if render_mode not in get_args(RenderMode):
        raise InputError(f"render_mode: expected one of {', '.join(get_args(RenderMode))}, got {render_mode!r}")
    if rasterize_mode not in get_args(RasterizeMode):
        raise InputError(f"rasterize_mode: expected one of {', '.join(get_args(RasterizeMode))}, got {rasterize_mode!r}")
    _check_colors(colors, N, C, sh_degree)
    if backgrounds is not None:
        channels = 3 if sh_degree is not None else colors.shape[-1]
        check_shape("backgrounds", backgrounds, (C, channels if "RGB" in render_mode else "D"))


def _check_colors(colors: Tensor, N: int, C: int, sh_degree: int | None) -> None:
    per_view = colors.ndim == (3 if sh_degree is None else 4)
    lead: tuple[int | str, ...] = (C, N) if per_view else (N,)
    if sh_degree is None:
        check_shape("colors", colors, (*lead, "D"))
        return
    check_shape("colors", colors, (*lead, "K", 3))
    if not 0 <= sh_degree <= 3:
        raise InputError(f"sh_degree: expected 0 to 3, got {sh_degree}")
    if (sh_degree + 1) ** 2 > colors.shape[-2]:
        raise InputError(
            f"colors: expected at least {(sh_degree + 1) ** 2} SH coefficients for sh_degree {sh_degree}, got {colors.shape[-2]}"
        )
