"""The folder of a run: ``OUTPUT/<prompt-slug>/seed-0000/``. What exists is never overwritten without being asked to."""

from __future__ import annotations

import hashlib
import re
import shutil
import unicodedata
from pathlib import Path

import yaml

from fsd_gs.config import Config, config_from_dict, describe_settings, to_yaml
from fsd_gs.errors import FileFormatError, OutputError
from fsd_gs.io import make_folder, output_error, write_text

CONFIG, SPLATS, PREVIEW, TURNTABLE, TIMELAPSE, LOG, CHECKPOINT = (
    "config.yaml",
    "splats.ply",
    "preview.png",
    "turntable.mp4",
    "timelapse.mp4",
    "log.jsonl",
    "checkpoint/state.safetensors",
)

# Settings that may differ between an interrupted run and its continuation without changing the result.
_FREE_ON_RESUME = ("resume", "overwrite", "output", "count", "seed", "outputs.preview_every", "outputs.checkpoint_every")


def slug(prompt: str, longest: int = 60) -> str:
    """A folder name for any text: ASCII letters, digits and hyphens; long or foreign prompts get a short hash so that they stay apart."""
    ascii_text = unicodedata.normalize("NFKD", prompt).encode("ascii", "ignore").decode()
    plain = re.sub(r"[^a-z0-9]+", "-", ascii_text.lower()).strip("-")
    readable = re.fullmatch(r"[\x20-\x7e]*", prompt) is not None
    if plain and readable and len(plain) <= longest:
        return plain
    digest = hashlib.sha256(prompt.encode()).hexdigest()[:8]
    return f"{plain[:longest].strip('-')}-{digest}".strip("-")


def run_folder(config: Config) -> Path:
    return Path(config.output) / slug(config.prompt) / f"seed-{config.seed:04d}"


def is_finished(folder: Path) -> bool:
    """A run is finished when its splats are written: they come last."""
    return (folder / SPLATS).is_file()


def prepare_folder(config: Config) -> Path:
    """Create or reuse the run's folder by ``resume`` and ``overwrite``; writes ``config.yaml``.

    Raises OutputError where a run exists and neither was asked for, or where the settings of a run to resume differ.
    """
    folder = run_folder(config)
    exists = (folder / CONFIG).exists()
    if exists and config.overwrite:
        _empty(folder)
    elif exists and config.resume:
        _check_same_settings(folder, config)
    elif exists:
        state = "a finished run" if is_finished(folder) else "an unfinished run"
        raise OutputError(
            f"{folder}: {state} exists; use resume=true to go on with it, overwrite=true to replace it, or another seed/output"
        )
    make_folder(folder)
    write_text(folder / CONFIG, to_yaml(config))
    return folder


def load_run_config(folder: Path) -> Config:
    """The settings of an existing run."""
    path = folder / CONFIG
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileFormatError(f"{folder}: no run here (expected {CONFIG})") from None
    except (OSError, yaml.YAMLError) as error:
        raise FileFormatError(f"{path}: cannot be read ({error})") from error
    if not isinstance(values, dict):
        raise FileFormatError(f"{path}: expected settings, got {type(values).__name__}")
    return config_from_dict(values)


def _check_same_settings(folder: Path, config: Config) -> None:
    before = load_run_config(folder)
    differing = [
        f"{key} ({_value(before, key)} → {_value(config, key)})"
        for key, _, _ in describe_settings()
        if key not in _FREE_ON_RESUME and _value(before, key) != _value(config, key)
    ]
    if differing:
        raise OutputError(f"{folder}: cannot resume with other settings: {', '.join(differing[:4])}; keep them, or use overwrite=true")


def _value(config: object, key: str) -> object:
    for part in key.split("."):
        config = getattr(config, part)
    return config


def _empty(folder: Path) -> None:
    """Remove what a run writes, and nothing else that somebody may have put there."""
    try:
        for name in (CONFIG, SPLATS, PREVIEW, TURNTABLE, TIMELAPSE, LOG):
            (folder / name).unlink(missing_ok=True)
        for name in ("checkpoint", "previews"):
            shutil.rmtree(folder / name, ignore_errors=True)
    except OSError as error:
        raise output_error(folder, error) from error
