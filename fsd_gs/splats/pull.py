"""A pull back to the splats that a run starts from, and splats that may not change at all: what makes a run an edit.

    θ_i ← θ_i⁰ + (1 − k) (θ_i − θ_i⁰)     after each step of the optimiser, on the stored parameters

k is the share of the way back that each step takes: ``pull.shape`` for centres, log-scales, quaternions and logit-opacities,
``pull.colour`` for the SH coefficients. Steps of size η in one direction then end at a distance η/k. It is the decoupled decay of AdamW
(arXiv 1711.05101) towards the original in place of 0. A term of the loss holds as well, but its weight would have to be chosen against the
size of the score, which w(t), the prior and the method change by orders of magnitude; a share means the same in every run. Splats are
compared one by one: nothing may be added or removed (``densify.kind=none``).

Kept splats go through :class:`Hold`: the same values without a gradient. Adam's moments of a gradient that is always 0 are 0, and so is its
step: they come out with the bits they went in with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fsd_gs.core.types import Gaussians
from fsd_gs.errors import FileFormatError, InputError
from fsd_gs.splats.parameters import SplatParameters
from fsd_gs.splats.settings import PullSettings

SHAPE = ("means", "scales", "quats", "opacities")


@dataclass(frozen=True)
class Pull:
    """Takes stored splats a part of the way back.

    Attributes:
        original: what is pulled to, as many splats; None pulls nothing.
        shape: k of centres, sizes, turns and opacities, [0, 1].
        colour: k of colours, [0, 1].
    """

    original: Mapping[str, Tensor] | None = None
    shape: float = 0.0
    colour: float = 0.0

    @torch.no_grad()
    def __call__(self, params: SplatParameters) -> None:
        """Call after each step of the optimiser; changes ``params`` in place."""
        for name, value in (self.original or {}).items():
            share = self.shape if name in SHAPE else self.colour
            if share:
                params[name].lerp_(value, share)


@dataclass(frozen=True)
class Hold:
    """Splats as they are, those of ``kept`` [N] without a gradient; None holds none."""

    kept: Tensor | None = None

    def __call__(self, gaussians: Gaussians) -> Gaussians:
        if self.kept is None:
            return gaussians
        held = {}
        for field in fields(gaussians):
            value = getattr(gaussians, field.name)
            held[field.name] = torch.where(self.kept.reshape(-1, *[1] * (value.ndim - 1)), value.detach(), value)
        return Gaussians(**held)


def kept_splats(settings: PullSettings, means: Tensor) -> Tensor | None:
    """[N] bool: which splats stay as they are; None for none. means: of the original, [N, 3].

    Raises:
        FileFormatError: ``pull.keep`` is no mask of so many splats.
        InputError: nothing is left to change.
    """
    kept = torch.zeros(len(means), dtype=torch.bool, device=means.device)
    if settings.keep:
        kept |= read_mask(Path(settings.keep), len(means)).to(means.device)
    if settings.region:
        center, radius = means.new_tensor(settings.region[:3]), settings.region[3]
        kept |= (means - center).norm(dim=1) > radius
    if bool(kept.all()):
        raise InputError("pull.keep, pull.region: no splat is left that may change; take a larger region or another mask")
    return kept if bool(kept.any()) else None


def read_mask(path: Path, count: int) -> Tensor:
    """[count] bool from a .npy: True, or a number other than 0, for each splat of the file, in its order, that stays as it is."""
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise FileFormatError(f"pull.keep: {path}: expected a .npy with a truth value for each splat ({error})") from error
    if not isinstance(values, np.ndarray) or values.shape != (count,) or values.dtype.kind not in "biuf":
        got = f"{values.dtype} {list(values.shape)}" if isinstance(values, np.ndarray) else "several arrays"
        raise FileFormatError(f"pull.keep: {path}: expected {count} truth values, one for each splat of the file, got {got}")
    return torch.from_numpy(values != 0)
