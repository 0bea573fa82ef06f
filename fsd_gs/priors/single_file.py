"""One checkpoint file of the SD 1.x/2.x/SDXL family in the original (LDM) layout, and the headers of such files.

The weights are renamed by diffusers' own converters. Files for training hold the UNet twice, as it was last and averaged over the training
(``model_ema.*``, names without dots): the average is what its authors show, and it is read. The file has no configs and no tokenizer: they
come from ``options.config`` (a diffusers folder or hub id of the same family), by default from the folder of the short name whose
architecture the weights show.
"""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fsd_gs.errors import FileFormatError
from fsd_gs.priors import folders
from fsd_gs.priors.adapters import Adapters
from fsd_gs.priors.control import load_control
from fsd_gs.priors.family import Checkpoint, Folder, Request
from fsd_gs.priors.hub import resolve
from fsd_gs.priors.image_prompt import install as install_image_prompt
from fsd_gs.priors.latent import LatentCodec
from fsd_gs.priors.lora import fuse_lora
from fsd_gs.priors.text import TextBank, TextEncoders, TextLayout
from fsd_gs.priors.textual_inversion import read_words, teach

PREFIX = "model.diffusion_model."
EMA_PREFIX = "model_ema."
# Widths of the text that the first cross-attention takes, by architecture.
_BY_TEXT_WIDTH = {768: "sd15", 1024: "sd21", 2048: "sdxl"}


def header(file: Path) -> dict[str, tuple[int, ...]]:
    """Shapes by name of the tensors of a .safetensors file, without reading them. FileFormatError for what is none."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            return {key: tuple(opened.get_slice(key).get_shape()) for key in opened.keys()}  # noqa: SIM118  (no dict)
    except (OSError, SafetensorError) as error:
        raise FileFormatError(f"prior: {file} is not a readable safetensors file; download it again") from error


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file, or of a .pt, which is read with weights_only, so that it cannot run code."""
    if file.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(file)
        except (OSError, SafetensorError) as error:
            raise FileFormatError(f"prior: {file} is not a readable safetensors file; download it again") from error
    try:
        state = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError, KeyError, ValueError) as error:
        raise FileFormatError(f"prior: {file} is not a plain file of tensors; download it again") from error
    state = state.get("state_dict", state) if isinstance(state, Mapping) else {}
    tensors = {str(key): value for key, value in state.items() if isinstance(value, Tensor)}
    if not tensors:
        raise FileFormatError(f"prior: {file} holds no tensors; download it again")
    return tensors


def open_checkpoint(file: Path) -> Checkpoint:
    """The header of a checkpoint: .safetensors, or .pt that holds nothing but tensors."""
    if file.suffix == ".safetensors":
        return Checkpoint(file, header(file))
    return Checkpoint(file, {key: tuple(value.shape) for key, value in read_tensors(file).items()})


def text_width(checkpoint: Checkpoint) -> int | None:
    """Width of the text that the UNet's first cross-attention takes; None if the checkpoint holds no UNet in the original layout."""
    widths = (shape[-1] for key, shape in checkpoint.shapes.items() if key.startswith(PREFIX) and key.endswith("attn2.to_k.weight"))
    return next(iter(widths), None)


def is_stable_diffusion(checkpoint: Checkpoint) -> bool:
    """Whether a .safetensors checkpoint holds a UNet in the original layout."""
    return checkpoint.file.suffix == ".safetensors" and text_width(checkpoint) is not None


def has_two_encoders(checkpoint: Checkpoint) -> bool:
    """Whether it is one of SDXL's."""
    return text_width(checkpoint) == 2048 or any(key.startswith("conditioner.embedders.1.") for key in checkpoint.shapes)


def architecture(checkpoint: Checkpoint) -> str | None:
    """The short name of the architecture that a checkpoint has, from the shapes in its header; None if it has a width of its own.

    FileFormatError if it is not supported.
    """
    file, shapes, width = checkpoint.file, checkpoint.shapes, text_width(checkpoint)
    first = shapes.get(f"{PREFIX}input_blocks.0.0.weight")
    if "input_blocks.0.0.weight" in shapes:
        raise FileFormatError(
            f"prior: {file.name} holds a UNet alone, without VAE and text encoder; take the whole checkpoint, or a diffusers folder with "
            "this UNet in it"
        )
    if width is None or first is None:
        raise FileFormatError(
            f"prior: {file.name} holds no Stable Diffusion UNet in the original layout; expected keys {PREFIX}* (a LoRA goes to "
            "prior.lora; SD3 and FLUX are loaded from a diffusers folder)"
        )
    if first[1] != 4:
        raise FileFormatError(f"prior: {file.name} is an inpainting or depth variant; use the plain text-to-image model")
    if f"{PREFIX}label_emb.0.0.weight" in shapes and not has_two_encoders(checkpoint):
        raise FileFormatError(f"prior: {file.name} takes an image embedding (label_emb); use the plain text-to-image model")
    return _BY_TEXT_WIDTH.get(width)


def load(
    request: Request, prior: Any, layout: TextLayout, pipeline_class: str, adapters: Adapters, *, zero_empty_negative: bool = False
) -> Any:
    """The checkpoint as a prior.

    Args:
        request: Its ``place`` is the file.
        prior: The prior's class; called as StableDiffusionPrior is.
        layout: The text encoders.
        pipeline_class: diffusers' pipeline that knows how to read the file.
        adapters: What may be added to the network.
        zero_empty_negative: As in :class:`~fsd_gs.priors.text.TextBank`.

    Raises:
        FileFormatError: If it holds no UNet of this family, lacks VAE or text encoder, or the configs are of another family.
    """
    file, device, dtype, options = request.path, request.device, request.dtype, request.options
    checkpoint = open_checkpoint(file)
    name, width = architecture(checkpoint), text_width(checkpoint)
    name = options.config or name
    if name is None:
        raise FileFormatError(
            f"prior: {file.name}: its cross-attention takes texts of width {width}, which no published model does; name a folder with its "
            "configs (prior.config)"
        )
    configs = folders.open_folder(resolve(name, offline=options.offline))
    _require_same_family(file, configs, layout)
    expected = configs.unet.get("cross_attention_dim", 1280)
    folders.require_equal(configs, (f"the text width of {file.name}", width), ("cross_attention_dim of the unet", expected))
    schedule, prediction = folders.load_schedule(configs)
    pipeline = _pipeline(file, configs.path, dtype, pipeline_class)
    unet = _freeze(pipeline.unet)
    _require_whole(checkpoint, unet)
    _take_average(checkpoint, unet)
    if options.lora is not None:
        fuse_lora(unet, options.lora, options.lora_scale, adapters.lora)
    image = install_image_prompt(unet, request, adapters.image)
    vae = _freeze(pipeline.vae.float() if dtype == torch.float16 else pipeline.vae)
    image_size = options.image_size or folders.square(configs, unet.config.sample_size) * 2 ** (len(vae.config.block_out_channels) - 1)
    codec = LatentCodec(folders.place(vae, device, options), image_size, options, folders.load_tiny_vae(options, device, dtype))
    text = _text_encoders(pipeline, layout)
    words = read_words(options.embeddings, [encoder.config.hidden_size for encoder in text.encoders])
    teach(words, text.tokenizers, text.encoders)
    # The encoders came with the file, so freeing them for good would lose them: "free" parks them on the CPU instead.
    policy = "cpu" if options.text_encoder == "free" else options.text_encoder
    bank = TextBank(lambda: text, device=device, dtype=dtype, policy=policy, zero_empty_negative=zero_empty_negative, image=image)
    loaded = prior(folders.place(unet, device, options), codec, bank, schedule, options, prediction)
    loaded.sampler = configs.configs["scheduler"]
    loaded.control = load_control(unet, codec.factor, request, adapters.control)
    return loaded


def _require_same_family(file: Path, configs: Folder, layout: TextLayout) -> None:
    two = len(layout.parts) == 2
    if "unet" not in configs.configs or two != (configs.unet.get("addition_embed_type") == "text_time"):
        kind = "SDXL" if two else "Stable Diffusion"
        raise FileFormatError(f"prior: config: {configs.path} is no {kind} folder; give one of the family of {file.name}")


def _pipeline(file: Path, configs: Path, dtype: torch.dtype, pipeline_class: str) -> Any:
    import diffusers

    extra = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    try:
        return getattr(diffusers, pipeline_class).from_single_file(
            file,
            config=str(configs),
            torch_dtype=dtype,
            local_files_only=True,
            use_safetensors=True,
            **(extra if pipeline_class == "StableDiffusionPipeline" else {}),
        )
    except Exception as error:  # the converters raise what they like for keys that they do not know
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        raise FileFormatError(f"prior: {file.name} cannot be loaded with the configs of {configs} ({reason})") from error


def _require_whole(checkpoint: Checkpoint, unet: Any) -> None:
    """Every tensor of the file's UNet has its place in the network: the converter passes over names that it does not know."""
    count, wanted = sum(key.startswith(PREFIX) for key in checkpoint.shapes), len(unet.state_dict())
    if count != wanted:
        raise FileFormatError(
            f"prior: {checkpoint.file.name} holds {count} tensors of a UNet, the network of its configs has {wanted}; name a folder with "
            "the configs of this very model (prior.config)"
        )


def _take_average(checkpoint: Checkpoint, unet: Any) -> None:
    """Where the file holds the average of the UNet's weights, take that."""
    names = {key: EMA_PREFIX + "".join(key.split(".")[1:]) for key in checkpoint.shapes if key.startswith(PREFIX)}
    present = [key for key, name in names.items() if name in checkpoint.shapes]
    if not present:
        return
    lacking = next((name for name in names.values() if name not in checkpoint.shapes), None)
    if lacking is not None:
        raise FileFormatError(f"prior: {checkpoint.file.name}: the averaged weights (model_ema.*) lack {lacking}; download it again")
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint
    from safetensors import safe_open

    with safe_open(checkpoint.file, framework="pt") as opened:
        state = {key: opened.get_tensor(name) for key, name in names.items()}
    unet.load_state_dict(convert_ldm_unet_checkpoint(state, dict(unet.config)))


def _text_encoders(pipeline: Any, layout: TextLayout) -> TextEncoders:
    suffixes = ["", *(f"_{n}" for n in range(2, len(layout.parts) + 1))]
    tokenizers = [getattr(pipeline, f"tokenizer{suffix}") for suffix in suffixes]
    return TextEncoders(layout.embed, tokenizers, [_freeze(getattr(pipeline, f"text_encoder{suffix}")) for suffix in suffixes])


def _freeze(module: Any) -> Any:
    stuck = [name for name, tensor in itertools.chain(module.named_parameters(), module.named_buffers()) if tensor.is_meta]
    if stuck:
        raise FileFormatError(f"prior: the checkpoint lacks {', '.join(stuck[:3])}; is the file complete?")
    return module.eval().requires_grad_(False)
