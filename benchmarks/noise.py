"""What the noise functions cost on this CPU, four views of a ball of splats. The table of docs/performance.md.

    python benchmarks/noise.py

A whole call of each function, and the kernel of surface noise (CFD) beside its readable twin. All are called in turn, so that the ratio is
fair on a busy machine.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import torch
from rasterizer import surface_splats
from torch import Tensor

from fsd_gs.core.cameras import orbit_cameras
from fsd_gs.noise import SurfaceNoise, WorldMapNoise
from fsd_gs.noise.surface import SeenView, paint_view_numba, paint_view_torch
from fsd_gs.render import make_rasterizer

SIZES = ((16, 64), (64, 64), (64, 256), (64, 512))  # latent cells a side, rendered pixels: embedded prior, exact prior, Stable Diffusion
SPLATS, SAMPLES, THRESHOLD, REPEATS = 20_000, 6, 0.1, 15


def milliseconds(calls: Sequence[Callable[[], object]]) -> list[float]:
    """The median of each call, taken in turn."""
    times: list[list[float]] = [[] for _ in calls]
    for repeat in range(REPEATS + 1):
        for call, measured in zip(calls, times, strict=True):
            start = time.perf_counter()
            call()
            if repeat:  # the first one compiles or warms up
                measured.append(1e3 * (time.perf_counter() - start))
    return [statistics.median(measured) for measured in times]


def row(cells: int, pixels: int) -> list[float]:
    """Milliseconds of the world map, of surface noise, and of its kernel and the kernel's twin."""
    cameras = orbit_cameras([0.0, 90.0, 180.0, 270.0], 15.0, width=pixels)
    view = make_rasterizer("cpu")(surface_splats(SPLATS), cameras, depth=True)
    alpha, depth = view.alpha, view.depth
    assert depth is not None
    world, surface = WorldMapNoise((4, cells, cells)), SurfaceNoise((4, cells, cells), samples=SAMPLES, alpha_threshold=THRESHOLD)
    texture = torch.randn(4, 2 * cells, 4 * cells, generator=torch.Generator().manual_seed(0))
    seen = [SeenView.of(cameras[v], alpha[v, ..., 0], depth[v, ..., 0], THRESHOLD, (cells, cells), SAMPLES) for v in range(4)]

    def paint(one_view: Callable[[Tensor, SeenView], object]) -> None:
        for view in seen:
            one_view(texture, view)

    return milliseconds(
        [
            lambda: world(cameras, alpha),
            lambda: surface(cameras, alpha, depth),
            lambda: paint(paint_view_numba),
            lambda: paint(paint_view_torch),
        ]
    )


def main() -> None:
    print("| latent cells, pixels | world map | surface | its kernel | the kernel's twin | twin / kernel |\n|---|---|---|---|---|---|")
    for cells, pixels in SIZES:
        world, surface, kernel, twin = row(cells, pixels)
        print(f"| {cells}, {pixels} | {world:.1f} | {surface:.1f} | {kernel:.1f} | {twin:.1f} | {twin / kernel:.1f} |")


if __name__ == "__main__":
    main()
