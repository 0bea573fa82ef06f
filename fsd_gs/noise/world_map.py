"""World-map noise: each camera cuts its patch out of one big map of noise, like a window over a map of the world.

    map      B_W × B_H latent cells of N(0, 1) for 360° of azimuth and 180° of elevation,
             B_W = 360/Θ · w,  B_H = 180/Θ · h                                               (arXiv 2405.10988, §4.3)
    patch    h × w cells; its first column is azimuth · B_W/360 (columns are periodic) and its first row (90° − elevation) · B_H/180
    ε(c)     √β · [patch where the pooled opacity is ≥ 0.5, else background] + √(1−β) · rand

Θ (degrees) is the camera rotation after which two patches share nothing. Patches are cut by whole cells, so each is exactly white.

Rows. The published code maps the elevation to (−elevation · B_H/180) mod B_H on rows that are *not* periodic, so its noise jumps
completely where the elevation crosses 0. Here rows run from 90° (row 0) to −90° (row B_H) and the map is padded by one patch height,
B_H + h rows in all: the patch lies inside it for every elevation and moves by at most one row for small changes, poles included.

Signs. As the azimuth grows the camera moves to its right and the near surface moves left in the image; the patch starts further right
on the map, so the noise moves left too; likewise down with growing elevation. It moves at the same *rate* as the nearest point of a ball
of radius r at distance d when Θ* = 2 tan(fov/2) (d − r)/r rad: ``theta_deg="auto"``.

Sub-cell shifts (off by default). "fourier" moves the patch by fractions of a cell with a phase ramp over the whole map. On a map with odd
sides that is an orthogonal matrix: white noise stays exactly white (bilinear weights over √Σw² would keep the variance but correlate
neighbours by up to 1/2). The price is that each cell then depends, weakly, on its whole row and column.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from fsd_gs.core.types import Cameras
from fsd_gs.errors import ConfigError, InputError
from fsd_gs.noise.base import NoiseState, check_choice, check_fraction, mix, pooled

# Azimuths come out of float32 matrices with errors around 1e-5°, so a camera exactly between two cells would round either way from
# one machine to the next; half a cell plus this much rounds such ties up, always.
_TIE = 1e-4


class WorldMapNoise(NoiseState):
    """Noise that follows the camera around the object.

    Args:
        latent_shape: (C, h, w).
        theta_deg: Θ in (0, 360], or "auto" for the matching parallax of a ball of ``radius`` seen from ``distance`` with ``fov_y_deg``
            (then both must be given: nominal values if the cameras vary, since one run has one map).
        beta: share of the fixed noise in the variance, [0, 1]; 1 is FSD, 0 is SDS.
        background: where the pooled opacity is below 0.5: "fixed" is one patch fixed to the screen, "fresh" new noise in every call.
        gamma: refresh a step, [0, 1].
        subcell: "off" or "fourier".
    """

    def __init__(
        self,
        latent_shape: tuple[int, int, int],
        theta_deg: float | Literal["auto"] = 180.0,
        beta: float = 1.0,
        background: Literal["fixed", "fresh"] = "fixed",
        seed: int = 0,
        gamma: float = 0.0,
        *,
        subcell: Literal["off", "fourier"] = "off",
        fov_y_deg: float | None = None,
        distance: float | None = None,
        radius: float = 0.5,
    ) -> None:
        super().__init__(latent_shape, seed)
        self.theta_deg = _resolve_theta(theta_deg, fov_y_deg, distance, radius)
        self.beta, self.gamma = check_fraction("beta", beta), check_fraction("gamma", gamma)
        self.background = check_choice("background", background, ("fixed", "fresh"))
        self.subcell = check_choice("subcell", subcell, ("off", "fourier"))
        channels, height, width = self.latent_shape
        self.columns = max(width, round(360 / self.theta_deg * width))  # B_W
        self.rows = max(1, round(180 / self.theta_deg * height))  # B_H: rows between the poles
        padded = self.rows + height
        if self.subcell == "fourier":  # an odd side has no Nyquist frequency, whose phase a real shift cannot turn
            self.columns += 1 - self.columns % 2
            padded += 1 - padded % 2
        self._buffers["map"] = self._randn("map", channels, padded, self.columns)
        self._buffers["background"] = self._randn("background", *self.latent_shape)
        for stream in ("random", "refresh"):
            self._stream(stream)

    def to(self, device: torch.device | str) -> WorldMapNoise:
        super().to(device)
        return self

    @property
    def map(self) -> Tensor:
        """[C, B_H + h, B_W] on the CPU: row 0 is where patches start at elevation 90°, row B_H at −90°; columns are periodic."""
        return self._buffers["map"]

    def __call__(self, cameras: Cameras, alpha: Tensor | None = None, depth: Tensor | None = None) -> Tensor:
        views, shape = len(cameras), self.latent_shape
        front = self.patches(cameras)
        behind = (
            self._randn("background", views, *shape) if self.background == "fresh" else self._buffers["background"].expand(views, *shape)
        )
        if self.beta < 1:
            random = self._randn("random", views, *shape)
            front, behind = mix(front, random, self.beta), mix(behind, random, self.beta)
        if alpha is None:
            return front.to(self.device)
        opaque, front = self.opaque_cells(alpha, views).to(self.device, torch.float32), front.to(self.device)
        return torch.lerp(behind.to(self.device), front, opaque, out=front)  # exact at 0 and 1, and ten times as fast as where()

    def step(self) -> None:
        self._refresh(self.gamma)

    def patches(self, cameras: Cameras) -> Tensor:
        """[V, C, h, w] on the CPU: the fixed noise of each camera, before masks and mixing."""
        row, column = self.offsets(cameras)
        top, left = _nearest_cell(row), _nearest_cell(column)
        if self.subcell == "off":
            return _cut(self.map.expand(len(cameras), *self.map.shape), top, left, self.latent_shape)
        return _cut(_shifted(self.map, row - top, column - left), top, left, self.latent_shape)

    def offsets(self, cameras: Cameras) -> tuple[Tensor, Tensor]:
        """(row, column) [V] float64: where each patch starts on the map, in cells, not rounded."""
        azimuths, elevations = viewing_angles_deg(cameras)
        return (90 - elevations) / 180 * self.rows, azimuths / 360 * self.columns

    def opaque_cells(self, alpha: Tensor, views: int) -> Tensor:
        """[V, 1, h, w] bool: cells that see the object."""
        if alpha.shape[0] != views:
            raise InputError(f"alpha: expected one image for each of {views} cameras, got {alpha.shape[0]}")
        return pooled(alpha, *self.latent_shape[1:]) >= 0.5


def matching_theta_deg(fov_y_deg: float, distance: float, radius: float = 0.5) -> float:
    """Θ* = 2 tan(fov/2) (d − r)/r in degrees: the patch then moves across the image as fast as the nearest point of a ball of
    ``radius`` at the origin does, seen from ``distance`` > radius."""
    if not 0 < fov_y_deg < 180:
        raise ConfigError(f"fov_y_deg: expected a number in (0, 180), got {fov_y_deg}")
    if not 0 < radius < distance:
        raise ConfigError(f"radius: expected a number in (0, distance), got radius {radius} and distance {distance}")
    return math.degrees(2 * math.tan(math.radians(fov_y_deg) / 2) * (distance - radius) / radius)


def mix_world_maps(a: WorldMapNoise, b: WorldMapNoise, rho: float) -> WorldMapNoise:
    """More like this one: noise that shares ``rho`` ∈ [0, 1] of its variance with ``a`` and the rest with ``b``.

    Map and background are mixed by √ρ a + √(1−ρ) b, divided by its own standard deviation √(1 + 2 √(ρ(1−ρ)) corr(a, b)): nearly 1 for
    two seeds, but not for maps that were themselves mixed from one another. ρ = 1 gives a's noise, ρ = 0 b's. Settings (Θ, β, γ, …) are
    a's, the streams of the parts that are not fixed b's, so that the children of one parent differ; both need maps of one shape.
    """
    check_fraction("rho", rho)
    if a.map.shape != b.map.shape or a.latent_shape != b.latent_shape:
        raise InputError(
            f"mix_world_maps: expected maps of one shape, got {list(a.map.shape)} and {list(b.map.shape)}; use equal Θ and latents"
        )
    child = WorldMapNoise(
        a.latent_shape, a.theta_deg, a.beta, "fixed" if a.background == "fixed" else "fresh", b.seed, a.gamma,
        subcell="fourier" if a.subcell == "fourier" else "off",
    )  # fmt: skip
    for name, first in a._buffers.items():
        second = b._buffers[name]
        correlation = float((first.double() * second.double()).mean() / (first.double().std() * second.double().std()))
        deviation = math.sqrt(max(1 + 2 * math.sqrt(rho * (1 - rho)) * correlation, 1e-12))
        child._buffers[name] = (mix(first, second, rho) / deviation).clone()
    return child.to(a.device)


def viewing_angles_deg(cameras: Cameras) -> tuple[Tensor, Tensor]:
    """(azimuth, elevation) [V] in float64 on the CPU.

    The azimuth is read from the camera's right axis (−sin a, cos a, 0), which, unlike its position, still has one at the poles.
    """
    viewmats = cameras.viewmats.detach().cpu().double().numpy()  # numpy: these are a few numbers a step, and torch's overhead counts
    rotation, translation = viewmats[:, :3, :3], viewmats[:, :3, 3]
    x, y, z = -np.einsum("vji,vj->iv", rotation, translation)
    azimuths = np.rad2deg(np.arctan2(-rotation[:, 0, 0], rotation[:, 0, 1])) % 360
    return torch.from_numpy(azimuths), torch.from_numpy(np.rad2deg(np.arctan2(z, np.hypot(x, y))))


def _nearest_cell(position: Tensor) -> Tensor:
    return (position + 0.5 + _TIE).floor()


def _cut(maps: Tensor, top: Tensor, left: Tensor, latent_shape: tuple[int, int, int]) -> Tensor:
    """[V, C, h, w] from maps [V, C, B_H + h, B_W]: rows from ``top``, columns from ``left`` around the back."""
    _, height, width = latent_shape
    patches = torch.empty(len(maps), *latent_shape, dtype=maps.dtype)
    for patch, noise_map, row, column in zip(patches, maps, top.long().tolist(), left.long().tolist(), strict=True):
        rows, first = noise_map[:, row : row + height], column % maps.shape[-1]
        before = min(width, maps.shape[-1] - first)  # columns before the seam at the back; slices copy faster than an index would
        patch[..., :before] = rows[..., first : first + before]
        patch[..., before:] = rows[..., : width - before]
    return patches


def _shifted(noise_map: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """[V, C, R, B_W]: value(r, c) of map(r + row, c + column), by phase ramps; row, column [V] are fractions of a cell."""
    rows, columns = noise_map.shape[-2:]
    row_phase = torch.fft.fftfreq(rows, dtype=torch.float64) * row[:, None]
    column_phase = torch.fft.rfftfreq(columns, dtype=torch.float64) * column[:, None]
    ramp = torch.polar(torch.ones(()).double(), 2 * math.pi * (row_phase[:, :, None] + column_phase[:, None, :]))
    spectrum = torch.fft.rfft2(noise_map.double())
    return torch.fft.irfft2(spectrum * ramp[:, None], s=(rows, columns)).float()


def _resolve_theta(theta_deg: float | str, fov_y_deg: float | None, distance: float | None, radius: float) -> float:
    if isinstance(theta_deg, str):
        if theta_deg != "auto":
            raise ConfigError(f"theta_deg: expected degrees in (0, 360] or 'auto', got '{theta_deg}'")
        if fov_y_deg is None or distance is None:
            raise ConfigError("theta_deg: 'auto' needs fov_y_deg and distance of the cameras; give both, or Θ as a number")
        # Far cameras would ask for more than a full turn; one turn is all a periodic map can hold.
        return min(matching_theta_deg(fov_y_deg, distance, radius), 360.0)
    if not 0 < theta_deg <= 360:
        raise ConfigError(f"theta_deg: expected degrees in (0, 360] or 'auto', got {theta_deg}")
    return float(theta_deg)
