"""Pictures side by side: contact sheets of previews, catalogues, sweeps and samples. A frame is uint8 [H, W, 3]."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fsd_gs.errors import InputError

Frame = NDArray[np.uint8]
CAPTION = 14  # pixels of a caption's line


def to_uint8(picture: Tensor) -> Frame:
    """[H, W, 3] in [0, 1] → uint8 on the CPU."""
    return (picture.detach().clamp(0, 1) * 255).round().to("cpu", torch.uint8).numpy()


def contact_sheet(
    frames: Sequence[Frame],
    columns: int,
    *,
    labels: Sequence[str] | None = None,
    captions: Sequence[str] | None = None,
    gap: int = 4,
) -> Frame:
    """Frames of one size side by side, row by row, on white.

    Args:
        frames: uint8 [H, W, 3] each.
        columns: Frames in a row, at most.
        labels: Written into the top left corner of each frame.
        captions: Written above each frame, on a line of ``CAPTION`` pixels, cut off where the frame ends.
        gap: Pixels between frames.

    Returns:
        uint8 [rows · (H + caption + gap) − gap, columns · (W + gap) − gap, 3].

    Raises:
        InputError: No frame, frames of several sizes, or not one text for each.
    """
    if not frames or columns < 1:
        raise InputError(f"contact_sheet: expected at least one frame and one column, got {len(frames)} and {columns}")
    for name, texts in (("labels", labels), ("captions", captions)):
        if texts is not None and len(texts) != len(frames):
            raise InputError(f"{name}: expected one for each of {len(frames)} frames, got {len(texts)}")
    if len({frame.shape for frame in frames}) > 1:
        raise InputError(f"frames: expected one size, got {sorted({frame.shape for frame in frames})}")
    if labels is not None:
        frames = [write_label(frame, label) for frame, label in zip(frames, labels, strict=True)]
    if captions is not None:
        frames = [_below_caption(frame, caption) for frame, caption in zip(frames, captions, strict=True)]
    height, width = frames[0].shape[:2]
    columns = min(columns, len(frames))
    rows = math.ceil(len(frames) / columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, dtype=np.uint8)
    for i, frame in enumerate(frames):
        top, left = (i // columns) * (height + gap), (i % columns) * (width + gap)
        sheet[top : top + height, left : left + width] = frame
    return sheet


def _below_caption(frame: Frame, text: str) -> Frame:
    from PIL import Image, ImageDraw, ImageFont

    line = Image.new("RGB", (frame.shape[1], CAPTION), "white")
    ImageDraw.Draw(line).text((3, 0), text, fill="black", font=ImageFont.load_default(9))
    return np.concatenate([np.asarray(line), frame])


def write_label(frame: Frame, text: str) -> Frame:
    """``frame`` with ``text`` in the top left corner, dark on a light plate so that it reads on any picture."""
    from PIL import Image, ImageDraw, ImageFont

    image = Image.fromarray(frame)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(max(10, frame.shape[0] // 16))
    left, top, right, bottom = draw.textbbox((5, 4), text, font=font)
    draw.rectangle((left - 3, top - 2, right + 3, bottom + 2), fill=(255, 255, 255))
    draw.text((5, 4), text, fill=(30, 30, 30), font=font)
    return np.asarray(image)


def framed(frame: Frame, colour: tuple[int, int, int], width: int = 3) -> Frame:
    """A copy of ``frame`` with a border of ``width`` pixels in an sRGB colour [0, 255], drawn over its edge."""
    frame = frame.copy()
    frame[:width], frame[-width:], frame[:, :width], frame[:, -width:] = (np.array(colour, dtype=np.uint8),) * 4
    return frame


def resized(frame: Frame, side: int) -> Frame:
    """``frame`` as a square of ``side`` pixels, bicubic."""
    from PIL import Image

    return np.array(Image.fromarray(frame).resize((side, side), Image.Resampling.BICUBIC))
