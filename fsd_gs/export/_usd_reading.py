"""The child process of ``usd.load_usd``: python -m fsd_gs.export._usd_reading FILE OUT.npz MAX; status 3: stdout says what is wrong.

With FILE alone it prints the layer's customLayerData of ours as JSON (``provenance``).
"""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any

import numpy as np


def main(path: str, target: str, max_splats: int) -> int:
    Usd, UsdGeom, UsdVol = (_module(name) for name in ("Usd", "UsdGeom", "UsdVol"))
    from fsd_gs.errors import FsdGsError
    from fsd_gs.export.stored import pad_sh
    from fsd_gs.export.usd import placed

    stage = Usd.Stage.Open(path, Usd.Stage.LoadAll)
    prims = [UsdVol.ParticleField3DGaussianSplat(prim) for prim in stage.Traverse() if prim.IsA(UsdVol.ParticleField3DGaussianSplat)]
    if not prims:
        print("holds no ParticleField3DGaussianSplat; export the splats with that schema")
        return 3
    total, parts = 0, []
    for prim in prims:
        columns = _columns(prim)
        total += len(columns[0])
        if total > max_splats:
            print(f"{total:,} splats, more than the limit of {max_splats:,}; thin it out first or raise max_splats")
            return 3
        matrix = np.array(UsdGeom.Xformable(prim).ComputeLocalToWorldTransform(Usd.TimeCode.EarliestTime())).T  # rows times matrix there
        try:
            parts.append(placed(columns, matrix, "USD"))
        except FsdGsError as error:
            print(str(error))
            return 3
    degree = max(part.sh_degree for part in parts)
    parts = [pad_sh(part, degree) for part in parts]
    fields = {name: np.concatenate([getattr(p, name).numpy() for p in parts]) for name in ("means", "quats", "scales", "opacities", "sh")}
    fields["up"] = np.array(str(UsdGeom.GetStageUpAxis(stage)))
    np.savez(target, **fields)  # type: ignore[arg-type] — no field is called allow_pickle
    return 0


def _module(name: str) -> Any:
    """A module of usd-core, which has no types."""
    return importlib.import_module(f"pxr.{name}")


def _columns(prim: Any) -> list[np.ndarray]:
    """[means, quats wxyz, scales, opacities, sh]; single precision where both are there, the schema's defaults where an array is not."""
    Usd = _module("Usd")

    def values(*names: str) -> np.ndarray | None:
        for name in names:
            found = getattr(prim, f"Get{name}Attr")().Get(Usd.TimeCode.EarliestTime())
            if found is not None and len(found):
                return np.array(found, dtype=np.float32)
        return None

    means = values("Positions", "Positionsh")
    means = np.zeros((0, 3), np.float32) if means is None else means
    count = len(means)
    quats, scales, opacities = values("Orientations", "Orientationsh"), values("Scales", "Scalesh"), values("Opacities", "Opacitiesh")
    degree = min(int(prim.GetRadianceSphericalHarmonicsDegreeAttr().Get() or 0), 3)
    size = (int(prim.GetRadianceSphericalHarmonicsDegreeAttr().Get() or 0) + 1) ** 2
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


def print_provenance(path: str) -> int:
    print(json.dumps(dict(_module("Sdf").Layer.FindOrOpen(path).customLayerData.get("fsd_gs", {}))))
    return 0


if __name__ == "__main__":
    sys.exit(print_provenance(sys.argv[1]) if len(sys.argv) == 2 else main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
