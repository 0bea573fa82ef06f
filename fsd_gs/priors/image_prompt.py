"""Image prompts: a picture beside the prompt, by IP-Adapter (arXiv 2308.06721), for the UNets of Stable Diffusion.

    attention   softmax(Q K_text) V_text + scale · softmax(Q K_image) V_image          in every cross-attention
    tokens      plain    4 from CLIP's projected embedding of the picture
                plus     from the states before CLIP's last layer, by a resampler; "full" by a small network, 257
    CFG         the negative half sees the zero embedding (plain), or the states of an all-zero input (plus, full)

A file is ``image_proj.*`` (embedding → tokens) and ``ip_adapter.N.to_{k,v}_ip.weight``, N = 1, 3, 5, … in the order of the UNet's
attention processors. diffusers' ``load_ip_adapter`` puts it into the UNet, once, at loading; the picture is embedded once as well, and its
encoder freed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fsd_gs.errors import ConfigError, FileFormatError
from fsd_gs.priors import folders, supported
from fsd_gs.priors.family import Request
from fsd_gs.priors.hub import PICKLES, read_json, resolve_part
from fsd_gs.priors.networks import UNet
from fsd_gs.priors.text import ImagePrompt

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class _Adapter:
    """An IP-Adapter's file, read.

    Attributes:
        file: For messages.
        projection: ``image_proj.*`` without the prefix.
        attention: ``ip_adapter.*`` without the prefix.
        reads_states: Whether it takes CLIP's states, not its projected embedding.
        width: Of what it takes.
    """

    file: Path
    projection: State
    attention: State
    reads_states: bool
    width: int


def install(unet: UNet, request: Request, published: Mapping[int, str]) -> ImagePrompt | None:
    """Add the IP-Adapter of ``request.options`` to ``unet`` for good, and embed the picture; None without ``prior.image``.

    Args:
        unet: On the CPU; it then asks for ``image_embeds`` in every call.
        request: Device, precision and options.
        published: Where one is found, by the width of the UNet's cross-attention; ``prior.ip_adapter`` counts before it.

    Raises:
        FileFormatError: No picture, no adapter, or one that does not fit this UNet or its image encoder.
        ConfigError: No adapter is known for this UNet.
    """
    options = request.options
    if options.image is None:
        return None
    picture = read_picture(options.image)
    width = int(unet.config.cross_attention_dim)
    name = options.ip_adapter or published.get(width)
    if name is None:
        raise ConfigError(
            f"prior.ip_adapter: no published IP-Adapter for a cross-attention {width} wide is known (known: {_widths(published)}); name "
            "the file of one that was trained for this model"
        )
    adapter = read_adapter(resolve_part("prior.ip_adapter", name, offline=options.offline))
    _require_fit(adapter, unet)
    prompt = _embed(picture, adapter, _encoder_place(name, adapter, request), request)
    holder = _holder(unet)
    try:
        state = {"image_proj": dict(adapter.projection), "ip_adapter": dict(adapter.attention)}
        with folders.quietly():
            holder.load_ip_adapter(state, subfolder="", weight_name="", image_encoder_folder=None, low_cpu_mem_usage=False)
    except (RuntimeError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise FileFormatError(f"prior.ip_adapter: {adapter.file} does not fit this UNet ({reason}); download it again") from error
    holder.set_ip_adapter_scale(options.image_scale)
    holder.unet.eval().requires_grad_(False)
    return prompt


def _holder(unet: Any) -> Any:
    """The part of a pipeline that ``load_ip_adapter`` works on: the UNet alone."""
    with folders.quietly():  # about torchvision, which is not needed
        from diffusers.loaders.ip_adapter import IPAdapterMixin

    class Holder(IPAdapterMixin):
        unet_name = "unet"

    holder = Holder()
    holder.unet = unet  # pyright: ignore[reportAttributeAccessIssue]  (as the mixin expects of a pipeline)
    return holder


# ------------------------------------------------------------------------------------------------------------------------ picture


def read_picture(path: str) -> Any:
    """A PIL picture in RGB, turned as its EXIF says; what is transparent is put on white. FileFormatError if it is none."""
    from PIL import Image, ImageOps

    file = Path(path).expanduser()
    if not file.is_file():
        raise FileFormatError(f"prior.image: no file '{path}'; expected a picture such as photo.png")
    try:
        with Image.open(file) as opened:
            upright = ImageOps.exif_transpose(opened)
            if not upright.has_transparency_data:
                return upright.convert("RGB")
            rgba = upright.convert("RGBA")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # Pillow's words for damaged and huge files
        raise FileFormatError(f"prior.image: {file} is no picture that can be read; expected a PNG, JPEG or WebP file") from error
    white = Image.new("RGBA", rgba.size, "white")
    return Image.alpha_composite(white, rgba).convert("RGB")


# ------------------------------------------------------------------------------------------------------------------------ adapter


def read_adapter(file: Path) -> _Adapter:
    """The weights of an IP-Adapter. FileFormatError for a pickle, another kind of file, and for adapters that read faces."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if file.is_dir():
        raise FileFormatError(f"prior.ip_adapter: {file} is a folder; give the .safetensors file in it")
    if file.suffix != ".safetensors":
        kind = "a pickle, which can run code" if file.suffix in PICKLES else f"a '{file.suffix}' file"
        raise FileFormatError(f"prior.ip_adapter: {file.name} is {kind}; expected a .safetensors file")
    try:
        state = load_file(file)
    except (OSError, SafetensorError) as error:
        raise FileFormatError(f"prior.ip_adapter: {file} is not a readable safetensors file; download it again") from error
    parts = {part: _under(state, f"{part}.") for part in ("image_proj", "ip_adapter")}
    odd = [key for key in state if not key.startswith(("image_proj.", "ip_adapter."))]
    if odd or not all(parts.values()):
        found = f"found {odd[0]}" if odd else f"found {', '.join(name for name, part in parts.items() if part) or 'nothing'} alone"
        raise FileFormatError(f"prior.ip_adapter: {file} is no IP-Adapter: expected tensors image_proj.* and ip_adapter.*, {found}")
    return _Adapter(file, parts["image_proj"], parts["ip_adapter"], *_kind(file, parts["image_proj"], parts["ip_adapter"]))


def _under(state: State, prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def _kind(file: Path, projection: State, attention: State) -> tuple[bool, int]:
    """(whether it reads CLIP's states, width of what it reads), by the tensors' names, as diffusers tells the kinds apart."""
    face = any(key.startswith("perceiver_resampler.") for key in projection) or any("_lora." in key for key in attention)
    if "proj.weight" in projection:
        return False, projection["proj.weight"].shape[1]
    if "proj.3.weight" in projection:
        return True, projection["proj.0.weight"].shape[1]
    if not face and "proj_in.weight" in projection and "latents" in projection:
        return True, projection["proj_in.weight"].shape[1]
    if face or ("norm.weight" in projection and "proj.0.weight" in projection):
        raise FileFormatError(
            f"prior.ip_adapter: {file.name} is a FaceID adapter, which reads embeddings of faces; take a plain, plus or full one"
        )
    raise FileFormatError(f"prior.ip_adapter: {file.name}: its image_proj.* ({', '.join(sorted(projection)[:3])}, …) is of no known kind")


def _require_fit(adapter: _Adapter, unet: UNet) -> None:
    """Every cross-attention of the UNet gets its two matrices of the right shape, and nothing is left over."""
    width, expected = int(unet.config.cross_attention_dim), _shapes(unet)
    found = {key: tuple(value.shape) for key, value in adapter.attention.items()}
    widths = sorted({shape[1] for shape in found.values() if len(shape) == 2})
    if widths and widths != [width]:
        raise FileFormatError(
            f"prior.ip_adapter: {adapter.file.name} is for a cross-attention {widths[0]} wide, this model's is {width} (768: SD 1.x, "
            "1024: SD 2.x, 2048: SDXL); take one for this model"
        )
    odd = sorted(key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key))
    if odd:
        raise FileFormatError(
            f"prior.ip_adapter: {adapter.file.name} does not fit this UNet: {odd[0]} is {found.get(odd[0], 'missing')}, expected "
            f"{expected.get(odd[0], 'none')} ({len(odd)} of {len(expected)} tensors); take one for this model"
        )


def _shapes(unet: UNet) -> dict[str, tuple[int, int]]:
    """Shapes of the adapter's matrices by name: K and V for each cross-attention, as wide as the attention they stand in."""
    channels, width, shapes = list(unet.config.block_out_channels), int(unet.config.cross_attention_dim), {}
    crossing = [name for name in unet.attn_processors if not name.endswith("attn1.processor")]
    for index, name in enumerate(crossing):
        place, number = name.split(".")[:2]
        levels = {"down_blocks": channels, "up_blocks": channels[::-1]}
        hidden = channels[-1] if place == "mid_block" else levels[place][int(number)]
        for matrix in ("to_k_ip", "to_v_ip"):
            shapes[f"{2 * index + 1}.{matrix}.weight"] = (hidden, width)
    return shapes


def _widths(published: Mapping[int, str]) -> str:
    return ", ".join(str(width) for width in published) or "none"


# ------------------------------------------------------------------------------------------------------------------ image encoder


def _encoder_place(name: str, adapter: _Adapter, request: Request) -> Path:
    """The folder of the image encoder: as said, or ``image_encoder`` beside the adapter's file."""
    options = request.options
    if options.image_encoder is not None:
        return resolve_part("prior.image_encoder", options.image_encoder, offline=options.offline)
    beside = adapter.file.parent / "image_encoder"
    if beside.is_dir() and (beside / "config.json").is_file():
        return beside
    if Path(name).expanduser().exists():
        raise FileFormatError(f"prior.image_encoder: {beside} is missing; name the folder of the CLIP vision model that the adapter reads")
    return resolve_part("prior.image_encoder", f"{name.rpartition('/')[0]}/image_encoder", offline=options.offline)


@torch.no_grad()
def _embed(picture: Any, adapter: _Adapter, place: Path, request: Request) -> ImagePrompt:
    """The picture as the UNet is told of it, by an encoder that is loaded for this and freed."""
    with folders.quietly():
        from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

    if not (place / "config.json").is_file():
        raise FileFormatError(f"prior.image_encoder: {place} holds no model (no config.json); expected a CLIP vision model's folder")
    config = read_json(place / "config.json")
    supported.check(str(place / "config.json"), config, supported.CLIP_VISION, class_key="model_type")
    encoder = folders.load_module(CLIPVisionModelWithProjection, place.parent, place.name, request.dtype, folders.BESIDE_VISION)
    encoder = encoder.to(request.device)
    what, gives = ("states", encoder.config.hidden_size) if adapter.reads_states else ("embeddings", encoder.config.projection_dim)
    if gives != adapter.width:
        raise FileFormatError(
            f"prior.image_encoder: {place} gives {what} {gives} wide, {adapter.file.name} reads {adapter.width}; take "
            "the encoder that the adapter was trained with"
        )
    side = encoder.config.image_size
    pixels = CLIPImageProcessor(size=side, crop_size=side)(picture, return_tensors="pt").pixel_values.to(encoder.device, encoder.dtype)
    if not adapter.reads_states:
        embedding = encoder(pixels).image_embeds[:, None]
        return ImagePrompt(embedding, torch.zeros_like(embedding))
    seen, nothing = (encoder(x, output_hidden_states=True).hidden_states[-2][:, None] for x in (pixels, torch.zeros_like(pixels)))
    return ImagePrompt(seen, nothing)
