"""Classifier-free guidance around one network call: which texts are needed, one batch, one combination.

    s = 1   the text alone (one pass)          s = 0   the negative prompt alone (one pass)
    else    both halves in one batch:  f = f_neg + s (f_text − f_neg), with Perp-Neg's views in the same batch if asked for,
            then CFG rescale f ← f · (φ std(f_text)/std(f) + 1 − φ), one factor for the images that are denoised jointly

``f`` is whatever the network predicts (ε, v, x_0 or a velocity): the conversions to ε are affine with the same coefficients for both
halves, so they commute with the combination; the rescale is applied to the network's own output, as in the reference pipelines.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fsd_gs.priors.prompts import combine_perp_neg
from fsd_gs.priors.schedule import combine_cfg, rescale_cfg
from fsd_gs.priors.text import EmbeddedText, Embedding, concatenate

# (embedding of k·B rows, k) → prediction [k·B, …]: the network repeats its other inputs k times.
Network = Callable[[Embedding, int], Tensor]


def guided_prediction(
    network: Network,
    text: EmbeddedText,
    batch: int,
    cfg_scale: float,
    rescale: float = 0.0,
    views: int = 1,
    channels: int | None = None,
) -> Tensor:
    """The guided prediction [B, C, h, w] of ``network`` for ``batch`` latents, ``views`` of which belong together. channels: only the first
    so many are the prediction, which a rescale measures; None: all."""
    positive, negative = text.positive.expand(batch), text.negative.expand(batch)
    if cfg_scale == 1.0:
        return network(positive, 1)
    if cfg_scale == 0.0:
        return network(negative, 1)
    others = [embedding.expand(batch) for embedding in text.repelled]
    halves = network(concatenate([negative, positive, *others]), 2 + len(others))
    predictions = halves.view(2 + len(others), batch, *halves.shape[1:])
    f_neg, f_text = predictions[0], predictions[1]
    if text.repel_weights is None:
        guided = combine_cfg(f_neg, f_text, cfg_scale)
    else:
        guided = combine_perp_neg(f_neg, f_text, predictions[2:], text.repel_weights, cfg_scale)
    if rescale == 0:
        return guided
    joint = (batch // views, -1)
    measured = guided[:, :channels]
    scaled = rescale_cfg(measured.reshape(joint), f_text[:, :channels].reshape(joint), rescale).reshape(measured.shape)
    return scaled if channels is None else torch.cat([scaled, guided[:, channels:]], dim=1)
