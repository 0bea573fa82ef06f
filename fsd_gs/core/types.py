"""The nouns everything else is written in, and the conventions they follow.

World      right-handed, z up, the object inside the unit ball at the origin. Azimuth 0° looks at the front from +x and grows
           counter-clockwise seen from above (90° = +y); elevation grows upwards.
Cameras    OpenCV: x right, y down, z forward. ``viewmats`` are camera_from_world (as in gsplat); ``Ks`` are in pixels with the
           centre of the top left pixel at (0.5, 0.5).
Images     float32 in [0, 1], sRGB as the priors are. [V, H, W, C] from the rasterizer, [V, C, H, W] at the priors: each
           docstring says which.
Splats     ``Gaussians`` holds *activated* values in world units. Stored values (log-scales, logit-opacities) live in
           ``fsd_gs.splats``.
Letters    V views, N splats, K SH coefficients, H×W pixels, h×w latent cells, C latent channels; t ∈ [0, 1] diffusion time,
           α = alpha(t), σ = sigma(t), λ = σ/α; x_t = α x_0 + σ ε.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from fsd_gs.errors import InputError


def check_shape(name: str, tensor: Tensor, expected: tuple[int | str, ...]) -> None:
    """Raise :class:`InputError` unless ``tensor`` has the expected shape (strings match any size)."""
    actual = tuple(tensor.shape)
    matches = len(actual) == len(expected) and all(isinstance(e, str) or e == a for e, a in zip(expected, actual, strict=True))
    if not matches:
        wanted = ", ".join(str(e) for e in expected)
        raise InputError(f"{name}: expected shape [{wanted}], got {list(actual)}")


@dataclass(frozen=True)
class Cameras:
    """V pinhole cameras that share one image size.

    Attributes:
        viewmats: [V, 4, 4] camera_from_world, OpenCV axes.
        Ks: [V, 3, 3] intrinsics in pixels.
    """

    viewmats: Tensor
    Ks: Tensor
    width: int
    height: int

    def __post_init__(self) -> None:
        views = self.viewmats.shape[0] if self.viewmats.ndim else 0
        check_shape("viewmats", self.viewmats, ("V", 4, 4))
        check_shape("Ks", self.Ks, (views, 3, 3))
        if self.width < 1 or self.height < 1:
            raise InputError(f"width, height: expected at least 1 pixel, got {self.width}×{self.height}")

    def __len__(self) -> int:
        return self.viewmats.shape[0]

    def __getitem__(self, index: int | slice | Tensor) -> Cameras:
        """The chosen views; an integer gives a batch of one."""
        if isinstance(index, int):
            index = slice(index, index + 1) if index != -1 else slice(-1, None)
        return replace(self, viewmats=self.viewmats[index], Ks=self.Ks[index])

    @property
    def device(self) -> torch.device:
        return self.viewmats.device

    @property
    def world_from_camera(self) -> Tensor:
        """[V, 4, 4] camera-to-world matrices, OpenCV axes."""
        return torch.linalg.inv(self.viewmats)

    @property
    def positions(self) -> Tensor:
        """[V, 3] camera centres in the world."""
        rotation, translation = self.viewmats[:, :3, :3], self.viewmats[:, :3, 3]
        return -(rotation.transpose(1, 2) @ translation[:, :, None])[:, :, 0]

    @property
    def distances(self) -> Tensor:
        """[V] distance of each camera from the origin."""
        return self.positions.norm(dim=1)

    @property
    def azimuths_deg(self) -> Tensor:
        """[V] in [0, 360): 0 looks from +x, 90 from +y."""
        x, y, _ = self.positions.unbind(1)
        return torch.rad2deg(torch.atan2(y, x)) % 360.0

    @property
    def elevations_deg(self) -> Tensor:
        """[V] in [-90, 90]: 90 looks down from +z."""
        positions = self.positions
        return torch.rad2deg(torch.asin((positions[:, 2] / positions.norm(dim=1).clamp_min(1e-12)).clamp(-1, 1)))

    @property
    def fov_y_deg(self) -> Tensor:
        """[V] full vertical field of view."""
        return torch.rad2deg(2 * torch.atan(self.height / (2 * self.Ks[:, 1, 1])))

    def resized(self, width: int, height: int) -> Cameras:
        """The same views sampled on another pixel grid."""
        scale = torch.tensor([width / self.width, height / self.height, 1.0], dtype=self.Ks.dtype, device=self.Ks.device)
        return Cameras(self.viewmats, self.Ks * scale[:, None], width, height)

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Cameras:
        return replace(self, viewmats=self.viewmats.to(device, dtype), Ks=self.Ks.to(device, dtype))


@dataclass(frozen=True)
class Gaussians:
    """N activated splats in world units.

    means [N, 3]; quats [N, 4] wxyz, unit length; scales [N, 3] > 0 standard deviations; opacities [N] in (0, 1);
    sh [N, K, 3] with K = (degree + 1)², colour = 0.5 + Σ_k sh_k Y_k(direction), as gsplat and the 3DGS .ply have it.
    """

    means: Tensor
    quats: Tensor
    scales: Tensor
    opacities: Tensor
    sh: Tensor

    def __post_init__(self) -> None:
        count = self.means.shape[0] if self.means.ndim else 0
        check_shape("means", self.means, (count, 3))
        check_shape("quats", self.quats, (count, 4))
        check_shape("scales", self.scales, (count, 3))
        check_shape("opacities", self.opacities, (count,))
        check_shape("sh", self.sh, (count, "K", 3))
        if self.sh.shape[1] not in (1, 4, 9, 16):
            raise InputError(f"sh: expected 1, 4, 9 or 16 coefficients a channel (SH degree 0 to 3), got {self.sh.shape[1]}")

    def __len__(self) -> int:
        return self.means.shape[0]

    @property
    def sh_degree(self) -> int:
        return int(self.sh.shape[1] ** 0.5) - 1

    def select(self, index: Tensor) -> Gaussians:
        """The splats chosen by a boolean mask [N] or an index tensor."""
        return Gaussians(self.means[index], self.quats[index], self.scales[index], self.opacities[index], self.sh[index])

    def detach(self) -> Gaussians:
        return Gaussians(*(getattr(self, n).detach() for n in ("means", "quats", "scales", "opacities", "sh")))

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Gaussians:
        return Gaussians(*(getattr(self, n).to(device, dtype) for n in ("means", "quats", "scales", "opacities", "sh")))


@dataclass(frozen=True)
class Render:
    """What a rasterizer returns for V cameras.

    Attributes:
        rgb: [V, H, W, 3], composited over the background.
        alpha: [V, H, W, 1] in [0, 1].
        depth: [V, H, W, 1] expected depth along z (0 where alpha is 0); None if it was not asked for.
        info: gsplat's own dictionary (means2d, radii, …), for densification.
    """

    rgb: Tensor
    alpha: Tensor
    depth: Tensor | None = None
    info: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Geometry:
    """What V cameras see of a surface, for priors that are shown it.

    Attributes:
        cameras: V of them.
        depth: [V, H, W, 1] along z, 0 where there is nothing.
        alpha: [V, H, W, 1] coverage in [0, 1].
    """

    cameras: Cameras
    depth: Tensor
    alpha: Tensor


@dataclass(frozen=True)
class TextCondition:
    """A prompt as a prior understands it. Each prior subclasses it with its own embeddings; everyone else passes it on.

    Attributes:
        prompt, negative_prompt: what ``encode_text`` can be given again.
        background: the colour [3] that the prior was told of, or None.
        control: the pictures [B, 3, H, W] of a geometry that the prior was shown, or None.
    """

    prompt: str
    negative_prompt: str
    background: Tensor | None = field(default=None, kw_only=True)
    control: Tensor | None = field(default=None, kw_only=True)
