"""What a network must offer to be used by a metric: an embedding, class probabilities, or agreement with a prompt.

Every network of this family (CLIP, the FID Inception, the embedded judge) takes images [B, 3, H, W] in [0, 1], does its own resizing and
normalisation, and returns tensors without gradients. ``name`` says which network made a figure: figures of different networks are not
comparable, so tables print it beside them.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class ImageEmbedder(Protocol):
    """Images to feature vectors, for FID, CROSS-FID, cosine diversity and view consistency."""

    name: str

    def embed(self, images: Tensor) -> Tensor:
        """images [B, 3, H, W] in [0, 1] -> features [B, D] (floating point, not normalised)."""
        ...


@runtime_checkable
class ImageClassifier(Protocol):
    """Images to class probabilities, for the Inception Score."""

    name: str

    def probabilities(self, images: Tensor) -> Tensor:
        """images [B, 3, H, W] in [0, 1] -> [B, K], each row non-negative with sum 1."""
        ...


@runtime_checkable
class PromptScorer(Protocol):
    """How well images show a prompt."""

    name: str

    def alignment(self, images: Tensor, prompt: str) -> Tensor:
        """images [B, 3, H, W] in [0, 1] -> [B], higher is better; the scale belongs to the scorer (CLIP: 0 to 100)."""
        ...
