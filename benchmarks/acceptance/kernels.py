"""Two rasterizers on the same splats: images, depth and the gradients of every splat tensor, as largest differences.

On a GPU gsplat's kernels against ours of the CPU; without one, ours against the slow readable twin, which shows that this file works.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fsd_gs.core.cameras import orbit_cameras
from fsd_gs.core.types import Gaussians
from fsd_gs.render import RasterizerSettings, make_rasterizer

LIMITS = {"rgb": 2e-4, "alpha": 2e-4, "depth": 2e-3, "gradient": 2e-3}  # float32 sums in another order; gradients relative to their largest
NAMES = ("means", "quats", "scales", "opacities", "sh")


def scene(count: int, degree: int, seed: int) -> Gaussians:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    quats, scales = torch.nn.functional.normalize(draw(count, 4), dim=1), torch.exp(0.3 * draw(count, 3) - 3)
    opacities = 0.05 + 0.9 * torch.rand(count, generator=generator)
    return Gaussians(0.3 * draw(count, 3), quats, scales, opacities, 0.3 * draw(count, (degree + 1) ** 2, 3))


def drawn(backend: str, device: str, splats: Gaussians, size: int, antialiased: bool) -> dict[str, Tensor]:
    """rgb, alpha, depth and gradients under "gradient of NAME", on the CPU in float64."""
    tensors = [getattr(splats, name).to(device, copy=True).requires_grad_() for name in NAMES]
    cameras = orbit_cameras([0, 70, 200], 20, width=size, height=size, device=device)
    view = make_rasterizer(backend, settings=RasterizerSettings(antialiased=antialiased))(
        Gaussians(*tensors), cameras, background=torch.full((3,), 0.3, device=device), depth=True
    )
    generator = torch.Generator().manual_seed(1)
    weights = torch.randn(*view.rgb.shape, generator=generator).to(device)
    assert view.depth is not None
    ((view.rgb * weights).sum() + (view.alpha * weights[..., :1]).sum() + 0.1 * (view.depth * weights[..., 1:2]).sum()).backward()
    images = {"rgb": view.rgb, "alpha": view.alpha, "depth": view.depth}
    gradients = {f"gradient of {name}": tensor.grad for name, tensor in zip(NAMES, tensors, strict=True) if tensor.grad is not None}
    return {name: value.detach().cpu().double() for name, value in {**images, **gradients}.items()}


def compare(device: str, tiny: bool) -> list[dict[str, Any]]:
    """A row for each scene: its largest differences, and whether each is within :data:`LIMITS`."""
    ours, theirs = (("cuda", device), ("cpu", "cpu")) if device.startswith("cuda") else (("cpu", "cpu"), ("reference", "cpu"))
    rows = []
    sizes = ((60, 24),) if tiny else ((300, 64), (5000, 128), (20_000, 256))
    for count, size in sizes:
        for degree in (0, 1, 3):
            for antialiased in (False, True):
                splats = scene(count, degree, seed=degree)
                a, b = (drawn(*which, splats, size, antialiased) for which in (ours, theirs))
                row: dict[str, Any] = {"splats": count, "px": size, "SH": degree, "antialiased": antialiased, "against": theirs[0]}
                for name in b:
                    scale = float(b[name].abs().max()) if name.startswith("gradient") else 1.0
                    row[name] = float((a[name] - b[name]).abs().max()) / max(scale, 1e-12)
                row["equal"] = all(row[name] <= LIMITS[name.split()[0]] for name in b)
                rows.append(row)
    return rows
