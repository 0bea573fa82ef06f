"""Writes a trained prior as a diffusers folder: what ``prior.name=FOLDER`` loads like any other backbone.

    unet/ vae/ text_encoder/ tokenizer/ scheduler/ model_index.json    as diffusers lays them out; float16 safetensors, ≤ 12 MB a file
    captions.json                                                      those it was trained with beside the catalogue's, if there are any
    card.json                                                          how it was made and how well it went, if the caller knows
    checksums.json                                                     SHA-256 of every other file

model_index.json also says how the prior wants to be asked: how many views it denoises jointly, that its captions name the background,
whether prompts are read by the catalogue's vocabulary, and which of its categories it was trained on.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from fsd_gs.io import new_folder, write_text
from fsd_gs.pretrain.diffusion import SCHEDULER, Denoiser
from fsd_gs.priors.digests import CHECKSUMS, checksums
from fsd_gs.priors.reader import CAPTIONS

MAX_SHARD = "12MB"
CARD = "card.json"


def save_prior(
    folder: Path,
    denoiser: Denoiser,
    vae: Any,
    *,
    views: int,
    vocabulary: str,
    categories: Sequence[str] = (),
    captions: Sequence[str] = (),
    card: Mapping[str, Any] | None = None,
    beside: Callable[[Path], None] = lambda place: None,
) -> Path:
    """Write ``folder`` anew (half precision); the old one stays until the new one is whole.

    vocabulary: "catalogue" if prompts are read in its words, "" for free captions. categories: those of the catalogue that the prior was
    trained on, none for all (or for free captions). captions: those that it was trained with beside the catalogue's. beside: writes what
    else belongs into the new folder, before its checksums.
    """
    with new_folder(folder) as place:
        for name, module in (("unet", denoiser.unet), ("vae", vae), ("text_encoder", denoiser.text_encoder)):
            half = copy.deepcopy(module)
            # Module's own method: diffusers' would warn about layers to keep in float32, of which there are none.
            torch.nn.Module.to(half, "cpu", torch.float16)
            for parameter in half.parameters():  # from channels-last, which safetensors cannot hold
                parameter.data = parameter.data.contiguous()
            with _quiet():
                half.save_pretrained(place / name, safe_serialization=True, max_shard_size=MAX_SHARD)
            _forget_origin(place / name / "config.json")
        denoiser.tokenizer.save_pretrained(place / "tokenizer")
        write_text(place / "scheduler" / "scheduler_config.json", json.dumps(SCHEDULER, indent=2))
        index = _index(views, vocabulary, categories) | ({"captions": CAPTIONS} if captions else {})
        write_text(place / "model_index.json", json.dumps(index, indent=2))
        if captions:
            write_text(place / CAPTIONS, json.dumps(list(captions), indent=1))
        beside(place)
        if card is not None:
            write_text(place / CARD, json.dumps(dict(card), indent=2))
        write_text(place / CHECKSUMS, json.dumps(checksums(place), indent=2))
    return folder


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' bar for each file; the command draws its own."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _forget_origin(path: Path) -> None:
    """Networks that were loaded from a folder write its path into their config; where it lay is nobody's business."""
    config = json.loads(path.read_text())
    if config.pop("_name_or_path", None) is not None:
        write_text(path, json.dumps(config, indent=2) + "\n")


def _index(views: int, vocabulary: str, categories: Sequence[str]) -> dict[str, Any]:
    return {
        "_class_name": "StableDiffusionPipeline",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "views": views,
        "prompt_suffix": "",
        "names_background": True,
        "vocabulary": vocabulary,
        "categories": list(categories),
    }
