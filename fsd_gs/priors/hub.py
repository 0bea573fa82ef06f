"""From a name to a local folder or file: registry names, paths, hub ids; the cache first, the network only with an announcement.

    resolve("sd15")          the first of its sources that is complete in the cache, else the first that can be downloaded
    resolve("./my-model")    a folder in the diffusers layout, or a single .safetensors (MVDream: also the official .pt)
    resolve("owner/name")    a hub id

Before a download starts, ``announce`` gets one line with what it is, how many gigabytes, and where they go. Only configs, tokenizers and
safetensors weights are fetched; pickles never.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from fsd_gs.errors import BackendError, FileFormatError, InputError, unknown_name
from fsd_gs.priors.digests import CHECKSUMS
from fsd_gs.priors.family import Source

Announce = Callable[[str], None]
COMPONENTS = (
    "unet",
    "transformer",
    "vae",
    "text_encoder",
    "text_encoder_2",
    "text_encoder_3",
    "tokenizer",
    "tokenizer_2",
    "tokenizer_3",
    "scheduler",
)
SPLATS = "splats"  # what a prior of train-prior's making may have beside a pipeline's components, and files at its top
TRAINED = (CHECKSUMS, "captions.json", "card.json")
PICKLES = (".bin", ".ckpt", ".pth", ".pt", ".pkl")
_TEXT_FILES = (".json", ".txt", ".model")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_PART = re.compile(r"(?P<repo>[\w-][\w.-]*/[\w-][\w.-]*)(?:/(?P<inside>[\w./-]+))?", re.ASCII)


def log_announcement(line: str) -> None:
    """The default announcement: a line at WARNING level, so that it is seen without any logging setup."""
    logging.getLogger("fsd_gs").warning(line)


def is_offline(offline: bool = False) -> bool:
    """Whether hubs must not be contacted: by argument, HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE."""
    flags = (os.environ.get(name, "").upper() for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))
    return offline or any(flag in ("1", "TRUE", "YES", "ON") for flag in flags)


def resolve(name_or_path: str | Path, *, offline: bool = False, half: bool = True, announce: Announce = log_announcement) -> Path:
    """The local folder or file that ``name_or_path`` means; downloads it if it must and may.

    half: prefer fp16 weight files where the repository has both.
    Raises InputError (unknown name), FileFormatError (no such path) or BackendError (not cached and no network, gated, gone).
    """
    from fsd_gs.priors import backbones  # which read folders by way of this module

    name = str(name_or_path)
    path = Path(name).expanduser()
    if name in backbones.published():
        return _first_available(name, backbones.published()[name].sources, offline=offline, half=half, announce=announce)
    if path.exists():
        return path
    if isinstance(name_or_path, Path) or name.startswith(("/", "./", "../", "~")) or path.suffix in (".safetensors", *PICKLES):
        raise FileFormatError(f"prior: no file or folder '{name}'; expected a diffusers folder or a .safetensors file")
    if _HUB_ID.fullmatch(name):
        return _first_available(name, (Source(name),), offline=offline, half=half, announce=announce)
    raise InputError(
        unknown_name("prior", name, backbones.names()) + "; a folder, a .safetensors file or a hub id (owner/name) works as well"
    )


def cached_folder(source: Source) -> Path | None:
    """The snapshot of a repository in the local cache, if it holds a complete pipeline."""
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(source.repo_id, revision=source.revision, local_files_only=True))
    except Exception:  # the hub's "not cached" errors differ by version; all of them mean the same here
        return None
    return folder if is_complete(folder) else None


def is_complete(folder: Path) -> bool:
    """Whether a folder has a denoiser, a VAE and the text encoders that model_index.json names, with their weights."""
    import json

    try:
        index = json.loads((folder / "model_index.json").read_text())
    except (OSError, ValueError):
        return False
    wanted = [name for name in COMPONENTS if isinstance(index.get(name), list) and index[name][1] is not None]
    with_weights = [name for name in wanted if not name.startswith(("tokenizer", "scheduler"))]
    if not all((folder / name).is_dir() for name in wanted):
        return False
    return all(weight_files(folder / name)[0] and _all_shards(folder / name) for name in with_weights) and _all_listed(folder)


def _all_shards(folder: Path) -> bool:
    """Whether every file that a sharded model's index names is there."""
    indices = [read_json(file) for file in folder.glob("*.safetensors.index*.json")]
    return all((folder / shard).exists() for index in indices for shard in set(index.get("weight_map", {}).values()))


def _all_listed(folder: Path) -> bool:
    """Whether every file of a prior of train-prior's making is there."""
    listed = folder / CHECKSUMS
    return not listed.is_file() or all((folder / name).is_file() for name in read_json(listed))


def weight_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """(safetensors files, pickle files) of one component."""
    files = [f for f in sorted(folder.iterdir()) if f.is_file()] if folder.is_dir() else []
    return [f for f in files if f.suffix == ".safetensors"], [f for f in files if f.suffix in PICKLES]


def _first_available(name: str, sources: tuple[Source, ...], *, offline: bool, half: bool, announce: Announce) -> Path:
    for source in sources:
        folder = cached_folder(source)
        if folder is not None:
            return folder
    if is_offline(offline):
        tried = ", ".join(source.repo_id for source in sources)
        raise BackendError(
            f"prior: '{name}' is not in the local cache ({tried}) and offline mode is on; run once with a network, or give a local folder"
        )
    refusals = []
    for source in sources:
        try:
            return _download(source, half=half, announce=announce)
        except BackendError as error:
            refusals.append(str(error))
    raise BackendError(f"prior: '{name}' cannot be fetched: " + "; ".join(refusals))


def _download(source: Source, *, half: bool, announce: Announce) -> Path:
    from huggingface_hub import HfApi, constants, snapshot_download

    try:
        info = HfApi().model_info(source.repo_id, revision=source.revision, files_metadata=True)
        sizes = {sibling.rfilename: sibling.size or 0 for sibling in info.siblings or ()}
        files = choose_files(sizes, half=half)
        gigabytes = sum(sizes[file] for file in files) / 1e9
        announce(f"downloading {source.repo_id}: {len(files)} files, {gigabytes:.1f} GB, to {constants.HF_HUB_CACHE}")
        return Path(snapshot_download(source.repo_id, revision=info.sha, allow_patterns=files))
    except FileFormatError:
        raise
    except Exception as error:
        raise hub_error(source.repo_id, error) from error


def resolve_part(setting: str, name: str, *, offline: bool = False, half: bool = True, announce: Announce = log_announcement) -> Path:
    """A local file or folder, or a part of a hub repository: ``owner/name`` or ``owner/name/path/inside``, a file or the folder of a model.

    Args:
        setting: What is asked for, for messages.
        name: The path or the part.
        offline: Whether the hub must not be contacted.
        half: Prefer fp16 weight files where a folder has both.
        announce: Called with one line before a download.

    Raises:
        FileFormatError: No such path, or a part without safetensors.
        BackendError: Not cached and no network, gated, gone.
    """
    path, match = Path(name).expanduser(), _PART.fullmatch(name)
    if path.exists():
        return path
    weights = path.suffix in (".safetensors", *PICKLES)
    if match is None or name.startswith(".") or ".." in name or (weights and match["inside"] is None):
        raise FileFormatError(f"{setting}: no file or folder '{name}'; expected a path, or owner/name/path/inside of a hub repository")
    if path.suffix in PICKLES:
        raise FileFormatError(f"{setting}: {path.name} is a pickle, which can run code; take the .safetensors file")
    repo, inside = match["repo"], (match["inside"] or "").strip("/")
    cached = _cached_part(repo, inside)
    if cached is not None:
        return cached
    if is_offline(offline):
        raise BackendError(
            f"{setting}: '{name}' is neither a local path nor in the local cache, and offline mode is on; run once with a network"
        )
    return _download_part(setting, repo, inside, half=half, announce=announce)


def _cached_part(repo: str, inside: str) -> Path | None:
    from huggingface_hub import snapshot_download

    try:
        place = Path(snapshot_download(repo, local_files_only=True)) / inside
    except Exception:  # as in ``cached_folder``
        return None
    complete = place.is_file() or ((place / "config.json").is_file() and bool(weight_files(place)[0]) and _all_shards(place))
    return place if complete else None


def _download_part(setting: str, repo: str, inside: str, *, half: bool, announce: Announce) -> Path:
    from huggingface_hub import HfApi, constants, snapshot_download

    try:
        info = HfApi().model_info(repo, files_metadata=True)
        sizes = {sibling.rfilename: sibling.size or 0 for sibling in info.siblings or ()}
        files = [inside] if inside in sizes else _files_of_model(setting, f"{repo}/{inside}".rstrip("/"), inside, sizes, half)
        gigabytes = sum(sizes[file] for file in files) / 1e9
        announce(f"downloading {repo}: {len(files)} files, {gigabytes:.1f} GB, to {constants.HF_HUB_CACHE}")
        return Path(snapshot_download(repo, revision=info.sha, allow_patterns=files)) / inside
    except FileFormatError:
        raise
    except Exception as error:
        raise hub_error(repo, error) from error


def _files_of_model(setting: str, place: str, inside: str, names: Iterable[str], half: bool) -> list[str]:
    """Config and one set of safetensors weights of a model's folder in a repository."""
    folder = f"{inside}/" if inside else ""
    here = [name for name in sorted(names) if name.startswith(folder) and "/" not in name.removeprefix(folder)]
    weights = [name for name in here if name.endswith(".safetensors") or ".safetensors.index" in name]
    if not weights or f"{folder}config.json" not in here:
        raise FileFormatError(f"{setting}: {place} holds no model with config.json and .safetensors weights (pickles are refused)")
    return [f"{folder}config.json", *_of_one_precision(weights, half)]


def choose_files(names: Iterable[str], *, half: bool) -> list[str]:
    """What is needed of a diffusers repository: configs, tokenizers and one set of safetensors weights for each component, and what a
    prior of train-prior's making has beside them.

    Raises FileFormatError if a component comes only as pickles or without weights.
    """
    names = sorted(names)
    chosen = [name for name in names if name == "model_index.json" or (name in TRAINED and CHECKSUMS in names)]
    for component in (*COMPONENTS, SPLATS):
        inside = [name for name in names if name.startswith(f"{component}/") and name.count("/") == 1]
        chosen += [name for name in inside if name.endswith(_TEXT_FILES) and ".index." not in name]
        if not inside or component.startswith(("tokenizer", "scheduler")):
            continue
        weights = [n for n in inside if n.endswith(".safetensors") and "non_ema" not in n]
        if not weights:
            raise FileFormatError(f"prior: the repository's '{component}' has no .safetensors weights (pickles are refused)")
        chosen += _of_one_precision([*weights, *(n for n in inside if ".safetensors.index." in n)], half)
    return chosen


def _of_one_precision(names: Sequence[str], half: bool) -> list[str]:
    """Weights and their indices of one precision: fp16 where it is wanted and there, else the plain ones, else what there is."""
    weights = [name for name in names if name.endswith(".safetensors")]
    plain, variant = ([name for name in weights if (".fp16" in name) == wanted] for wanted in (False, True))
    use_variant = bool(variant) and (half or not plain)
    return [name for name in names if (".fp16" in name) == use_variant]


def hub_error(repo_id: str, error: Exception) -> BackendError:
    """One line with the next step for what the hub's client raised."""
    names = {cls.__name__ for cls in type(error).__mro__}
    link = f"https://huggingface.co/{repo_id}"
    if "GatedRepoError" in names:
        return BackendError(f"{repo_id} is gated: accept its licence at {link}, then log in with `hf auth login`")
    if "RepositoryNotFoundError" in names:
        return BackendError(f"{repo_id} does not exist (any more) or is private; see {link}, or give another id or a local folder")
    if "RevisionNotFoundError" in names:
        return BackendError(f"{repo_id} has no such revision; remove the pin or choose one from {link}/commits/main")
    if names & {"OfflineModeIsEnabled", "LocalEntryNotFoundError", "ConnectError", "ConnectionError", "TimeoutException", "Timeout"}:
        return BackendError(f"{repo_id} cannot be reached (no network?); connect once to download it, or give a local folder")
    if isinstance(error, OSError) and error.errno == 28:
        return BackendError(f"{repo_id}: the disk of the cache is full; free some space or point HF_HOME elsewhere")
    first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return BackendError(f"{repo_id}: {type(error).__name__}: {first_line}")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; FileFormatError if the file is missing or broken."""
    import json

    try:
        value = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise FileFormatError(f"prior: {path} is missing; is this a complete diffusers folder?") from error
    except (OSError, ValueError) as error:
        raise FileFormatError(f"prior: {path} is not readable JSON; download or save the folder again") from error
    if not isinstance(value, dict):
        raise FileFormatError(f"prior: {path} holds no JSON object; download or save the folder again")
    return value
