"""Views of catalogue objects for the judge: who is drawn with which seed, and a cache of their renders on disk.

Object i is round i // C of category i mod C (C categories); each category walks through shuffled rounds of all its (design, colour)
pairs, so every pair is seen about equally often. Its shape seed is ``first_seed + i``: training uses [2³⁰, 2³⁰ + 2²⁹), the held-out
test [2³⁰ + 2²⁹, 2³¹). The embedded prior draws below 2³⁰, so judge and prior never see the same object.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fsd_gs.catalogue.mesh import Mesh
from fsd_gs.catalogue.objects import CATEGORIES, make_object
from fsd_gs.catalogue.palette import COLORS
from fsd_gs.catalogue.render import render_mesh
from fsd_gs.core.cameras import orbit_cameras
from fsd_gs.core.types import Cameras
from fsd_gs.errors import InputError

TRAIN_SEED = 2**30
TEST_SEED = 2**30 + 2**29
LAST_SEED = 2**31

CATEGORY_NAMES: tuple[str, ...] = tuple(CATEGORIES)
COLOR_NAMES: tuple[str, ...] = tuple(COLORS)
DESIGN_NAMES: tuple[str, ...] = tuple(f"{kind.name}/{design}" for kind in CATEGORIES.values() for design in kind.designs)


@dataclass(frozen=True)
class ViewSettings:
    """Views of drawn objects.

    Cameras: azimuths 360°/views apart from a random rotation, each view its own elevation (degrees) and distance (world units);
    ``fov_y_deg`` is the field of view the embedded prior and the default run use.

    Attributes:
        objects: how many.
        views: pictures of each.
        size: side in pixels.
        first_seed: shape seed of object 0.
    """

    objects: int = 5300
    views: int = 12
    size: int = 64
    first_seed: int = TRAIN_SEED
    elevation_deg: tuple[float, float] = (-10.0, 45.0)
    distance: tuple[float, float] = (2.0, 2.7)
    fov_y_deg: float = 49.1
    supersample: int = 3

    def __post_init__(self) -> None:
        if self.objects < 1 or self.views < 1:
            raise InputError(f"objects, views: expected at least 1 each, got {self.objects} and {self.views}")
        if self.first_seed < TRAIN_SEED or self.first_seed + self.objects > LAST_SEED:
            raise InputError(
                f"first_seed: expected the judge's own seeds in [2**30, 2**31), got {self.first_seed} to {self.first_seed + self.objects}"
            )


class Recipe(NamedTuple):
    """Which object to build, by name, and its shape seed."""

    category: str
    design: str
    color: str
    seed: int


class Labels(NamedTuple):
    """Indices into CATEGORY_NAMES, COLOR_NAMES and DESIGN_NAMES, [N] each."""

    category: npt.NDArray[np.int64]
    color: npt.NDArray[np.int64]
    design: npt.NDArray[np.int64]


class Views(NamedTuple):
    """images [N, V, size, size, 4] uint8 (sRGB premultiplied by coverage, coverage) and the labels [N] of their objects."""

    images: npt.NDArray[np.uint8]
    labels: Labels


def recipes(objects: int, first_seed: int) -> Iterator[Recipe]:
    """The first ``objects`` objects of the stream that starts at ``first_seed``."""
    walks = [_pair_walk(index, first_seed) for index in range(len(CATEGORY_NAMES))]
    for i in range(objects):
        category = i % len(CATEGORY_NAMES)
        design, color = next(walks[category])
        yield Recipe(CATEGORY_NAMES[category], design, color, first_seed + i)


def _pair_walk(category: int, first_seed: int) -> Iterator[tuple[str, str]]:
    """Shuffled rounds of all (design, colour) pairs of a category, without end."""
    kind = CATEGORIES[CATEGORY_NAMES[category]]
    pairs = [(design, color) for design in kind.designs for color in kind.colors]
    rng = np.random.default_rng((first_seed, category))
    while True:
        for k in rng.permutation(len(pairs)):
            yield pairs[k]


def label_arrays(drawn: list[Recipe]) -> Labels:
    """Indices of category, colour and design [N] of the objects drawn."""
    return Labels(
        np.array([CATEGORY_NAMES.index(r.category) for r in drawn]),
        np.array([COLOR_NAMES.index(r.color) for r in drawn]),
        np.array([DESIGN_NAMES.index(f"{r.category}/{r.design}") for r in drawn]),
    )


def random_cameras(settings: ViewSettings, seed: int) -> Cameras:
    """``settings.views`` cameras around an object; the same seed gives the same cameras."""
    rng = np.random.default_rng((settings.first_seed, seed))
    spacing = 360.0 / settings.views
    azimuths = (rng.uniform(0, 360) + spacing * (np.arange(settings.views) + rng.uniform(-0.4, 0.4, settings.views))) % 360.0
    return orbit_cameras(
        azimuths.tolist(),
        rng.uniform(*settings.elevation_deg, settings.views).tolist(),
        distance=rng.uniform(*settings.distance, settings.views).tolist(),
        fov_y_deg=settings.fov_y_deg,
        width=settings.size,
    )


def render_views(mesh: Mesh, cameras: Cameras, supersample: int = 3) -> npt.NDArray[np.uint8]:
    """[V, H, W, 4] uint8, sRGB premultiplied by coverage, and coverage."""
    return (render_mesh(mesh, cameras, supersample=supersample) * 255).round().byte().numpy()


def load_or_render(folder: Path, settings: ViewSettings) -> Views:
    """The views of ``settings``, rendered into ``folder`` where they are missing; a stopped call goes on where it was."""
    folder.mkdir(parents=True, exist_ok=True)
    record, array = folder / "views.json", folder / "views.npy"
    shape = (settings.objects, settings.views, settings.size, settings.size, 4)
    wanted = json.loads(json.dumps(asdict(settings)))
    state = json.loads(record.read_text()) if record.exists() and array.exists() else {}
    done = int(state["done"]) if state.get("settings") == wanted else 0
    images = np.lib.format.open_memmap(array, mode="r+" if done else "w+", dtype=np.uint8, shape=None if done else shape)
    drawn = list(recipes(settings.objects, settings.first_seed))
    block = max(1, math.ceil(settings.objects / 50))
    while done < settings.objects:
        for i in range(done, min(done + block, settings.objects)):
            category, design, color, seed = drawn[i]
            mesh = make_object(category, seed, design=design, color=color).mesh
            images[i] = render_views(mesh, random_cameras(settings, i), settings.supersample)
        done = min(done + block, settings.objects)
        images.flush()
        record.write_text(json.dumps({"settings": wanted, "done": done}))
    return Views(images, label_arrays(drawn))
