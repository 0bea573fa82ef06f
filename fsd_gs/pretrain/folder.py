"""Writes a trained prior as a diffusers folder: what ``prior.name=FOLDER`` loads like any other backbone.

    unet/ vae/ text_encoder/ tokenizer/ scheduler/ model_index.json    as diffusers lays them out; float16 safetensors, ≤ 12 MB a file
    checksums.json                                                     SHA-256 of every other file

model_index.json also says how the prior wants to be asked: how many views it denoises jointly, that its captions name the background,
and whether prompts are read by the catalogue's vocabulary.
"""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import torch

from fsd_gs.io import write_text
from fsd_gs.pretrain.diffusion import SCHEDULER, Denoiser

MAX_SHARD = "12MB"
CHECKSUMS = "checksums.json"


def save_prior(folder: Path, denoiser: Denoiser, vae: Any, *, views: int, vocabulary: str) -> Path:
    """Write ``folder`` anew (half precision). vocabulary: "catalogue" if prompts are read in its words, "" for free captions."""
    if folder.exists():
        shutil.rmtree(folder)
    for name, module in (("unet", denoiser.unet), ("vae", vae), ("text_encoder", denoiser.text_encoder)):
        half = copy.deepcopy(module).to("cpu", torch.float16, memory_format=torch.contiguous_format)
        half.save_pretrained(folder / name, safe_serialization=True, max_shard_size=MAX_SHARD)
    denoiser.tokenizer.save_pretrained(folder / "tokenizer")
    write_text(folder / "scheduler" / "scheduler_config.json", json.dumps(SCHEDULER, indent=2))
    index = {
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
    }
    write_text(folder / "model_index.json", json.dumps(index, indent=2))
    write_text(folder / CHECKSUMS, json.dumps(checksums(folder), indent=2))
    return folder


def checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of the folder but the list itself, by relative path."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != CHECKSUMS)
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
