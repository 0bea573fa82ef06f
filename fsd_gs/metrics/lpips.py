"""LPIPS diversity: how different the assets of a prompt look, view against view (Zhang et al. 2018, arXiv:1801.03924).

    d(a, b) = mean_v LPIPS(view v of a, view v of b),    diversity = mean over pairs a < b of d(a, b)

A copy turned about the vertical counts as different, and so does a shifted one: LPIPS compares pixels in place. Library: ``lpips``, the
authors' own, which ships the learned heads (version 0.1); the trunk's ImageNet weights are given as torchvision's file. The figure depends
on trunk and resolution, and ``name`` belongs beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from fsd_gs.core.types import check_shape
from fsd_gs.errors import BackendError, InputError, unknown_name
from fsd_gs.metrics.image_sets import check_images
from fsd_gs.metrics.similarity import mean_pairwise
from fsd_gs.metrics.weight_files import WeightFile

Trunk = Literal["alex", "vgg", "squeeze"]
PairDistance = Callable[[Tensor, Tensor], Tensor]  # two batches [B, 3, H, W] in [0, 1] → [B]

_HOST = "https://download.pytorch.org/models"
TRUNKS: dict[str, WeightFile] = {
    "alex": WeightFile("lpips", f"{_HOST}/alexnet-owt-7be5be79.pth", "7be5be79", 233),
    "vgg": WeightFile("lpips", f"{_HOST}/vgg16-397923af.pth", "397923af", 528),
    "squeeze": WeightFile("lpips", f"{_HOST}/squeezenet1_1-b8a52dc0.pth", "b8a52dc0", 5),
}
_SMALLEST = 32  # pixels: below, the poolings of the trunks run out of them


def lpips_diversity(images: Tensor, distance: PairDistance) -> float:
    """Mean pairwise distance of A ≥ 2 assets. images: [A, V, 3, H, W] in [0, 1], the same V cameras for all."""
    return mean_pairwise(view_distances(images, distance))


def view_distances(images: Tensor, distance: PairDistance) -> Tensor:
    """[A, A] mean distances of matching views, symmetric, zeros on the diagonal; float64."""
    check_shape("images", images, ("A", "V", 3, "H", "W"))
    assets = len(images)
    if assets < 2 or images.shape[1] < 1:
        raise InputError(f"images: expected at least two assets of at least one view, got {assets} of {images.shape[1]}")
    matrix = torch.zeros(assets, assets, dtype=torch.float64)
    for a in range(assets):
        for b in range(a + 1, assets):
            matrix[a, b] = matrix[b, a] = distance(images[a], images[b]).double().mean().cpu()
    return matrix


class Lpips:
    """LPIPS of image pairs. ``name`` is ``lpips-`` and the trunk."""

    def __init__(self, network: PairDistance, device: torch.device | str = "cpu", name: str = "lpips") -> None:
        """network: two batches [B, 3, H, W] in [−1, 1] on ``device`` → B distances, any shape; :meth:`load` makes the real one."""
        self.name = name
        self._network = network
        self._device = torch.device(device)

    @classmethod
    def load(cls, weights: str | Path, trunk: Trunk = "alex", *, device: torch.device | str = "cpu") -> Lpips:
        """The authors' network with the trunk's weights of a local file, :data:`TRUNKS`.

        Raises InputError (unknown trunk), FileFormatError (no such file, or not these tensors) or BackendError (lpips is not installed).
        """
        if trunk not in TRUNKS:
            raise InputError(unknown_name("trunk", trunk, TRUNKS))
        state = TRUNKS[trunk].read(weights)
        try:
            from lpips import LPIPS  # pyright: ignore  (the library, which need not be installed; pyright finds this file)
        except ImportError as error:
            raise BackendError(
                f"lpips: LPIPS needs the libraries lpips and torchvision ({error}); pip install lpips torchvision"
            ) from error
        network = LPIPS(net=trunk, pnet_rand=True, verbose=False)  # random only until the next lines
        # Slices of torchvision's `features` keep its numbering: features.3.weight is slice2.3.weight here.
        wanted = {name: f"features.{name.split('.', 1)[1]}" for name in network.net.state_dict()}
        try:
            network.net.load_state_dict({name: state[source] for name, source in wanted.items()})
        except (KeyError, RuntimeError) as error:
            raise TRUNKS[trunk].wrong_tensors(weights) from error
        return cls(network.eval().to(device), device, f"lpips-{trunk}" + TRUNKS[trunk].label(weights))

    @torch.no_grad()
    def __call__(self, first: Tensor, second: Tensor) -> Tensor:
        """[B] ≥ 0 distances of images [B, 3, H, W] in [0, 1] and as many others of the same size, at least 32 pixels a side."""
        check_shape("second", second, tuple(first.shape))
        if min(first.shape[-2:]) < _SMALLEST:
            raise InputError(f"images: LPIPS expects at least {_SMALLEST} pixels a side, got {first.shape[-1]}×{first.shape[-2]}")
        one, two = (2 * check_images(images).to(self._device, torch.float32) - 1 for images in (first, second))
        return self._network(one, two).reshape(len(one))
