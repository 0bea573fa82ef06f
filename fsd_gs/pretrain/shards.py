"""The training set on disk, a file for each few hundred objects: pictures first, then their latents.

    views/shard-00000.safetensors     images uint8 [O, R, V, 3, H, W], cameras [O, R, V, 16], backgrounds [O, R, 3]
    latents/shard-00000.safetensors   latents float16 [O, R, V, C, h, w] instead of the images

The captions lie in the file's metadata as JSON. A shard is written whole or not at all, so that both stages go on where they were
stopped, and several processes may share the work: each takes the shards with its own remainder.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fsd_gs.errors import FileFormatError
from fsd_gs.io import atomic_write
from fsd_gs.pretrain.settings import DataSettings
from fsd_gs.pretrain.sources import ObjectSource
from fsd_gs.pretrain.views import make_example


@dataclass(frozen=True)
class Shard:
    """O objects. pixels: images uint8 [O, R, V, 3, H, W] or latents float16 [O, R, V, C, h, w]; cameras [O, R, V, 16];
    backgrounds [O, R, 3]; captions: O tuples."""

    pixels: Tensor
    cameras: Tensor
    backgrounds: Tensor
    captions: tuple[tuple[str, ...], ...]


def shard_path(folder: Path, number: int) -> Path:
    return folder / f"shard-{number:05d}.safetensors"


def shard_count(data: DataSettings) -> int:
    return -(-data.objects // data.shard)


def save_shard(shard: Shard, path: Path) -> None:
    from safetensors.torch import save_file

    tensors = {"pixels": shard.pixels, "cameras": shard.cameras, "backgrounds": shard.backgrounds}
    with atomic_write(path) as temporary:
        save_file({k: v.contiguous() for k, v in tensors.items()}, temporary, metadata={"captions": json.dumps(shard.captions)})


def load_shard(path: Path) -> Shard:
    from safetensors import safe_open

    try:
        with safe_open(path, framework="pt") as opened:
            captions = json.loads(opened.metadata()["captions"])
            tensors = {key: opened.get_tensor(key) for key in ("pixels", "cameras", "backgrounds")}
    except Exception as error:
        raise FileFormatError(f"{path} is not a readable shard; delete it and run the command again") from error
    return Shard(**tensors, captions=tuple(tuple(c) for c in captions))


def render_shards(source: ObjectSource, data: DataSettings, folder: Path, part: int = 0, parts: int = 1) -> Iterator[int]:
    """Render the shards that are missing, those with number ≡ part (mod parts); yields the number of each as it is there."""
    for number in range(part, shard_count(data), parts):
        path = shard_path(folder, number)
        if not path.is_file():
            save_shard(_render(source, data, number), path)
        yield number


def _render(source: ObjectSource, data: DataSettings, number: int) -> Shard:
    first = number * data.shard
    examples = [make_example(source, data, index) for index in range(first, min(first + data.shard, data.objects))]
    return Shard(
        torch.stack([(e.images * 255).round().to(torch.uint8) for e in examples]),
        torch.stack([e.cameras for e in examples]),
        torch.stack([e.backgrounds for e in examples]),
        tuple(e.captions for e in examples),
    )


def load_pictures(folder: Path, objects: int) -> Tensor:
    """[N, 3, H, W] uint8: the views of the first ``objects`` objects."""
    pictures: list[Tensor] = []
    count = 0
    for path in sorted(folder.glob("shard-*.safetensors")):
        if count >= objects:
            break
        pictures.append(load_shard(path).pixels[: objects - count].flatten(0, 2))
        count += len(load_shard(path).captions)
    return torch.cat(pictures)


@torch.no_grad()
def encode_shards(vae: Any, views: Path, folder: Path, device: torch.device) -> Iterator[int]:
    """Encode every shard of ``views`` that has no latents yet; yields their numbers."""
    for path in sorted(views.glob("shard-*.safetensors")):
        target = folder / path.name
        if not target.is_file():
            shard = load_shard(path)
            save_shard(Shard(_encode(vae, shard.pixels, device), shard.cameras, shard.backgrounds, shard.captions), target)
        yield int(path.stem.split("-")[1])


def _encode(vae: Any, images: Tensor, device: torch.device) -> Tensor:
    """uint8 [O, R, V, 3, H, W] → standardized latents float16 [O, R, V, C, h, w]."""
    latents = []
    for batch in images.flatten(0, 2).split(64):
        pictures = (batch.to(device).float() / 127.5 - 1).to(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16):
            mean = vae.encode(pictures).latent_dist.mode()
        latents.append(((mean.float() - vae.config.shift_factor) * vae.config.scaling_factor).half().cpu())
    stacked = torch.cat(latents)
    return stacked.view(*images.shape[:3], *stacked.shape[1:])
