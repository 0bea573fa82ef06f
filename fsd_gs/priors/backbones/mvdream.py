"""MVDream (arXiv 2308.16512): Stable Diffusion 2.1 that denoises F views of one object jointly, told where each camera is.

It is a standard UNet2DConditionModel with two additions:

    cameras      a flattened 4×4 camera-to-world matrix per view, through a two-layer projection added to the time embedding
                 (class_embed_type "projection", 16 inputs)
    attention    every self-attention sees the tokens of all F views at once: (b f) l c → b (f l) c; cross-attention is untouched

Cameras as MVDream was trained on: columns right, up, backward (OpenGL), z up, position on the unit sphere (no distance, no field of view),
azimuth 0 at −y. Ours has azimuth 0 (the front) at +x, so the world is turned by −90° about z and azimuths keep their numbers.

Checkpoints: the official single file (LDM names, .pt or .safetensors), the diffusers folder of ashawkey/mvdream-sd2.1-diffusers (LDM names
without prefix), and our own folder (:func:`save_folder`). Without cameras (2D) the camera embedding is left out and views are independent.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fsd_gs.core.cameras import opengl_from_opencv
from fsd_gs.core.types import Cameras
from fsd_gs.errors import FileFormatError, InputError
from fsd_gs.priors import components
from fsd_gs.priors.hub import read_json, resolve, weight_files
from fsd_gs.priors.latent import LatentCodec
from fsd_gs.priors.latent_prior import place
from fsd_gs.priors.options import LoadOptions
from fsd_gs.priors.schedule import DiscreteSchedule
from fsd_gs.priors.stable_diffusion import StableDiffusionPrior, load_codec
from fsd_gs.priors.text import Embedding, TextBank, TextEncoders

VIEWS = 4
IMAGE_SUFFIX = ", 3d asset"  # MVDream's 3D training captions end so
IMAGEDREAM_REFUSED = "this is an ImageDream checkpoint, which needs a reference image; use a text-to-multi-view one (MVDream)"
UNET_PREFIX, VAE_PREFIX, TEXT_PREFIX = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.model."
CAMERA_KEYS = tuple(f"camera_embed.{layer}.{part}" for layer in (0, 2) for part in ("weight", "bias"))

# The network of sd-v2.1-base-4view.pt, in the words of its own configuration file.
OFFICIAL_UNET: dict[str, Any] = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "attention_resolutions": [4, 2, 1],
    "num_res_blocks": 2,
    "channel_mult": [1, 2, 4, 4],
    "num_head_channels": 64,
    "context_dim": 1024,
    "camera_dim": 16,
}
OFFICIAL_SCHEDULER: dict[str, Any] = {
    "_class_name": "DDIMScheduler",
    "num_train_timesteps": 1000,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "prediction_type": "epsilon",
    "steps_offset": 1,
    "clip_sample": False,
    "set_alpha_to_one": False,
}


def camera_numbers(cameras: Cameras) -> Tensor:
    """[V, 16] row-major camera-to-world matrices in MVDream's convention."""
    pose = opengl_from_opencv(cameras.world_from_camera)
    turn = pose.new_tensor([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])  # +x (our front) → −y (its front)
    numbers = torch.eye(4, dtype=pose.dtype, device=pose.device).repeat(len(cameras), 1, 1)
    numbers[:, :3, :3] = turn @ pose[:, :3, :3]
    numbers[:, :3, 3] = torch.nn.functional.normalize(pose[:, :3, 3], dim=1) @ turn.T
    return numbers.flatten(1)


class CrossViewAttention:
    """A self-attention processor over the tokens of all views: (b f) l c → b (f l) c → (b f) l c."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.views = inner, 1

    def __call__(self, attn: Any, hidden_states: Tensor, *args: Any, **options: Any) -> Tensor:
        batch, length, channels = hidden_states.shape
        joint = hidden_states.reshape(batch // self.views, self.views * length, channels)
        return self.inner(attn, joint, *args, **options).reshape(batch, length, channels)


def install_cross_view_attention(unet: Any) -> list[CrossViewAttention]:
    """Replace the processor of every self-attention (attn1) of ``unet``; with ``views`` = 1 nothing changes. Returns them."""
    installed: list[CrossViewAttention] = []
    processors = {}
    for name, processor in unet.attn_processors.items():
        if ".attn1." in name:
            processor = CrossViewAttention(processor)
            installed.append(processor)
        processors[name] = processor
    unet.set_attn_processor(processors)
    return installed


class MVDreamPrior(StableDiffusionPrior):
    """``views`` images of one object denoised jointly. Text and cameras are ordered (b f): the views of an object lie side by side."""

    def __init__(
        self,
        network: Any,
        codec: LatentCodec,
        bank: TextBank,
        schedule: DiscreteSchedule,
        options: LoadOptions,
        prediction: str = "epsilon",
        views: int = VIEWS,
        suffix: str = IMAGE_SUFFIX,
    ) -> None:
        super().__init__(network, codec, bank, schedule, options, prediction)
        self.views, self.suffix = views, suffix
        self._processors = install_cross_view_attention(network)

    def encode_text(self, prompt: str, negative_prompt: str, cameras: Cameras | None) -> Any:
        """One embedding for all views: the cameras speak for themselves. With cameras the prompt gets MVDream's 3D suffix."""
        said = prompt + self.suffix if cameras is not None and not prompt.endswith(self.suffix) else prompt
        return super().encode_text(said, negative_prompt, None)

    def network_output(self, latents_t: Tensor, t: Tensor, embedding: Embedding, cameras: Cameras | None, guidance: float) -> Tensor:
        batch = latents_t.shape[0]
        if cameras is None:
            with self._views_together(1), without_class_embedding(self.network):
                return self._call(latents_t, t, embedding, None)
        if len(cameras) % self.views:
            raise InputError(f"cameras: expected a multiple of the {self.views} views that are denoised jointly, got {len(cameras)}")
        numbers = camera_numbers(cameras).to(self.device, self.dtype)  # class_labels are not cast by the network
        with self._views_together(self.views):
            return self._call(latents_t, t, embedding, numbers.repeat(batch // len(cameras), 1))

    def _call(self, latents_t: Tensor, t: Tensor, embedding: Embedding, class_labels: Tensor | None) -> Tensor:
        return self._forward(
            latents_t.to(self.dtype),
            self.timesteps(t),
            encoder_hidden_states=embedding.tokens,
            class_labels=class_labels,
            return_dict=False,
        )[0]

    @contextmanager
    def _views_together(self, views: int) -> Iterator[None]:
        for processor in self._processors:
            processor.views = views
        try:
            yield
        finally:
            for processor in self._processors:
                processor.views = self.views


@contextmanager
def without_class_embedding(unet: Any) -> Iterator[None]:
    """The UNet as if it had no camera input: a zero camera would not be the same."""
    embedding, unet.class_embedding = unet.class_embedding, None
    try:
        yield
    finally:
        unet.class_embedding = embedding


def unet_config(official: Mapping[str, Any]) -> dict[str, Any]:
    """The UNet2DConditionModel settings of a network described in the official configuration's words."""
    channels = [official["model_channels"] * m for m in official["channel_mult"]]
    with_attention = [2**level in official["attention_resolutions"] for level in range(len(channels))]
    head_width = official["num_head_channels"]
    return {
        "sample_size": official["image_size"],
        "in_channels": official["in_channels"],
        "out_channels": official["out_channels"],
        "block_out_channels": channels,
        "down_block_types": ["CrossAttnDownBlock2D" if a else "DownBlock2D" for a in with_attention],
        "up_block_types": ["CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(with_attention)],
        "layers_per_block": official["num_res_blocks"],
        "cross_attention_dim": official["context_dim"],
        "attention_head_dim": [width // head_width for width in channels],  # diffusers' name for the number of heads
        "use_linear_projection": True,
        "class_embed_type": "projection",
        "projection_class_embeddings_input_dim": official["camera_dim"],
    }


def convert_unet(state: Mapping[str, Tensor], official: Mapping[str, Any]) -> dict[str, Tensor]:
    """The official weights ([model.diffusion_model.]*) under UNet2DConditionModel's names.

    Raises FileFormatError for ImageDream, and where the camera weights are missing.
    """
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    prefix = UNET_PREFIX if any(key.startswith(UNET_PREFIX) for key in state) else ""
    bare = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    refuse_imagedream(bare)
    missing = [key for key in CAMERA_KEYS if key not in bare]
    if missing:
        raise FileFormatError(
            f"mvdream: the checkpoint has no camera weights ({', '.join(missing)}); it is a single-view model, load it as one"
        )
    # diffusers' converter knows these four as the class embedding of a label; under their own name it would silently drop them.
    renamed = {UNET_PREFIX + key.replace("camera_embed.", "label_emb.0."): value for key, value in bare.items()}
    return convert_ldm_unet_checkpoint(renamed, unet_config(official))


def refuse_imagedream(bare: Mapping[str, Any]) -> None:
    if any(key.startswith("image_embed.") or ".to_k_ip." in key or ".to_v_ip." in key for key in bare):
        raise FileFormatError(f"mvdream: {IMAGEDREAM_REFUSED}")


def build_unet(state: Mapping[str, Tensor], official: Mapping[str, Any], dtype: torch.dtype) -> Any:
    """A frozen UNet2DConditionModel with the official weights; every tensor of either side must find its partner."""
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    weights = convert_unet(state, official)
    with torch.device("meta"):
        unet = UNet2DConditionModel(**unet_config(official))
    try:
        unet.load_state_dict({key: value.to(dtype) for key, value in weights.items()}, strict=True, assign=True)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()]
        raise FileFormatError(f"mvdream: the UNet's weights do not fit ({' '.join(lines[1:3])[:300]}); is the file complete?") from error
    return unet.eval().requires_grad_(False)


def is_official_checkpoint(file: Path) -> bool:
    """Whether a single file is MVDream's or ImageDream's in the official layout (read without loading the weights)."""
    if file.suffix == ".safetensors":
        return any("camera_embed." in key for key in _safetensors_keys(file))
    if file.suffix != ".pt":
        return False
    try:
        return any("camera_embed." in key for key in read_official(file))
    except FileFormatError:
        return False  # not a plain file of tensors: the caller refuses it as a pickle


def _safetensors_keys(file: Path) -> list[str]:
    from safetensors import safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            return list(opened.keys())
    except Exception as error:
        raise FileFormatError(f"prior: {file} is not a readable safetensors file; download it again") from error


def read_official(file: Path) -> dict[str, Tensor]:
    """The tensors of the official checkpoint. The .pt is read with weights_only, so that it cannot run code."""
    if file.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(file)
    try:
        state = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        raise FileFormatError(
            f"mvdream: {file} is not a plain file of tensors; download the official sd-v2.1-base-4view.pt again"
        ) from error
    return dict(state.get("state_dict", state))


def load_official(
    file: Path, device: torch.device, dtype: torch.dtype, options: LoadOptions, official: Mapping[str, Any] | None = None
) -> MVDreamPrior:
    """The official single file. VAE and text encoder configs and the tokenizer, which it lacks, come from an SD 2.1 folder or id
    (``options.config``, by default the registry's sd21)."""
    official = OFFICIAL_UNET if official is None else official
    state = read_official(file)
    unet = build_unet(state, official, dtype)
    _fuse_lora(unet, options)
    configs = resolve(options.config or "sd21", offline=options.offline)
    vae = _official_vae(state, configs, torch.float32 if dtype == torch.float16 else dtype)
    codec = LatentCodec(
        place(vae, device, options), options.image_size or 8 * official["image_size"], options, _tiny(options, device, dtype)
    )
    bank = TextBank(lambda: _official_text(file, configs, dtype), device=device, dtype=dtype, policy=options.text_encoder)
    schedule = DiscreteSchedule.scaled_linear(
        OFFICIAL_SCHEDULER["num_train_timesteps"], OFFICIAL_SCHEDULER["beta_start"], OFFICIAL_SCHEDULER["beta_end"]
    )
    return MVDreamPrior(place(unet, device, options), codec, bank, schedule, options)


def _tiny(options: LoadOptions, device: torch.device, dtype: torch.dtype) -> Any | None:
    tiny = components.load_tiny_vae(options, dtype)
    return None if tiny is None else place(tiny, device, options)


def _official_vae(state: Mapping[str, Tensor], configs: Path, dtype: torch.dtype) -> Any:
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    vae: Any = AutoencoderKL.from_config(read_json(configs / "vae" / "config.json"))
    weights = convert_ldm_vae_checkpoint({k: v for k, v in state.items() if k.startswith(VAE_PREFIX)}, dict(vae.config))
    _load_strictly(vae, weights, "VAE")
    return vae.to(dtype).eval().requires_grad_(False)


def _official_text(file: Path, configs: Path, dtype: torch.dtype) -> TextEncoders:
    import transformers
    from diffusers.loaders.single_file_utils import convert_open_clip_checkpoint

    state = {k: v for k, v in read_official(file).items() if k.startswith(TEXT_PREFIX)}
    config = transformers.CLIPTextConfig.from_pretrained(configs / "text_encoder", local_files_only=True)
    encoder: Any = transformers.CLIPTextModel(config)
    converted = convert_open_clip_checkpoint(encoder, state, prefix=TEXT_PREFIX)
    # transformers 5 dropped the "text_model." level inside CLIPTextModel; the converter still writes it.
    known = set(encoder.state_dict())
    weights = {(key if key in known else key.removeprefix("text_model.")): value for key, value in converted.items()}
    _load_strictly(encoder, {k: v for k, v in weights.items() if k in known}, "text encoder", optional=("position_ids",))
    tokenizer = transformers.CLIPTokenizer.from_pretrained(configs / "tokenizer", local_files_only=True)
    return TextEncoders("clip", [tokenizer], [encoder.to(dtype).eval().requires_grad_(False)])


def _load_strictly(module: Any, weights: Mapping[str, Tensor], what: str, optional: tuple[str, ...] = ()) -> None:
    report = module.load_state_dict(weights, strict=False)
    missing = [key for key in report.missing_keys if not key.endswith(optional or ("\0",))]
    if missing or report.unexpected_keys:
        odd = (missing or report.unexpected_keys)[:3]
        raise FileFormatError(f"mvdream: the {what}'s weights do not fit ({', '.join(odd)}); is the file complete?")


def load_ldm_folder(folder: Path, device: torch.device, dtype: torch.dtype, options: LoadOptions) -> MVDreamPrior:
    """ashawkey's folder: diffusers layout, but a UNet of its own class with the official names (without prefix)."""
    from safetensors.torch import load_file

    official = read_json(folder / "unet" / "config.json")
    files, pickles = weight_files(folder / "unet")
    if not files:
        what = f"only pickle weights ({pickles[0].name})" if pickles else "no weights"
        raise FileFormatError(f"mvdream: {folder / 'unet'} holds {what}; safetensors are needed")
    unet = build_unet(load_file(files[0]), {**OFFICIAL_UNET, **{k: v for k, v in official.items() if v is not None}}, dtype)
    return _from_parts(folder, unet, device, dtype, options)


def load_folder(folder: Path, device: torch.device, dtype: torch.dtype, options: LoadOptions) -> MVDreamPrior:
    """Our own folder: a standard diffusers one whose UNet has the 16-number camera projection."""
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    keys = [key for file in weight_files(folder / "unet")[0] for key in _safetensors_keys(file)]
    if keys and not any(key.startswith("class_embedding.") for key in keys):
        raise FileFormatError(f"mvdream: {folder / 'unet'} has no camera weights (class_embedding.*), though its config asks for them")
    unet = components.load_module(UNet2DConditionModel, folder, "unet", dtype)
    return _from_parts(folder, unet, device, dtype, options)


def _from_parts(folder: Path, unet: Any, device: torch.device, dtype: torch.dtype, options: LoadOptions) -> MVDreamPrior:
    components.require_text_components(folder, "clip")
    _fuse_lora(unet, options)
    schedule, prediction = components.load_schedule(folder)
    codec = load_codec(folder, device, dtype, options, unet.config.sample_size)
    bank = TextBank(components.text_loader(folder, "clip", dtype), device=device, dtype=dtype, policy=options.text_encoder)
    index = read_json(folder / "model_index.json")
    views, suffix = int(index.get("views", VIEWS)), str(index.get("prompt_suffix", IMAGE_SUFFIX))
    network = place(unet, device, options)
    if components.names_background(index):
        from fsd_gs.priors.nano.prior import NanoPrior
        from fsd_gs.priors.reader import CatalogueReader

        reader = CatalogueReader(tuple(index.get("categories", ()))) if index.get("vocabulary") == "catalogue" else None
        return NanoPrior(network, codec, bank, schedule, options, prediction, views, suffix, reader=reader)
    return MVDreamPrior(network, codec, bank, schedule, options, prediction, views, suffix)


def _fuse_lora(unet: Any, options: LoadOptions) -> None:
    if options.lora is not None:
        from fsd_gs.priors.lora import fuse_lora

        fuse_lora(unet, options.lora, options.lora_scale, "sd")


def save_folder(prior: MVDreamPrior, folder: Path) -> Path:
    """Write ``prior`` as a diffusers folder that :func:`load_folder` reads, safetensors throughout.

    Loads the text encoder if it was freed. The attention processors are not part of it: they are installed at loading.
    """
    text = prior.bank.load_encoders()
    prior.network.save_pretrained(folder / "unet")
    prior.codec.vae.save_pretrained(folder / "vae")
    text.encoders[0].save_pretrained(folder / "text_encoder")
    text.tokenizers[0].save_pretrained(folder / "tokenizer")
    scheduler = {**OFFICIAL_SCHEDULER, **_betas(prior.schedule), "prediction_type": prior.prediction}
    (folder / "scheduler").mkdir(exist_ok=True)
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler, indent=2))
    index = {
        "_class_name": "StableDiffusionPipeline",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "views": prior.views,
        "prompt_suffix": prior.suffix,
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2))
    return folder


def _betas(schedule: DiscreteSchedule) -> dict[str, Any]:
    """The schedule as explicit betas, unless it is the official one."""
    times = schedule.time(torch.arange(schedule.timesteps))
    squared = schedule.alpha(times) ** 2
    official = DiscreteSchedule.scaled_linear()
    if schedule.timesteps == official.timesteps and torch.allclose(squared, official.alpha(times) ** 2, atol=1e-6, rtol=0):
        return {}
    previous = torch.cat([torch.ones(1, dtype=squared.dtype), squared[:-1]])
    return {"num_train_timesteps": schedule.timesteps, "trained_betas": (1 - squared / previous).tolist()}
