"""gsplat's CUDA kernels: the only module that touches them, and only when called."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fsd_gs.errors import BackendError

_INSTEAD = "use render.backend=cpu"


def check_cuda() -> None:
    """Raise :class:`BackendError`, one line saying what is missing and what to do, unless gsplat's kernels can run here.

    The first call may compile the kernels (minutes), if gsplat was installed without them.
    """
    if not torch.cuda.is_available():
        why = "this build of torch has no CUDA" if torch.version.cuda is None else "torch sees no CUDA device"
        raise BackendError(f"render.backend=cuda: {why}; {_INSTEAD}, or run on a machine with an NVIDIA GPU and a CUDA build of torch")
    try:
        from gsplat.cuda._backend import _C  # pyright: ignore[reportAttributeAccessIssue]
    except ImportError as error:
        raise BackendError(
            f"render.backend=cuda: gsplat's kernels cannot be loaded ({_one_line(error)}); reinstall gsplat or {_INSTEAD}"
        ) from error
    except Exception as error:  # the just-in-time build fails with whatever the compiler driver raises
        raise BackendError(
            f"render.backend=cuda: building gsplat's kernels failed ({_one_line(error)}); install a CUDA toolkit that matches torch "
            f"(CUDA {torch.version.cuda}) or {_INSTEAD}"
        ) from error
    if _C is None:
        raise BackendError(
            f"render.backend=cuda: gsplat was installed without kernels and found no nvcc to build them; install the CUDA "
            f"{torch.version.cuda} toolkit (nvcc on PATH), or a prebuilt gsplat wheel, or {_INSTEAD}"
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
    **options: Any,
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """``gsplat.rasterization`` itself: same arguments, shapes and results (its kernels want CUDA float32 tensors)."""
    from gsplat import rasterization as gsplat_rasterization

    return gsplat_rasterization(means, quats, scales, opacities, colors, viewmats, Ks, width, height, **options)


def _one_line(error: BaseException) -> str:
    """The last line of a message: compilers put the reason there."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:200]
