"""``fsd-gs doctor``: what this machine can do, and what to do about what it cannot. Needs no network and changes nothing.

Each check is a function that returns one or more :class:`Check`; ``CHECKS`` lists them in the order they are shown.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import math
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from fsd_gs.core import commandline
from fsd_gs.core.cameras import orbit_cameras
from fsd_gs.core.types import Gaussians
from fsd_gs.errors import FsdGsError

MIN_PYTHON = (3, 10)
DISK_FOR_OUTPUTS_GB = 1.0
# A backbone should fit where its half-precision weights take at most this share of the GPU; the rest is for activations and splats.
# A rule of thumb, not a measurement.
WEIGHTS_SHARE = 0.4
# From the most wanted to the most frugal; the default, "nano", ships with the package.
PRESETS_BY_WISH = ("mvdream", "sd21", "sd15")


@dataclass(frozen=True)
class Check:
    """What a check found.

    Attributes:
        ok: True is fine, False needs action, None is for information.
        advice: what to do; never empty when ok is False.
    """

    name: str
    ok: bool | None
    detail: str
    advice: str = ""


def run_checks() -> list[Check]:
    """All checks, in order. None of them raises; a check that breaks is itself reported."""
    results: list[Check] = []
    for check in CHECKS:
        try:
            found = check()
        except Exception as error:  # a doctor that crashes on a sick machine is no use
            advice = "please report this with the line on the left"
            found = Check(check.__name__.removeprefix("check_"), False, f"the check itself failed: {type(error).__name__}: {error}", advice)
        results += [found] if isinstance(found, Check) else list(found)
    return results


def check_python() -> Check:
    """Whether this Python is new enough."""
    version = platform.python_version()
    if sys.version_info[:2] >= MIN_PYTHON:
        return Check("Python", True, f"{version} ({sys.executable})")
    return Check(
        "Python", False, version, f"install Python {MIN_PYTHON[0]}.{MIN_PYTHON[1]} or newer and make a new virtual environment with it"
    )


def check_packages() -> Check:
    """The packages that a run with a real backbone imports."""
    needed = ("torch", "diffusers", "transformers", "safetensors", "gsplat", "numba", "kornia", "omegaconf")
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in needed if name not in missing)
    if missing:
        return Check("Packages", False, f"missing: {', '.join(missing)}", f"python -m pip install {' '.join(missing)}")
    return Check("Packages", True, versions)


def check_gpu() -> Check:
    """Whether torch sees a CUDA GPU, and if not, why."""
    if torch.cuda.is_available():
        names = [
            f"{torch.cuda.get_device_name(i)} ({torch.cuda.get_device_properties(i).total_memory / 1e9:.0f} GB)"
            for i in range(torch.cuda.device_count())
        ]
        return Check("GPU", True, f"torch {torch.__version__} sees {', '.join(names)}")
    if shutil.which("nvidia-smi") is None:
        return Check(
            "GPU", None, f"torch {torch.__version__}, no NVIDIA driver: runs on the CPU with the prior that ships with the package"
        )
    if torch.version.cuda is None:
        advice = "install a CUDA build of torch: https://pytorch.org/get-started/locally"
        return Check("GPU", False, f"there is an NVIDIA driver, but torch {torch.__version__} is a CPU build", advice)
    advice = (
        f"update the NVIDIA driver so that it supports CUDA {torch.version.cuda}, or check CUDA_VISIBLE_DEVICES and the container's --gpus"
    )
    return Check("GPU", False, f"torch {torch.__version__} is built for CUDA {torch.version.cuda}, but no device answers", advice)


def nvcc_release() -> str | None:
    """Version of the CUDA compiler on this machine, such as "12.8"; None without one."""
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    nvcc = shutil.which("nvcc") or (str(Path(home) / "bin" / "nvcc") if home else None)
    if nvcc is None or not Path(nvcc).exists():
        return None
    try:
        output = subprocess.run([nvcc, "--version"], capture_output=True, text=True, timeout=30, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parse_nvcc(output)


def parse_nvcc(output: str) -> str | None:
    """ "12.8" from the text of ``nvcc --version``."""
    match = re.search(r"release (\d+\.\d+)", output)
    return match[1] if match else None


def check_nvcc() -> Check:
    """Whether the CUDA compiler fits torch."""
    return judge_nvcc(torch.version.cuda, nvcc_release(), torch.cuda.is_available())


def judge_nvcc(torch_cuda: str | None, nvcc: str | None, gpu: bool) -> Check:
    """Whether the compiler fits the CUDA version that torch was built with: the major versions must agree."""
    if not gpu:
        return Check("nvcc", None, f"not needed without a CUDA GPU (found {nvcc or 'none'})")
    if nvcc is None:
        advice = f"only needed if gsplat has no prebuilt kernels: install the CUDA {torch_cuda} toolkit and put nvcc on PATH"
        return Check("nvcc", None, "no CUDA compiler found", advice)
    if torch_cuda is not None and nvcc.split(".")[0] == torch_cuda.split(".")[0]:
        return Check("nvcc", True, f"{nvcc}, torch was built with CUDA {torch_cuda}")
    advice = f"install the CUDA {torch_cuda} toolkit (or set CUDA_HOME to it): gsplat's kernels cannot be built with another major version"
    return Check("nvcc", False, f"{nvcc}, but torch was built with CUDA {torch_cuda}", advice)


def one_splat_error(backend: str, device: str) -> float:
    """Render one splat and return how far the middle of the image is from what the formula says.

    A grey splat of σ = 0.2 and opacity 0.8 at the origin, seen from distance 2: the alpha at the centre of the image is 0.8 up to the
    half-pixel offset, exp(−½ d²/σ²) with d = 0.71 pixels and σ = 7.7 pixels.
    """
    from fsd_gs.render import make_rasterizer

    size, fov = 64, 45.0
    cameras = orbit_cameras([0.0], 0.0, distance=2.0, fov_y_deg=fov, width=size, device=device)
    splat = Gaussians(
        torch.zeros(1, 3), torch.tensor([[1.0, 0.0, 0.0, 0.0]]), torch.full((1, 3), 0.2), torch.tensor([0.8]), torch.zeros(1, 1, 3)
    )
    view = make_rasterizer(backend, device)(splat.to(device), cameras)
    sigma = 0.2 * size / (2 * math.tan(math.radians(fov) / 2)) / 2.0
    expected = 0.8 * math.exp(-0.25 / (sigma**2 + 0.3))  # d² = ½; 0.3 pixel² is the rasterizer's own blur
    return abs(float(view.alpha[0, size // 2, size // 2, 0]) - expected)


def check_cpu_kernels() -> Check:
    """Whether the CPU rasterizer draws one splat right."""
    try:
        error = one_splat_error("cpu", "cpu")
    except Exception as failure:
        advice = "reinstall numba (python -m pip install --force-reinstall numba); is the package's folder or NUMBA_CACHE_DIR writable?"
        return Check("CPU rasterizer", False, _one_line(failure), advice)
    return _judge_splat("CPU rasterizer", error, "python -m pip install --force-reinstall numba")


def check_cuda_kernels() -> Check:
    """Whether gsplat's kernels draw one splat right."""
    if not torch.cuda.is_available():
        return Check("CUDA rasterizer", None, "no CUDA GPU: the CPU rasterizer is used")
    try:
        error = one_splat_error("cuda", "cuda")
    except FsdGsError as failure:
        return Check("CUDA rasterizer", False, _one_line(failure), "follow the line on the left, or use render.backend=cpu")
    return _judge_splat("CUDA rasterizer", error, "reinstall gsplat for this torch and CUDA version")


def _judge_splat(name: str, error: float, advice: str) -> Check:
    if error < 1e-3:
        return Check(name, True, f"one splat drawn, {error:.0e} from the formula")
    return Check(name, False, f"one splat drawn, but {error:.1e} away from the formula", advice)


def check_disk() -> list[Check]:
    """Free space where results and weights go."""
    from huggingface_hub import constants

    places = {"Disk for results": (Path.cwd(), DISK_FOR_OUTPUTS_GB), "Disk for weights": (Path(constants.HF_HUB_CACHE), 3.0)}
    return [judge_disk(name, folder, needed) for name, (folder, needed) in places.items()]


def judge_disk(name: str, folder: Path, needed_gb: float) -> Check:
    """Whether ``folder`` (or the first parent that exists) has ``needed_gb`` free."""
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    free = shutil.disk_usage(existing).free / 1e9
    if free >= needed_gb:
        return Check(name, True, f"{free:.0f} GB free in {folder}")
    move = "point HF_HOME to a larger disk" if "weights" in name else "choose another folder with output=…"
    return Check(name, False, f"{free:.1f} GB free in {folder}, {needed_gb:g} GB wanted", f"free some space, or {move}")


def check_video() -> Check:
    """Whether a video can be written."""
    from fsd_gs.export.video import require_encoder

    try:
        return Check("Video", True, require_encoder())
    except FsdGsError as error:
        return Check("Video", False, _one_line(error), "pip install av (turntable.mp4 is left out without it)")


def check_backbones() -> Iterable[Check]:
    """Which backbones are in the local cache, and how large the others are."""
    from fsd_gs.priors.backbones import published
    from fsd_gs.priors.hub import cached_folder

    for name, backbone in published().items():
        folder = next((f for f in map(cached_folder, backbone.sources) if f is not None), None)
        if folder is not None:
            yield Check(f"Backbone {name}", True, f"in the cache ({folder}); licence: {backbone.licence}")
            continue
        size = f"not in the cache; prior.name={name} would download about {backbone.download_gb:.1f} GB from {backbone.sources[0].repo_id}"
        yield Check(f"Backbone {name}", None, f"{size}; licence: {backbone.licence}")


def check_preset() -> Check:
    """The preset for the GPU of this machine."""
    memory = torch.cuda.get_device_properties(0).total_memory / 1e9 if torch.cuda.is_available() else 0.0
    return judge_preset(memory)


def judge_preset(memory_gb: float) -> Check:
    """The preset for a GPU of ``memory_gb`` (0: none)."""
    from fsd_gs.priors.backbones import published

    if memory_gb == 0:
        return Check("Preset", None, "no CUDA GPU: keep the default prior, which needs no weights", 'python train.py prompt="a red chair"')
    fitting = [name for name, backbone in published().items() if backbone.weights_gb <= WEIGHTS_SHARE * memory_gb]
    best = next((name for name in PRESETS_BY_WISH if name in fitting), None)
    if best is None:
        detail = f"{memory_gb:.1f} GB of GPU memory: too little for the real backbones"
        return Check("Preset", None, detail, "keep the default prior, or try prior.tiny_vae=madebyollin/taesd with --config sd15")
    detail = f"{memory_gb:.0f} GB of GPU memory: {', '.join(fitting)} should fit by the size of their weights"
    return Check("Preset", True, detail, f'python train.py --config {best} prompt="a red chair"')


def _one_line(error: BaseException) -> str:
    return " ".join((str(error) or type(error).__name__).split())[:300]


CHECKS: tuple[Callable[[], Check | Iterable[Check]], ...] = (
    check_python,
    check_packages,
    check_gpu,
    check_nvcc,
    check_cpu_kernels,
    check_cuda_kernels,
    check_disk,
    check_video,
    check_backbones,
    check_preset,
)


def print_checks(checks: Sequence[Check]) -> None:
    """A table, and below it what to do about each failed check."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    marks = {True: Text("ok", style="green"), False: Text("FAILED", style="bold red"), None: Text("info", style="dim")}
    table = Table(box=None, pad_edge=False)
    for column in ("", "check", "found"):
        table.add_column(column, overflow="fold")
    for check in checks:
        detail = Text(check.detail)
        if check.advice:
            detail.append(f"\n→ {check.advice}", style="dim" if check.ok is not False else "yellow")
        table.add_row(marks[check.ok], check.name, detail)
    Console().print(table)


def make_parser(program: str) -> commandline.Parser:
    """The options of ``fsd-gs doctor``."""
    return commandline.make_parser(program, "Check this machine; no network is used and nothing is changed.")


def main(arguments: Sequence[str], program: str) -> int:
    """``fsd-gs doctor``: exit code 0 if nothing failed, 1 otherwise."""
    commandline.parse(make_parser(program), arguments)
    checks = run_checks()
    print_checks(checks)
    failed = [check.name for check in checks if check.ok is False]
    print(f"\n{len(failed)} failed: {', '.join(failed)}" if failed else "\nEverything that was asked for works.")
    return 1 if failed else 0
