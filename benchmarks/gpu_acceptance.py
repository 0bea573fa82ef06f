"""Everything that only a GPU can show, in one table. ``bash benchmarks/gpu_acceptance.sh`` installs the project and calls this.

    tests      pytest -m gpu
    kernels    gsplat's CUDA kernels against ours of the CPU: images and gradients (acceptance/kernels.py)
    steps      a guidance step of the large backbones at full size, split into networks, rasterizer and the rest (step_gpu.py)
    presets    30 steps of every preset through the real command, on folders with random weights (acceptance/preset.py)

Random weights cost what trained ones cost and say nothing about pictures. ``acceptance.json`` has every number, ``acceptance.md`` is the
table; a stage that fails is reported in both, and the others go on. Exit code 1: a test failed, kernels differ, or a preset did not run;
missed goals are only said.

    python benchmarks/gpu_acceptance.py --tiny --device cpu         the same logic on tiny networks, without a GPU
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import step_gpu
import torch
from acceptance import folders, kernels

import fsd_gs

ROOT = Path(__file__).parents[1]
PRESETS = {name: name for name in folders.FAMILIES} | {"sd15+variants/fast": "sd15"}  # preset: family of its folder
STEP_PRIORS = "sd21,sdxl,mvdream"
Row = dict[str, Any]


def about(device: str) -> Row:
    """The machine and the versions."""
    import gsplat

    name = torch.cuda.get_device_name() if device.startswith("cuda") else f"{platform.machine()} CPU"
    versions = {"fsd_gs": fsd_gs.__version__, "torch": torch.__version__, "gsplat": gsplat.__version__, "python": platform.python_version()}
    return {"device": name, "cuda": torch.version.cuda if device.startswith("cuda") else None, **versions}


def run_tests(arguments: argparse.Namespace, scratch: Path) -> list[Row]:
    """One row: what pytest -m gpu said."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-n", "0", *arguments.tests.split(",")]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    lines = said.stdout.strip().splitlines() or said.stderr.strip().splitlines() or ["nothing"]
    return [{"exit": said.returncode, "said": lines[-1], "failed": [line for line in lines if line.startswith("FAILED")]}]


def run_kernels(arguments: argparse.Namespace, scratch: Path) -> list[Row]:
    return kernels.compare(arguments.device, arguments.tiny)


def run_steps(arguments: argparse.Namespace, scratch: Path) -> list[Row]:
    rows = []
    for name in arguments.priors.split(","):
        folder = write(name, arguments, scratch)
        rows.append(step_gpu.measure(folder, step_arguments(arguments)))
        shutil.rmtree(folder)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return rows


def step_arguments(arguments: argparse.Namespace) -> argparse.Namespace:
    few = arguments.tiny
    return argparse.Namespace(
        device=arguments.device,
        dtype=arguments.dtype,
        compile=False,
        no_checkpointing=False,
        views=4,
        splats=200 if few else 50_000,
        steps=2 if few else 20,
        warmup=1 if few else 5,
    )


def run_presets(arguments: argparse.Namespace, scratch: Path) -> list[Row]:
    """A row for each preset: time, memory, and whether its asset is finite."""
    rows = []
    for preset in arguments.presets.split(","):
        folder = write(PRESETS[preset], arguments, scratch)
        settings = [
            f"steps={arguments.steps}",
            f"device={arguments.device}",
            "outputs.turntable_frames=0",
            "outputs.timelapse=false",
            f"prior.dtype={arguments.dtype}",
        ]
        if arguments.tiny:
            settings += ["render.sizes=[16]", "render.size_at=[0.0]", "splats.count=60", "outputs.preview_every=0"]
        command = [
            sys.executable,
            str(Path(__file__).parent / "acceptance/preset.py"),
            preset,
            str(folder),
            str(scratch / "runs"),
            *settings,
        ]
        said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        last = (said.stdout.strip().splitlines() or [""])[-1]
        row = json.loads(last) if last.startswith("{") else {"exit": said.returncode}
        if row["exit"]:
            row["said"] = said.stderr.strip()[-600:]
        rows.append({"preset": preset, **row})
        shutil.rmtree(folder)
        shutil.rmtree(scratch / "runs", ignore_errors=True)
    return rows


def write(family: str, arguments: argparse.Namespace, scratch: Path) -> Path:
    return folders.write(family, scratch / family, tiny=arguments.tiny, device=arguments.device, dtype=getattr(torch, arguments.dtype))


STAGES: dict[str, Callable[[argparse.Namespace, Path], list[Row]]] = {
    "tests": run_tests,
    "kernels": run_kernels,
    "steps": run_steps,
    "presets": run_presets,
}


def failures(report: Row) -> list[str]:
    """What must not be: a stage that broke, failed tests, kernels that differ, presets that did not run to a finite asset."""
    found = [f"{name}: {rows[0]['error']}" for name, rows in report["stages"].items() if rows and "error" in rows[0]]
    for row in report["stages"].get("tests", []):
        if row.get("exit"):
            found.append(f"tests: {row['said']}")
    for row in report["stages"].get("kernels", []):
        if not row.get("equal", True):
            found.append(f"kernels differ: {row['splats']} splats, {row['px']} px, SH {row['SH']}")
    for row in report["stages"].get("presets", []):
        if row.get("exit") or not row.get("finite", True):
            found.append(f"{row.get('preset')}: {row.get('said', 'splats that are not finite')}")
    return found


def goals(report: Row) -> list[Row]:
    """The goals that the measured rows can say something about: goal, value, whether it is met."""
    rows: list[Row] = []

    def add(goal: str, value: float | None, limit: float, unit: str) -> None:
        if value is not None:
            rows.append({"goal": goal, "value": f"{value:.2f} {unit}".strip(), "met": value <= limit})

    for row in report["stages"].get("steps", []):
        if "step_ms" in row:
            add(f"{row['prior']}: step ≤ 1.1 × its networks", row["step_ms"] / row["floor_ms"], 1.1, "×")
            add(f"{row['prior']}: everything else ≤ 15 %", float(row["other"].removesuffix(" %")), 15, "%")
    limits = {"mvdream": 30, "sd21": 60}
    for row in report["stages"].get("presets", []):
        if row.get("preset") in limits:
            limit = limits[row["preset"]]
            add(f"{row['preset']}: an asset ≤ {limit} s", row.get("asset_seconds"), limit, "s")
        if row.get("preset", "").endswith("variants/fast"):
            add("fast preset ≤ 8 GB", row.get("peak_gb"), 8, "GB")
    return rows


def markdown(report: Row) -> str:
    """The report as Markdown: the machine, goals, one table a stage."""
    parts = ["# GPU acceptance", ", ".join(f"{key} {value}" for key, value in report["about"].items() if value)]
    if report["tiny"]:
        parts.append("**A dry run on tiny networks: no figure here means anything.**")
    parts += ["## Failures", "\n".join(f"- {line}" for line in report["failures"]) or "none"]
    parts += ["## Goals", table(report["goals"])]
    for name, rows in report["stages"].items():
        parts += [f"## {name.capitalize()}", table(rows)]
    return "\n\n".join(parts) + "\n"


def table(rows: list[Row]) -> str:
    if not rows:
        return "nothing"
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    return "\n".join(lines + ["| " + " | ".join(cell(row.get(name)) for name in names) + " |" for row in rows])


def cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "**no**"
    text = "" if value is None else f"{value:.2g}" if isinstance(value, float) and abs(value) < 0.01 else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default=None, choices=("bfloat16", "float16", "float32"), help="default: bfloat16, on a CPU float32")
    parser.add_argument("--stages", default=",".join(STAGES), help="of " + ", ".join(STAGES))
    parser.add_argument("--tests", default="tests", help="what pytest -m gpu collects")
    parser.add_argument("--priors", default=STEP_PRIORS, help="of the stage steps")
    parser.add_argument("--presets", default=",".join(PRESETS), help="of the stage presets")
    parser.add_argument("--steps", type=int, default=30, help="of a preset")
    parser.add_argument(
        "--scratch", type=Path, default=None, help="where folders of networks are written, up to 30 GB (flux); default: temporary"
    )
    parser.add_argument("--output", type=Path, default=Path("outputs/acceptance"))
    parser.add_argument("--tiny", action="store_true", help="tiny networks: only to see that everything runs")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.stages.split(",") if name not in STAGES]
    unknown += [name for name in arguments.presets.split(",") if name not in PRESETS]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; stages are {', '.join(STAGES)}, presets {', '.join(PRESETS)}")
    if arguments.device.startswith("cuda") and not torch.cuda.is_available():
        print("error: --device: expected a CUDA device, and torch sees none; --tiny --device cpu tries the logic alone", file=sys.stderr)
        return 2
    arguments.dtype = arguments.dtype or ("bfloat16" if arguments.device.startswith("cuda") else "float32")
    report: Row = {"about": about(arguments.device), "tiny": arguments.tiny, "stages": {}}
    arguments.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as scratch:
        for name in arguments.stages.split(","):
            print(f"{name} …", flush=True)
            try:
                report["stages"][name] = STAGES[name](arguments, Path(scratch))
            except Exception as error:  # a stage that breaks is a result; the GPU's time goes on to the others
                traceback.print_exc()
                report["stages"][name] = [{"error": f"{type(error).__name__}: {error}"}]
            report["failures"], report["goals"] = failures(report), goals(report)
            (arguments.output / "acceptance.json").write_text(json.dumps(report, indent=1) + "\n")
            (arguments.output / "acceptance.md").write_text(markdown(report))
    print(markdown(report))
    return 1 if report["failures"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
