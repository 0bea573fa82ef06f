"""How long it takes to write and read 50 000 splats in every splat format, and how large the files are.

    python benchmarks/export.py [--splats 50000] [--sh-degree 0 3]

The splats lie on a closed surface, as a trained asset's do. Each figure is the best of three; the first call pays for imports.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from fsd_gs.core.types import Gaussians
from fsd_gs.export.formats import load_splats, save_splats

SUFFIXES = [".ply", ".compressed.ply", ".splat", ".spz", ".sog", ".html"]


def surface(count: int, sh_degree: int) -> Gaussians:
    generator = torch.Generator().manual_seed(0)
    normals = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=1)
    quats = torch.cat([1 + normals[:, 2:], -normals[:, 1:2], normals[:, :1], torch.zeros(count, 1)], dim=1)
    return Gaussians(
        means=normals * 0.6,
        quats=torch.nn.functional.normalize(quats, dim=1),
        scales=torch.rand(count, 3, generator=generator) * 0.01 + 0.002,
        opacities=torch.rand(count, generator=generator) * 0.5 + 0.49,
        sh=torch.randn(count, (sh_degree + 1) ** 2, 3, generator=generator) * 0.1,
    )


def best_of(action: Callable[[], object], repeats: int = 3) -> float:
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splats", type=int, default=50_000)
    parser.add_argument("--sh-degree", type=int, nargs="+", default=[0, 3])
    arguments = parser.parse_args()
    print("| format | SH | write s | read s | MB |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for sh_degree in arguments.sh_degree:
            splats = surface(arguments.splats, sh_degree)
            for suffix in SUFFIXES:
                path = Path(folder) / f"a{suffix}"
                write = best_of(lambda splats=splats, path=path: save_splats(splats, path))
                read = "–" if suffix == ".html" else f"{best_of(lambda path=path: load_splats(path)):.2f}"
                print(f"| {suffix} | {sh_degree} | {write:.2f} | {read} | {path.stat().st_size / 1e6:.2f} |", flush=True)


if __name__ == "__main__":
    main()
