"""What is trained: the UNet and text encoder of a finished prior, and the part that draws, as one module."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fsd_gs.errors import InputError
from fsd_gs.pretrain.diffusion import Denoiser, make_scheduler
from fsd_gs.pretrain.folder import save_prior
from fsd_gs.pretrain.splat.batches import SplatBatch
from fsd_gs.pretrain.start import learn_words, load_parts, seeded
from fsd_gs.priors.backbones.nano import WEIGHTS
from fsd_gs.priors.loading import EMBEDDED
from fsd_gs.priors.splat.folder import COMPONENT, load_head, save_head
from fsd_gs.priors.splat.network import SplatHead, SplatSettings, ViewMaps, WithFeatures


class SplatModel(torch.nn.Module):
    """UNet, text encoder and head.

    Args:
        denoiser: UNet (as diffusers makes it) and text encoder.
        head: what draws.
        vae: of the latents; not trained, and not a part of the module.
    """

    def __init__(self, denoiser: Denoiser, head: SplatHead, vae: Any) -> None:
        super().__init__()
        denoiser.unet.conv_out = WithFeatures(denoiser.unet.conv_out)
        self.denoiser, self.head = denoiser, head
        self.beside = [vae]
        self.alphas_cumprod: Tensor = make_scheduler().alphas_cumprod

    def forward(
        self, x_t: Tensor, batch: SplatBatch, alpha: Tensor, sigma: Tensor, dtype: torch.dtype, *, head_only: bool = False
    ) -> ViewMaps:
        """Latents [B·V, C, h, w] → what is known of the views. head_only: UNet and text encoder get no gradient."""
        n = batch.n.repeat_interleave(batch.clean.shape[1])
        learns = torch.is_grad_enabled() and not head_only
        with torch.set_grad_enabled(learns), torch.autocast(x_t.device.type, dtype, enabled=dtype == torch.bfloat16):
            output = self.denoiser(x_t.to(memory_format=torch.channels_last), n, batch.captions, batch.numbers.to(x_t))
        return self.head(output, x_t, alpha, sigma, batch.rays, dtype)

    def save(self, folder: Path, *, vocabulary: str, categories: Sequence[str], captions: Sequence[str] = (), card: dict[str, Any]) -> None:
        """Write the prior as a folder that ``prior.name`` takes, in half precision; the rest as
        :func:`~fsd_gs.pretrain.folder.save_prior` has it."""
        unet = self.denoiser.unet
        wrapped = unet.conv_out
        unet.conv_out = wrapped.inner  # as diffusers knows it
        try:
            save_prior(
                folder, self.denoiser, self.beside[0], views=4, vocabulary=vocabulary, categories=categories,
                captions=captions, card=card, beside=lambda place: save_head(place, self.head),
            )  # fmt: skip
        finally:
            unet.conv_out = wrapped


def start_model(init: str, words: Sequence[str], settings: SplatSettings, seed: int, tokenizer: Path, device: torch.device) -> SplatModel:
    """The prior ``init`` with a head: its own, or a new one.

    Args:
        init: "nano" or a folder that train-prior made.
        words: that the captions will use; they join those that the prior knows.
        settings: of the head.
        seed: of new weights.
        tokenizer: the training's folder for it.
        device: of the weights.

    Raises:
        InputError: no such folder, or its head has other settings.
    """
    folder = starting_folder(init)
    parts = load_parts(folder)
    with seeded(seed):
        made = learn_words(parts, words, tokenizer)
        features = int(parts.unet.config.block_out_channels[0])
        head = SplatHead(settings, parts.code, features).to(device)
        if (folder / COMPONENT).is_dir():
            finished = load_head(folder, parts.code, features, device)
            if finished.settings != settings:
                ours, theirs = vars(settings), vars(finished.settings)
                name = next(k for k in ours if ours[k] != theirs[k])
                raise InputError(
                    f"network.{name}: the prior to start from has {theirs[name]}, the settings say {ours[name]}; take its value"
                )
            head.load_state_dict(finished.state_dict())
    denoiser = Denoiser(parts.unet.to(device, memory_format=torch.channels_last), parts.text_encoder.to(device), made)
    return SplatModel(denoiser.train(), head.train().requires_grad_(True), parts.vae)


def starting_folder(init: str) -> Path:
    """Where the prior ``init`` lies. InputError if it is neither nano nor a prior's folder."""
    folder = WEIGHTS if init == EMBEDDED else Path(init)
    if not (folder / "model_index.json").is_file():
        raise InputError(f"init: expected nano or the folder of a finished prior (with model_index.json), got '{init}'")
    return folder
