"""The FID Inception: features for FID and CROSS-FID, class probabilities for the Inception Score.

The network is the Inception v3 of 2015-12-05 in its PyTorch conversion, which published FIDs mean; torchvision's Inception v3 has other
weights and pooling and gives other figures. Library: torch-fidelity, whose forward pass reproduces the original's resizing (bilinear, not
antialiased, TensorFlow 1 alignment) and input scaling, (x − 128)/128 of 8-bit levels. torchmetrics' FrechetInceptionDistance antialiases by
default, so its figures for renders larger than 299 pixels differ.

    embed           the 2048 activations of the last pooling
    probabilities   softmax over the 1008 logits without their bias, as torch-fidelity and torchmetrics have it

Nothing is downloaded: the weights (95 MB) are given as a file.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from fsd_gs.errors import BackendError
from fsd_gs.metrics.image_sets import check_images, to_8_bit
from fsd_gs.metrics.weight_files import WeightFile

WEIGHTS = WeightFile(
    network="inception",
    url="https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
    sha256="6726825d",
    megabytes=95,
)
_LAYERS = ["2048", "logits_unbiased"]

Network = Callable[[Tensor], tuple[Tensor, Tensor]]


class InceptionFeatures:
    """An ImageEmbedder and an ImageClassifier. ``name`` tells the official weights from others."""

    def __init__(self, network: Network, device: torch.device | str = "cpu", name: str = "inception") -> None:
        """network: uint8 images [B, 3, H, W] on ``device`` → (features [B, D], logits [B, K]); :meth:`load` makes the real one."""
        self.name = name
        self._network = network
        self._device = torch.device(device)

    @classmethod
    def load(cls, weights: str | Path, *, device: torch.device | str = "cpu") -> InceptionFeatures:
        """The network with the weights of a local file, :data:`WEIGHTS`.

        Raises FileFormatError (no such file, or not these tensors) or BackendError (torch-fidelity is not installed).
        """
        WEIGHTS.read(weights)  # the library unpickles without restrictions: only files that pass this reach it
        path = Path(weights).expanduser()
        try:
            from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise BackendError(f"inception: FID needs the library torch-fidelity ({error}); pip install torch-fidelity") from error
        try:
            network = FeatureExtractorInceptionV3("inception-v3-compat", _LAYERS, str(path))
        except RuntimeError as error:
            raise WEIGHTS.wrong_tensors(path) from error
        return cls(network.to(device), device, "inception-2015-12-05" + WEIGHTS.label(path))

    def embed(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] in [0, 1] → [B, 2048]."""
        return self._run(images)[0]

    def probabilities(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] in [0, 1] → [B, 1008], rows sum to 1."""
        return self._run(images)[1].softmax(1)

    @torch.no_grad()
    def _run(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self._network(to_8_bit(check_images(images)).to(self._device, torch.uint8))
