"""Parts of a diffusers folder, loaded one by one: which family it is, its denoiser, VAE, text encoders and scheduler.

The family is read from the folder's own configs, never from its name. Weights are safetensors only; ``trust_remote_code`` is never set.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch

from fsd_gs.errors import FileFormatError
from fsd_gs.priors.hub import is_offline, read_json, resolve, weight_files
from fsd_gs.priors.options import LoadOptions
from fsd_gs.priors.schedule import DiscreteSchedule
from fsd_gs.priors.text import TextEncoders, TextKind

Family = Literal["sd", "sdxl", "sd3", "flux", "mvdream", "mvdream-ldm", "imagedream"]
CAMERA_NUMBERS = 16  # a flattened 4×4 camera-to-world matrix


def recognise(folder: Path) -> Family:
    """The family of a diffusers folder, from unet/config.json or transformer/config.json.

    Raises FileFormatError if it is no pipeline folder or holds a network that is not supported.
    """
    if not (folder / "model_index.json").is_file():
        raise FileFormatError(f"prior: {folder} is no diffusers pipeline folder (no model_index.json); save one with save_pretrained")
    if (folder / "transformer").is_dir():
        name = read_json(folder / "transformer" / "config.json").get("_class_name")
        known: dict[Any, Family] = {"SD3Transformer2DModel": "sd3", "FluxTransformer2DModel": "flux"}
        if name in known:
            return known[name]
        raise FileFormatError(f"prior: {folder} holds a {name}; supported transformers: {', '.join(known)}")
    if not (folder / "unet").is_dir():
        raise FileFormatError(f"prior: {folder} has neither a 'unet' nor a 'transformer' folder; the denoiser is missing")
    return _unet_family(folder, read_json(folder / "unet" / "config.json"))


def names_background(index: dict[str, Any]) -> bool:
    """Whether a model_index.json is of ``fsd-gs train-prior``'s making: a small network that is told the colour behind the object."""
    return bool(index.get("names_background"))


def _unet_family(folder: Path, config: dict[str, Any]) -> Family:
    if config.get("_class_name") == "MultiViewUNetModel" or "camera_dim" in config:
        return "imagedream" if config.get("ip_dim") else "mvdream-ldm"
    if config.get("class_embed_type") == "projection" and config.get("projection_class_embeddings_input_dim") == CAMERA_NUMBERS:
        return "mvdream"
    if config.get("_class_name") != "UNet2DConditionModel":
        raise FileFormatError(f"prior: {folder} holds a {config.get('_class_name')}; supported: UNet2DConditionModel")
    if not (folder / "vae").is_dir():
        raise FileFormatError(f"prior: {folder}: the component 'vae' is missing (pixel-space models are not supported)")
    if config.get("in_channels") != config.get("out_channels"):
        raise FileFormatError(
            f"prior: {folder}: the UNet takes {config.get('in_channels')} channels and gives {config.get('out_channels')}; inpainting, "
            "depth and upscaling variants are not supported, use the plain text-to-image model"
        )
    return "sdxl" if config.get("addition_embed_type") == "text_time" else "sd"


def load_module(cls: Any, folder: Path, component: str, dtype: torch.dtype) -> Any:
    """A frozen network of ``folder``/``component`` on the CPU, in eval mode. ``cls``: a diffusers or transformers model class."""
    place = folder / component
    if not (place / "config.json").is_file():
        raise FileFormatError(f"prior: {folder}: the component '{component}' is missing (expected {place / 'config.json'})")
    safe, pickles = weight_files(place)
    if not safe:
        what = f"only pickle weights ({pickles[0].name}), which can run code" if pickles else "no weights"
        raise FileFormatError(f"prior: {place} holds {what}; save the model as safetensors (save_pretrained(safe_serialization=True))")
    try:
        with warnings.catch_warnings(), _without_progress_bars():
            warnings.simplefilter("ignore")  # about options of newer or older library versions that do not matter here
            precision = {_dtype_argument(cls): dtype}
            model = cls.from_pretrained(place, **precision, variant=_variant(safe, dtype), use_safetensors=True, local_files_only=True)
    except FileFormatError:
        raise
    except Exception as error:  # truncated files, shape mismatches: many types, one meaning
        raise FileFormatError(f"prior: {place} cannot be loaded ({_first_line(error)}); download or save it again") from error
    return model.eval().requires_grad_(False)


@contextmanager
def _without_progress_bars() -> Iterator[None]:
    """transformers draws one for each component; loading from the disk takes seconds and the run has its own."""
    from transformers.utils import logging as transformers_logging

    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


def _dtype_argument(cls: Any) -> str:
    """transformers renamed ``torch_dtype`` to ``dtype`` in 4.56; diffusers has not."""
    if not cls.__module__.startswith("transformers"):
        return "torch_dtype"
    import transformers

    major, minor = (int(part) for part in transformers.__version__.split(".")[:2])
    return "dtype" if (major, minor) >= (4, 56) else "torch_dtype"


def _variant(files: list[Path], dtype: torch.dtype) -> str | None:
    """ "fp16" if those are the only weight files, or both exist and half precision is wanted."""
    variant = [f for f in files if ".fp16" in f.name]
    return "fp16" if variant and (len(variant) == len(files) or dtype in (torch.float16, torch.bfloat16)) else None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def load_vae(folder: Path, dtype: torch.dtype) -> Any:
    """The VAE, in float32 instead of float16 where its config says that it overflows (SDXL)."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    overflows = read_json(folder / "vae" / "config.json").get("force_upcast", True) if (folder / "vae" / "config.json").is_file() else False
    return load_module(AutoencoderKL, folder, "vae", torch.float32 if dtype == torch.float16 and overflows else dtype)


def load_tiny_vae(options: LoadOptions, dtype: torch.dtype) -> Any | None:
    """AutoencoderTiny from ``options.tiny_vae``, a folder or a hub id; None if it is not asked for."""
    if options.tiny_vae is None:
        return None
    from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny

    path = Path(options.tiny_vae).expanduser()
    if not path.is_dir():
        path = _tiny_from_hub(options.tiny_vae, is_offline(options.offline))
    if not (path / "config.json").is_file():
        raise FileFormatError(f"tiny_vae: {path} holds no AutoencoderTiny (no config.json)")
    return load_module(AutoencoderTiny, path.parent, path.name, dtype)


def _tiny_from_hub(repo_id: str, offline: bool) -> Path:
    from huggingface_hub import snapshot_download

    from fsd_gs.priors.hub import hub_error

    try:
        return Path(snapshot_download(repo_id, allow_patterns=["config.json", "*.safetensors"], local_files_only=offline))
    except Exception as error:
        raise hub_error(repo_id, error) from error


def load_schedule(folder: Path) -> tuple[DiscreteSchedule, str]:
    """(noise schedule, prediction type) of the folder's scheduler; zero-terminal-SNR rescaling included.

    Every SD scheduler shares its betas with DDIM's, which builds ᾱ from any of their configs.
    """
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    config = read_json(folder / "scheduler" / "scheduler_config.json")
    names = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "rescale_betas_zero_snr")
    scheduler = DDIMScheduler(**{name: config[name] for name in names if config.get(name) is not None})
    prediction = str(config.get("prediction_type") or "epsilon")
    if prediction not in ("epsilon", "v_prediction", "sample"):
        raise FileFormatError(f"prior: {folder}: prediction_type '{prediction}'; expected epsilon, v_prediction or sample")
    return DiscreteSchedule(scheduler.alphas_cumprod), prediction


def text_loader(folder: Path, kind: TextKind, dtype: torch.dtype, joint_width: int = 0) -> Callable[[], TextEncoders]:
    """A function that loads the folder's tokenizers and text encoders when it is called."""
    return lambda: _load_text(folder, kind, dtype, joint_width)


def _load_text(folder: Path, kind: TextKind, dtype: torch.dtype, joint_width: int) -> TextEncoders:
    import transformers

    clip, projected, t5 = (
        ("CLIPTextModel", "CLIPTokenizer"),
        ("CLIPTextModelWithProjection", "CLIPTokenizer"),
        ("T5EncoderModel", "T5TokenizerFast"),
    )
    layout: dict[TextKind, list[tuple[str, str]]] = {
        "clip": [clip],
        "sdxl": [clip, projected],
        "sd3": [projected, projected, t5],
        "flux": [clip, t5],
    }
    tokenizers, encoders = [], []
    for index, (encoder_class, tokenizer_class) in enumerate(layout[kind]):
        suffix = "" if index == 0 else f"_{index + 1}"
        if kind == "sd3" and index == 2 and not (folder / "text_encoder_3").is_dir():
            tokenizers.append(None)  # SD3 is usable without T5; its place in the sequence is zeros
            encoders.append(None)
            continue
        encoders.append(load_module(getattr(transformers, encoder_class), folder, f"text_encoder{suffix}", dtype))
        tokenizers.append(_load_tokenizer(getattr(transformers, tokenizer_class), folder, f"tokenizer{suffix}"))
    return TextEncoders(kind, tokenizers, encoders, joint_width)


def _load_tokenizer(cls: Any, folder: Path, component: str) -> Any:
    if not (folder / component).is_dir():
        raise FileFormatError(f"prior: {folder}: the component '{component}' is missing")
    try:
        return cls.from_pretrained(folder / component, local_files_only=True)
    except Exception as error:
        raise FileFormatError(f"prior: {folder / component} cannot be loaded ({_first_line(error)}); download it again") from error


def require_text_components(folder: Path, kind: TextKind) -> None:
    """Refuse a folder without its text encoders now rather than at the first prompt."""
    count = {"clip": 1, "sdxl": 2, "sd3": 2, "flux": 2}[kind]
    for index in range(count):
        suffix = "" if index == 0 else f"_{index + 1}"
        for component in (f"text_encoder{suffix}", f"tokenizer{suffix}"):
            if not (folder / component).is_dir():
                raise FileFormatError(f"prior: {folder}: the component '{component}' is missing")


def config_folder(options: LoadOptions) -> Path | None:
    """The folder that supplies configs and tokenizers to a single-file checkpoint."""
    return None if options.config is None else resolve(options.config, offline=options.offline)
