"""What every format makes of splats: PSNR of the re-render, size of 50 000 splats, seconds to write and to read them.

    python benchmarks/export.py [--splats 50000] [--sh-degree 0 3] [--format .spz …]

The splats lie on a closed surface, as a trained asset's do; PSNR is of an egg of 2000 splats in two views of 96 px (120 dB is the cap).
Seconds are of CPU time, ours and of the processes that we start, the least of three: others may be using the machine.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent.parent), str(Path(__file__).resolve().parent.parent / "tests")]

import torch  # noqa: E402
from export_scenes import egg  # noqa: E402
from splat_errors import psnr  # noqa: E402

from fsd_gs.core.types import Gaussians  # noqa: E402
from fsd_gs.export.formats import load_splats, save_splats  # noqa: E402

SUFFIXES = [".ply", ".compressed.ply", ".splat", ".spz", ".sog", ".splat.glb", ".usda", ".usdc", ".usdz", ".html"]


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
    """CPU seconds; the first call pays for imports."""
    seconds = []
    for _ in range(repeats):
        before = os.times()
        action()
        seconds.append(sum(os.times()[:4]) - sum(before[:4]))
    return min(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splats", type=int, default=50_000)
    parser.add_argument("--sh-degree", type=int, nargs="+", default=[0, 3])
    parser.add_argument("--format", nargs="+", default=SUFFIXES, choices=SUFFIXES)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # of colours that a format clips: the PSNR says what that means
    print("| format | SH | PSNR dB | MB | write s | read s |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for sh_degree in arguments.sh_degree:
            splats, shown = surface(arguments.splats, sh_degree), egg(2000, sh_degree)
            for suffix in arguments.format:
                path = Path(folder) / f"a{suffix}"
                write = best_of(lambda splats=splats, path=path: save_splats(splats, path))
                size, read, error = path.stat().st_size / 1e6, "–", "–"
                if suffix != ".html":
                    read = f"{best_of(lambda path=path: load_splats(path)):.2f}"
                    save_splats(shown, path)
                    error = f"{psnr(shown, load_splats(path)):.0f}"
                print(f"| {suffix} | {sh_degree} | {error} | {size:.2f} | {write:.2f} | {read} |", flush=True)


if __name__ == "__main__":
    main()
