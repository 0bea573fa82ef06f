"""One interface for every rasterizer: ``Gaussians`` and ``Cameras`` in, a ``Render`` out.

A backend is a function with the contract of ``gsplat.rasterization``; :class:`ContractRasterizer` is the thin adapter from the
project's types to that contract, and ``BACKENDS`` is the table of names.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from fsd_gs.core.types import Cameras, Gaussians, Render, check_shape
from fsd_gs.errors import BackendError, InputError, unknown_name
from fsd_gs.render.settings import RasterizerSettings

log = logging.getLogger(__name__)

RasterizationFn = Callable[..., tuple[Tensor, Tensor, dict[str, Any]]]


class Rasterizer(Protocol):
    """Draws splats. Differentiable in every tensor of ``gaussians``, in ``cameras.viewmats`` and in ``background``."""

    def __call__(
        self,
        gaussians: Gaussians,
        cameras: Cameras,
        *,
        background: Tensor | None = None,
        depth: bool = False,
        sh_degree: int | None = None,
    ) -> Render:
        """background: [3], or [V, 3] one colour a view; None leaves black. depth: also fill ``Render.depth``. sh_degree: highest SH
        band to use, at most ``gaussians.sh_degree`` (None: all of them). rgb is not clamped: SH colours are, from below, at 0."""
        ...


@dataclass(frozen=True)
class ContractRasterizer:
    """A :class:`Rasterizer` from any function with gsplat's contract.

    Attributes:
        device: where the function works; tensors are moved there and the images back (``info`` stays there). None: wherever they are.
    """

    rasterization: RasterizationFn
    settings: RasterizerSettings = field(default_factory=RasterizerSettings)
    device: torch.device | None = None

    def __call__(
        self,
        gaussians: Gaussians,
        cameras: Cameras,
        *,
        background: Tensor | None = None,
        depth: bool = False,
        sh_degree: int | None = None,
    ) -> Render:
        home, device = gaussians.means.device, self.device or gaussians.means.device
        gaussians, cameras = gaussians.to(device), cameras.to(device, gaussians.means.dtype)
        degree = gaussians.sh_degree if sh_degree is None else min(sh_degree, gaussians.sh_degree)
        colors, alphas, info = self.rasterization(
            gaussians.means,
            gaussians.quats,
            gaussians.scales,
            gaussians.opacities,
            gaussians.sh,
            cameras.viewmats,
            cameras.Ks,
            cameras.width,
            cameras.height,
            near_plane=self.settings.near_plane,
            far_plane=self.settings.far_plane,
            radius_clip=self.settings.radius_clip,
            eps2d=self.settings.eps2d,
            sh_degree=degree,
            packed=False,  # the layout that densification reads
            backgrounds=_per_view(background, len(cameras), gaussians.means, device),
            render_mode="RGB+ED" if depth else "RGB",
            absgrad=self.settings.absgrad,
            rasterize_mode="antialiased" if self.settings.antialiased else "classic",
        )
        colors, alphas = colors.to(home), alphas.to(home)
        return Render(colors[..., :3], alphas, colors[..., 3:] if depth else None, info)


def _per_view(background: Tensor | None, views: int, like: Tensor, device: torch.device) -> Tensor | None:
    """[V, 3] backgrounds from [3] or [V, 3]."""
    if background is None:
        return None
    if background.ndim == 1:
        check_shape("background", background, (3,))
        background = background.expand(views, 3)
    check_shape("background", background, (views, 3))
    return background.to(device, like.dtype)


def _cpu(settings: RasterizerSettings, device: torch.device) -> Rasterizer:
    from fsd_gs.render import cpu

    return ContractRasterizer(cpu.rasterization, settings, torch.device("cpu"))


def _cuda(settings: RasterizerSettings, device: torch.device) -> Rasterizer:
    from fsd_gs.render import cuda

    cuda.check_cuda()
    return ContractRasterizer(cuda.rasterization, settings, device if device.type == "cuda" else torch.device("cuda"))


def _reference(settings: RasterizerSettings, device: torch.device) -> Rasterizer:
    from fsd_gs.render import reference

    return ContractRasterizer(reference.rasterization, settings)


BACKENDS: dict[str, Callable[[RasterizerSettings, torch.device], Rasterizer]] = {"cpu": _cpu, "cuda": _cuda, "reference": _reference}


def make_rasterizer(backend: str = "auto", device: torch.device | str = "cpu", settings: RasterizerSettings | None = None) -> Rasterizer:
    """A rasterizer by name: "cpu", "cuda", "reference", or "auto" (gsplat on a CUDA device where it works, else the CPU kernels).

    device: where "cuda" renders; "auto" takes CUDA only if this is a CUDA device. Splats that live elsewhere are moved there and the images
    back. Raises BackendError if "cuda" is asked for and does not work here, InputError for an unknown name.
    """
    settings = settings or RasterizerSettings()
    if backend == "auto":
        return _auto(torch.device(device), settings)
    if backend not in BACKENDS:
        raise InputError(unknown_name("render.backend", backend, ["auto", *BACKENDS]))
    return BACKENDS[backend](settings, torch.device(device))


def _auto(device: torch.device, settings: RasterizerSettings) -> Rasterizer:
    if device.type != "cuda":
        return _cpu(settings, device)
    try:
        return _cuda(settings, device)
    except BackendError as error:
        log.warning("rendering on the CPU: %s", error)
        return _cpu(settings, device)


@torch.no_grad()
def render_frames(
    rasterizer: Rasterizer,
    gaussians: Gaussians,
    cameras: Cameras,
    *,
    background: Tensor | None = None,
    depth: bool = False,
    chunk: int = 8,
    progress: Callable[[int, int], None] | None = None,
) -> Render:
    """Many views without gradient, ``chunk`` at a time so that memory stays bounded; ``info`` is left empty.

    background: [3] or [V, 3]. progress: called with (views done, views in all) after each chunk.
    """
    if chunk < 1:
        raise InputError(f"chunk: expected at least 1, got {chunk}")
    views, parts = len(cameras), []
    for start in range(0, views, chunk):
        some = slice(start, start + chunk)
        colour = background[some] if background is not None and background.ndim == 2 else background
        parts.append(rasterizer(gaussians, cameras[some], background=colour, depth=depth))
        if progress is not None:
            progress(min(start + chunk, views), views)
    rgb, alpha = torch.cat([p.rgb for p in parts]), torch.cat([p.alpha for p in parts])
    return Render(rgb, alpha, torch.cat([p.depth for p in parts if p.depth is not None]) if depth else None)
