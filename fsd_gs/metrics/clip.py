"""CLIP as a scorer of prompts and an embedder of images (Radford et al. 2021, arXiv:2103.00020; Hessel et al. 2021, arXiv:2104.08718).

    score(I, C) = 100 · max(cos(E_I, E_C), 0)

with the projected image embedding E_I and text embedding E_C of ViT-B/32 unless another model is given: the scale of torchmetrics and of
the tables of arXiv:2405.10988 (Hessel et al. multiply by 2.5 instead of 100). torchmetrics' own CLIPScore is not used: version 1.9 does not
work with transformers 5, reads images through PIL one by one and averages over prompts; the tests compare against its formula.

Preprocessing is CLIP's: whole 8-bit levels, shorter side to 224 by antialiased bicubic interpolation, clamped and rounded as PIL does,
centre crop, normalised; sizes and constants come from the model's preprocessor_config.json.
"""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fsd_gs.errors import BackendError, FileFormatError, InputError
from fsd_gs.metrics.image_sets import check_images, to_8_bit

DEFAULT_MODEL = "openai/clip-vit-base-patch32"
_FILES = "config.json, preprocessor_config.json, tokenizer.json (or vocab.json and merges.txt) and model.safetensors"
_CONVERT = "python -c \"from transformers import CLIPModel; CLIPModel.from_pretrained('{name}').save_pretrained('{name}')\""
_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class ClipPreprocessing:
    """How pictures become CLIP's input.

    Attributes:
        resize: pixels of the shorter side.
        crop: (height, width) of the centre crop.
        mean, std: of the three channels in [0, 1].
    """

    resize: int = 224
    crop: tuple[int, int] = (224, 224)
    mean: tuple[float, ...] = _MEAN
    std: tuple[float, ...] = _STD

    def __call__(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] in [0, 1] → [B, 3, crop height, crop width], normalised."""
        height, width = images.shape[-2:]
        short = min(height, width)
        size = [int(self.resize * side / short) for side in (height, width)]
        levels = torch.nn.functional.interpolate(to_8_bit(images), size=size, mode="bicubic", antialias=True, align_corners=False)
        images = levels.round().clamp(0, 255) / 255  # bicubic weights overshoot; PIL clips them as well
        top, left = (size[0] - self.crop[0]) // 2, (size[1] - self.crop[1]) // 2
        images = images[..., top : top + self.crop[0], left : left + self.crop[1]]
        mean, std = (images.new_tensor(values)[:, None, None] for values in (self.mean, self.std))
        return (images - mean) / std


class ClipScorer:
    """An ImageEmbedder and a PromptScorer. ``name`` is ``clip:`` and where the weights came from."""

    def __init__(self, model: Any, tokenizer: Any, preprocessing: ClipPreprocessing, name: str = "clip") -> None:
        """model, tokenizer: transformers' CLIPModel and its tokenizer; :meth:`load` makes all of them from a folder or hub id."""
        self.name = name
        self._model = model.eval().requires_grad_(False)
        self._tokenizer = tokenizer
        self._preprocessing = preprocessing

    @classmethod
    def load(cls, name_or_path: str | Path = DEFAULT_MODEL, *, device: torch.device | str = "cpu", offline: bool = False) -> ClipScorer:
        """A local folder in the transformers layout or a hub id; the local cache comes first, then the network, unless offline.

        Only safetensors weights are read and no code of the repository is run. Raises BackendError (not cached and no network),
        FileFormatError (a folder that is incomplete, or of another model) or InputError (neither a folder nor a hub id).
        """
        from transformers import AutoTokenizer

        files = find_files(name_or_path, offline=offline)
        try:
            tokenizer = AutoTokenizer.from_pretrained(files.folder)
        except Exception as error:  # transformers raises many kinds here, all of which mean the same
            raise FileFormatError(f"clip: {files.folder} holds no readable tokenizer; expected {_FILES}") from error
        name = str(name_or_path) if not Path(name_or_path).expanduser().exists() else Path(name_or_path).expanduser().resolve().name
        return cls(_load_model(files).to(device), tokenizer, _load_preprocessing(files.folder), f"clip:{name}")

    @torch.no_grad()
    def embed(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] in [0, 1] → [B, D] projected embeddings, not normalised (D = 512 for ViT-B/32)."""
        pixels = self._preprocessing(check_images(images).to(self._device, torch.float32)).to(self._dtype)
        return self._model.visual_projection(self._model.vision_model(pixel_values=pixels).pooler_output)

    @torch.no_grad()
    def embed_text(self, prompt: str) -> Tensor:
        """[D] projected embedding of a prompt. A prompt longer than the context (77 tokens) is cut off, with a warning."""
        if not prompt.strip():
            raise InputError("prompt: expected some words, got an empty prompt")
        length = self._model.config.text_config.max_position_embeddings
        needed = len(self._tokenizer.tokenize(prompt)) + 2  # begin and end token
        if needed > length:
            message = "clip: the prompt has %d tokens, the model reads %d; the rest does not count: %s"
            logging.getLogger("fsd_gs").warning(message, needed, length, prompt)
        tokens = self._tokenizer(prompt, truncation=True, max_length=length)["input_ids"]
        output = self._model.text_model(input_ids=torch.tensor([tokens], device=self._device))
        return self._model.text_projection(output.pooler_output)[0]

    def alignment(self, images: Tensor, prompt: str) -> Tensor:
        """[B] CLIP scores 100 · max(cos, 0), in [0, 100], of images [B, 3, H, W] in [0, 1]."""
        cosines = torch.nn.functional.cosine_similarity(self.embed(images).float(), self.embed_text(prompt).float()[None], dim=1)
        return 100 * cosines.clamp_min(0)

    @property
    def _device(self) -> torch.device:
        return self._model.visual_projection.weight.device

    @property
    def _dtype(self) -> torch.dtype:
        return self._model.visual_projection.weight.dtype


@dataclass(frozen=True)
class ClipFiles:
    """Where a CLIP lies.

    Attributes:
        folder: with the configs and the tokenizer.
        weights: one safetensors file or its shards, in the cache perhaps of another revision.
    """

    folder: Path
    weights: tuple[Path, ...]


def find_files(name_or_path: str | Path, *, offline: bool = False) -> ClipFiles:
    """Where the files of a model lie; downloads them if it must and may. Errors as for :meth:`ClipScorer.load`."""
    name = str(name_or_path)
    path = Path(name).expanduser()
    if path.is_dir():
        return _files_of_folder(path, name)
    if isinstance(name_or_path, Path) or path.is_absolute() or name.startswith((".", "~")) or name.count("/") != 1:
        raise InputError(f"clip: no folder '{name}'; expected a folder with {_FILES}, or a hub id such as {DEFAULT_MODEL}")
    cached = _cached_files(name)
    if cached is not None:
        return cached
    where = f"it needs {_FILES} of https://huggingface.co/{name}; give a local folder with these files, or run once with a network"
    flags = (os.environ.get(flag, "").upper() for flag in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))
    if offline or any(flag in ("1", "TRUE", "YES", "ON") for flag in flags):
        raise BackendError(f"clip: '{name}' is not in the local cache and offline mode is on; {where}")
    try:
        _download(name)
    except Exception as error:  # the hub's client raises many kinds; the first line says which
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BackendError(f"clip: '{name}' cannot be downloaded ({reason}); {where}") from error
    cached = _cached_files(name)
    if cached is None:
        raise BackendError(f"clip: '{name}' offers no complete set of safetensors files; {where}")
    return cached


def _files_of_folder(folder: Path, name: str) -> ClipFiles:
    weights = _weights(folder)
    missing = [file for file in ("config.json",) if not (folder / file).is_file()]
    missing += [] if _preprocessing_file(folder) else ["preprocessor_config.json"]
    missing += [] if _has_tokenizer(folder) else ["tokenizer.json (or vocab.json and merges.txt)"]
    missing += [] if weights else ["model.safetensors"]
    if missing:
        pickle = not weights and (folder / "pytorch_model.bin").is_file()
        hint = f"pickles are not read; convert once: {_CONVERT.format(name=name)}" if pickle else f"copy them from {DEFAULT_MODEL}"
        raise FileFormatError(f"clip: the folder '{name}' lacks {', '.join(missing)}; {hint}")
    return ClipFiles(folder, weights)


def _cached_files(name: str) -> ClipFiles | None:
    """The files of a repository in the local cache. Weights may lie in another revision: the hub converts pickles in a pull request."""
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(name, local_files_only=True))
    except Exception:  # the hub's "not cached" errors differ by version
        return None
    snapshots = [folder, *sorted(other for other in folder.parent.iterdir() if other != folder)]
    weights = next((found for found in map(_weights, snapshots) if found), ())
    complete = weights and (folder / "config.json").is_file() and _preprocessing_file(folder) and _has_tokenizer(folder)
    return ClipFiles(folder, weights) if complete else None


def _download(name: str) -> None:
    from huggingface_hub import constants, snapshot_download
    from transformers import CLIPModel

    logging.getLogger("fsd_gs").warning("downloading %s (ViT-B/32: 0.6 GB) to %s", name, constants.HF_HUB_CACHE)
    folder = Path(snapshot_download(name, allow_patterns=["*.json", "*.txt", "model.safetensors", "model-*-of-*.safetensors"]))
    if not _weights(folder):
        CLIPModel.from_pretrained(name, use_safetensors=True)  # finds the hub's own conversion and leaves it in the cache


def _weights(folder: Path) -> tuple[Path, ...]:
    single = folder / "model.safetensors"
    return (single,) if single.is_file() else tuple(sorted(folder.glob("model-*-of-*.safetensors")))


def _has_tokenizer(folder: Path) -> bool:
    return (folder / "tokenizer.json").is_file() or all((folder / file).is_file() for file in ("vocab.json", "merges.txt"))


def _preprocessing_file(folder: Path) -> Path | None:
    """transformers 5 saves it inside processor_config.json."""
    return next((folder / file for file in ("preprocessor_config.json", "processor_config.json") if (folder / file).is_file()), None)


def _load_preprocessing(folder: Path) -> ClipPreprocessing:
    file = _preprocessing_file(folder)
    try:
        config = json.loads(file.read_text(encoding="utf-8")) if file else {}
        config = config.get("image_processor", config)
        size, crop = config.get("size", 224), config.get("crop_size", 224)
        resize = size if isinstance(size, int) else size["shortest_edge"]
        height, width = (crop, crop) if isinstance(crop, int) else (crop["height"], crop["width"])
        mean, std = (tuple(map(float, config.get(key, default))) for key, default in (("image_mean", _MEAN), ("image_std", _STD)))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FileFormatError(f"clip: {file} is no preprocessing of a CLIP model (size.shortest_edge, crop_size, image_mean, …)") from error
    if max(height, width) > resize or config.get("resample", 3) != 3:
        raise FileFormatError(f"clip: {file}: expected bicubic resizing (resample 3) and a crop inside of it, got another preprocessing")
    return ClipPreprocessing(resize, (height, width), mean, std)


def _load_model(files: ClipFiles) -> Any:
    """CLIPModel with every weight from the files; FileFormatError if one is missing (transformers would leave it random)."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file
    from transformers import CLIPConfig, CLIPModel

    try:
        kind = json.loads((files.folder / "config.json").read_text(encoding="utf-8")).get("model_type")
        state = {key: value for file in files.weights for key, value in load_file(file).items()}
    except (OSError, ValueError, AttributeError, SafetensorError) as error:
        raise FileFormatError(f"clip: the files in {files.folder} are damaged ({error}); copy or download them again") from error
    if kind != "clip":
        raise FileFormatError(f"clip: {files.folder} holds a model of type '{kind}', expected 'clip'")
    config = CLIPConfig.from_pretrained(files.folder)
    try:
        loaded: Any = CLIPModel.from_pretrained(None, config=config, state_dict=state, output_loading_info=True)
    except RuntimeError as error:
        raise FileFormatError(f"clip: the weights in {files.folder} do not fit its config.json; copy or download both again") from error
    model, info = loaded
    missing = sorted(info["missing_keys"])
    if missing:
        raise FileFormatError(f"clip: the weights in {files.folder} lack {len(missing)} tensors ({missing[0]}, …); download them again")
    return model
