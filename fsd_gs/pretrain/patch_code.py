"""An AutoencoderKL encoder that is exactly linear: the principal components of f×f patches, written into the weights.

    p(u) ∈ R^{3f²}  the pixels of patch u in [−1, 1],   C = E[(p − m)(p − m)ᵀ] = V Λ Vᵀ,   z(u) = S⁻¹ V_Kᵀ (p(u) − m),   S = s Λ_K^{1/4}

(half whitening: coarse components keep more amplitude than fine ones, as in pictures; s makes the mean square of z one.) Learned
autoencoders are better codes, but take longer to learn than a laptop has: 2100 steps of a free one gave 20.9 dB, twelve components give
29.7 dB at once. And a linear encoder is kind to distillation: its gradient has no blind spots and no adversarial directions, and costs
little.

AutoencoderKL ends in GroupNorm and SiLU, which are anything but linear. Three facts make them so:

    pairs       a channel and its negative: SiLU(v) − SiLU(−v) = v for every v, and the mean of the group is 0
    constants   two channels ±K in each group, K ≫ |p|: the group's deviation is K √(2/n) whatever the picture (relative error below 1e-4)
    identity    residual blocks whose last convolution is 0 pass their input on; stride-2 convolutions move 2×2 pixels into channels
"""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fsd_gs.errors import ConfigError, FileFormatError, InputError
from fsd_gs.io import atomic_write
from fsd_gs.priors.nano.patch_code import PatchCode

# Few: on a CPU the backward pass of a group norm costs the more, the fewer channels a group has (57 % of a step with one each).
NORM_GROUPS = 4
ANCHOR = 300.0  # K
LOG_VARIANCE = -20.0  # the posterior is a point


def fit_patch_code(pictures: Tensor, components: int, factor: int) -> PatchCode:
    """The code of ``pictures`` [N, 3, H, W] uint8."""
    size = 3 * factor**2
    if not 1 <= components <= size:
        raise InputError(f"autoencoder.latent_channels: expected 1 to {size} components of {factor}×{factor} patches, got {components}")
    count, total, outer = 0, torch.zeros(size, dtype=torch.float64), torch.zeros(size, size, dtype=torch.float64)
    for batch in pictures.split(256):
        patches = torch.nn.functional.pixel_unshuffle(batch.float() / 127.5 - 1, factor).permute(0, 2, 3, 1).reshape(-1, size)
        count += len(patches)
        total += patches.sum(0).double()
        outer += (patches.T @ patches).double()
    mean = total / count
    values, vectors = torch.linalg.eigh(outer / count - torch.outer(mean, mean))
    values, basis = values.flip(0)[:components].clamp_min(1e-12), vectors.flip(1)[:, :components]
    basis = basis * basis.gather(0, basis.abs().argmax(0, keepdim=True)).sign()  # eigenvectors have no sign of their own
    scale = values**0.25
    scale = scale * (values / scale**2).mean().sqrt()
    return PatchCode(mean.float(), basis.float().contiguous(), scale.float())


def smallest_channels(factor: int) -> list[int]:
    """The fewest channels of each level: 3·4^(i+1) pixels on their way, but 4 a group; at the last level pairs, and two anchors a group."""
    levels = round(math.log2(factor)) + 1
    pairs_a_group = -(-3 * factor**2 // NORM_GROUPS)
    return [max(4 * NORM_GROUPS, 3 * 4 ** (i + 1)) for i in range(levels - 1)] + [NORM_GROUPS * (2 * pairs_a_group + 2)]


def check_channels(channels: list[int]) -> None:
    """ConfigError unless an autoencoder of these levels can hold a patch code."""
    needed = smallest_channels(2 ** (len(channels) - 1)) if len(channels) > 1 else []
    fits = len(channels) > 1 and all(w >= n and w % NORM_GROUPS == 0 for w, n in zip(channels, needed, strict=True))
    if not fits or any(a >= b for a, b in pairwise(channels)):
        wanted = f"at least {needed}" if needed else "two levels or more"
        raise ConfigError(f"autoencoder.channels: expected {wanted}, rising, multiples of {NORM_GROUPS}; got {list(channels)}")


def save_patch_code(code: PatchCode, path: Path) -> None:
    """Write the code as .safetensors."""
    from safetensors.torch import save_file

    with atomic_write(path) as temporary:
        save_file({"mean": code.mean, "basis": code.basis.contiguous(), "scale": code.scale}, temporary)


def load_patch_code(path: Path) -> PatchCode:
    """Read what :func:`save_patch_code` wrote."""
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
        return PatchCode(tensors["mean"], tensors["basis"], tensors["scale"])
    except Exception as error:
        raise FileFormatError(f"{path} is not a readable patch code; delete it and run the command again") from error


@torch.no_grad()
def write_encoder(vae: Any, code: PatchCode) -> None:
    """Make ``vae``'s encoder compute ``code``. ConfigError where its levels do not suit (:func:`check_channels`)."""
    widths = list(vae.config.block_out_channels)
    check_channels(widths)
    if 2 ** (len(widths) - 1) != code.factor:
        raise ConfigError(f"autoencoder.channels: expected {round(math.log2(code.factor)) + 1} levels for this code, got {len(widths)}")
    encoder = vae.encoder
    for resnet in [*(r for block in encoder.down_blocks for r in block.resnets), *encoder.mid_block.resnets]:
        resnet.conv2.weight.zero_()
        resnet.conv2.bias.zero_()
        if resnet.conv_shortcut is not None:
            _copy(resnet.conv_shortcut, resnet.conv_shortcut.weight.shape[1])
    _copy(encoder.conv_in, 3)
    pixels = 3
    for block in encoder.down_blocks:
        if block.downsamplers is not None:
            _space_to_depth(block.downsamplers[0].conv, pixels)
            pixels *= 4
    pairs = _pair_up(encoder.down_blocks[-1].resnets[0].conv_shortcut, pixels, encoder.conv_norm_out.num_groups)
    encoder.conv_norm_out.weight.fill_(1.0)
    encoder.conv_norm_out.bias.zero_()
    _project(encoder, code, pairs)


def _copy(conv: Any, channels: int) -> None:
    """Channel i → channel i for the first ``channels``; everything else 0."""
    conv.weight.zero_()
    conv.bias.zero_()
    centre = conv.kernel_size[0] // 2
    for i in range(min(channels, conv.weight.shape[0])):
        conv.weight[i, i, centre, centre] = 1.0


def _space_to_depth(conv: Any, channels: int) -> None:
    """Stride 2 with padding on the far sides only: taps 0 and 1 of the 3×3 kernel are the 2×2 block. Output 4·i + 2·row + column."""
    conv.weight.zero_()
    conv.bias.zero_()
    for i in range(channels):
        for row in range(2):
            for column in range(2):
                conv.weight[4 * i + 2 * row + column, i, row, column] = 1.0


def _pair_up(shortcut: Any, pixels: int, groups: int) -> list[tuple[int, int]]:
    """Spread pairs (v, −v) of the first ``pixels`` channels over the norm's groups, each with two anchors; returns their places."""
    size = shortcut.weight.shape[0] // groups
    shortcut.weight.zero_()
    shortcut.bias.zero_()
    pairs = []
    for group in range(groups):
        shortcut.bias[group * size], shortcut.bias[group * size + 1] = ANCHOR, -ANCHOR
    for pixel in range(pixels):
        group, place = pixel % groups, pixel // groups
        plus = group * size + 2 + 2 * place
        shortcut.weight[plus, pixel], shortcut.weight[plus + 1, pixel] = 1.0, -1.0
        pairs.append((plus, plus + 1))
    return pairs


def _project(encoder: Any, code: PatchCode, pairs: list[tuple[int, int]]) -> None:
    """conv_out: z from the normalised pairs, and a constant log variance."""
    conv, norm = encoder.conv_out, encoder.conv_norm_out
    components = code.basis.shape[1]
    deviation = ANCHOR * math.sqrt(2 * norm.num_groups / norm.num_channels)
    weights = (code.basis / code.scale).T * deviation  # [K, 3f²]
    order = _pixel_order(code.factor)
    if components * 2 != conv.weight.shape[0]:
        raise ConfigError(f"autoencoder.latent_channels: expected the {components} components of the code, got {conv.weight.shape[0] // 2}")
    conv.weight.zero_()
    conv.bias.zero_()
    for pixel, (plus, minus) in enumerate(pairs):
        conv.weight[:components, plus, 1, 1] = weights[:, order[pixel]]
        conv.weight[:components, minus, 1, 1] = -weights[:, order[pixel]]
    conv.bias[:components] = -(code.mean @ (code.basis / code.scale))
    conv.bias[components:] = LOG_VARIANCE


def _pixel_order(factor: int) -> list[int]:
    """Which entry of a pixel_unshuffled patch each channel of repeated space-to-depth is."""
    marks = torch.arange(3 * factor**2, dtype=torch.float64).view(1, -1, 1, 1)
    image = torch.nn.functional.pixel_shuffle(marks, factor)
    while image.shape[-1] > 1:
        image = torch.nn.functional.pixel_unshuffle(image, 2)
    return [int(v) for v in image.flatten()]
