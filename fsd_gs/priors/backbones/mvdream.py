"""MVDream (arXiv 2308.16512): Stable Diffusion 2.1 that denoises F views of one object jointly, told where each camera is.

It is a standard UNet2DConditionModel with two additions:

    cameras      a flattened 4×4 camera-to-world matrix per view, through a two-layer projection added to the time embedding
                 (class_embed_type "projection", 16 inputs)
    attention    every self-attention sees the tokens of all F views at once: (b f) l c → b (f l) c; cross-attention is untouched

Cameras as MVDream was trained on: columns right, up, backward (OpenGL), z up, position on the unit sphere (no distance, no field of view),
azimuth 0 at −y. Ours has azimuth 0 (the front) at +x, so the world is turned by −90° about z and azimuths keep their numbers.

Both are fixed to the network once (:func:`see_all_views`); how many views a call has is an argument of the call. Without cameras (2D) the
camera embedding is left out and views are independent.

Checkpoints: the official single file and ashawkey's folder (:mod:`~fsd_gs.priors.mvdream_checkpoint`), and our own folder
(:func:`save_folder`).
"""

from __future__ import annotations

import json
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fsd_gs.core.cameras import opengl_from_opencv
from fsd_gs.core.types import Cameras
from fsd_gs.errors import FileFormatError, InputError
from fsd_gs.priors import folders, mvdream_checkpoint, single_file, supported
from fsd_gs.priors.adapters import Adapters
from fsd_gs.priors.backbones.sd import LORA, Parts, StableDiffusionPrior, check_unet, load_parts, read_unet
from fsd_gs.priors.family import CLIP_H, VAE, Family, Folder, Published, Request, Source
from fsd_gs.priors.hub import resolve, weight_files
from fsd_gs.priors.latent import LatentCodec
from fsd_gs.priors.lora import fuse_lora
from fsd_gs.priors.networks import NetworkCall, UNet
from fsd_gs.priors.options import LoadOptions
from fsd_gs.priors.schedule import DiscreteSchedule
from fsd_gs.priors.text import ONE_CLIP, EmbeddedText, Embedding, TextBank, TextEncoders
from fsd_gs.priors.textual_inversion import read_words, teach

VIEWS = 4
CAMERA_NUMBERS = 16  # a flattened 4×4 camera-to-world matrix
IMAGE_SUFFIX = ", 3d asset"  # MVDream's 3D training captions end so

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
    """A self-attention processor over the tokens of all views: (b f) l c → b (f l) c → (b f) l c. ``views`` = 1 changes nothing."""

    def __init__(self, inner: Callable[..., Tensor]) -> None:
        self.inner = inner

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        views: int = 1,
    ) -> Tensor:
        batch, length, channels = hidden_states.shape
        joint = hidden_states.reshape(batch // views, views * length, channels)
        return self.inner(attn, joint, encoder_hidden_states, attention_mask, temb).reshape(batch, length, channels)


class SingleViewAttention:
    """Any other attention, which is the same for each view: it takes ``views`` as its neighbours do, and has no use for it."""

    def __init__(self, inner: Callable[..., Tensor]) -> None:
        self.inner = inner

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        views: int = 1,
    ) -> Tensor:
        return self.inner(attn, hidden_states, encoder_hidden_states, attention_mask, temb)


def see_all_views(unet: UNet) -> None:
    """Make a UNet2DConditionModel multi-view, once and for good. ``unet(…, cross_attention_kwargs={"views": F})`` joins F views; without
    class_labels it runs as if it had no camera input (a zero camera would not be the same)."""
    processors = {}
    for name, processor in unet.attn_processors.items():
        if not isinstance(processor, CrossViewAttention | SingleViewAttention):
            processor = CrossViewAttention(processor) if ".attn1." in name else SingleViewAttention(processor)
        processors[name] = processor
    unet.set_attn_processor(processors)
    network: Any = unet
    network.get_class_embed = types.MethodType(_class_embedding_if_given, network)


def _class_embedding_if_given(unet: Any, sample: Tensor, class_labels: Tensor | None) -> Tensor | None:
    return None if class_labels is None else type(unet).get_class_embed(unet, sample, class_labels)


class MVDreamPrior(StableDiffusionPrior):
    """``views`` images of one object denoised jointly. Text and cameras are ordered (b f): the views of an object lie side by side."""

    def __init__(
        self,
        network: UNet,
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
        see_all_views(network)

    def encode_text(self, prompt: str, negative_prompt: str, cameras: Cameras | None, background: Tensor | None = None) -> EmbeddedText:
        """One embedding for all views: the cameras speak for themselves. With cameras the prompt gets MVDream's 3D suffix."""
        said = prompt + self.suffix if cameras is not None and not prompt.endswith(self.suffix) else prompt
        return super().encode_text(said, negative_prompt, None)

    def network_output(
        self, call: NetworkCall, latents_t: Tensor, t: Tensor, embedding: Embedding, cameras: Cameras | None, guidance: float
    ) -> Tensor:
        return call(
            latents_t.to(self.dtype),
            self.timesteps(t),
            encoder_hidden_states=embedding.tokens,
            class_labels=None if cameras is None else self._camera_numbers(cameras, latents_t.shape[0]),
            cross_attention_kwargs={"views": 1 if cameras is None else self.views},
            added_cond_kwargs=self.added_conditions(latents_t, embedding),
            return_dict=False,
        )[0]

    def _camera_numbers(self, cameras: Cameras, batch: int) -> Tensor:
        """[k·B, 16] for the k copies of B views that a batch holds."""
        if len(cameras) % self.views:
            raise InputError(f"cameras: expected a multiple of the {self.views} views that are denoised jointly, got {len(cameras)}")
        numbers = camera_numbers(cameras).to(self.device, self.dtype)  # class_labels are not cast by the network
        return numbers.repeat(batch // len(cameras), 1)


def load(request: Request) -> MVDreamPrior:
    """Our own folder, ashawkey's, or the official single file."""
    if request.path.is_file():
        return load_official(request)
    folder = folders.open_folder(request.path)
    prior = MVDreamPrior(*load_multi_view_parts(folder, request), *prompt_habits(folder))
    prior.sampler = folder.configs["scheduler"]
    return prior


def load_multi_view_parts(folder: Folder, request: Request, rules: supported.Rules | None = None) -> Parts:
    """What the prior is made of, from a folder with the official UNet or with ours. rules: of ours, if they are not MVDream's."""
    if "camera_dim" in folder.unet or folder.unet.get("_class_name") == "MultiViewUNetModel":
        if folder.unet.get("ip_dim"):
            raise FileFormatError(f"prior: {folder.path}: {mvdream_checkpoint.IMAGEDREAM_REFUSED}")
        folders.check_component(folder, "unet", supported.LDM_UNET)
        return load_parts(folder, request, ONE_CLIP, ADAPTERS, read_unet=_read_official_unet)
    keys = [key for file in weight_files(folder.path / "unet")[0] for key in single_file.header(file)]
    if keys and not any(key.startswith("class_embedding.") for key in keys):
        raise FileFormatError(f"mvdream: {folder.path / 'unet'} has no camera weights (class_embedding.*), though its config asks for them")
    check_unet(folder, rules or RULES)
    return load_parts(folder, request, ONE_CLIP, ADAPTERS, read_unet=read_unet)


def prompt_habits(folder: Folder) -> tuple[int, str]:
    """(views denoised jointly, suffix of prompts) as model_index.json has them."""
    return int(folder.index.get("views", VIEWS)), str(folder.index.get("prompt_suffix", IMAGE_SUFFIX))


def _read_official_unet(folder: Folder, dtype: torch.dtype) -> UNet:
    files, pickles = weight_files(folder.path / "unet")
    if not files:
        what = f"only pickle weights ({pickles[0].name})" if pickles else "no weights"
        raise FileFormatError(f"mvdream: {folder.path / 'unet'} holds {what}; safetensors are needed")
    official = {key: value for key, value in folder.unet.items() if value is not None}
    defaults = mvdream_checkpoint.OFFICIAL_UNET
    if official.get("num_heads", -1) != -1:  # then heads are counted, and the width of a head is not the official one
        defaults = {**defaults, "num_head_channels": -1}
    return mvdream_checkpoint.build_unet(single_file.read_tensors(files[0]), {**defaults, **official}, dtype)


def load_official(request: Request, official: dict[str, Any] | None = None) -> MVDreamPrior:
    """The official single file. VAE and text encoder configs and the tokenizer, which it lacks, come from an SD 2.1 folder or id
    (``options.config``, by default sd21). official: the UNet's configuration in its own words, by default the published one."""
    file, device, dtype, options = request.path, request.device, request.dtype, request.options
    official = mvdream_checkpoint.OFFICIAL_UNET if official is None else official
    mvdream_checkpoint.require_official_width(single_file.open_checkpoint(file), official)
    state = single_file.read_tensors(file)
    unet = mvdream_checkpoint.build_unet(state, official, dtype)
    if options.lora is not None:
        fuse_lora(unet, options.lora, options.lora_scale, LORA)
    configs = resolve(options.config or "sd21", offline=options.offline)
    vae = folders.place(mvdream_checkpoint.build_vae(state, configs, torch.float32 if dtype == torch.float16 else dtype), device, options)
    codec = LatentCodec(vae, options.image_size or 8 * official["image_size"], options, folders.load_tiny_vae(options, device, dtype))
    words = read_words(options.embeddings, [official["context_dim"]])

    def load_text() -> TextEncoders:
        text = mvdream_checkpoint.build_text(file, configs, dtype)
        teach(words, text.tokenizers, text.encoders)
        return text

    bank = TextBank(load_text, device=device, dtype=dtype, policy=options.text_encoder)
    schedule = DiscreteSchedule.scaled_linear(
        OFFICIAL_SCHEDULER["num_train_timesteps"], OFFICIAL_SCHEDULER["beta_start"], OFFICIAL_SCHEDULER["beta_end"]
    )
    prior = MVDreamPrior(folders.place(unet, device, options), codec, bank, schedule, options)
    prior.sampler = OFFICIAL_SCHEDULER
    return prior


def save_folder(prior: MVDreamPrior, folder: Path) -> Path:
    """Write ``prior`` as a diffusers folder that :func:`load` reads, safetensors throughout.

    Loads the text encoder if it was freed. The attention processors are not part of it: they are installed at loading.
    """
    text = prior.bank.load_encoders()
    network: Any = prior.network
    network.save_pretrained(folder / "unet")
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


def recognises(folder: Folder) -> bool:
    """A UNet with the camera projection, under diffusers' names or the official ones; ImageDream's, which is refused, too."""
    unet = folder.unet
    if unet.get("_class_name") == "MultiViewUNetModel" or "camera_dim" in unet:
        return True
    return unet.get("class_embed_type") == "projection" and unet.get("projection_class_embeddings_input_dim") == CAMERA_NUMBERS


ADAPTERS = Adapters(LORA)
RULES = supported.UNET.allow(class_embed_type=("projection",))

FAMILY = Family(
    name="mvdream",
    load=load,
    recognises=recognises,
    reads=mvdream_checkpoint.is_official,
    network="UNet2DConditionModel",
    takes=frozenset({"embeddings"}),
    published={"mvdream": Published((Source("ashawkey/mvdream-sd2.1-diffusers"),), 867.6 + VAE, CLIP_H, "OpenRAIL")},
)
