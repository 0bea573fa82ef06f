"""Reading OpenUSD in a process of its own: python -m fsd_gs.export._usd_reading splats FILE OUT.npz MAX, or … provenance FILE.

OpenUSD reads files with native code, so that a damaged one may crash, hang or ask for any memory: here it meets limits that follow from
the file's size, and takes nobody with it. Neither torch nor a layer outside of the file's folder is loaded. Status 0: OUT.npz holds, for
prim i, ``i.means`` … ``i.sh`` and ``i.matrix``, and the stage's ``up``; status 3: stdout says what is wrong; any other: damaged.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

MEMORY, MEMORY_PER_BYTE = 640 << 20, 64  # of text, a number of ten bytes becomes a value of some dozen; compressed arrays hold less
SECONDS, BYTES_PER_SECOND = 8, 1 << 20
PATIENCE = 60  # seconds of the clock, on a machine that is busy
REFUSED = 3
FIELDS = ("means", "quats", "scales", "opacities", "sh")


def run_reader(*words: str) -> tuple[int, str]:
    """(exit status, stdout) of ``_usd_reading`` with the command line ``words``, in a process of its own.

    Raises subprocess.TimeoutExpired if it waits for something other than the CPU, whose time is limited in there.
    """
    patience = PATIENCE + Path(words[1]).stat().st_size / BYTES_PER_SECOND
    command = [sys.executable, "-m", "fsd_gs.export._usd_reading", *words]
    # Every further thread wants address space for its stack.
    one_thread = os.environ | {"PXR_WORK_THREAD_LIMIT": "1", "TF_ENV_SETTING_ALERTS_ENABLED": "0"}
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=patience, env=one_thread)
    return done.returncode, done.stdout.strip()


def main(words: list[str]) -> int:
    """:func:`read`, within limits."""
    _modules()  # is not part of what the file asks for
    limit(os.path.getsize(words[1]))
    return read(words)


def read(words: list[str]) -> int:
    """Do what the command line ``words`` say; the exit status."""
    kind, path = words[:2]
    _, sdf, *rest = _modules()
    layer = sdf.Layer.FindOrOpen(path)
    if layer is None:
        return 1
    if kind == "provenance":
        print(json.dumps(dict(layer.customLayerData.get("fsd_gs", {}))))
        return 0
    if outside := _outside(sdf, layer, Path(path).resolve()):
        print(f"refers to '{outside}', which is no file in its own folder; flatten it first (usdcat --flatten)")
        return REFUSED
    return _write_splats(rest, layer, words[2], int(words[3]))


def limit(size: int) -> None:
    """Bound this process' memory and time by what a good file of ``size`` bytes needs; nothing where the system has no such limits."""
    try:
        import resource
    except ImportError:  # Windows
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime + SECONDS + size / BYTES_PER_SECOND) + 1
    statm = Path("/proc/self/statm")
    wanted = [(resource.RLIMIT_CPU, seconds), (resource.RLIMIT_CORE, 0)]
    if statm.is_file():
        pages = int(statm.read_text().split()[0])
        wanted.append((resource.RLIMIT_AS, pages * resource.getpagesize() + MEMORY + MEMORY_PER_BYTE * size))
    for what, value in wanted:
        hard = resource.getrlimit(what)[1]
        resource.setrlimit(what, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def _outside(sdf: Any, root: Any, path: Path) -> str | None:
    """The first layer that the file draws in and that is not a regular file in its own folder; None if there is none."""
    waiting, seen = [root], {root.identifier}
    while waiting:
        layer = waiting.pop()
        for name in layer.GetCompositionAssetDependencies():
            anchored = sdf.ComputeAssetPathRelativeToLayer(layer, name)
            real = Path(anchored.split("[")[0]).resolve()
            if real.exists() and not (real.is_file() and real.is_relative_to(path.parent)):
                return str(name)
            if anchored not in seen and real.exists():
                seen.add(anchored)
                waiting += [found] if (found := sdf.Layer.FindOrOpen(anchored)) else []
    return None


def _write_splats(modules: list[Any], layer: Any, target: str, max_splats: int) -> int:
    Usd, UsdGeom, UsdVol = modules
    stage = Usd.Stage.Open(layer, Usd.Stage.LoadAll)
    found: dict[str, np.ndarray] = {"up": np.array(str(UsdGeom.GetStageUpAxis(stage)))}
    total = prims = 0
    for prim in stage.Traverse():
        if not prim.IsA(UsdVol.ParticleField3DGaussianSplat):
            continue
        columns = _columns(UsdVol.ParticleField3DGaussianSplat(prim), Usd.TimeCode.EarliestTime())
        total += len(columns[0])
        if total > max_splats:
            print(f"{total:,} splats, more than the limit of {max_splats:,}; thin it out first or raise max_splats")
            return REFUSED
        found |= {f"{prims}.{name}": values for name, values in zip(FIELDS, columns, strict=True)}
        matrix = UsdGeom.Xformable(prim).ComputeLocalToWorldTransform(Usd.TimeCode.EarliestTime())
        found[f"{prims}.matrix"] = np.array(matrix).T  # rows times matrix there
        prims += 1
    if not prims:
        print("holds no ParticleField3DGaussianSplat; export the splats with that schema")
        return REFUSED
    np.savez(target, **found)  # type: ignore[arg-type] — no field is called allow_pickle
    return 0


def _columns(prim: Any, time: Any) -> list[np.ndarray]:
    """[means, quats wxyz, scales, opacities, sh]; single precision where both are there, the schema's defaults where an array is not."""

    def values(*names: str) -> np.ndarray | None:
        for name in names:
            found = getattr(prim, f"Get{name}Attr")().Get(time)
            if found is not None and len(found):
                return np.array(found, dtype=np.float32)
        return None

    means = values("Positions", "Positionsh")
    means = np.zeros((0, 3), np.float32) if means is None else means
    count = len(means)
    quats, scales, opacities = values("Orientations", "Orientationsh"), values("Scales", "Scalesh"), values("Opacities", "Opacitiesh")
    declared = max(int(prim.GetRadianceSphericalHarmonicsDegreeAttr().Get() or 0), 0)
    degree, size = min(declared, 3), (declared + 1) ** 2
    sh = values("RadianceSphericalHarmonicsCoefficients", "RadianceSphericalHarmonicsCoefficientsh")
    coefficients = np.zeros((count, 1, 3), np.float32)
    if sh is not None and len(sh) >= count * size:
        coefficients = sh[: count * size].reshape(count, size, 3)[:, : (degree + 1) ** 2]
    identity = np.tile(np.array([1, 0, 0, 0], np.float32), (count, 1))
    return [
        means,
        identity if quats is None or len(quats) < count else quats[:count, [3, 0, 1, 2]],  # x y z w in the library's arrays
        np.ones((count, 3), np.float32) if scales is None or len(scales) < count else scales[:count],
        np.ones(count, np.float32) if opacities is None or len(opacities) < count else opacities[:count].clip(0, 1),
        coefficients,
    ]


def _modules() -> list[Any]:
    """Ar, Sdf, Usd, UsdGeom, UsdVol of usd-core, which has no types."""
    return [importlib.import_module(f"pxr.{name}") for name in ("Ar", "Sdf", "Usd", "UsdGeom", "UsdVol")]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
