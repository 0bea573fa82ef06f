"""Tiny random adapters for ``tiny_pipelines``, in the layout of the published ones: IP-Adapters with their image encoder, ControlNets."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import ControlNetModel
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

PROJECTED, HIDDEN, SIDE = 24, 16, 16  # of the image encoder


def image_encoder(projected: int = PROJECTED) -> CLIPVisionModelWithProjection:
    torch.manual_seed(8)
    config = CLIPVisionConfig(
        hidden_size=HIDDEN,
        intermediate_size=32,
        projection_dim=projected,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=SIDE,
        patch_size=8,
    )
    return CLIPVisionModelWithProjection(config).eval()


def ip_adapter(unet, kind: str = "plain", seed: int = 9) -> dict[str, Tensor]:
    """An IP-Adapter's tensors for ``unet`` as files name them; kind: plain or plus."""
    generator = torch.Generator().manual_seed(seed)
    width, channels = unet.config.cross_attention_dim, unet.config.block_out_channels
    hidden = []
    for name in (name for name in unet.attn_processors if not name.endswith("attn1.processor")):
        place, number = name.split(".")[:2]
        at = {"mid_block": channels[-1:], "down_blocks": channels, "up_blocks": channels[::-1]}[place]
        hidden.append(at[0 if place == "mid_block" else int(number)])
    shapes = {f"ip_adapter.{2 * i + 1}.to_{m}_ip.weight": (h, width) for i, h in enumerate(hidden) for m in "kv"}
    projection = {"proj.weight": (4 * width, PROJECTED), "proj.bias": (4 * width,), "norm.weight": (width,), "norm.bias": (width,)}
    shapes |= {f"image_proj.{name}": shape for name, shape in (projection if kind == "plain" else resampler(width)).items()}
    return {name: torch.randn(shape, generator=generator) * 0.3 for name, shape in shapes.items()}


def resampler(width: int, inner: int = 64, queries: int = 3) -> dict[str, tuple[int, ...]]:
    """Shapes of the "plus" projection: four layers of attention (heads of 64) and feed-forward."""
    shapes: dict[str, tuple[int, ...]] = {"latents": (1, queries, inner), "proj_in.weight": (inner, HIDDEN), "proj_in.bias": (inner,)}
    shapes |= {"proj_out.weight": (width, inner), "proj_out.bias": (width,), "norm_out.weight": (width,), "norm_out.bias": (width,)}
    for layer in range(4):
        attention, feed = f"layers.{layer}.0", f"layers.{layer}.1"
        shapes |= {f"{attention}.{norm}.{part}": (inner,) for norm in ("norm1", "norm2") for part in ("weight", "bias")}
        shapes |= {
            f"{attention}.to_q.weight": (64, inner),
            f"{attention}.to_kv.weight": (128, inner),
            f"{attention}.to_out.weight": (inner, 64),
        }
        shapes |= {f"{feed}.0.weight": (inner,), f"{feed}.0.bias": (inner,)}
        shapes |= {f"{feed}.1.weight": (4 * inner, inner), f"{feed}.3.weight": (inner, 4 * inner)}
    return shapes


def save_ip_adapter(folder: Path, unet, kind: str = "plain") -> Path:
    """``folder``/adapter.safetensors with ``image_encoder`` beside it; the file."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(ip_adapter(unet, kind), folder / "adapter.safetensors")
    image_encoder().save_pretrained(folder / "image_encoder")
    return folder / "adapter.safetensors"


def photo(path: Path, size: tuple[int, int] = (40, 28)) -> Path:
    """A picture of coloured noise that is not square."""
    pixels = torch.randint(0, 256, (size[1], size[0], 3), generator=torch.Generator().manual_seed(10), dtype=torch.uint8)
    Image.fromarray(pixels.numpy()).save(path)
    return path


def controlnet(unet, **settings) -> ControlNetModel:
    """A ControlNet of ``unet`` for a VAE of factor 2, whose outputs are not zero as those of an untrained one are."""
    torch.manual_seed(12)
    network = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=settings.pop("stages", (8, 8)), **settings)
    for block in (*network.controlnet_down_blocks, network.controlnet_mid_block, network.controlnet_cond_embedding.conv_out):
        torch.nn.init.normal_(block.weight, std=0.3)
    return network.eval()
