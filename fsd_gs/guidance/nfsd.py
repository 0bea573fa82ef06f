"""NFSD, noise-free score distillation (Katzir et al., arXiv 2310.17590, eq. 9–11).

    ε_φ − ε is split into a domain part, a condition part and the network's own denoising error; the last is thrown away:
    δ_C   = ε_φ(x_t, y) − ε_φ(x_t, ∅)
    δ_D   = ε_φ(x_t, ∅)                       for t < 0.2
            ε_φ(x_t, ∅) − ε_φ(x_t, p_neg)     above
    grad  = w(t) [ δ_D + s δ_C ]

No −ε appears, so s (``cfg_scale``) stays moderate (7.5). ∅ is the empty prompt, p_neg words for bad pictures. Noise only makes x_t here;
fixing it (FSD's noise) is possible and harmless.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fsd_gs.core.setting import setting
from fsd_gs.guidance.base import Guidance, Noised

BAD_PICTURE = "unrealistic, blurry, low quality, out of focus, ugly, low contrast, dull, dark, low-resolution, gloomy"


@dataclass
class NoiseFreeScoreDistillation(Guidance):
    """NFSD: the residual without the noise's part; the formula is the module's."""

    weight: str = "sigma2"
    t_clean: float = setting(0.2, "below this time the domain part is ε_φ(x_t, ∅) itself", low=0, high=1)
    bad_picture: str = setting(BAD_PICTURE, "p_neg: words for bad pictures")

    def residual(self, b: Noised) -> Tensor:
        plain = b.with_negative("")
        prompted, empty = plain.noise(1.0), plain.noise(0.0)
        domain = empty
        if float(b.t) >= self.t_clean:
            # As a *negative* prompt: view words are not added to it, and priors without such words fall back to ∅.
            domain = empty - b.with_negative(self.bad_picture).noise(0.0)
        return domain + self.scale(b.t) * (prompted - empty)
