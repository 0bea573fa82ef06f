"""The training set on disk, a file for each few hundred objects: pictures first, then their latents.

    views/shard-00000.safetensors     images uint8 [O, R, V, 3, H, W], cameras [O, R, V, 16], backgrounds [O, R, 3]
    latents/shard-00000.safetensors   latents float16 [O, R, V, C, h, w] instead of the images

The captions lie in the file's metadata as JSON. A shard is written whole or not at all, so that both stages go on where they were
stopped, and several processes may share the work: each takes the shards with its own remainder.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from fsd_gs.errors import FileFormatError
from fsd_gs.io import atomic_write
from fsd_gs.pretrain.settings import DataSettings
from fsd_gs.pretrain.sources import ObjectSource
from fsd_gs.pretrain.views import make_example
from fsd_gs.priors.nano.patch_code import PatchCode


@dataclass(frozen=True)
class Shard:
    """O objects.

    Attributes:
        pixels: images uint8 [O, R, V, 3, H, W] or latents float16 [O, R, V, C, h, w]; cameras [O, R, V, 16]; backgrounds [O, R, 3].
        captions: O tuples.
    """

    pixels: Tensor
    cameras: Tensor
    backgrounds: Tensor
    captions: tuple[tuple[str, ...], ...]


def shard_path(folder: Path, number: int) -> Path:
    """The file of shard ``number``."""
    return folder / f"shard-{number:05d}.safetensors"


def shard_count(data: DataSettings) -> int:
    """How many files the objects fill."""
    return -(-data.objects // data.shard)


def save_shard(shard: Shard, path: Path) -> None:
    """Write a shard, whole or not at all."""
    from safetensors.torch import save_file

    tensors = {"pixels": shard.pixels, "cameras": shard.cameras, "backgrounds": shard.backgrounds}
    with atomic_write(path) as temporary:
        save_file({k: v.contiguous() for k, v in tensors.items()}, temporary, metadata={"captions": json.dumps(shard.captions)})


def load_shard(path: Path) -> Shard:
    """Read a shard. FileFormatError if it is damaged."""
    from safetensors import safe_open

    try:
        with safe_open(path, framework="pt") as opened:
            captions = json.loads(opened.metadata()["captions"])
            tensors = {key: opened.get_tensor(key) for key in ("pixels", "cameras", "backgrounds")}
    except Exception as error:
        raise FileFormatError(f"{path} is not a readable shard; delete it and run the command again") from error
    return Shard(**tensors, captions=tuple(tuple(c) for c in captions))


def _nothing() -> None:
    return None


def missing_shards(data: DataSettings, folder: Path) -> list[int]:
    """Numbers of the shards that are not there yet."""
    return [number for number in range(shard_count(data)) if not shard_path(folder, number).is_file()]


def render_shards(
    source: ObjectSource, data: DataSettings, folder: Path, part: int = 0, parts: int = 1, *, after_object: Callable[[], None] = _nothing
) -> Iterator[int]:
    """Render the shards that are missing, those with number ≡ part (mod parts); yields the number of each as it is there.

    after_object: called after each rendered object; may stop the work by raising.
    """
    for number in range(part, shard_count(data), parts):
        path = shard_path(folder, number)
        if not path.is_file():
            save_shard(_render(source, data, number, after_object), path)
        yield number


def _render(source: ObjectSource, data: DataSettings, number: int, after_object: Callable[[], None]) -> Shard:
    first, examples = number * data.shard, []
    for index in range(first, min(first + data.shard, data.objects)):
        examples.append(make_example(source, data, index))
        after_object()
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
        shard = load_shard(path)
        pictures.append(shard.pixels[: objects - count].flatten(0, 2))
        count += len(shard.captions)
    return torch.cat(pictures)


def encode_shards(code: PatchCode, views: Path, folder: Path) -> Iterator[int]:
    """Encode every shard of ``views`` that has no latents yet; yields their numbers."""
    for path in sorted(views.glob("shard-*.safetensors")):
        target = folder / path.name
        if not target.is_file():
            shard = load_shard(path)
            save_shard(Shard(_encode(code, shard.pixels), shard.cameras, shard.backgrounds, shard.captions), target)
        yield int(path.stem.split("-")[1])


def _encode(code: PatchCode, images: Tensor) -> Tensor:
    """uint8 [O, R, V, 3, H, W] → latents float16 [O, R, V, C, h, w]."""
    latents = torch.cat([code.encode(batch.float() / 127.5 - 1).half() for batch in images.flatten(0, 2).split(512)])
    return latents.view(*images.shape[:3], *latents.shape[1:])
