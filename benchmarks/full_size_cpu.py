"""Steps of a full-size backbone on the CPU, random weights: whether everything fits together at that size, with time and peak memory.

    python benchmarks/full_size_cpu.py --prior sdxl --size 512 --steps 2

The folder is written in half precision by a process of its own, loaded as float32 as any other, and driven by ``fsd_gs.generate``: view
prompts, both CFG halves, the VAE's gradient, the rasterizer. Peak memory is the resident set of that process.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from acceptance import folders


def write(name: str, folder: Path, tiny: bool) -> None:
    import torch

    folders.write(name, folder, tiny=tiny, device="cpu", dtype=torch.float32 if tiny else torch.float16)


def run(folder: Path, arguments: argparse.Namespace) -> dict:
    """Seconds and peak memory of a run of a few steps."""
    import torch

    import fsd_gs

    size, seconds = arguments.size, []
    settings = [f"prior.name={folder}", f"prior.image_size={size}", "prior.dtype=float32", f"steps={arguments.steps}"]
    settings += [f"render.sizes=[{size}]", "cameras.views=1", "splats.count=5000", "guidance.cfg_scale=7.5", "guidance.weight=one"]
    began = time.perf_counter()
    result = fsd_gs.generate("a red chair", overrides=settings, callbacks=[lambda report: seconds.append(round(report.seconds, 1))])
    whole = time.perf_counter() - began
    assert bool(torch.isfinite(result.splats.means).all())
    return {
        "prior": arguments.prior,
        "image": size,
        "loading and the rest, s": round(whole - sum(seconds), 1),
        "steps, s": seconds,
        "peak memory, GB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prior", default="sdxl", choices=sorted(set(folders.FAMILIES) - {"mvdream", "flux", "sd3"}))
    parser.add_argument("--size", type=int, default=512, help="side of the images in pixels")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--tiny", action="store_true", help="tiny networks: only to see that the script runs")
    parser.add_argument("--write", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.write:
        write(arguments.prior, Path(arguments.write), arguments.tiny)
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / arguments.prior
        subprocess.run([sys.executable, *sys.argv, "--write", str(folder)], check=True)
        print(json.dumps(run(folder, arguments)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
