"""Where a training starts: with new weights drawn from the seed, or with those of a finished prior."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fsd_gs.core.backgrounds import BACKGROUNDS, in_front_of
from fsd_gs.errors import FileFormatError, InputError
from fsd_gs.pretrain.autoencoder import make_autoencoder
from fsd_gs.pretrain.diffusion import Denoiser, make_text_encoder, make_unet
from fsd_gs.pretrain.settings import PretrainConfig
from fsd_gs.pretrain.tokenizer import WORD_END, knows, make_tokenizer
from fsd_gs.priors.backbones.nano import WEIGHTS
from fsd_gs.priors.folders import load_module
from fsd_gs.priors.loading import EMBEDDED
from fsd_gs.priors.nano.patch_code import PatchCode, read_encoder
from fsd_gs.priors.splat.folder import COMPONENT


@dataclass(frozen=True)
class FinishedParts:
    """The parts of a finished prior in float32, ready to be trained on.

    Attributes:
        folder: where they come from.
        code: of the latents.
        vae, unet, text_encoder, tokenizer: networks of diffusers and transformers.
    """

    folder: Path
    code: PatchCode
    vae: Any
    unet: Any
    text_encoder: Any
    tokenizer: Any


def load_finished(config: PretrainConfig) -> FinishedParts | None:
    """The prior that ``config.init`` names, None for no such start. InputError where its sizes contradict the settings."""
    if not config.init:
        return None
    folder = WEIGHTS if config.init == EMBEDDED else Path(config.init)
    if not (folder / "model_index.json").is_file():
        raise InputError(f"init: expected the folder of a finished prior (with model_index.json), got '{folder}'")
    try:
        parts = load_parts(folder)
    except FileFormatError:
        raise
    except Exception as error:
        raise FileFormatError(f"init: '{folder}' does not load ({' '.join(str(error).split())[:200]})") from error
    _compare(config, parts, folder)
    return parts


def load_parts(folder: Path) -> FinishedParts:
    """The parts in ``folder``. FileFormatError for one that train-prior did not make."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    modules = [
        load_module(cls, folder, name, torch.float32).train().requires_grad_(True)
        for cls, name in ((UNet2DConditionModel, "unet"), (AutoencoderKL, "vae"), (CLIPTextModel, "text_encoder"))
    ]
    try:
        tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    except Exception as error:
        raise FileFormatError(f"init: '{folder / 'tokenizer'}' does not load ({' '.join(str(error).split())[:200]})") from error
    code = read_encoder(modules[1])
    if code is None:
        raise FileFormatError("init: the autoencoder of this prior was not made by train-prior; start without init")
    return FinishedParts(folder, code, modules[1], modules[0], modules[2], tokenizer)


def _compare(config: PretrainConfig, parts: FinishedParts, folder: Path) -> None:
    unet, vae, text = parts.unet.config, parts.vae.config, parts.text_encoder.config
    net = config.diffusion
    cells = config.data.image_size // 2 ** (len(config.autoencoder.channels) - 1)
    pairs = (
        ("autoencoder.channels", list(config.autoencoder.channels), list(vae.block_out_channels)),
        ("autoencoder.latent_channels", config.autoencoder.latent_channels, vae.latent_channels),
        ("data.image_size", cells, unet.sample_size),
        ("diffusion.channels", list(net.channels), list(unet.block_out_channels)),
        ("diffusion.layers", net.layers, unet.layers_per_block),
        ("diffusion.text_width", net.text_width, text.hidden_size),
        ("diffusion.text_layers", net.text_layers, text.num_hidden_layers),
    )
    for name, wanted, found in pairs:
        if wanted != found:
            unit = " cells of latents" if name == "data.image_size" else ""
            raise InputError(f"{name}: init='{folder}' was trained with {found}{unit}, the settings say {wanted}{unit}; make them agree")


def start_autoencoder(config: PretrainConfig, code: PatchCode, finished: FinishedParts | None) -> Any:
    """The finished prior's autoencoder, or a new one around the code."""
    if finished is not None:
        return finished.vae
    with seeded(config.data.seed):
        return make_autoencoder(config.autoencoder, config.data.image_size, code)


def keep_head(finished: FinishedParts | None, folder: Path) -> None:
    """Copy the part that draws splats, which a splat-native prior has beside its UNet, into ``folder``."""
    if finished is not None and (finished.folder / COMPONENT).is_dir():
        shutil.copytree(finished.folder / COMPONENT, folder / COMPONENT)


def start_tokenizer(words: Sequence[str], folder: Path, finished: FinishedParts | None) -> Any:
    """The tokenizer of the words of the captions and of their backgrounds; a finished prior learns those that it does not know."""
    if finished is not None:
        return learn_words(finished, words, folder)
    phrases = [in_front_of("", name) for name in BACKGROUNDS]
    return make_tokenizer([*words, *(word for phrase in phrases for word in phrase.split())], folder)


def learn_words(parts: FinishedParts, words: Sequence[str], folder: Path) -> Any:
    """A tokenizer that knows ``words`` and what the prior knew; the text encoder keeps the embeddings of the tokens that it had, and draws
    new ones for the others."""
    from tokenizers.decoders import ByteLevel

    if knows(parts.tokenizer, words):
        return parts.tokenizer
    known, spelled = parts.tokenizer.get_vocab(), ByteLevel()
    ends = {spelled.decode([token.removesuffix(WORD_END)]) for token in known if token.endswith(WORD_END)}
    old = {text for text in ends if re.fullmatch(r"[^\W\d_]{2,}", text)}
    made = start_tokenizer(sorted({*old, *words}), folder, None)
    encoder, table = parts.text_encoder, parts.text_encoder.get_input_embeddings().weight.detach().clone()
    fresh = torch.randn(len(made), table.shape[1]) * table.std()
    for token, number in made.get_vocab().items():
        if token in known:
            fresh[number] = table[known[token]]
    encoder.resize_token_embeddings(len(made), mean_resizing=False)
    with torch.no_grad():
        encoder.get_input_embeddings().weight.copy_(fresh)
    for config in (encoder.config, getattr(encoder, "text_model", encoder)):
        for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            if hasattr(config, name):
                setattr(config, name, getattr(made, name))
    return made


def start_denoiser(config: PretrainConfig, tokenizer: Any, finished: FinishedParts | None, device: torch.device) -> Denoiser:
    """On ``device``: the way attention is computed depends on it."""
    if finished is not None:
        unet, text_encoder = finished.unet, finished.text_encoder
    else:
        cells = config.data.image_size // 2 ** (len(config.autoencoder.channels) - 1)
        with seeded(config.data.seed):
            unet = make_unet(config.diffusion, config.autoencoder.latent_channels, cells)
            text_encoder = make_text_encoder(config.diffusion, tokenizer)
    return Denoiser(unet.to(device, memory_format=torch.channels_last), text_encoder.to(device), tokenizer)


def compile_unet(denoiser: Denoiser) -> None:
    """torch.compile its UNet in place; copies of the denoiser are eager again. InputError where a CPU has no compiler to do it with."""
    on_cpu = next(denoiser.unet.parameters()).device.type == "cpu"
    if on_cpu and not any(shutil.which(name) for name in (os.environ.get("CXX", ""), "g++", "c++", "clang++")):
        raise InputError("diffusion.compile: expected a C++ compiler (g++ or clang++), found none; install one or leave it false")
    denoiser.unet.compile(dynamic=False)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """The libraries draw starting weights from torch's global stream: seed it for a moment, then put it back."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
