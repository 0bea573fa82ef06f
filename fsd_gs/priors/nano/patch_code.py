"""Latents that are the principal components of f×f patches: the code that the embedded prior's autoencoder holds (``pretrain.patch_code``).

    p(u) ∈ R^{3f²}  the pixels of patch u in [−1, 1],   z(u) = S⁻¹ Vᵀ (p(u) − m),   p ≈ V S z + m

As an AutoencoderKL the encoder is 40 layers that compute one matrix. Where that is so, :func:`read_encoder` finds the matrix by asking the
encoder, and one convolution takes its place: a step of a run needs it forwards and backwards.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

LINEAR = 2e-3  # relative error below which an encoder counts as linear: it is 5e-4 for one that was written so


@dataclass(frozen=True)
class PatchCode:
    """mean [3f²], basis [3f², K] orthonormal columns, scale [K]; pixels of a patch in pixel_unshuffle's order (channel, row, column)."""

    mean: Tensor
    basis: Tensor
    scale: Tensor

    def to(self, device: torch.device) -> PatchCode:
        return PatchCode(*(x.to(device) for x in (self.mean, self.basis, self.scale)))

    @property
    def factor(self) -> int:
        return round(math.sqrt(len(self.mean) / 3))

    def encode(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] in [−1, 1] → z [B, K, H/f, W/f], as one convolution; differentiable."""
        matrix = (self.basis / self.scale).T.to(images)
        return F.conv2d(images, matrix.view(-1, 3, self.factor, self.factor), -matrix @ self.mean.to(images), stride=self.factor)

    def encode_slowly(self, images: Tensor) -> Tensor:
        """The readable twin: patch by patch."""
        patches = F.pixel_unshuffle(images, self.factor) - self.mean.view(1, -1, 1, 1)
        return torch.einsum("bphw,pk->bkhw", patches, self.basis / self.scale)

    def decode(self, latents: Tensor) -> Tensor:
        """The linear least-squares inverse, [B, 3, H, W]."""
        patches = torch.einsum("bkhw,pk->bphw", latents, (self.basis * self.scale).to(latents)) + self.mean.to(latents).view(1, -1, 1, 1)
        return F.pixel_shuffle(patches, self.factor)


@torch.no_grad()
def read_encoder(vae: Any) -> PatchCode | None:
    """The code that an AutoencoderKL computes, or None if it is not linear, patch by patch, with an orthonormal basis.

    Asked with a grey patch and the 3f² unit patches; believed if it then says the same of a random picture. What of the mean lies outside
    the basis is lost: ``encode`` is the same, ``decode`` comes as near as the latents know.
    """
    factor, channels = 2 ** (len(vae.config.block_out_channels) - 1), int(vae.config.latent_channels)
    size = 3 * factor**2
    if channels > size:
        return None

    def encode(images: Tensor) -> Tensor:
        return vae.encode(images.to(vae.device, vae.dtype)).latent_dist.mode().float().cpu()

    patches = torch.cat([torch.zeros(1, size), torch.eye(size)]).view(-1, size, 1, 1)
    answers = encode(F.pixel_shuffle(patches, factor)).flatten(1)
    matrix = (answers[1:] - answers[0]).T.double()  # [K, 3f²] = S⁻¹ Vᵀ
    scale = 1 / matrix.norm(dim=1).clamp_min(1e-12)
    basis = (matrix * scale[:, None]).T
    code = PatchCode((-basis * scale @ answers[0].double()).float(), basis.float(), scale.float())
    picture = torch.rand(1, 3, 4 * factor, 4 * factor, generator=torch.Generator().manual_seed(0)) * 2 - 1
    wanted = encode(picture)
    straight = (code.encode(picture) - wanted).norm() <= LINEAR * wanted.norm()
    orthonormal = (basis.T @ basis - torch.eye(channels, dtype=basis.dtype)).abs().max() <= 10 * LINEAR
    return code if straight and orthonormal else None
