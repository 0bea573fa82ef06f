"""One preset for a few steps through the real command, in a process of its own:

    python benchmarks/acceptance/preset.py NAME[+NAME] FOLDER OUTPUT [key=value …]

The last line of the output is JSON: time of a step (median of the later half, where renders are largest), of everything, peak memory,
splats. The asset of all steps is estimated by that step times the preset's own number of steps: an upper bound, for early steps render
fewer pixels.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path

import torch

from fsd_gs.cli import main as fsd_gs
from fsd_gs.config import load_config
from fsd_gs.export.formats import load_splats


def run(preset: list[str], folder: Path, output: Path, overrides: list[str]) -> dict[str, object]:
    configs = [word for name in preset for word in ("--config", name)]
    began = time.perf_counter()
    code = fsd_gs(["train", *configs, "prompt=a red chair", f"prior.name={folder}", f"output={output}", "overwrite=true", *overrides])
    seconds = time.perf_counter() - began
    if code:
        return {"exit": code}
    asset = next(output.glob("*/seed-*"))
    steps = [line for line in map(json.loads, (asset / "log.jsonl").read_text().splitlines()) if "loss" in line]
    splats = load_splats(asset / "splats.ply")
    step = statistics.median(line["seconds"] for line in steps[len(steps) // 2 :])
    whole = load_config(preset, ["prompt=a red chair"]).steps
    return {
        "exit": 0,
        "steps": len(steps),
        "step_ms": round(1000 * step, 1),
        "seconds": round(seconds, 1),
        "asset_seconds": round(step * whole, 1),
        "of_steps": whole,
        "peak_gb": round(torch.cuda.max_memory_allocated() / 1e9, 2) if torch.cuda.is_available() else None,
        "splats": len(splats.means),
        "finite": all(bool(torch.isfinite(getattr(splats, name)).all()) for name in ("means", "scales", "opacities", "sh")),
    }


if __name__ == "__main__":
    name, folder, output, *overrides = sys.argv[1:]
    print(json.dumps(run(name.split("+"), Path(folder), Path(output), overrides)))
