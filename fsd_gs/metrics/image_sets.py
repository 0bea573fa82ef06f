"""Sets of images that need not fit into memory: checked, cut into batches, and passed through a network one batch at a time.

An image set is any iterable of [3, H, W] or [B, 3, H, W] tensors, float, sRGB in [0, 1], all of one H × W: a list of renders, a generator
that renders the next asset, :func:`read_images` over files. Only the networks' answers are kept, in float32 on the CPU: 2048 numbers an
image for the largest of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from fsd_gs.core.types import check_shape
from fsd_gs.errors import FileFormatError, InputError
from fsd_gs.metrics.protocols import ImageClassifier, ImageEmbedder, PromptScorer

_OVERSHOOT = 1e-3  # interpolation and half precision leave [0, 1] by this much; more is another range


def check_images(images: Tensor) -> Tensor:
    """``images`` [B, 3, H, W] clamped to [0, 1]; InputError if shape, type or range is another."""
    check_shape("images", images, ("B", 3, "H", "W"))
    if images.numel() == 0:
        raise InputError(f"images: expected at least one image of at least one pixel, got {list(images.shape)}")
    if not images.is_floating_point():
        raise InputError(f"images: expected floats in [0, 1], got {str(images.dtype).removeprefix('torch.')}; divide by 255")
    images = images.detach()
    low, high = images.aminmax()  # a NaN anywhere makes both NaN, which no comparison below accepts
    if not (low >= -_OVERSHOOT and high <= 1 + _OVERSHOOT):
        raise InputError(f"images: expected finite values in [0, 1], got {low.item():g} to {high.item():g}")
    return images.clamp(0, 1)


def check_features(name: str, features: Tensor, shape: tuple[int | str, ...]) -> Tensor:
    """``features`` as float64 on the CPU; InputError if the shape is another or a value is not finite."""
    check_shape(name, features, shape)
    if not torch.isfinite(features).all():
        raise InputError(f"{name}: expected finite values, got NaN or infinity; is one of the images broken?")
    return features.detach().to("cpu", torch.float64)


def to_8_bit(images: Tensor) -> Tensor:
    """[B, 3, H, W] in [0, 1] → whole levels 0 … 255, still floating point: what an image file holds and what the networks were fed."""
    return (images * 255).round()


def in_batches(images: Iterable[Tensor], batch_size: int = 32) -> Iterator[Tensor]:
    """The set as batches [≤ batch_size, 3, H, W], in order; InputError on an empty set or mixed resolutions."""
    if batch_size < 1:
        raise InputError(f"batch_size: expected at least 1, got {batch_size}")
    waiting: list[Tensor] = []
    size: torch.Size | None = None
    for item in images:
        for image in check_images(item if item.ndim == 4 else item[None]):
            size = image.shape if size is None else size
            if image.shape != size:
                raise InputError(
                    f"images: expected one resolution, got {size[2]}×{size[1]} and {image.shape[2]}×{image.shape[1]}; "
                    "render them again at one size (networks see resampled images differently)"
                )
            waiting.append(image)
            if len(waiting) == batch_size:
                yield torch.stack(waiting)
                waiting = []
    if size is None:
        raise InputError("images: expected at least one image, got an empty set")
    if waiting:
        yield torch.stack(waiting)


def embed_images(embedder: ImageEmbedder, images: Iterable[Tensor], batch_size: int = 32) -> Tensor:
    """[N, D] features of the set."""
    return _collect(embedder.embed, images, batch_size)


def classify_images(classifier: ImageClassifier, images: Iterable[Tensor], batch_size: int = 32) -> Tensor:
    """[N, K] class probabilities of the set."""
    return _collect(classifier.probabilities, images, batch_size)


def score_images(scorer: PromptScorer, images: Iterable[Tensor], prompt: str, batch_size: int = 32) -> Tensor:
    """[N] agreement of each image with the prompt."""
    return _collect(lambda batch: scorer.alignment(batch, prompt), images, batch_size)


def read_images(paths: Iterable[Path]) -> Iterator[Tensor]:
    """[3, H, W] in [0, 1] for each file, one at a time; transparency is composited on white. FileFormatError names an unreadable file."""
    import numpy as np
    from PIL import Image

    for path in paths:
        try:
            with Image.open(path) as file:
                image = file.convert("RGBA")
        except OSError as error:
            raise FileFormatError(f"images: {path} is missing or no image this machine can read") from error
        flat = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
        yield torch.from_numpy(np.array(flat)).permute(2, 0, 1) / 255


def _collect(network: Callable[[Tensor], Tensor], images: Iterable[Tensor], batch_size: int) -> Tensor:
    return torch.cat([network(batch).detach().to("cpu", torch.float32) for batch in in_batches(images, batch_size)])
