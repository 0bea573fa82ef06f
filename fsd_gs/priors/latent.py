"""Between pictures and latents: resize, VAE encoder and decoder.

    encode: x ∈ [0, 1] → resized to S×S (anti-aliased) → 2x − 1 → mean of q(z | x) → latents = (z − shift) · scale
    decode: latents → z = latents / scale + shift → decoder → (· + 1)/2, clamped to [0, 1]

The mean, not a sample: the latent of a render is then a deterministic, differentiable function of it. SD's ``scale`` is 0.18215 with no
shift; SD3 and FLUX have both. Some SDXL fine-tunes standardise per channel instead: latents = (z − mean) · scale / std.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fsd_gs.core.types import check_shape
from fsd_gs.errors import InputError
from fsd_gs.priors.options import LoadOptions


def resize_antialiased(rgb: Tensor, size: int) -> Tensor:
    """rgb [B, C, H, W] → [B, C, size, size], bilinear with anti-aliasing when it shrinks; unchanged if it already fits."""
    if tuple(rgb.shape[-2:]) == (size, size):
        return rgb
    import kornia

    return kornia.geometry.resize(rgb, (size, size), interpolation="bilinear", antialias=True)


class LatentCodec:
    """A frozen VAE behind ``encode`` and ``decode``, in the VAE's own precision inside and the caller's outside."""

    def __init__(self, vae: Any, image_size: int, options: LoadOptions, tiny: Any | None = None) -> None:
        self.vae, self.tiny, self.image_size = vae, tiny, image_size
        config = vae.config
        self.channels: int = int(config.latent_channels)
        self.factor: int = 2 ** (len(config.block_out_channels) - 1)
        if image_size % self.factor:
            raise InputError(f"image_size: expected a multiple of {self.factor} for this VAE, got {image_size}")
        self.scale, self.shift = (value.to(vae.device) for value in _affine(config))
        if options.vae_slicing:
            vae.enable_slicing()
        if options.vae_tiling:
            vae.enable_tiling()
        if options.vae_checkpointing:
            (vae if tiny is None else tiny).enable_gradient_checkpointing()
        self._mean: Callable[[Tensor], Tensor] = self._mean_of_vae
        self._moments: Callable[[Tensor], Tensor] = self._encode_with_vae if tiny is None else self._encode_with_tiny

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        side = self.image_size // self.factor
        return (self.channels, side, side)

    def compile_encoder(self, wrap: Callable[[Any, str], Any]) -> None:
        """Replace the encoder's network by ``wrap(network, name)``."""
        target = self.vae if self.tiny is None else self.tiny
        target.encoder.forward = wrap(target.encoder.forward, "encoder")

    def encode_by(self, mean: Callable[[Tensor], Tensor]) -> None:
        """Let ``mean``, which must say the same, take the place of the VAE's encoder: [B, 3, S, S] in [−1, 1] → z [B, C, h, w]."""
        self._mean = mean

    def encode(self, rgb: Tensor) -> Tensor:
        """rgb [B, 3, H, W] in [0, 1], any H, W → latents [B, C, h, w]; differentiable in rgb."""
        check_shape("rgb", rgb, ("B", 3, "H", "W"))
        if not rgb.is_floating_point():
            raise InputError(f"rgb: expected floating point values in [0, 1], got {rgb.dtype}")
        return self._moments(2 * resize_antialiased(rgb, self.image_size) - 1).to(rgb.dtype)

    def _encode_with_vae(self, images: Tensor) -> Tensor:
        mean = self._mean(images)
        return (mean - self.shift.to(mean)) * self.scale.to(mean)

    def _mean_of_vae(self, images: Tensor) -> Tensor:
        mean: Tensor = self.vae.encode(images.to(self.vae.dtype)).latent_dist.mode()
        return mean.to(images.dtype)

    def _encode_with_tiny(self, images: Tensor) -> Tensor:
        # AutoencoderTiny is trained to give latents that are already scaled and shifted.
        assert self.tiny is not None
        return self.tiny.encode(images.to(self.tiny.dtype)).latents

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """latents [B, C, h, w] → rgb [B, 3, H, W] in [0, 1], float32 or the latents' wider type."""
        check_shape("latents", latents, ("B", self.channels, "h", "w"))
        z = latents / self.scale.to(latents) + self.shift.to(latents)
        images = self.vae.decode(z.to(self.vae.dtype)).sample
        return ((images.to(latents.dtype) + 1) / 2).clamp(0, 1)


def _affine(config: Any) -> tuple[Tensor, Tensor]:
    """(scale, shift) [1, C or 1, 1, 1] of latents = (z − shift) · scale."""
    scaling = float(config.scaling_factor)
    mean, std = getattr(config, "latents_mean", None), getattr(config, "latents_std", None)
    if mean is not None and std is not None:
        return scaling / torch.tensor(std, dtype=torch.float64).view(1, -1, 1, 1), torch.tensor(mean, dtype=torch.float64).view(1, -1, 1, 1)
    shift = getattr(config, "shift_factor", None) or 0.0
    return torch.full((1, 1, 1, 1), scaling, dtype=torch.float64), torch.full((1, 1, 1, 1), float(shift), dtype=torch.float64)
