"""What one call of the noise functions costs on this CPU, four views of a ball. The table of docs/performance.md.

    python benchmarks/noise.py

Surface noise (CFD) is timed with its kernel and with the kernel's readable twin, in turn, so that the ratio is fair on a busy machine.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from fsd_gs.cameras import orbit_cameras
from fsd_gs.noise import SurfaceNoise, WorldMapNoise
from fsd_gs.noise import surface as surface_module
from fsd_gs.types import Cameras

SIZES = ((16, 64), (64, 64), (64, 256), (64, 512))  # latent cells a side, rendered pixels: embedded prior, exact prior, Stable Diffusion
REPEATS = 15


def ball(cameras: Cameras, pixels: int, radius: float = 0.8) -> tuple[Tensor, Tensor]:
    """alpha and depth along z, each [V, pixels, pixels, 1], of an opaque ball at the origin."""
    u = (torch.arange(pixels) + 0.5) * cameras.width / pixels
    rays = torch.stack([*torch.meshgrid(u, u, indexing="xy"), torch.ones(pixels, pixels)], dim=-1)
    rays = torch.einsum("vij,hwj->vhwi", torch.linalg.inv(cameras.Ks), rays)
    centre = cameras.viewmats[:, None, None, :3, 3]  # of the ball, as the camera sees it
    a, b, c = rays.square().sum(-1), (rays * centre).sum(-1), centre.square().sum(-1) - radius**2
    root = b.square() - a * c
    return (root > 0).float()[..., None], torch.where(root > 0, (b - root.clamp_min(0).sqrt()) / a, 0.0)[..., None]


def milliseconds(calls: dict[str, Callable[[], object]]) -> dict[str, float]:
    """The median of each call, taken in turn."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for repeat in range(REPEATS + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if repeat:  # the first one compiles or warms up
                times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def twin(noise: SurfaceNoise, *views: Tensor | Cameras) -> None:
    """One call of ``noise`` without its kernel."""
    kernel = surface_module.paint_view_numba
    surface_module.paint_view_numba = surface_module.paint_view_torch
    try:
        noise(*views)  # type: ignore[arg-type]
    finally:
        surface_module.paint_view_numba = kernel


def main() -> None:
    print("| latent cells, pixels | world map | surface | its twin | twin / surface |\n|---|---|---|---|---|")
    for cells, pixels in SIZES:
        cameras = orbit_cameras([0.0, 90.0, 180.0, 270.0], 15.0, width=pixels)
        alpha, depth = ball(cameras, pixels)
        world, surface = WorldMapNoise((4, cells, cells)), SurfaceNoise((4, cells, cells))
        ms = milliseconds(
            {
                "world": lambda: world(cameras, alpha),  # noqa: B023 — called before the next round
                "surface": lambda: surface(cameras, alpha, depth),  # noqa: B023
                "twin": lambda: twin(surface, cameras, alpha, depth),  # noqa: B023
            }
        )
        ratio = ms["twin"] / ms["surface"]
        print(f"| {cells}, {pixels} | {ms['world']:.1f} | {ms['surface']:.1f} | {ms['twin']:.1f} | {ratio:.1f} |")


if __name__ == "__main__":
    main()
