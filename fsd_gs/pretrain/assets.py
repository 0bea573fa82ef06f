"""Bring your own assets: a folder of meshes with captions as a source of training objects.

    red_chair.glb        caption from captions.json or captions.csv, else red_chair.txt (one caption a line), else "red chair"
    textures/…           what the meshes refer to, anywhere inside the folder

captions.json is {"red_chair.glb": "a red chair"} or with a list of captions; captions.csv has rows file,caption and a file may have
many rows. Files are named by their path inside the folder. Look at what will be trained on before you train:

    python -m fsd_gs.pretrain.assets FOLDER --out sheet.png
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from fsd_gs.catalogue.mesh import Mesh
from fsd_gs.catalogue.render import render_mesh, render_mesh_and_depth
from fsd_gs.core.types import Cameras
from fsd_gs.errors import FsdGsError, InputError
from fsd_gs.pretrain.asset_mesh import SUFFIXES, AssetSettings, load_asset
from fsd_gs.pretrain.sources import words_of

log = logging.getLogger(__name__)
MAX_CAPTION = 300  # characters


@dataclass(frozen=True)
class MeshObject:
    """One mesh of the folder as a :class:`~fsd_gs.pretrain.sources.CaptionedObject`."""

    name: str
    mesh: Mesh
    captions: tuple[str, ...]
    supersample: int = 3

    def render(self, cameras: Cameras) -> Tensor:
        return render_mesh(self.mesh, cameras, supersample=self.supersample)

    def render_with_depth(self, cameras: Cameras) -> tuple[Tensor, Tensor]:
        return render_mesh_and_depth(self.mesh, cameras, supersample=self.supersample)

    def caption(self, rng: np.random.Generator) -> str:
        return self.captions[int(rng.integers(len(self.captions)))]


class MeshFolder:
    """The folder as an :class:`~fsd_gs.pretrain.sources.ObjectSource`: shuffled rounds of all its meshes.

    All files are read at once (0.1 to 1 MB each afterwards); each one that cannot be used is named in one warning and left out.
    ``captions``: all of them, sorted.

    Args:
        seed: of the order.
        supersample: samples a pixel side of the renders. InputError if no mesh is left.
    """

    def __init__(self, folder: str | Path, settings: AssetSettings | None = None, *, seed: int = 0, supersample: int = 3) -> None:
        self.folder, self.seed = Path(folder), seed
        settings = settings or AssetSettings()
        paths = find_meshes(self.folder)
        captions = read_captions(self.folder, paths)
        objects, skipped = [], 0
        for path in paths:
            try:
                mesh = load_asset(path, self.folder, settings)
            except (FsdGsError, OSError, MemoryError) as error:
                log.warning(
                    "meshes: skipped %s", error if isinstance(error, FsdGsError) else f"{path.name}: {type(error).__name__} {error}"
                )
                skipped += 1
                continue
            name = path.relative_to(self.folder).with_suffix("").as_posix().replace("/", "-")
            objects.append(MeshObject(name, mesh, captions[path], supersample))
        if not objects:
            raise InputError(f"meshes: none of the {skipped} files in '{folder}' can be used; the lines above say why")
        self.objects = tuple(objects)
        self.captions = tuple(sorted({caption for thing in objects for caption in thing.captions}))
        self.words = tuple(sorted({word for caption in self.captions for word in words_of(caption)}))

    def draw(self, index: int) -> MeshObject:
        if index < 0:
            raise InputError(f"index: expected at least 0, got {index}")
        turn, place = divmod(index, len(self.objects))
        return self.objects[int(np.random.default_rng([self.seed, turn]).permutation(len(self.objects))[place])]


def find_meshes(folder: Path) -> list[Path]:
    """The mesh files in the folder and below it, sorted; InputError if there is none."""
    if not folder.is_dir():
        raise InputError(f"meshes: expected a folder, got '{folder}'" + (" (a file)" if folder.exists() else ", which does not exist"))
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file() and not p.name.startswith("."))
    if not paths:
        raise InputError(f"meshes: no mesh in '{folder}'; expected files that end in {', '.join(SUFFIXES)}")
    return paths


def read_captions(folder: Path, paths: Sequence[Path]) -> dict[Path, tuple[str, ...]]:
    """At least one caption a mesh, lower case as the tokenizer reads it anyway."""
    table = _json_captions(folder / "captions.json") or _csv_captions(folder / "captions.csv")
    names = {p.relative_to(folder).as_posix(): p for p in paths}
    for stray in [name for name in table if name not in names]:
        log.warning("meshes: the captions name '%s', which is not in the folder", stray)
    chosen = {}
    for name, path in names.items():
        captions = _cleaned(table.get(name, ())) or _cleaned(_sidecar(path.with_suffix(".txt")))
        chosen[path] = captions or (caption_from_name(path.stem),)
    return chosen


def caption_from_name(stem: str) -> str:
    """ "red_chair-02" → "red chair"."""
    words = [w for w in re.split(r"[\s_\-.]+", stem.lower()) if w]
    named = words[:-1] if len(words) > 1 and words[-1].isdigit() else words
    return " ".join(named) or "object"


def _cleaned(lines: Sequence[str]) -> tuple[str, ...]:
    collapsed = (" ".join(line.lower().split())[:MAX_CAPTION] for line in lines)
    return tuple(dict.fromkeys(line for line in collapsed if line))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"meshes: cannot read {path.name} as UTF-8 text ({error})") from error


def _sidecar(path: Path) -> list[str]:
    return _text(path).splitlines() if path.is_file() else []


def _json_captions(path: Path) -> dict[str, list[str]]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(_text(path))
    except ValueError as error:
        raise InputError(f"meshes: {path.name} is not valid JSON ({error})") from error
    if not isinstance(content, dict):
        raise InputError(f"meshes: {path.name}: expected {{file: caption or list of captions}}, got a {type(content).__name__}")
    table = {name: [value] if isinstance(value, str) else value for name, value in content.items()}
    for name, captions in table.items():
        if not isinstance(captions, list) or not all(isinstance(c, str) for c in captions):
            raise InputError(f"meshes: {path.name}: expected a caption or a list of captions for '{name}'")
    return table


def _csv_captions(path: Path) -> dict[str, list[str]]:
    table: dict[str, list[str]] = {}
    if not path.is_file():
        return table
    for number, row in enumerate(csv.reader(_text(path).splitlines()), 1):
        if not row or (number == 1 and [c.strip().lower() for c in row[:2]] == ["file", "caption"]):
            continue
        if len(row) != 2:
            raise InputError(
                f"meshes: {path.name}, line {number}: expected file,caption (quote a caption with commas), got {len(row)} columns"
            )
        table.setdefault(row[0].strip(), []).append(row[1])
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the first objects of a folder as the training will see them."""
    from fsd_gs.catalogue.contact_sheet import captioned_sheet
    from fsd_gs.export.pictures import save_png

    parser = argparse.ArgumentParser(description="draw a folder of meshes as the training will see them: front and back of each")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path("assets.png"))
    parser.add_argument("--up", choices=("auto", "y", "z"), default="auto")
    parser.add_argument("--lit", action="store_true", help="the colours already hold light and shadow")
    parser.add_argument("--count", type=int, default=48, help="objects to draw")
    options = parser.parse_args(arguments)
    try:
        source = MeshFolder(options.folder, AssetSettings(options.up, options.lit))
    except FsdGsError as error:
        parser.exit(2, f"error: {error}\n")
    save_png(captioned_sheet([(thing.captions[0], thing.mesh) for thing in source.objects[: options.count]]), options.out)
    print(f"{options.out}: {min(options.count, len(source.objects))} of {len(source.objects)} objects; words: {' '.join(source.words)}")


if __name__ == "__main__":
    main()
