"""Pictures rendered here, by our own rasterizer, behind the scene of each browser: full SH colour, depth, alpha and normals.

A browser draws splats by itself, but only their base colour. In the other modes each client's camera is rendered on this machine (with
gsplat where CUDA is) and sent as its background. While the camera moves the picture is a small draft; once it rests, it is drawn again as
large as it can be in about ``FULL_SECONDS``, judging by the time that recent pictures took for a pixel.
"""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from fsd_gs.core.cameras import cameras_from, intrinsics
from fsd_gs.core.device import resolve_device
from fsd_gs.core.quaternions import matrix_from_quat
from fsd_gs.core.sheets import Frame, to_uint8
from fsd_gs.core.types import Cameras
from fsd_gs.export.pictures import MODES, SplatRasterizer
from fsd_gs.render.base import Rasterizer, make_rasterizer
from fsd_gs.viewer.latest import LatestWins
from fsd_gs.viewer.scene import Scene

if TYPE_CHECKING:
    import viser

DRAFT_HEIGHT, FULL_SECONDS, REST_SECONDS = 200, 0.4, 0.15


@dataclass(frozen=True)
class View:
    """A browser's camera: world_from_camera rotation wxyz and position, OpenCV axes.

    Attributes:
        fov: vertical, radians.
        aspect: width / height.
    """

    wxyz: tuple[float, ...]
    position: tuple[float, ...]
    fov: float
    aspect: float


def viewing_rasterizer(backend: str = "auto") -> Rasterizer:
    """gsplat where CUDA works, else the CPU kernels; either way for splats on the CPU, as files are loaded."""
    return make_rasterizer(backend, resolve_device("cpu" if backend == "cpu" else "auto"))


class Painter:
    """Keeps the background of every client of ``server`` up to date."""

    def __init__(self, server: viser.ViserServer, rasterizer: SplatRasterizer) -> None:
        self._server, self._rasterizer = server, rasterizer
        self._scene: Scene | None = None
        self._drawn: dict[int, tuple[View | None, Scene, bool]] = {}  # client → what it shows, and whether that is a draft
        self._pixel_seconds = deque([1e-6], maxlen=3)  # of recent pictures; the first is a guess
        self._worker = LatestWins(self._paint_all, "painter")
        server.on_client_connect(self._watch)

    def show(self, scene: Scene) -> None:
        self._scene = scene
        self._worker.poke()

    def close(self) -> None:
        self._worker.close()

    def _watch(self, client: viser.ClientHandle) -> None:
        client.camera.on_update(lambda _: self._worker.poke())
        self._worker.poke()

    def _paint_all(self) -> float | None:
        """Paint what has changed; the seconds after which drafts should be made good, if there are any."""
        scene, drafts = self._scene, False
        if scene is None:
            return None
        clients = self._server.get_clients()
        self._drawn = {number: drawn for number, drawn in self._drawn.items() if number in clients}
        for number, client in clients.items():
            view = None if scene.mode is None else view_of(client)
            before = self._drawn.get(number)
            draft = view is not None and (before is None or before[:2] != (view, scene))
            if before == (view, scene, draft):
                continue
            client.scene.set_background_image(self._picture(scene, view, draft, client), format="jpeg", jpeg_quality=90)
            self._drawn[number] = (view, scene, draft)
            drafts = drafts or draft
        return REST_SECONDS if drafts else None

    def _picture(self, scene: Scene, view: View | None, draft: bool, client: viser.ClientHandle) -> Frame:
        if scene.mode is None or view is None:
            return to_uint8(torch.tensor(scene.background).expand(8, 8, 3))
        height = DRAFT_HEIGHT
        if not draft:
            pixels = FULL_SECONDS / min(self._pixel_seconds)  # the least of them: compiling or a busy moment made the others slow
            height = max(DRAFT_HEIGHT, min(round(math.sqrt(pixels / view.aspect)), client.camera.image_height))
        began = time.perf_counter()
        picture = paint(scene, view, height, self._rasterizer)
        self._pixel_seconds.append((time.perf_counter() - began) / picture[..., 0].size)
        return picture


def view_of(client: viser.ClientHandle) -> View:
    """The camera of a browser."""
    camera = client.camera
    return View(tuple(map(float, camera.wxyz)), tuple(map(float, camera.position)), float(camera.fov), float(camera.aspect))


@torch.no_grad()
def paint(scene: Scene, view: View, height: int, rasterizer: SplatRasterizer) -> Frame:
    """The scene from ``view`` as uint8 [height, height · aspect, 3]; just the background where there are no splats."""
    assert scene.mode is not None
    camera = camera_of(view, height).to(scene.splats.means.device)
    background = scene.splats.means.new_tensor(scene.background)
    if not len(scene.splats):
        return to_uint8(background.expand(camera.height, camera.width, 3))
    render = rasterizer(scene.splats, camera, background=background, depth=scene.mode in ("depth", "normal"))
    return to_uint8(MODES[scene.mode](render, camera, background)[0])


def camera_of(view: View, height: int) -> Cameras:
    """Our camera for a browser's, ``height`` pixels high."""
    world_from_camera = torch.eye(4, dtype=torch.float64)
    world_from_camera[:3, :3] = matrix_from_quat(torch.tensor([view.wxyz], dtype=torch.float64))[0]
    world_from_camera[:3, 3] = torch.tensor(view.position, dtype=torch.float64)
    width = max(1, round(height * view.aspect))
    Ks = intrinsics(np.degrees([view.fov]), width, height)
    return cameras_from(np.linalg.inv(world_from_camera.numpy())[None], Ks, width, height)
