"""A piece of surface as it stands in a file: triangles, what tints them, and the texture on them.

colour = texture × tint. In glTF both are linear light: the texture is decoded from sRGB, the product encoded again (the tint is material
factor × COLOR_0). Elsewhere everything is sRGB as it is, and a texture replaces the tint: exporters write anything into an .obj's Kd
beside its map_Kd. A texture is looked up in a pyramid: at the level where a texel is about as large as the caller's spacing, so that fine
patterns are averaged, not aliased.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fsd_gs.core.kernels import njit
from fsd_gs.core.srgb import linear_from_srgb, srgb_from_linear

Array = npt.NDArray[Any]
Wrap = Literal["repeat", "mirror", "clamp"]
WRAPS: tuple[Wrap, ...] = ("repeat", "mirror", "clamp")
_MIRROR, _CLAMP = 1, 2
MAX_TEXELS = 8192  # a side
GREY = 0.72  # sRGB of a surface that nothing colours


@dataclass(frozen=True)
class Texture:
    """An RGBA picture of sRGB colours, and how it goes on beyond its borders in u and v."""

    image: Any
    wrap: tuple[Wrap, Wrap] = ("repeat", "repeat")
    _levels: list[Array] = field(default_factory=list, compare=False, repr=False)

    def __post_init__(self) -> None:
        if max(self.size) > MAX_TEXELS:
            raise ValueError(f"a texture of {self.size[0]} × {self.size[1]} pixels, expected at most {MAX_TEXELS} a side")

    @property
    def size(self) -> tuple[int, int]:
        return self.image.size

    def around(self, uv: Array) -> Texture:
        """The same picture; along an axis where ``uv`` [..., 2] never leaves it, its far border does not bleed in."""
        inside = [bool(uv.size) and float(uv[..., i].min()) >= 0 and float(uv[..., i].max()) <= 1 for i in (0, 1)]
        u, v = ("clamp" if within else wrap for within, wrap in zip(inside, self.wrap, strict=True))
        return replace(self, wrap=(u, v))

    def level(self, index: int) -> Array:
        """[h, w, 4] in [0, 1] at half the size for each level, down to one pixel a side."""
        if not self._levels:
            self._levels.append(np.asarray(self.image.convert("RGBA"), dtype=np.float32) / 255)
        while len(self._levels) <= index and max(self._levels[-1].shape[:2]) > 1:
            self._levels.append(_halved(self._levels[-1]))
        return self._levels[min(index, len(self._levels) - 1)]

    def sample(self, uv: Array, levels: npt.NDArray[np.integer]) -> Array:
        """[P, 4] sRGB and alpha, bilinear, at ``uv`` [P, 2] (v grows downwards) and pyramid ``levels`` [P]."""
        result = np.empty((len(uv), 4), np.float32)
        u, v = (WRAPS.index(wrap) for wrap in self.wrap)
        for index in np.unique(levels):
            _bilinear(self.level(int(index)), uv, levels == index, u, v, result)
        return result


@dataclass(frozen=True)
class Surface:
    """Loose triangles in the axes of their file.

    Args:
        corners: [F, 3, 3] positions.
        tint: [F, 3, 4] colour and opacity at the corners; linear light where ``linear``, else sRGB.
        uv: [F, 3, 2] texture coordinates, v downwards; None without a texture.
        texture: the picture on it, or None.
        linear: colours multiply as linear light (glTF).
        cutoff: opacity below which the surface is not there; None: it is opaque.
    """

    corners: Array
    tint: Array
    uv: Array | None = None
    texture: Texture | None = None
    linear: bool = False
    cutoff: float | None = None

    def __post_init__(self) -> None:
        faces = len(self.corners)
        expected = [(self.corners, (faces, 3, 3)), (self.tint, (faces, 3, 4))] + ([] if self.uv is None else [(self.uv, (faces, 3, 2))])
        for name, (values, shape) in zip(("positions", "colours", "texture coordinates"), expected, strict=False):
            if values.shape != shape:
                raise ValueError(f"{name} of shape {list(values.shape)}, expected {list(shape)}")

    @property
    def cut_out(self) -> bool:
        """Whether its texture decides where it is."""
        return self.cutoff is not None and self.texture is not None

    def levels(self, spacing: float, corners: Array | None = None, uv: Array | None = None) -> npt.NDArray[np.int64]:
        """[F] level of the texture's pyramid at which a texel is about ``spacing`` long on the surface, in the units of ``corners``."""
        corners, uv = self.corners if corners is None else corners, self.uv if uv is None else uv
        if self.texture is None or uv is None:
            return np.zeros(len(corners), np.int64)
        texels = np.linalg.norm((uv - np.roll(uv, -1, axis=1)) * np.array(self.texture.size), axis=2)
        lengths = np.linalg.norm(corners - np.roll(corners, -1, axis=1), axis=2)
        density = np.median(texels / np.maximum(lengths, 1e-12), axis=1)
        return np.clip(np.floor(np.log2(np.maximum(density * spacing, 1.0))), 0, 16).astype(np.int64)

    def colors(self, tint: Array, uv: Array | None, levels: npt.NDArray[np.integer]) -> Array:
        """[P, 4] sRGB and opacity at points with ``tint`` [P, 4], ``uv`` [P, 2] and texture ``levels`` [P]."""
        if self.texture is None or uv is None:
            return np.concatenate([srgb_from_linear(tint[:, :3]) if self.linear else np.clip(tint[:, :3], 0, 1), tint[:, 3:]], axis=1)
        texels = self.texture.sample(uv, levels)
        if not self.linear:
            return texels
        if (tint == 1).all():
            return texels.astype(float)
        product = srgb_from_linear(linear_from_srgb(texels[:, :3]) * tint[:, :3])
        return np.concatenate([product, texels[:, 3:] * tint[:, 3:]], axis=1)

    def at(self, faces: npt.NDArray[np.integer], barycentric: Array) -> Array:
        """[P, 4] sRGB and opacity at ``barycentric`` [P, 3] in ``faces`` [P], from the texture as it is."""
        tint = np.einsum("pk,pkc->pc", barycentric, self.tint[faces])
        uv = None if self.uv is None else np.einsum("pk,pkc->pc", barycentric, self.uv[faces])
        return self.colors(tint, uv, np.zeros(len(faces), np.int64))


def unit(values: npt.ArrayLike) -> Array:
    """Integers of any width or floats → floats in [0, 1]."""
    array = np.asarray(values)
    return array / np.iinfo(array.dtype).max if np.issubdtype(array.dtype, np.integer) else np.clip(array.astype(float), 0, 1)


def _halved(pixels: Array) -> Array:
    """[h, w, 4] → half of each side that is longer than one, by means of 2 × 2 pixels (an odd last one counts twice)."""
    for axis in (0, 1):
        if pixels.shape[axis] > 1:
            if pixels.shape[axis] % 2:
                pixels = np.concatenate([pixels, np.take(pixels, [-1], axis)], axis)
            pixels = (np.take(pixels, range(0, pixels.shape[axis], 2), axis) + np.take(pixels, range(1, pixels.shape[axis], 2), axis)) / 2
    return pixels


@njit(error_model="numpy")
def _bilinear(pixels, uv, chosen, wrap_u, wrap_v, result):  # noqa: ANN001, ANN202
    """result [P, 4] ← ``pixels`` [h, w, 4] at uv [P, 2], for the ``chosen`` [P]; wrap_u, wrap_v: places in WRAPS."""
    height, width = pixels.shape[:2]
    for p in range(len(uv)):
        if chosen[p]:
            x, y = uv[p, 0] * width - 0.5, uv[p, 1] * height - 0.5  # texel centres lie at half numbers
            left, top = np.floor(x), np.floor(y)
            fx, fy = x - left, y - top
            c0, c1 = _wrapped(left, width, wrap_u), _wrapped(left + 1, width, wrap_u)
            r0, r1 = _wrapped(top, height, wrap_v), _wrapped(top + 1, height, wrap_v)
            for k in range(4):
                upper = pixels[r0, c0, k] * (1 - fx) + pixels[r0, c1, k] * fx
                lower = pixels[r1, c0, k] * (1 - fx) + pixels[r1, c1, k] * fx
                result[p, k] = upper * (1 - fy) + lower * fy


@njit(error_model="numpy")
def _wrapped(index, size, wrap):  # noqa: ANN001, ANN202
    """The texel [0, size) that stands at a whole number beyond the borders."""
    if wrap == _CLAMP:
        return int(min(max(index, 0.0), size - 1.0))
    period = 2.0 * size if wrap == _MIRROR else 1.0 * size
    folded = index - period * np.floor(index / period)
    if folded >= size:
        folded = period - 1 - folded
    return int(min(max(folded, 0.0), size - 1.0))
