"""OpenUSD's ParticleField3DGaussianSplat (UsdVol, OpenUSD 26.3 and later): .usda, .usdc and .usdz.

The schema (``pxr/usd/usdVol/schema.usda``), attribute by attribute:

    positions, orientations   point3f[], quatf[] (w x y z)
    scales                    "Affine linear scale factor applied to the kernel"; the Gaussian ellipsoid's has a standard deviation of 1
    opacities                 "in the range [0, 1], … not the transformed data sometimes seen in PLY files"
    radiance:sphericalHarmonicsDegree, …Coefficients
                              "each particle has N contiguous coefficients": [N (degree + 1)², 3], in our order and signs
    sortingModeHint, projectionModeHint   "zDepth", "perspective": what our rasterizers and the reference code do

The stage says how it stands: we write upAxis Y (AR Quick Look takes nothing else) with the front along +z, metres. Files are read in a
process of their own, because the library reads binary files with native code, and a damaged one must not take us with it.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fsd_gs.core.types import Gaussians
from fsd_gs.errors import BackendError, FileFormatError, OutputError
from fsd_gs.export._usd_reading import FIELDS, REFUSED, run_reader
from fsd_gs.export.axes import place, to_target
from fsd_gs.export.gate import MAX_SPLATS, read_start, require_magic
from fsd_gs.export.provenance import KEY, Provenance
from fsd_gs.export.quantise import finite_splats, require_splats
from fsd_gs.export.stored import assemble, pad_sh
from fsd_gs.io import atomic_write

_MAGICS = {".usda": b"#usda", ".usdc": b"PXR-USDC", ".usdz": b"PK\x03\x04"}
_NEEDS = "OpenUSD files need the package usd-core of version 26.3 or later: pip install usd-core"


def save_usd(gaussians: Gaussians, path: str | os.PathLike[str], *, provenance: Provenance | None = None, strict: bool = False) -> None:
    """Write ``gaussians``, in y-up axes, as .usda, .usdc or .usdz.

    Args:
        gaussians: splats, as they shall stand in the file.
        path: its suffix chooses the kind.
        provenance: for the layer's customLayerData.
        strict: refuse splats that are not finite instead of dropping them with a warning.

    Raises:
        BackendError: usd-core is missing or too old.
        OutputError: the file cannot be written; what was there stays.
    """
    require_splats(gaussians, path)
    usd = _library()
    stage = _stage(usd, finite_splats(gaussians, path, strict).detach().to("cpu", torch.float32), provenance or Provenance())
    with atomic_write(path) as temporary:
        try:
            written = _write(usd, stage, temporary)
        except usd.Tf.ErrorException as error:  # OpenUSD's own, whatever the reason
            raise OutputError(f"{path}: cannot be written ({_reason(str(error))}); free some space or choose another folder") from error
        if not written:
            raise OutputError(f"{path}: cannot be written whole; free some space or choose another folder")


def _write(usd: Any, stage: Any, path: Path) -> bool:
    """Whether all of ``stage`` is in ``path``."""
    if path.suffix.lower() != ".usdz":
        return bool(stage.GetRootLayer().Export(str(path)))
    with tempfile.TemporaryDirectory() as folder:
        inside = Path(folder) / "splats.usdc"
        if not stage.GetRootLayer().Export(str(inside)):
            return False
        path.unlink()
        with usd.Sdf.ZipFileWriter.CreateNew(str(path)) as package:
            added = package.AddFile(str(inside), inside.name)
        return bool(added) and _is_whole(path)


def _is_whole(package: Path) -> bool:
    """OpenUSD closes a package on a full disk without a word: its checksums tell."""
    try:
        with zipfile.ZipFile(package) as opened:
            return opened.testzip() is None
    except (OSError, zipfile.BadZipFile):
        return False


def _reason(text: str) -> str:
    """The message inside what OpenUSD prints around it."""
    quoted = re.findall(r"'([^']+)'\s*$", text.strip())
    return quoted[-1] if quoted else " ".join(text.split())


def _stage(usd: Any, g: Gaussians, provenance: Provenance) -> Any:
    vt = usd.Vt
    stage = usd.Usd.Stage.CreateInMemory()
    usd.UsdGeom.SetStageUpAxis(stage, usd.UsdGeom.Tokens.y)
    usd.UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    stage.GetRootLayer().customLayerData = {KEY: provenance.known()}
    splats = usd.UsdVol.ParticleField3DGaussianSplat.Define(stage, "/Splats")
    stage.SetDefaultPrim(splats.GetPrim())
    splats.CreatePositionsAttr(vt.Vec3fArray.FromNumpy(g.means.numpy()))
    splats.CreateOrientationsAttr(vt.QuatfArray.FromNumpy(g.quats[:, [1, 2, 3, 0]].contiguous().numpy()))  # Gf keeps the real part last
    splats.CreateScalesAttr(vt.Vec3fArray.FromNumpy(g.scales.numpy()))
    splats.CreateOpacitiesAttr(vt.FloatArray.FromNumpy(g.opacities.clamp(0, 1).numpy()))
    splats.CreateRadianceSphericalHarmonicsDegreeAttr(g.sh_degree)
    splats.CreateRadianceSphericalHarmonicsCoefficientsAttr(vt.Vec3fArray.FromNumpy(g.sh.reshape(-1, 3).contiguous().numpy()))
    splats.CreateSortingModeHintAttr("zDepth")
    splats.CreateProjectionModeHintAttr("perspective")
    reach = 3 * g.scales.amax(dim=1, keepdim=True)
    splats.CreateExtentAttr(vt.Vec3fArray.FromNumpy(torch.stack([(g.means - reach).amin(0), (g.means + reach).amax(0)]).numpy()))
    return stage


def load_usd(path: str | os.PathLike[str], *, max_splats: int = MAX_SPLATS) -> Gaussians:
    """Read all ParticleField3DGaussianSplat of a stage, in y-up axes: float32, CPU.

    Raises FileFormatError for a file that is damaged or holds no splats, BackendError where usd-core is missing.
    """
    path = Path(path)
    require_magic(path, read_start(path), path.suffix.lower(), _MAGICS[path.suffix.lower()])
    _library()
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "splats.npz"
        try:
            status, words = run_reader("splats", str(path), str(found), str(max_splats))
        except subprocess.TimeoutExpired as error:
            raise FileFormatError(f"{path}: damaged or too large (not read within {error.timeout:.0f} s)") from error
        if status == REFUSED:
            raise FileFormatError(f"{path}: {words}")
        if status or not found.is_file():
            raise FileFormatError(f"{path}: truncated or damaged; OpenUSD cannot read it")
        with np.load(found, allow_pickle=False) as columns:
            return _assembled(columns, str(path))


def _assembled(columns: Any, source: str) -> Gaussians:
    """The prims of the child's answer in the world of their stage, y up."""
    prims = range(sum(name.endswith(".matrix") for name in columns))
    parts = [place(assemble(*(columns[f"{i}.{name}"] for name in FIELDS), source=source), columns[f"{i}.matrix"], source) for i in prims]
    degree = max(part.sh_degree for part in parts)
    parts = [pad_sh(part, degree) for part in parts]
    splats = Gaussians(*(torch.cat([getattr(part, name) for part in parts]) for name in FIELDS))
    return splats if str(columns["up"]) == "Y" else to_target(splats, "spark")


def _library() -> Any:
    """The modules of usd-core that are used here."""
    try:
        import pxr
        from pxr import Sdf, Usd, UsdGeom, UsdVol, Vt  # noqa: F401 — loads them into pxr
    except ImportError as error:
        raise BackendError(_NEEDS) from error
    if not hasattr(UsdVol, "ParticleField3DGaussianSplat"):
        raise BackendError(_NEEDS)
    return pxr
