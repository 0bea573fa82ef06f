"""VSD, variational score distillation (ProlificDreamer, arXiv 2305.16213, eq. 9 and Algorithm 1).

    grad  = w(t) [ ε_φ(x_t, t, y; CFG) − ε_lora(x_t, t, y, c) ]          and one step of the LoRA (``render_score``)

The LoRA learns what noise the *renders* contain, so the difference of the scores is that of two distributions, images and renders. SDS is
the case of a LoRA that knows ε.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fsd_gs.guidance.base import Noised
from fsd_gs.guidance.render_score import RenderScoreGuidance


@dataclass
class VariationalScoreDistillation(RenderScoreGuidance):
    """VSD: the difference of the images' and the renders' score; the formula is the module's."""

    weight: str = "sigma2"

    def residual(self, b: Noised) -> Tensor:
        prior = self._attach(b.prior, b.random())
        grad = b.noise(self.scale(b.t), self.cfg_rescale) - prior.predict_noise_trainable(b.x_t, b.t, b.text, b.cameras)
        self._train(prior, b)
        return grad
