"""What the package knows of one backbone family, in one record: how it is recognised, loaded, asked, adapted, and where its weights are.

A module of :mod:`fsd_gs.priors.backbones` ends in ``FAMILY = Family(…)``; nothing else in the package lists families.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from fsd_gs.priors.base import Prior
from fsd_gs.priors.options import LoadOptions, RunShape

BYTES_PER_PARAMETER = 2  # half precision


@dataclass(frozen=True)
class Source:
    """A hub repository, optionally pinned to a commit; None follows its main branch."""

    repo_id: str
    revision: str | None = None


@dataclass(frozen=True)
class Published:
    """Weights that have a short name.

    Repositories move and vanish (SD 1.5 in 2024, SD 2.1 in 2025): ``sources`` are tried in their order.

    Attributes:
        sources: Hub repositories.
        network: Millions of parameters of the denoiser with its VAE, which stay in memory; counted on the architectures.
        text: Millions of parameters of the text encoders, which are freed after the prompts are embedded.
        licence: As the repository names it.
    """

    sources: tuple[Source, ...]
    network: float
    text: float
    licence: str

    @property
    def download_gb(self) -> float:
        """What has to be fetched, in GB, half precision."""
        return (self.network + self.text) * 1e6 * BYTES_PER_PARAMETER / 1e9

    @property
    def weights_gb(self) -> float:
        """What stays in memory during a run, in GB, half precision, without activations."""
        return self.network * 1e6 * BYTES_PER_PARAMETER / 1e9


@dataclass(frozen=True)
class Checkpoint:
    """The header of a single-file checkpoint: ``shapes`` by name of tensor. Nothing of its weights is in memory."""

    file: Path
    shapes: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Folder:
    """A diffusers pipeline folder: ``index`` is its model_index.json, ``configs`` the config.json of each component that is there."""

    path: Path
    index: Mapping[str, Any]
    configs: Mapping[str, Mapping[str, Any]]

    @property
    def unet(self) -> Mapping[str, Any]:
        return self.configs.get("unet", {})

    @property
    def transformer(self) -> Mapping[str, Any]:
        return self.configs.get("transformer", {})


@dataclass(frozen=True)
class Request:
    """What a family's loader is asked for.

    Attributes:
        place: The folder or file; None for a prior that is built in and needs neither.
        device: Of the networks.
        dtype: Of the networks; ``auto`` says that the caller left it open.
        options: See :class:`~fsd_gs.priors.options.LoadOptions`.
        run: What the run will ask for, for priors that have no size of their own.
    """

    place: Path | None
    device: torch.device
    dtype: torch.dtype
    auto: bool
    options: LoadOptions
    run: RunShape = field(default_factory=RunShape)

    @property
    def path(self) -> Path:
        assert self.place is not None
        return self.place


class Loader(Protocol):
    """(request) → prior."""

    def __call__(self, request: Request, /) -> Prior: ...


def _never(_: Any) -> bool:
    return False


@dataclass(frozen=True)
class Family:
    """One backbone family.

    Attributes:
        name: Short, lower case.
        load: From a :class:`Request` to the prior. Raises FileFormatError for what is not understood whole.
        recognises: Whether a diffusers folder is of this family, by its configs, never by its name. Families are asked in the order of
            ``backbones.MODULES``; the first that says yes loads it, or refuses it.
        reads: The same for a single-file checkpoint.
        built_in: The name under which the prior is loaded without any ``place``.
        network: Class of the denoiser in the folders that it loads, for messages.
        takes: What may stand beside the prompt: "image", "control", "embeddings".
        published: Weights by short name.
    """

    name: str
    load: Loader
    recognises: Callable[[Folder], bool] = _never
    reads: Callable[[Checkpoint], bool] = _never
    built_in: str | None = None
    network: str | None = None
    takes: frozenset[str] = frozenset()
    published: Mapping[str, Published] = field(default_factory=dict)


CLIP_L, CLIP_H, CLIP_G, T5_XXL, VAE = 123.1, 340.4, 694.7, 4762.3, 83.7  # millions of parameters
