"""Turntables: rendered frames → gif, png (and mp4: ``video.py``).

The rasterizer comes as an argument (any ``fsd_gs.render`` Rasterizer). Frames are uint8 [H, W, 3], made one at a time, so that a long
video does not fill the memory. Normals are those of the depth map: n ∝ ∂P/∂v × ∂P/∂u of the back-projected points P, turned towards the
camera, coloured as 0.5 + 0.5 n in world axes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from fsd_gs.core.cameras import back_project, evaluation_orbit
from fsd_gs.core.sheets import Frame, to_uint8
from fsd_gs.core.types import Cameras, Gaussians, Render
from fsd_gs.errors import InputError, unknown_name
from fsd_gs.io import atomic_write

Progress = Callable[[int, int], None]


class SplatRasterizer(Protocol):
    """What is needed of a rasterizer here: a subset of ``fsd_gs.render.Rasterizer``."""

    def __call__(self, gaussians: Gaussians, cameras: Cameras, *, background: Tensor | None = None, depth: bool = False) -> Render: ...


@dataclass
class TurntableSettings:
    """A turntable: what is drawn, and from where.

    Attributes:
        frames: views around the circle.
        size: pixels a side.
        background: sRGB in [0, 1].
        mode: rgb, alpha, depth or normal.
        fps: frames a second.
        elevation_deg, distance, fov_y_deg: the orbit.
    """

    frames: int = 72
    size: int = 384
    fps: int = 24
    mode: str = "rgb"
    elevation_deg: float = 15.0
    distance: float = 2.5
    fov_y_deg: float = 49.1
    background: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise InputError(unknown_name("mode", self.mode, MODES))
        if self.frames < 1 or self.size < 2 or self.fps < 1:
            raise InputError(f"turntable: expected frames ≥ 1, size ≥ 2 and fps ≥ 1, got {self.frames}, {self.size} and {self.fps}")


def turntable_frames(
    gaussians: Gaussians, rasterizer: SplatRasterizer, settings: TurntableSettings, progress: Progress | None = None
) -> Iterator[Frame]:
    """One frame a view from azimuth 0° on, counter-clockwise. progress(done, total) is called after each."""
    cameras = evaluation_orbit(
        settings.frames,
        elevation_deg=settings.elevation_deg,
        distance=settings.distance,
        fov_y_deg=settings.fov_y_deg,
        width=settings.size,
        device=gaussians.means.device,
    )
    background = gaussians.means.new_tensor(settings.background)
    for view in range(len(cameras)):
        camera = cameras[view]
        with torch.no_grad():
            render = rasterizer(gaussians, camera, background=background, depth=settings.mode in ("depth", "normal"))
            picture = MODES[settings.mode](render, camera, background)
        yield to_uint8(picture[0])
        if progress is not None:
            progress(view + 1, len(cameras))


def _rgb_picture(render: Render, camera: Cameras, background: Tensor) -> Tensor:
    return render.rgb


def _alpha_picture(render: Render, camera: Cameras, background: Tensor) -> Tensor:
    return render.alpha.expand(-1, -1, -1, 3)


def _depth_picture(render: Render, camera: Cameras, background: Tensor) -> Tensor:
    """Near is bright; the range is that of the unit ball, so that frames of a video agree."""
    assert render.depth is not None
    nearness = 0.5 - 0.5 * (render.depth[..., 0] - camera.distances[:, None, None])
    return render.alpha * colour_map(nearness) + (1 - render.alpha) * background


def _normal_picture(render: Render, camera: Cameras, background: Tensor) -> Tensor:
    assert render.depth is not None
    return render.alpha * (0.5 + 0.5 * depth_normals(render.depth, camera)) + (1 - render.alpha) * background


#: Name of a turntable mode → [V, H, W, 3] picture of a render.
MODES: dict[str, Callable[[Render, Cameras, Tensor], Tensor]] = {
    "rgb": _rgb_picture,
    "alpha": _alpha_picture,
    "depth": _depth_picture,
    "normal": _normal_picture,
}


def depth_normals(depth: Tensor, cameras: Cameras) -> Tensor:
    """World normals [V, H, W, 3] of depth maps [V, H, W, 1], towards the camera, by central differences."""
    points = torch.nn.functional.pad(back_project(depth, cameras).permute(0, 3, 1, 2), (1, 1, 1, 1), mode="replicate")
    across = points[:, :, 1:-1, 2:] - points[:, :, 1:-1, :-2]
    down = points[:, :, 2:, 1:-1] - points[:, :, :-2, 1:-1]
    return torch.nn.functional.normalize(torch.linalg.cross(down, across, dim=1), dim=1).permute(0, 2, 3, 1)


_COLOUR_STOPS = ((0.10, 0.07, 0.28), (0.30, 0.16, 0.55), (0.66, 0.22, 0.49), (0.93, 0.42, 0.30), (0.99, 0.72, 0.28), (0.99, 0.98, 0.75))


def colour_map(values: Tensor) -> Tensor:
    """[...] in [0, 1] → colours [..., 3], dark violet to light yellow, rising in lightness throughout."""
    stops = values.new_tensor(_COLOUR_STOPS)
    position = values.clamp(0, 1) * (len(stops) - 1)
    lower = position.floor().long().clamp(max=len(stops) - 2)
    fraction = (position - lower)[..., None]
    return stops[lower] * (1 - fraction) + stops[lower + 1] * fraction


def save_png(picture: Frame, path: str | os.PathLike[str], *, metadata: Mapping[str, str] | None = None) -> None:
    """Write one picture. metadata: its text chunks (iTXt), keyword → text."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    chunks = PngInfo()
    for keyword, text in (metadata or {}).items():
        chunks.add_itxt(keyword, text)
    with atomic_write(path) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG", pnginfo=chunks)


def save_gif(frames: Iterable[Frame], path: str | os.PathLike[str], *, fps: int, comment: str = "") -> None:
    """Write an animation that loops for ever. comment: its comment block."""
    from PIL import Image

    first, *rest = (Image.fromarray(frame).quantize(dither=Image.Dither.NONE) for frame in frames)
    with atomic_write(path) as temporary:
        first.save(temporary, format="GIF", save_all=True, append_images=rest, duration=round(1000 / fps), loop=0, comment=comment.encode())
