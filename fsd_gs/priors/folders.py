"""Parts of a diffusers folder, checked and loaded one by one: denoiser, VAE, text encoders, scheduler.

Each config is held against its allow-list (:mod:`fsd_gs.priors.supported`), each file of weights against the network: every tensor of
either side must find its partner. Weights are safetensors only; ``trust_remote_code`` is never set.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from fsd_gs.errors import FileFormatError
from fsd_gs.priors import supported
from fsd_gs.priors.family import Folder, Request
from fsd_gs.priors.hub import COMPONENTS, is_offline, read_json, weight_files
from fsd_gs.priors.latent import LatentCodec
from fsd_gs.priors.latent_prior import place
from fsd_gs.priors.options import LoadOptions
from fsd_gs.priors.schedule import DiscreteSchedule
from fsd_gs.priors.text import TextEncoders, TextLayout
from fsd_gs.priors.textual_inversion import read_words, teach

# Tensors that belong to the rest of a model whose encoder alone is used, or that older versions saved and nobody needs.
_HARMLESS = re.compile(r"position_ids$|^text_projection\.|^visual_projection\.|^vision_model\.|^logit_scale$|^decoder\.|^lm_head\.")
BESIDE_VISION = re.compile(r"position_ids$|^text_projection\.|^text_model\.|^logit_scale$")
_WEIGHTS = re.compile(
    r"(?:diffusion_pytorch_model|model)(?:\.(?P<a>[\w-]+?))?(?:-\d{5}-of-\d{5})?(?:\.(?P<b>[\w-]+?))?\.safetensors", re.ASCII
)


def open_folder(path: Path) -> Folder:
    """The configs of a diffusers folder. FileFormatError if it is none, or holds no denoiser."""
    if not (path / "model_index.json").is_file():
        raise FileFormatError(f"prior: {path} is no diffusers pipeline folder (no model_index.json); save one with save_pretrained")
    if not (path / "unet").is_dir() and not (path / "transformer").is_dir():
        raise FileFormatError(f"prior: {path} has neither a 'unet' nor a 'transformer' folder; the denoiser is missing")
    files = {name: path / name / ("scheduler_config.json" if name == "scheduler" else "config.json") for name in COMPONENTS}
    configs = {name: read_json(file) for name, file in files.items() if file.is_file()}
    return Folder(path, read_json(path / "model_index.json"), configs)


def config_of(folder: Folder, component: str) -> Mapping[str, Any]:
    """A component's config. FileFormatError if the component is missing."""
    if component not in folder.configs:
        name = "scheduler_config.json" if component == "scheduler" else "config.json"
        raise FileFormatError(f"prior: {folder.path}: the component '{component}' is missing (expected {folder.path / component / name})")
    return folder.configs[component]


def check_component(folder: Folder, component: str, rules: supported.Rules, *, class_key: str = "_class_name") -> Mapping[str, Any]:
    """The component's config, if ``rules`` allow all of it."""
    config = config_of(folder, component)
    supported.check(str(folder.path / component / "config.json"), config, rules, class_key=class_key)
    return config


def require_equal(folder: Folder, one: tuple[str, Any], other: tuple[str, Any]) -> None:
    """Refuse a folder whose components do not fit together. one, other: what must agree, as (name, value)."""
    if one[1] != other[1]:
        raise FileFormatError(
            f"prior: {folder.path}: its components do not fit together: {one[0]} is {one[1]}, {other[0]} {other[1]}; save it again"
        )


def load_module(cls: Any, folder: Path, component: str, dtype: torch.dtype, harmless: re.Pattern[str] = _HARMLESS) -> Any:
    """A frozen network of ``folder``/``component`` on the CPU, in eval mode.

    Args:
        cls: A diffusers or transformers model class.
        folder: The pipeline folder.
        component: Name of the subfolder.
        dtype: Precision of the weights.
        harmless: Names of tensors that one side may have alone.

    Raises:
        FileFormatError: If the component or its weights are missing, are pickles, cannot be read, or do not fit the network.
    """
    where = folder / component
    if not (where / "config.json").is_file():
        raise FileFormatError(f"prior: {folder}: the component '{component}' is missing (expected {where / 'config.json'})")
    variant = choose_variant(where, dtype)
    precision = {_dtype_argument(cls): dtype}
    try:
        with warnings.catch_warnings(), quietly():
            warnings.simplefilter("ignore")  # about options of newer or older library versions that do not matter here
            model, report = cls.from_pretrained(
                where, **precision, variant=variant, use_safetensors=True, local_files_only=True, output_loading_info=True
            )
    except Exception as error:  # third-party readers raise what they like for a damaged file or a config that makes no network
        raise FileFormatError(f"prior: {where} cannot be loaded ({_first_line(error)}); download or save it again") from error
    _require_all(where, report, harmless)
    return model.eval().requires_grad_(False)


def _require_all(where: Path, report: Mapping[str, Any], harmless: re.Pattern[str]) -> None:
    """Every tensor of the network came from the file, and every tensor of the file went into the network."""
    missing = sorted(str(key) for key in report["missing_keys"] if not harmless.search(str(key)))
    unexpected = sorted(str(key) for key in report["unexpected_keys"] if not harmless.search(str(key)))
    wrong = sorted(str(entry[0] if isinstance(entry, list | tuple) else entry) for entry in report.get("mismatched_keys", ()))
    for what, names in (("lack", missing), ("have a wrong shape for", wrong), ("hold, beside what the network has,", unexpected)):
        if names:
            more = f" and {len(names) - 3} more tensors" if len(names) > 3 else ""
            raise FileFormatError(f"prior: {where}: its weights {what} {', '.join(names[:3])}{more}; download or save it again")


def choose_variant(where: Path, dtype: torch.dtype) -> str | None:
    """Which set of weight files of a component to read: "fp16" (or another infix), None for the plain one.

    Half precision prefers half-precision files, anything else the plain ones; whatever there is beats nothing. Weights before averaging
    ("non_ema") come last. FileFormatError if there are none.
    """
    safe, pickles = weight_files(where)
    matches = [m for m in map(_WEIGHTS.fullmatch, (f.name for f in safe)) if m]
    found = {m["a"] or m["b"] for m in matches}
    if not found:
        what = f"only pickle weights ({pickles[0].name}), which can run code" if pickles else "no weights"
        raise FileFormatError(f"prior: {where} holds {what}; save the model as safetensors (save_pretrained(safe_serialization=True))")
    half = ["fp16", "bf16"]
    wanted = [*half, None] if dtype in (torch.float16, torch.bfloat16) else [None, *half]
    others = sorted((v for v in found if v is not None and v not in half), key=lambda v: ("non_ema" in v, v))
    return next(v for v in [*wanted, *others] if v in found)


@contextmanager
def quietly() -> Iterator[None]:
    """Without transformers' bar for each file, and without the libraries' reports of many lines about keys, which are looked at here."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    shown, level = transformers_logging.is_progress_bar_enabled(), transformers_logging.get_verbosity()
    diffusers_level = diffusers_logging.get_verbosity()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    diffusers_logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        diffusers_logging.set_verbosity(diffusers_level)
        if shown:
            transformers_logging.enable_progress_bar()


def _dtype_argument(cls: Any) -> str:
    """transformers renamed ``torch_dtype`` to ``dtype`` in 4.56; diffusers has not."""
    if not cls.__module__.startswith("transformers"):
        return "torch_dtype"
    import transformers

    major, minor = (int(part) for part in transformers.__version__.split(".")[:2])
    return "dtype" if (major, minor) >= (4, 56) else "torch_dtype"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


# ---------------------------------------------------------------------------------------------------------------- pictures ↔ latents


def load_vae(folder: Folder, dtype: torch.dtype) -> Any:
    """The VAE, in float32 instead of float16 where its config says that it overflows (SDXL)."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    config = check_component(folder, "vae", supported.VAE)
    overflows = config.get("force_upcast", True)
    return load_module(AutoencoderKL, folder.path, "vae", torch.float32 if dtype == torch.float16 and overflows else dtype)


def load_codec(folder: Folder, request: Request, *, sample_size: Any, channels: int) -> LatentCodec:
    """The folder's VAE.

    Args:
        folder: The pipeline folder.
        request: Device, precision and options, whose ``image_size`` counts before the network's.
        sample_size: Side of the network's latents as its config says it: a number, or two equal ones.
        channels: Latent channels that the network takes.
    """
    config, options = check_component(folder, "vae", supported.VAE), request.options
    require_equal(folder, ("latent_channels of the vae", config.get("latent_channels", 4)), ("the denoiser's latent channels", channels))
    image_size = options.image_size or square(folder, sample_size) * 2 ** (len(config.get("block_out_channels", [64])) - 1)
    vae = place(load_vae(folder, request.dtype), request.device, options)
    return LatentCodec(vae, image_size, options, load_tiny_vae(options, request.device, request.dtype))


def square(folder: Folder, size: Any) -> int:
    """The side of the network's latents, from the ``sample_size`` of its config."""
    sides = set(size) if isinstance(size, list | tuple) else {size}
    side = sides.pop() if sides else None
    if sides or not isinstance(side, int) or isinstance(side, bool) or side < 1:
        raise FileFormatError(
            f"prior: {folder.path}: sample_size of the denoiser's config.json is {size}; expected the side of a square. Give "
            "prior.image_size (LoadOptions(image_size=…)), which counts before it"
        )
    return side


def load_tiny_vae(options: LoadOptions, device: torch.device, dtype: torch.dtype) -> Any | None:
    """AutoencoderTiny from ``options.tiny_vae``, a folder or a hub id; None if it is not asked for."""
    if options.tiny_vae is None:
        return None
    from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny

    path = Path(options.tiny_vae).expanduser()
    if not path.is_dir():
        path = _tiny_from_hub(options.tiny_vae, is_offline(options.offline))
    if not (path / "config.json").is_file():
        raise FileFormatError(f"tiny_vae: {path} holds no AutoencoderTiny (no config.json)")
    supported.check(str(path / "config.json"), read_json(path / "config.json"), supported.TINY_VAE)
    return place(load_module(AutoencoderTiny, path.parent, path.name, dtype), device, options)


def _tiny_from_hub(repo_id: str, offline: bool) -> Path:
    from huggingface_hub import snapshot_download

    from fsd_gs.priors.hub import hub_error

    try:
        return Path(snapshot_download(repo_id, allow_patterns=["config.json", "*.safetensors"], local_files_only=offline))
    except Exception as error:  # whatever the hub's client raises becomes one line
        raise hub_error(repo_id, error) from error


# ---------------------------------------------------------------------------------------------------------------------- scheduler

_BETAS = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "rescale_betas_zero_snr")


def load_schedule(folder: Folder) -> tuple[DiscreteSchedule, str]:
    """(noise schedule, prediction type) of the folder's scheduler; zero-terminal-SNR rescaling included.

    Every scheduler of the allow-list is variance preserving and defined by betas, which DDIM turns into ᾱ from any of their configs.
    Betas that the config leaves out are the defaults of the class it names.
    """
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    config = check_scheduler(folder, supported.DIFFUSION_SCHEDULER)
    settings = {**_default_betas(str(config["_class_name"])), **{name: config[name] for name in _BETAS if config.get(name) is not None}}
    file = folder.path / "scheduler" / "scheduler_config.json"
    try:
        scheduler = DDIMScheduler(**settings)
        alphas_cumprod = scheduler.alphas_cumprod
        whole = bool(((alphas_cumprod >= 0) & (alphas_cumprod <= 1)).all()) and len(alphas_cumprod) > 1
    except (TypeError, ValueError, RuntimeError, IndexError) as error:
        raise FileFormatError(f"prior: {file}: its betas make no schedule ({_first_line(error)})") from error
    if not whole:
        raise FileFormatError(f"prior: {file}: its betas ({settings}) make no schedule; expected values in [0, 1], two or more")
    return DiscreteSchedule(alphas_cumprod), str(config.get("prediction_type") or "epsilon")


def check_scheduler(folder: Folder, rules: supported.Rules) -> Mapping[str, Any]:
    """The scheduler's config, if ``rules`` allow all of it."""
    file = folder.path / "scheduler" / "scheduler_config.json"
    if "scheduler" not in folder.configs:
        raise FileFormatError(f"prior: {file} is missing; is this a complete diffusers folder?")
    supported.check(str(file), folder.configs["scheduler"], rules)
    return folder.configs["scheduler"]


def _default_betas(class_name: str) -> dict[str, Any]:
    import inspect

    import diffusers

    parameters = inspect.signature(getattr(diffusers, class_name).__init__).parameters
    return {name: parameters[name].default for name in _BETAS if name in parameters and parameters[name].default is not None}


# --------------------------------------------------------------------------------------------------------------------------- text


def text_loader(folder: Folder, layout: TextLayout, dtype: torch.dtype, embeddings: Sequence[str] = ()) -> Callable[[], TextEncoders]:
    """A function that loads the folder's tokenizers and text encoders when it is called; what can be refused before is refused now.

    Args:
        folder: The pipeline folder.
        layout: The text encoders.
        dtype: Precision of the encoders.
        embeddings: Files of textual inversion.
    """
    present = [_check_part(folder, layout, index) for index in range(len(layout.parts))]
    widths = [config_of(folder, _names(index)[0]).get("hidden_size", 512) for index, there in enumerate(present) if there]
    words = read_words(embeddings, widths)

    def load() -> TextEncoders:
        text = _load_text(folder, layout, present, dtype)
        teach(words, text.tokenizers, text.encoders)
        return text

    return load


def _check_part(folder: Folder, layout: TextLayout, index: int) -> bool:
    """Whether the encoder is there; an optional one may be absent."""
    part, (encoder, tokenizer) = layout.parts[index], _names(index)
    if part.optional and not (folder.path / encoder).is_dir():
        return False
    for component in (encoder, tokenizer):
        if not (folder.path / component).is_dir():
            raise FileFormatError(f"prior: {folder.path}: the component '{component}' is missing")
    check_component(folder, encoder, _text_rules(part.encoder), class_key="model_type")
    choose_variant(folder.path / encoder, torch.float32)
    files = {f.name for f in (folder.path / tokenizer).iterdir()}
    if not any(needed <= files for needed in part.tokenizer_files):
        wanted = " or ".join(" with ".join(sorted(needed)) for needed in part.tokenizer_files)
        raise FileFormatError(f"prior: {folder.path / tokenizer} is no tokenizer: expected {wanted}; download or save it again")
    return True


def _text_rules(encoder: str) -> supported.Rules:
    """The allow-list, and what this version of the library itself writes: an encoder is called in one way, whatever its config says."""
    import transformers

    rules = supported.TEXT_ENCODERS[encoder]
    return replace(rules, free=rules.free | getattr(transformers, encoder).config_class().to_dict().keys())


def _names(index: int) -> tuple[str, str]:
    suffix = "" if index == 0 else f"_{index + 1}"
    return f"text_encoder{suffix}", f"tokenizer{suffix}"


def _load_text(folder: Folder, layout: TextLayout, present: Sequence[bool], dtype: torch.dtype) -> TextEncoders:
    import transformers

    tokenizers, encoders = [], []
    for index, (part, there) in enumerate(zip(layout.parts, present, strict=True)):
        encoder_name, tokenizer_name = _names(index)
        if not there:
            tokenizers.append(None)
            encoders.append(None)
            continue
        encoder = load_module(getattr(transformers, part.encoder), folder.path, encoder_name, dtype)
        tokenizer = _load_tokenizer(getattr(transformers, part.tokenizer), folder.path / tokenizer_name)
        if len(tokenizer) > encoder.config.vocab_size:
            raise FileFormatError(
                f"prior: {folder.path}: its components do not fit together: {tokenizer_name} has {len(tokenizer)} tokens, {encoder_name} "
                f"{encoder.config.vocab_size}"
            )
        tokenizers.append(tokenizer)
        encoders.append(encoder)
    return TextEncoders(layout.embed, tokenizers, encoders)


def _load_tokenizer(cls: Any, where: Path) -> Any:
    try:
        return cls.from_pretrained(where, local_files_only=True)
    except Exception as error:  # as in load_module
        raise FileFormatError(f"prior: {where} cannot be loaded ({_first_line(error)}); download it again") from error
