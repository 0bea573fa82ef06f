"""What a run gives back: the splats, a way to look at them, and everything a run's folder holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fsd_gs.cameras import evaluation_orbit
from fsd_gs.config import Config, to_yaml
from fsd_gs.export.pictures import contact_sheet, save_video, to_uint8
from fsd_gs.export.ply import save_ply
from fsd_gs.io import atomic_write, make_folder, write_text
from fsd_gs.render import Rasterizer, render_frames
from fsd_gs.train import runs
from fsd_gs.types import Cameras, Gaussians, Render

if TYPE_CHECKING:
    from PIL.Image import Image

PREVIEW_VIEWS, PREVIEW_SIZE = 8, 192
WHITE = torch.ones(3)


@dataclass(frozen=True)
class Result:
    """A finished (or interrupted) asset. complete: all steps were done."""

    splats: Gaussians
    config: Config
    rasterizer: Rasterizer
    complete: bool = True

    def render(self, cameras: Cameras, background: Tensor | None = None) -> Render:
        """Views of the asset without gradient, with depth; background [3], white by default."""
        background = WHITE if background is None else background
        return render_frames(self.rasterizer, self.splats, cameras.to(self.splats.means.device), background=background, depth=True)

    def preview(self) -> Image:
        """A contact sheet of eight views."""
        return draw_preview(self.rasterizer, self.splats, self.config)

    def save(self, folder: str | Path, progress: Callable[[int, int], None] | None = None) -> Path:
        """Write ``config.yaml``, ``preview.png``, ``turntable.mp4`` and, last, ``splats.ply`` (its presence says that all is there)."""
        folder = make_folder(Path(folder))
        write_text(folder / runs.CONFIG, to_yaml(self.config))
        with atomic_write(folder / runs.PREVIEW) as temporary:
            self.preview().save(temporary)
        frames = self.config.outputs.turntable_frames
        if frames:
            cameras = orbit_like(self.config, frames, self.config.outputs.turntable_size)
            save_video(folder / runs.TURNTABLE, to_uint8(self._frames(cameras, progress)), fps=max(1, frames // 3))
        save_ply(self.splats, folder / runs.SPLATS)
        return folder

    def _frames(self, cameras: Cameras, progress: Callable[[int, int], None] | None) -> Tensor:
        device = self.splats.means.device
        return render_frames(self.rasterizer, self.splats, cameras.to(device), background=WHITE, progress=progress).rgb


def orbit_like(config: Config, views: int, size: int) -> Cameras:
    """An evaluation orbit at the middle of the training cameras' ranges."""
    middle = {name: sum(getattr(config.cameras, name)) / 2 for name in ("elevation_deg", "distance", "fov_y_deg")}
    return evaluation_orbit(
        views, elevation_deg=middle["elevation_deg"], distance=middle["distance"], fov_y_deg=middle["fov_y_deg"], width=size
    )


def draw_preview(rasterizer: Rasterizer, splats: Gaussians, config: Config) -> Image:
    """Eight views around the asset on white, four a row."""
    cameras = orbit_like(config, PREVIEW_VIEWS, PREVIEW_SIZE).to(splats.means.device)
    return contact_sheet(to_uint8(render_frames(rasterizer, splats, cameras, background=WHITE).rgb), columns=4)
