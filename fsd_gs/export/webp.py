"""WebP pictures as containers of bytes: lossless writing, and reading whose size is checked in the header before anything is decoded.

The size stands in the first chunk of the RIFF container (RFC 9649, §2.6 and 2.7): 14 bits a side in VP8 and VP8L, 24 in VP8X.
"""

from __future__ import annotations

import struct
import warnings
from io import BytesIO

import numpy as np
from numpy.typing import NDArray


def encode(pixels: NDArray[np.uint8]) -> bytes:
    """[H, W, 3 or 4] → a lossless picture."""
    from PIL import Image

    content = BytesIO()
    # exact: keep the colour of pixels whose alpha is 0, for it is data here. method 0: the slower ones gain a few per cent.
    Image.fromarray(pixels).save(content, format="WEBP", lossless=True, exact=True, method=0, quality=0)
    return content.getvalue()


def size_of(content: bytes) -> tuple[int, int]:
    """(width, height) by the header; ValueError if this is no WebP picture."""
    if len(content) < 30 or content[:4] != b"RIFF" or content[8:12] != b"WEBP":
        raise ValueError("not a WebP picture")
    kind = content[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(content[24:27], "little"), 1 + int.from_bytes(content[27:30], "little")
    if kind == b"VP8L" and content[20] == 0x2F:
        bits = struct.unpack_from("<I", content, 21)[0]
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 " and content[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", content, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise ValueError("a damaged WebP picture")


def decode(content: bytes) -> NDArray[np.uint8]:
    """[H, W, 4] RGBA of a picture whose :func:`size_of` was found acceptable; ValueError if it is damaged."""
    from PIL import Image

    declared = size_of(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the size has been checked against what it is for
            with Image.open(BytesIO(content), formats=["WEBP"]) as picture:
                pixels = np.asarray(picture.convert("RGBA"))
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, EOFError, struct.error … for damage
        raise ValueError("a damaged picture") from error
    if pixels.shape[1::-1] != declared:
        raise ValueError(
            f"a damaged picture ({pixels.shape[1]} × {pixels.shape[0]} pixels where {declared[0]} × {declared[1]} are declared)"
        )
    return pixels
