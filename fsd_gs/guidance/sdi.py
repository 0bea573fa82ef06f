"""SDI, score distillation via inversion (Lukoianov et al., arXiv 2405.15891, eq. 12).

    x_s   = DDIM inversion of x along the *prompt*, by the times 0, 1/n, 2/n, … below t and then s = t + δ,  δ ~ U(0, 1/n); guided by
            ``inversion_scale``, each move with η of DDPM's own noise
    κ     = (x_s − α_s x)/σ_s
    grad  = w(t) [ ε_φ(α x + σ κ, t, y) − κ ]

The residual of SDS with the random noise replaced by the noise that would have led DDIM to x. Inversion has to undo what guidance did,
hence the negative scale. ``noise`` is ignored. The authors write CFG as ε_text + s (ε_text − ε_∅), so their 7.5 and −7.5 are 8.5 and −6.5
here.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fsd_gs.core.setting import setting
from fsd_gs.guidance.base import Guidance, Noised
from fsd_gs.guidance.ode import ddim_path, rising_times

_LAST = 0.999  # the last time but one that a network of 1000 timesteps knows: κ is found where there is still a signal


@dataclass
class ScoreDistillationInversion(Guidance):
    """SDI: noise by DDIM inversion of the render; the formula is the module's."""

    weight: str = "lambda"
    inversion_scale: float = setting(-6.5, "CFG scale of the inversion, in the form ε_neg + s (ε_text − ε_neg)")
    steps: int = setting(10, "n: moves of an inversion from 0 to 1", low=1, high=1000)
    eta: float = setting(0.3, "η: share of DDPM's own noise in each move of the inversion", low=0, high=1)
    shift: bool = setting(True, "end the inversion at t + δ with a random δ instead of at t")

    def residual(self, b: Noised) -> Tensor:
        s = (b.t + b.rand() / self.steps).clamp_max(max(_LAST, float(b.t))) if self.shift else b.t
        generator = b.random() if self.eta > 0 else None
        times = rising_times(s, 1 / self.steps, below=b.t)
        x_s = ddim_path(b.prior, b.x, times, b.text, b.cameras, self.inversion_scale, eta=self.eta, generator=generator)
        kappa = (x_s - b.prior.schedule.alpha(s) * b.x) / b.prior.schedule.sigma(s)
        return b.at(b.t, kappa).noise(self.scale(b.t), self.cfg_rescale) - kappa
