"""Labelled grids of samples for the model card."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

LABEL, GAP = 16, 8


def grid(rows: Sequence[tuple[str, Sequence[Tensor]]], *, scale: int = 2) -> Image.Image:
    """One strip a row below its label: a row holds blocks [V, 3, H, W] in [0, 1] with a gap between blocks."""
    strips = [_strip(blocks, scale) for _, blocks in rows]
    width = max(strip.width for strip in strips)
    image = Image.new("RGB", (width, sum(strip.height + LABEL for strip in strips)), "white")
    pen, font, y = ImageDraw.Draw(image), ImageFont.load_default(11), 0
    for (label, _), strip in zip(rows, strips, strict=True):
        pen.text((2, y + 1), label, fill="black", font=font)
        image.paste(strip, (0, y + LABEL))
        y += LABEL + strip.height
    return image


def _strip(blocks: Sequence[Tensor], scale: int) -> Image.Image:
    parts = []
    for number, block in enumerate(blocks):
        if number:
            parts.append(torch.ones(3, block.shape[-2], GAP))
        parts += list(block.float().cpu())
    pixels = (torch.cat(parts, dim=2).clamp(0, 1) * 255).round().byte().permute(1, 2, 0)
    strip = Image.fromarray(pixels.numpy())
    return strip.resize((strip.width * scale, strip.height * scale), Image.Resampling.LANCZOS)
