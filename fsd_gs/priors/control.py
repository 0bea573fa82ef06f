"""ControlNet (arXiv 2302.05543): the UNet of Stable Diffusion shown the depth or the normals of what is rendered, view by view.

    residuals   of a copy of the UNet's encoder that also sees a picture; added to the UNet's skips and middle, times a scale
    CFG         both halves see the picture, as in diffusers' pipelines

The pictures, RGB in [0, 1], in the conventions that the published networks were trained on:

    depth       (d − min d)/(max d − min d) of each picture, d = α/z: inverse depth, near is white, nothing (infinitely far) is black. What
                MiDaS estimates, as ControlNet's and diffusers' annotators normalise it (lllyasviel/control_v11f1p_sd15_depth,
                diffusers/controlnet-depth-sdxl-1.0)
    normal      (n + 1)/2 with n = (left, up, towards the viewer): "blue is front, red is left, green is top" (README of
                lllyasviel/ControlNet-v1-1-nightly on lllyasviel/control_v11p_sd15_normalbae); empty space faces the viewer
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fsd_gs.core.cameras import pixel_rays
from fsd_gs.core.types import Cameras, Geometry
from fsd_gs.errors import ConfigError, FileFormatError
from fsd_gs.priors import folders, supported
from fsd_gs.priors.family import Request
from fsd_gs.priors.hub import read_json, resolve_part
from fsd_gs.priors.latent_prior import compile_or_fall_back, place
from fsd_gs.priors.networks import Network
from fsd_gs.priors.text import Embedding

Residuals = tuple[Sequence[Tensor] | None, Tensor | None]
LEAST_ALPHA = 0.5  # below it, a pixel's depth says little about where a surface is


@dataclass(frozen=True)
class Control:
    """A frozen ControlNet.

    Attributes:
        network: As it is, or compiled.
        kind: What it is shown: depth or normal.
        scale: Strength of its residuals.
    """

    network: Callable[..., Residuals]
    kind: str
    scale: float

    def picture(self, geometry: Geometry) -> Tensor:
        """[V, 3, H, W] in [0, 1] of what V cameras see."""
        return depth_picture(geometry) if self.kind == "depth" else normal_picture(geometry)

    def residuals(self, x: Tensor, timesteps: Tensor, embedding: Embedding, added: Mapping[str, Any]) -> Residuals:
        """What is added to the UNet's skips and to its middle.

        Args:
            x: Noisy latents [B, C, h, w] in the network's precision.
            timesteps: [B].
            embedding: B rows with a control picture each.
            added: The UNet's further conditions; the image prompt is not for the ControlNet.
        """
        assert embedding.control is not None
        return self.network(
            x,
            timesteps,
            encoder_hidden_states=embedding.tokens,
            controlnet_cond=embedding.control.to(x),
            conditioning_scale=self.scale,
            added_cond_kwargs={name: value for name, value in added.items() if name != "image_embeds"},
            return_dict=False,
        )


# ----------------------------------------------------------------------------------------------------------------------- pictures


def depth_picture(geometry: Geometry) -> Tensor:
    """[V, 3, H, W]: inverse depth, stretched to [0, 1] in each picture; black where there is nothing."""
    depth, alpha = geometry.depth[..., 0], geometry.alpha[..., 0]
    inverse = torch.where(depth > 0, alpha / depth.clamp_min(1e-6), torch.zeros_like(depth))
    low, high = inverse.amin(dim=(1, 2), keepdim=True), inverse.amax(dim=(1, 2), keepdim=True)
    return ((inverse - low) / (high - low).clamp_min(1e-6))[:, None].expand(-1, 3, -1, -1)


def normal_picture(geometry: Geometry) -> Tensor:
    """[V, 3, H, W]: red is left, green is up, blue is towards the viewer."""
    alpha = geometry.alpha.permute(0, 3, 1, 2)
    normals = camera_normals(geometry.depth, geometry.alpha, geometry.cameras)  # x right, y down, z away
    facing = normals.new_tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1)
    mixed = alpha * -normals + (1 - alpha) * facing
    return 0.5 + 0.5 * torch.nn.functional.normalize(mixed, dim=1)


def camera_normals(depth: Tensor, alpha: Tensor, cameras: Cameras) -> Tensor:
    """Unit normals [V, 3, H, W] towards the camera, in its own axes (x right, y down, z away), of depths [V, H, W, 1] along z.

    By differences between neighbours on the surface: central, one-sided at its rim. (0, 0, −1) where a pixel stands alone.
    """
    points = (pixel_rays(cameras, depth) * depth).permute(0, 3, 1, 2)
    there = (alpha[..., 0] >= LEAST_ALPHA)[:, None]
    across, down = _difference(points, there, 3), _difference(points, there, 2)
    normals = torch.nn.functional.normalize(torch.linalg.cross(down, across, dim=1), dim=1)
    alone = normals.new_tensor([0.0, 0.0, -1.0]).view(1, 3, 1, 1)
    return torch.where(normals.abs().sum(dim=1, keepdim=True) > 0, normals, alone)


def _difference(points: Tensor, there: Tensor, axis: int) -> Tensor:
    """From the neighbour before to the one after along ``axis``; a pixel stands for a neighbour that is not ``there``."""
    size = points.shape[axis]
    index = torch.arange(size, device=points.device)
    sides = []
    for step in (-1, 1):
        near = (index + step).clamp(0, size - 1)
        sides.append(torch.where(there.index_select(axis, near), points.index_select(axis, near), points))
    return sides[1] - sides[0]


# ------------------------------------------------------------------------------------------------------------------------ loading


def load_control(unet: Network, factor: int, request: Request, published: Mapping[tuple[int, str], str]) -> Control | None:
    """The ControlNet of ``request.options``, None without ``prior.control``.

    Args:
        unet: The network that it was trained for.
        factor: Pixels of a picture for each cell of the latents, a side.
        request: Device, precision and options.
        published: Where one is found, by width of the UNet's cross-attention and kind; ``prior.controlnet`` counts before it.

    Raises:
        FileFormatError: No ControlNet, or one of another model.
        ConfigError: None is known for this UNet.
    """
    options, width = request.options, int(unet.config.cross_attention_dim)
    if options.control is None:
        return None
    name = options.controlnet or published.get((width, options.control))
    if name is None:
        known = ", ".join(f"{kind} of width {wide}" for wide, kind in published)
        raise ConfigError(
            f"prior.controlnet: no published ControlNet for {options.control}, cross-attention {width} wide, is known (known: {known}); "
            "name the folder of one that was trained for this model"
        )
    half = request.dtype in (torch.float16, torch.bfloat16)
    where = resolve_part("prior.controlnet", name, offline=options.offline, half=half)
    _require_fit(where, unet, factor)
    from diffusers.models.controlnets.controlnet import ControlNetModel

    network = place(folders.load_module(ControlNetModel, where.parent, where.name, request.dtype), request.device, options)
    call = compile_or_fall_back(network, "ControlNet") if options.compile else network
    return Control(call, options.control, options.control_scale)


def _require_fit(where: Path, unet: Network, factor: int) -> None:
    if not (where / "config.json").is_file():
        what = "is a file" if where.is_file() else "holds no config.json"
        raise FileFormatError(f"prior.controlnet: {where} {what}; expected a folder that ControlNetModel.save_pretrained wrote")
    config = read_json(where / "config.json")
    supported.check(str(where / "config.json"), config, supported.CONTROLNET)
    for key in ("cross_attention_dim", "block_out_channels", "down_block_types", "layers_per_block", "in_channels", "addition_embed_type"):
        found, wanted = (_plain(value) for value in (config.get(key), getattr(unet.config, key)))
        if found != wanted:
            raise FileFormatError(
                f"prior.controlnet: {where}: its {key} is {found}, this model's is {wanted}; take one that was trained for this model"
            )
    stages = len(config.get("conditioning_embedding_out_channels", (16, 32, 96, 256)))
    if 2 ** (stages - 1) != factor:
        raise FileFormatError(
            f"prior.controlnet: {where} reads {2 ** (stages - 1)} pixels a latent cell, this model's VAE has {factor}; take another"
        )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, list | tuple) else value
