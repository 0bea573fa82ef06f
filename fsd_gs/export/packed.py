"""SPZ (Niantic) through gaussforge, and reading of SOG (PlayCanvas) and .ksplat (mkkellogg).

SPZ: gzip of 24-bit positions, 8-bit scales, colours, opacities and SH; by its specification the axes are RUB (y up), so a reader that
keeps to it turns the splats itself. Version 3 is written: version 4 does not open in Spark, version 2 has coarse rotations.
gaussforge does no turning of axes: what goes in as numbers comes out as numbers.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fsd_gs.core.types import Gaussians
from fsd_gs.errors import BackendError, FileFormatError, InputError
from fsd_gs.export.ply import MAX_SPLATS, deactivate, gaussians_from_ply_bytes
from fsd_gs.io import write_bytes

SPZ_VERSION = 3


def save_spz(gaussians: Gaussians, path: str | os.PathLike[str]) -> None:
    """Write SPZ version 3."""
    write_bytes(path, encode(gaussians, "spz", path))


def load_packed(path: str | os.PathLike[str], format_name: str, *, max_splats: int = MAX_SPLATS) -> Gaussians:
    """Read ``format_name`` "spz", "sog" or "ksplat"."""
    path = Path(path)
    # By way of .ply, not gaussforge's read(): that one fails on SPZ (std::bad_cast) in version 0.6.0.
    result = _gaussforge().convert(path.read_bytes(), format_name, "ply")
    if "error" in result or not result["data"]:
        raise FileFormatError(f"{path}: truncated or not a .{format_name} file ({result.get('error', 'nothing in it')})")
    gaussians = gaussians_from_ply_bytes(result["data"], source=str(path))
    if len(gaussians) > max_splats:
        raise FileFormatError(f"{path}: {len(gaussians):,} splats, more than the limit of {max_splats:,}; thin it out first")
    return gaussians


def encode(gaussians: Gaussians, format_name: str, path: str | os.PathLike[str]) -> bytes:
    """The bytes of "spz" or "sog"; ``path`` is named in messages."""
    if not len(gaussians):
        raise InputError(f"cannot write {path}: there are no splats; loosen the filters")
    result = _gaussforge().write(_gaussforge_splats(gaussians), format_name, spz_version=SPZ_VERSION)
    if "error" in result:
        raise BackendError(f"cannot write {path}: gaussforge reports '{result['error']}'; choose another format")
    return result["data"]


def _gaussforge_splats(gaussians: Gaussians) -> dict[str, Any]:
    """gaussforge's own dictionary: stored values as float32 bytes, SH coefficient-major."""
    stored = deactivate(gaussians)

    def raw(values: NDArray[np.float32]) -> bytes:
        return np.ascontiguousarray(values, dtype="<f4").tobytes()

    return {
        "numPoints": len(gaussians),
        "positions": raw(stored.means),
        "scales": raw(stored.log_scales),
        "rotations": raw(stored.quats),
        "alphas": raw(stored.logits),
        "colors": raw(stored.f_dc),
        "sh": raw(gaussians.sh[:, 1:].detach().cpu().float().numpy()),
        "extras": {},
        "meta": {"shDegree": gaussians.sh_degree, "sourceFormat": "ply"},
    }


def _gaussforge() -> Any:
    try:
        import gaussforge
    except ImportError as error:
        raise BackendError("spz, sog and ksplat need the package gaussforge; pip install gaussforge, or choose another format") from error
    return gaussforge.GaussForge()
