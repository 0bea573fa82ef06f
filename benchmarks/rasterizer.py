"""Speed of the CPU rasterizer: one view, forward and backward, against the project's targets.

    python benchmarks/rasterizer.py [--threads 2] [--repeats 30] [--views 1] [--sh-degree 0] [--scene sphere|torus]

Scene: N splats on a surface, as a training run has them: flattened discs (thickness a fifth of the width), oriented along the surface, as
wide as their mean spacing, opacity uniform in [0.3, 0.95], a camera at distance 2.5 with a 49.1° field of view. The loss reads
every pixel of rgb and alpha, with gradients of all five splat tensors, end to end through ``make_rasterizer``. Medians of wall time after
warm-up, on which the verdict rests; beside them the fastest repeat and the median CPU time of all threads together, because on a shared
machine the wall time mostly measures the neighbours.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time

TARGETS_MS = {(10_000, 128): 10.0, (20_000, 256): 35.0}
CASES = [(1_200, 32), (5_000, 64), (10_000, 128), (20_000, 256), (50_000, 512)]


def surface_splats(count: int, kind: str = "sphere", sh_degree: int = 0, seed: int = 0):
    """``Gaussians`` on a sphere of radius 0.6 or a torus of radii 0.5 and 0.2: discs as wide as their mean spacing."""
    import torch

    from fsd_gs.core.types import Gaussians

    generator = torch.Generator().manual_seed(seed)
    if kind == "sphere":
        normals = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=1)
        means, area = 0.6 * normals, 4 * math.pi * 0.6**2
    else:
        a, b = 2 * math.pi * torch.rand(2, count, generator=generator)
        normals = torch.stack([a.cos() * b.cos(), a.sin() * b.cos(), b.sin()], dim=1)
        means = 0.5 * torch.stack([a.cos(), a.sin(), torch.zeros_like(a)], dim=1) + 0.2 * normals
        area = 4 * math.pi**2 * 0.5 * 0.2
    spacing = math.sqrt(area / count)
    # the rotation that takes z to the normal: half-way quaternion (1 + z·n, z × n)
    quats = torch.stack([1 + normals[:, 2], -normals[:, 1], normals[:, 0], torch.zeros(count)], dim=1)
    jitter = torch.exp(0.3 * torch.randn(count, 3, generator=generator))
    scales = spacing * torch.tensor([1.0, 1.0, 0.2]) * jitter
    opacities = 0.3 + 0.65 * torch.rand(count, generator=generator)
    sh = 0.5 * torch.randn(count, (sh_degree + 1) ** 2, 3, generator=generator)
    return Gaussians(means, torch.nn.functional.normalize(quats, dim=1), scales, opacities, sh)


def measure(count: int, size: int, kind: str, views: int, sh_degree: int, repeats: int) -> tuple[float, ...]:
    """Milliseconds for ``views`` views together: median forward, backward, both, CPU of both, and the fastest of both."""
    import torch

    from fsd_gs.core.cameras import orbit_cameras
    from fsd_gs.core.types import Gaussians
    from fsd_gs.render import make_rasterizer

    splats = surface_splats(count, kind, sh_degree)
    leaves = [x.requires_grad_() for x in (splats.means, splats.quats, splats.scales, splats.opacities, splats.sh)]
    cameras = orbit_cameras([360.0 * i / views + 20 for i in range(views)], 15.0, width=size)
    rasterize, background = make_rasterizer("cpu"), torch.ones(3)
    weight, alpha_weight = torch.randn(views, size, size, 3), torch.randn(views, size, size, 1)
    forward, backward, total, cpu = [], [], [], []
    for _ in range(repeats + 3):
        start, cpu_start = time.perf_counter(), time.process_time()
        view = rasterize(Gaussians(*leaves), cameras, background=background)
        middle = time.perf_counter()
        torch.autograd.grad([view.rgb, view.alpha], leaves, [weight, alpha_weight])
        end = time.perf_counter()
        forward.append(middle - start)
        backward.append(end - middle)
        total.append(end - start)
        cpu.append(time.process_time() - cpu_start)
    medians = (1e3 * statistics.median(times[3:]) for times in (forward, backward, total, cpu))
    return *medians, 1e3 * min(total[3:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--views", type=int, default=1)
    parser.add_argument("--sh-degree", type=int, default=0)
    parser.add_argument("--scene", choices=["sphere", "torus"], default="sphere")
    options = parser.parse_args()
    import torch

    torch.set_num_threads(options.threads)
    print(
        f"{options.scene}, {options.views} view(s), SH degree {options.sh_degree}, {options.threads} thread(s), median of {options.repeats}"
    )
    print(f"{'splats':>7} {'px':>4} {'forward ms':>11} {'backward ms':>12} {'total ms':>9} {'cpu ms':>7} {'fastest':>8} {'target ms':>10}")
    for count, size in CASES:
        forward, backward, total, cpu, fastest = measure(count, size, options.scene, options.views, options.sh_degree, options.repeats)
        target = TARGETS_MS.get((count, size)) if options.views == 1 else None
        verdict = "" if target is None else f"{target:10.0f} {'met' if total <= target else 'missed'}"
        print(f"{count:7d} {size:4d} {forward:11.2f} {backward:12.2f} {total:9.2f} {cpu:7.2f} {fastest:8.2f} {verdict}")


if __name__ == "__main__":
    main()
