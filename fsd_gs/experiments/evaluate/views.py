"""The pictures an asset is judged by: V views over white, rounded to 8 bits as a file holds them, kept beside the asset.

A row of pictures is one PNG of S × (V·S) pixels, so that the folder of an asset shows it at a glance.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fsd_gs.config import Config
from fsd_gs.core.cameras import evaluation_orbit
from fsd_gs.core.device import resolve_device
from fsd_gs.core.sheets import to_uint8
from fsd_gs.experiments.evaluate.assets import Record, load_splats
from fsd_gs.experiments.evaluate.suite import Protocol
from fsd_gs.export.pictures import save_png
from fsd_gs.metrics.geometry import GeometryReport, geometry_report
from fsd_gs.metrics.geometry.report import SIZE, VIEWS
from fsd_gs.render import make_rasterizer
from fsd_gs.train.identity import digest
from fsd_gs.train.result import Result, orbit_of


def asset_views(folder: Path, record: Record, config: Config, protocol: Protocol) -> Tensor:
    """[V, 3, S, S] in [0, 1] of a finished asset, from ``folder`` or rendered and kept there."""
    path = views_file(folder, record, protocol)
    if path.is_file():
        try:
            return load_row(path)
        except OSError:
            path.unlink()  # cut off by a power failure of another kind; the splats are still there
    views = load_asset(folder, config).render(protocol.cameras()).rgb.clamp(0, 1).permute(0, 3, 1, 2).cpu()
    save_row(views, path)
    return load_row(path)


def views_file(folder: Path, record: Record, protocol: Protocol) -> Path:
    """Where the views of these very splats under this very protocol are kept."""
    return folder / f"views-{digest([vars(protocol), record.digest])}.png"


def load_asset(folder: Path, config: Config) -> Result:
    """A finished asset with the rasterizer of its run."""
    device = resolve_device(config.device)
    return Result(load_splats(folder).to(device), config, make_rasterizer(config.render.backend, device, config.render))


def asset_geometry(folder: Path, config: Config) -> GeometryReport:
    """How sound the geometry is, from the views that the thresholds of ``metrics.geometry`` were measured with."""
    asset = load_asset(folder, config)
    elevation, distance, fov_y = orbit_of(config)
    cameras = evaluation_orbit(VIEWS, elevation_deg=elevation, distance=distance, fov_y_deg=fov_y, width=SIZE)
    return geometry_report(asset.splats, asset.render(cameras), cameras)


def save_row(images: Tensor, path: Path) -> None:
    """Write [N, 3, S, S] in [0, 1] side by side as one PNG."""
    save_png(np.concatenate([to_uint8(image.permute(1, 2, 0)) for image in images], axis=1), path)


def load_row(path: Path) -> Tensor:
    """[N, 3, S, S] in [0, 1] of a row of square pictures; OSError where it is none."""
    from PIL import Image

    with Image.open(path) as file:
        pixels = np.asarray(file.convert("RGB"))
    height, width, _ = pixels.shape
    if width % height:
        raise OSError(f"{path}: not a row of square pictures, {width}×{height}")
    tiles = np.stack(np.split(pixels, width // height, axis=1))
    return torch.from_numpy(tiles).permute(0, 3, 1, 2).float() / 255
