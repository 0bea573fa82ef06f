"""Labelled grids of samples for the model card."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fsd_gs.core.sheets import Frame, contact_sheet, to_uint8

GAP = 8


def grid(rows: Sequence[tuple[str, Sequence[Tensor]]], *, scale: int = 2) -> Image.Image:
    """One strip a row below its label: a row holds blocks [V, 3, H, W] in [0, 1] with a gap between blocks."""
    strips = [_strip(blocks, scale) for _, blocks in rows]
    width = max(strip.shape[1] for strip in strips)
    frames = [np.pad(strip, ((0, 0), (0, width - strip.shape[1]), (0, 0)), constant_values=255) for strip in strips]
    return Image.fromarray(contact_sheet(frames, 1, captions=[label for label, _ in rows], gap=0))


def _strip(blocks: Sequence[Tensor], scale: int) -> Frame:
    parts = []
    for number, block in enumerate(blocks):
        if number:
            parts.append(torch.ones(3, block.shape[-2], GAP))
        parts += list(block.float().cpu())
    strip = Image.fromarray(to_uint8(torch.cat(parts, dim=2).permute(1, 2, 0)))
    return np.asarray(strip.resize((strip.width * scale, strip.height * scale), Image.Resampling.LANCZOS))
