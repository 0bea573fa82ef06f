"""The autoencoder of the embedded prior: an AutoencoderKL (arXiv 2112.10752) with a written encoder and a learned decoder.

The encoder is linear and known at once (:mod:`fsd_gs.pretrain.patch_code`), so the denoiser can train before there is any decoder. The
decoder only makes pictures of latents; it learns to undo the encoder and to sharpen what the code left out:

    L = |D(z + η) − x|₁ + edges · |∂D(z + η) − ∂x|₁,   z = E(x),   η ~ N(0, jitter² I)

∂ are forward differences: the outline of an object is what one sees first, and a plain L1 blurs it. η teaches it to bear latents that come
from a denoiser instead of a picture.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fsd_gs.pretrain.patch_code import NORM_GROUPS, write_encoder
from fsd_gs.pretrain.settings import AutoencoderSettings
from fsd_gs.pretrain.state import load_state, optimizer_tensors, refusing_misfits, restore_optimizer, save_state, share_done
from fsd_gs.priors.nano.patch_code import PatchCode

DECODER_ANCHOR = 8.0


def make_autoencoder(settings: AutoencoderSettings, image_size: int, code: PatchCode) -> Any:
    """An AutoencoderKL with the encoder of ``code`` and a decoder that starts as a blur; without attention, so that encoding is cheap."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    levels = len(settings.channels)
    vae = AutoencoderKL(
        block_out_channels=tuple(settings.channels),  # pyright: ignore[reportArgumentType]  (annotated as one level)
        down_block_types=("DownEncoderBlock2D",) * levels,  # pyright: ignore[reportArgumentType]
        up_block_types=("UpDecoderBlock2D",) * levels,  # pyright: ignore[reportArgumentType]
        layers_per_block=1,
        latent_channels=settings.latent_channels,
        norm_num_groups=NORM_GROUPS,
        sample_size=image_size,
        mid_block_add_attention=False,
        use_quant_conv=False,
        use_post_quant_conv=False,
        scaling_factor=1.0,  # the code is standardized already
        force_upcast=False,
    )
    write_encoder(vae, code)
    write_blur(vae, code)
    return vae


@torch.no_grad()
def write_blur(vae: Any, code: PatchCode) -> None:
    """Start the decoder as the mean colour of each patch, enlarged: a path from latents to pixels that GroupNorm and SiLU cannot bend.

    The same pairs and anchors as in the encoder carry it; all other weights stay random and learn the detail on top.
    """
    decoder = vae.decoder
    patches = code.factor**2
    mean_color = (code.basis * code.scale).view(3, patches, -1).mean(1)  # [3, K]: colour of a patch from its code
    offset = code.mean.view(3, patches).mean(1)
    decoder.conv_in.weight[:3].zero_()
    decoder.conv_in.bias[:3] = offset
    decoder.conv_in.weight[:3, :, 1, 1] = mean_color
    for block in decoder.up_blocks:
        for resnet in block.resnets:
            if resnet.conv_shortcut is not None:
                _keep_first(resnet.conv_shortcut, 3)
        if block.upsamplers is not None:
            _keep_first(block.upsamplers[0].conv, 3, smooth=True)
    for resnet in [*decoder.mid_block.resnets, *(r for block in decoder.up_blocks for r in block.resnets)]:
        resnet.conv2.weight.mul_(0.1)
        resnet.conv2.bias.zero_()
    _write_last(decoder)


def _keep_first(conv: Any, channels: int, smooth: bool = False) -> None:
    """The first channels pass through (smoothed over 3×3 after an enlargement); the others stay as they are."""
    conv.weight[:channels].zero_()
    conv.bias[:channels].zero_()
    tent = torch.tensor([1.0, 2.0, 1.0]) / 4
    for i in range(channels):
        if smooth:
            conv.weight[i, i] = torch.outer(tent, tent)
        else:
            conv.weight[i, i, conv.kernel_size[0] // 2, conv.kernel_size[1] // 2] = 1.0


def _write_last(decoder: Any) -> None:
    """Give the last level pairs of r, g, b and anchors, and read the picture from the pairs."""
    shortcut, norm, conv = decoder.up_blocks[-1].resnets[0].conv_shortcut, decoder.conv_norm_out, decoder.conv_out
    size = norm.num_channels // norm.num_groups
    deviation = DECODER_ANCHOR * math.sqrt(2 / size)
    norm.weight.fill_(1.0)
    norm.bias.zero_()
    conv.weight.mul_(0.1)
    conv.bias.zero_()
    for color in range(3):
        plus, minus, up, down = (color * size + k for k in range(4))
        for channel, source, sign in ((plus, color, 1.0), (minus, color, -1.0), (up, None, 1.0), (down, None, -1.0)):
            shortcut.weight[channel].zero_()
            shortcut.bias[channel] = 0.0 if source is not None else sign * DECODER_ANCHOR
            if source is not None:
                shortcut.weight[channel, source, 0, 0] = sign
        conv.weight[:, [plus, minus, up, down]] = 0.0
        conv.weight[color, plus, 1, 1], conv.weight[color, minus, 1, 1] = deviation, -deviation


def decoder_loss(vae: Any, images: Tensor, latents: Tensor, settings: AutoencoderSettings) -> Tensor:
    """L for images [B, 3, H, W] in [−1, 1] and latents [B, K, h, w] that already carry η."""
    decoded = vae.decode(latents).sample.float()
    edges = torch.stack([(decoded.diff(dim=d) - images.diff(dim=d)).abs().mean() for d in (2, 3)]).sum()
    return (decoded - images).abs().mean() + settings.edges * edges


class DecoderTrainer:
    """Decoder, optimizer and random stream of one training of ``vae``'s decoder on ``pictures`` [N, 3, H, W] uint8, in place."""

    def __init__(
        self, vae: Any, code: PatchCode, pictures: Tensor, settings: AutoencoderSettings, *, seed: int, device: torch.device
    ) -> None:
        self.vae, self.code, self.pictures, self.settings, self.device = vae, code, pictures, settings, device
        self.generator = torch.Generator().manual_seed(seed)
        vae.to(device, memory_format=torch.channels_last)
        self.parameters = list(vae.decoder.parameters())
        self.optimizer = torch.optim.AdamW(self.parameters, lr=settings.lr, betas=(0.9, 0.99), weight_decay=1e-4)
        self.steps, self.seconds = 0, 0.0

    @property
    def share(self) -> float:
        """Of the training, in [0, 1]."""
        return share_done(self.steps, self.seconds, self.settings.steps, self.settings.minutes)

    def step(self) -> float:
        """One update; returns the loss."""
        started, settings = time.monotonic(), self.settings
        for group in self.optimizer.param_groups:
            group["lr"] = settings.lr * min(1.0, (self.steps + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * self.share)) + 1e-6
        images, latents = self._batch()
        with torch.autocast(self.device.type, torch.bfloat16):
            loss = decoder_loss(self.vae, images, latents, settings)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        value = float(loss.detach())
        self.steps, self.seconds = self.steps + 1, self.seconds + time.monotonic() - started
        return value

    def _batch(self) -> tuple[Tensor, Tensor]:
        """Images in [−1, 1] and their latents with η."""
        chosen = torch.randint(len(self.pictures), (self.settings.batch,), generator=self.generator)
        images = self.pictures[chosen].float() / 127.5 - 1
        latents = self.code.encode(images)
        latents = latents + self.settings.jitter * torch.randn(latents.shape, generator=self.generator)
        images, latents = (x.to(self.device, memory_format=torch.channels_last) for x in (images, latents))
        return images, latents

    def finish(self) -> None:
        """The autoencoder ready for use, on the CPU."""
        self.vae.to("cpu", memory_format=torch.contiguous_format).eval().requires_grad_(False)

    def save(self, path: Path) -> None:
        """The state of the training, one safetensors file."""
        tensors = {f"weights.{k}": v.detach() for k, v in self.vae.decoder.named_parameters()}
        tensors |= optimizer_tensors(self.optimizer, self.vae.decoder)
        save_state(path, tensors, {"steps": self.steps, "seconds": self.seconds}, self.generator)

    def load(self, path: Path) -> None:
        """Continue where :meth:`save` left off; FileFormatError where the state does not fit."""
        tensors, facts = load_state(path, self.generator)
        with refusing_misfits(path):
            with torch.no_grad():
                for name, parameter in self.vae.decoder.named_parameters():
                    parameter.copy_(tensors[f"weights.{name}"])
            restore_optimizer(self.optimizer, self.vae.decoder, tensors)
            self.steps, self.seconds = int(facts["steps"]), float(facts["seconds"])


@torch.no_grad()
def psnr(vae: Any, pictures: Tensor) -> float:
    """Mean PSNR in dB of reconstructions of ``pictures`` [N, 3, H, W] uint8, in the autoencoder's own precision."""
    values = []
    for batch in pictures.split(64):
        images = batch.float() / 127.5 - 1
        decoded = vae.decode(vae.encode(images.to(vae.dtype)).latent_dist.mode()).sample.float().clamp(-1, 1)
        mse = ((decoded - images) / 2).pow(2).mean(dim=(1, 2, 3))
        values.append(-10 * mse.clamp_min(1e-10).log10())
    return float(torch.cat(values).mean())
