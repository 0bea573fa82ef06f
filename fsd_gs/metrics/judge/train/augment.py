"""From clean RGBA renders to the pictures a judge meets: other backgrounds, frames, blur, haze, compression, noise and holes.

The judge scores decoded diffusion samples (blurred, blotchy) and renders of splats (soft edges, haze) but is trained on renders of
meshes. Every source of difference is therefore drawn at random, some images stay clean, and colours move less than the distance between
two colour names. What is costly to vary by image (blur width, intermediate size, quantisation) is drawn for each eighth of the batch.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from fsd_gs.core.backgrounds import composite

_GROUPS = 8
_NAMED_BACKGROUNDS = (1.0, 0.5, 0.0)  # white, gray, black: what evaluation renders use


def _uniform(low: float, high: float, shape: tuple[int, ...], generator: Generator) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=generator, device=generator.device)


def _chance(probability: float, count: int, generator: Generator) -> Tensor:
    """[count, 1, 1, 1] float: 1 with ``probability``, else 0."""
    return (torch.rand(count, 1, 1, 1, generator=generator, device=generator.device) < probability).float()


def to_float(rgba: Tensor) -> Tensor:
    """[B, H, W, 4] uint8 → [B, 4, H, W] float in [0, 1]."""
    return rgba.permute(0, 3, 1, 2).float() / 255


def augment(rgba: Tensor, generator: Generator) -> Tensor:
    """[B, H, W, 4] uint8 premultiplied renders → [B, 3, H, W] in [0, 1]. All draws come from ``generator``, on the images' device."""
    count = len(rgba)
    framed = haze(reframe(to_float(rgba), generator), generator)
    image = composite(framed, backgrounds(count, generator))
    groups = [degrade(group, generator) for group in image.chunk(_GROUPS)]
    image = torch.lerp(image, torch.cat(groups), _chance(0.75, count, generator))
    return erase(recolor(image, generator), generator).clamp(0, 1)


def reframe(x: Tensor, generator: Generator) -> Tensor:
    """Mirror, turn by up to 6°, scale by 0.8 to 1.2 and shift by up to 8 % of the frame; transparent outside."""
    count = len(x)
    angle = torch.deg2rad(_uniform(-6, 6, (count,), generator))
    zoom = torch.exp(_uniform(-math.log(1.2), math.log(1.25), (count,), generator))
    mirror = torch.where(torch.rand(count, generator=generator, device=generator.device) < 0.5, -1.0, 1.0)
    theta = torch.zeros(count, 2, 3, device=x.device)
    theta[:, 0, 0], theta[:, 0, 1] = zoom * angle.cos() * mirror, -zoom * angle.sin()
    theta[:, 1, 0], theta[:, 1, 1] = zoom * angle.sin() * mirror, zoom * angle.cos()
    theta[:, :, 2] = _uniform(-0.16, 0.16, (count, 2), generator)
    return F.grid_sample(x, F.affine_grid(theta, list(x.shape), align_corners=False), align_corners=False)


def haze(x: Tensor, generator: Generator) -> Tensor:
    """A translucent object (coverage down to 80 %) in a halo of its own colours, on some of the images."""
    count = len(x)
    coverage = 1 - _uniform(0, 0.2, (count, 1, 1, 1), generator) * _chance(0.25, count, generator)
    amount = _uniform(0, 0.35, (count, 1, 1, 1), generator) * _chance(0.3, count, generator)
    small = F.interpolate(x, scale_factor=0.125, mode="area")
    halo = F.interpolate(small, size=x.shape[-2:], mode="bilinear", align_corners=False)
    return torch.lerp(x * coverage, halo, amount)


def backgrounds(count: int, generator: Generator) -> Tensor:
    """[count, 3, 1, 1]: half white, gray or black, half any colour."""
    device = generator.device
    named = torch.tensor(_NAMED_BACKGROUNDS, device=device)[torch.randint(3, (count,), generator=generator, device=device)]
    use_named = _chance(0.5, count, generator)
    return torch.lerp(torch.rand(count, 3, 1, 1, generator=generator, device=device), named.view(-1, 1, 1, 1), use_named)


def degrade(image: Tensor, generator: Generator) -> Tensor:
    """Blur, a smaller size and back, block-wise frequency quantisation (as JPEG does), blotches and grain; one strength a call."""
    size = image.shape[-1]
    chances = torch.rand(3, generator=generator, device=generator.device).tolist()
    strengths = torch.rand(3, generator=generator, device=generator.device).tolist()
    if chances[0] < 0.5:
        image = gaussian_blur(image, (0.4 + 1.0 * strengths[0]) * size / 64)
    if chances[1] < 0.4:
        inner = int(size * (0.35 + 0.5 * strengths[1]))
        small = F.interpolate(image, size=(inner, inner), mode="bilinear", antialias=True)
        image = F.interpolate(small, size=(size, size), mode="bilinear", align_corners=False)
    if chances[2] < 0.35:
        image = quantize_blocks(image, 0.03 + 0.12 * strengths[2])
    count = len(image)
    coarse = torch.randn(count, 3, 8, 8, generator=generator, device=generator.device)
    blotches = F.interpolate(coarse, size=(size, size), mode="bilinear", align_corners=False)
    grain = torch.randn(image.shape, generator=generator, device=generator.device)
    image = image + blotches * _uniform(0, 0.04, (count, 1, 1, 1), generator) * _chance(0.4, count, generator)
    return image + grain * _uniform(0, 0.05, (count, 1, 1, 1), generator) * _chance(0.4, count, generator)


def gaussian_blur(image: Tensor, sigma: float) -> Tensor:
    """Separable Gaussian of ``sigma`` pixels, edges repeated."""
    reach = math.ceil(2.5 * sigma)
    offsets = torch.arange(-reach, reach + 1, device=image.device, dtype=image.dtype)
    kernel = torch.softmax(-(offsets**2) / (2 * sigma**2), 0)
    flat = F.pad(image.flatten(0, 1)[:, None], (reach, reach, reach, reach), mode="replicate")
    flat = F.conv2d(F.conv2d(flat, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))
    return flat[:, 0].view(image.shape)


def quantize_blocks(image: Tensor, step: float) -> Tensor:
    """Round the 8×8 DCT-II coefficients to multiples of ``step`` · (1 + (u + v)/2): coarse for high frequencies u, v."""
    u = torch.arange(8, device=image.device, dtype=image.dtype)
    basis = torch.cos(math.pi / 8 * u[:, None] * (u[None] + 0.5)) * 0.5
    basis[0] *= 0.5**0.5
    quantum = step * (1 + (u[:, None] + u[None]) / 2)
    batch, channels, height, width = image.shape
    if height % 8 or width % 8:
        return image
    blocks = image.view(batch, channels, height // 8, 8, width // 8, 8).transpose(3, 4)
    coefficients = basis @ blocks @ basis.T
    rounded = (coefficients / quantum).round() * quantum
    return (basis.T @ rounded @ basis).transpose(3, 4).reshape(image.shape)


def recolor(image: Tensor, generator: Generator) -> Tensor:
    """Brightness and contrast by up to 8 %, saturation by −15 to +20 %, each channel by up to 0.02."""
    shape = (len(image), 1, 1, 1)
    gray = image.mean(1, keepdim=True)
    image = gray + (image - gray) * _uniform(0.85, 1.2, shape, generator)
    image = 0.5 + (image * _uniform(0.92, 1.08, shape, generator) - 0.5) * _uniform(0.92, 1.08, shape, generator)
    return image + _uniform(-0.02, 0.02, (len(image), 3, 1, 1), generator)


def erase(image: Tensor, generator: Generator) -> Tensor:
    """A rectangle of 12 to 30 % of the side in one random colour, on a fifth of the images."""
    count, _, height, width = image.shape
    rows = torch.arange(height, device=image.device).view(1, 1, -1, 1) / height
    columns = torch.arange(width, device=image.device).view(1, 1, 1, -1) / width
    centre_y, centre_x = _uniform(0, 1, (2, count, 1, 1, 1), generator)
    half_y, half_x = _uniform(0.06, 0.15, (2, count, 1, 1, 1), generator)
    inside = ((rows - centre_y).abs() < half_y) & ((columns - centre_x).abs() < half_x)
    color = torch.rand(count, 3, 1, 1, generator=generator, device=generator.device)
    return torch.lerp(image, color.expand_as(image), inside.float() * _chance(0.2, count, generator))
