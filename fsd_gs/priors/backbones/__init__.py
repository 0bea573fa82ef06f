"""Every backbone family, one module each. A new one is a file here that ends in ``FAMILY = Family(…)``, and its name in ``MODULES``.

The modules are imported when a prior is first asked for; what they import themselves is light, heavy libraries come with ``load``.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module

from fsd_gs.errors import FileFormatError
from fsd_gs.priors.family import Checkpoint, Family, Folder, Published

# Asked in this order whether a folder or file is theirs: special before general.
MODULES = ("exact", "splat", "nano", "mvdream", "sdxl", "sd", "sd3", "flux")


@cache
def families() -> tuple[Family, ...]:
    """The records of all families."""
    return tuple(import_module(f"{__name__}.{module}").FAMILY for module in MODULES)


@cache
def published() -> dict[str, Published]:
    """Weights by short name."""
    return {name: weights for family in families() for name, weights in family.published.items()}


def built_in(name: str) -> Family | None:
    """The family whose prior needs no folder and is called ``name``."""
    return next((family for family in families() if family.built_in == name), None)


def names() -> list[str]:
    """Everything that ``priors.load`` takes as a short name."""
    return [*(family.built_in for family in families() if family.built_in is not None), *published()]


def of_folder(folder: Folder) -> Family:
    """The family of a diffusers folder. FileFormatError if it is of none."""
    for family in families():
        if family.recognises(folder):
            return family
    found = folder.transformer.get("_class_name") or folder.unet.get("_class_name")
    known = dict.fromkeys(family.network for family in families() if family.network is not None)
    raise FileFormatError(f"prior: {folder.path} holds a {found}; supported networks: {', '.join(known)}")


def of_checkpoint(checkpoint: Checkpoint) -> Family | None:
    """The family of a single-file checkpoint, None if no family reads it."""
    return next((family for family in families() if family.reads(checkpoint)), None)


__all__ = ["MODULES", "built_in", "families", "names", "of_checkpoint", "of_folder", "published"]
