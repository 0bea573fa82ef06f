"""What a run gives back: the splats, a way to look at them, and everything a run's folder holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from fsd_gs.config import Config
from fsd_gs.core.cameras import evaluation_orbit
from fsd_gs.core.sheets import Frame, contact_sheet, to_uint8
from fsd_gs.core.types import Cameras, Gaussians, Render
from fsd_gs.errors import FsdGsError, VideoError
from fsd_gs.export.formats import save_splats
from fsd_gs.export.pictures import TurntableSettings, save_png, turntable_frames
from fsd_gs.export.provenance import Provenance
from fsd_gs.export.timelapse import preview_files, write_timelapse
from fsd_gs.export.video import save_mp4
from fsd_gs.io import make_folder
from fsd_gs.render import Rasterizer, render_frames
from fsd_gs.train import runs

PREVIEW_VIEWS, PREVIEW_SIZE = 8, 192
TURNTABLE_FPS = 20
WHITE = torch.ones(3)


@dataclass(frozen=True)
class Result:
    """A finished (or interrupted) asset.

    Attributes:
        complete: all steps were done.
        kept: not all, but it is wanted as it is.
        step: steps done.
        own_prior: class of a prior that the caller brought.
    """

    splats: Gaussians
    config: Config
    rasterizer: Rasterizer
    complete: bool = True
    kept: bool = False
    step: int = 0
    own_prior: str | None = None

    @property
    def origin(self) -> Provenance:
        """What the files of this asset say of where it comes from."""
        if self.own_prior is not None:
            return replace(runs.origin(self.config), prior=self.own_prior, licence=None)
        return runs.origin(self.config)

    def render(self, cameras: Cameras, background: Tensor | None = None) -> Render:
        """Views of the asset without gradient, with depth; background [3], white by default."""
        background = WHITE if background is None else background
        return render_frames(self.rasterizer, self.splats, cameras.to(self.splats.means.device), background=background, depth=True)

    def preview(self) -> Frame:
        """A contact sheet of eight views, uint8 [H, W, 3]."""
        return draw_preview(self.rasterizer, self.splats, self.config)

    def save(self, folder: str | Path, progress: Callable[[int, int], None] | None = None) -> Path:
        """Write ``config.yaml``, ``preview.png``, ``turntable.mp4``, ``timelapse.mp4`` where there are previews, and, last, ``splats.ply``
        (its presence says that all is there).

        Raises:
            VideoError: a video could not be written; everything else was.
        """
        folder = make_folder(Path(folder))
        runs.write_config(self.config, folder)
        save_png(self.preview(), folder / runs.PREVIEW, metadata=self.origin.chunks())
        trouble = self._save_videos(folder, progress)
        save_splats(self.splats, folder / runs.SPLATS, provenance=self.origin)
        if trouble is not None:
            raise VideoError(f"the splats are written ({folder / runs.SPLATS}), but a video is not: {trouble}") from trouble
        return folder

    def _save_videos(self, folder: Path, progress: Callable[[int, int], None] | None) -> FsdGsError | None:
        """The error that stopped them: hours of training are worth more than a film of them."""
        outputs = self.config.outputs
        try:
            if outputs.timelapse and len(preview_files(folder)) > 1:
                write_timelapse(folder)
            if outputs.turntable_frames:
                frames = turntable_frames(self.splats, self.rasterizer, turntable_settings(self.config), progress)
                save_mp4(frames, folder / runs.TURNTABLE, fps=TURNTABLE_FPS, metadata={"comment": self.origin.text()})
        except FsdGsError as error:
            return error
        return None


def turntable_settings(config: Config) -> TurntableSettings:
    """A full turn at the middle of the training cameras' ranges."""
    elevation, distance, fov_y = orbit_of(config)
    outputs = config.outputs
    return TurntableSettings(
        outputs.turntable_frames, outputs.turntable_size, TURNTABLE_FPS, elevation_deg=elevation, distance=distance, fov_y_deg=fov_y
    )


def orbit_of(config: Config) -> tuple[float, float, float]:
    """Elevation (degrees), distance and vertical field of view (degrees) at the middle of the training cameras' ranges."""
    cameras = config.cameras
    return _middle(cameras.elevation_deg), _middle(cameras.distance), _middle(cameras.fov_y_deg)


def _middle(bounds: Sequence[float]) -> float:
    return (bounds[0] + bounds[1]) / 2


def draw_preview(rasterizer: Rasterizer, splats: Gaussians, config: Config) -> Frame:
    """Eight views around the asset on white, four a row: uint8 [H, W, 3]."""
    elevation, distance, fov_y = orbit_of(config)
    cameras = evaluation_orbit(
        PREVIEW_VIEWS, elevation_deg=elevation, distance=distance, fov_y_deg=fov_y, width=PREVIEW_SIZE, device=splats.means.device
    )
    views = render_frames(rasterizer, splats, cameras, background=WHITE)
    return contact_sheet([to_uint8(picture) for picture in views.rgb], columns=4)
