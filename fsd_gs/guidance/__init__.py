"""Guidance: from a rendered batch to the gradient of its latents. Start reading at ``residual``.

A new target is one file with its formula, and one line in ``GUIDANCES``.
"""

from fsd_gs.errors import ConfigError, unknown_name
from fsd_gs.guidance.base import Guidance, ScoreGuidance
from fsd_gs.guidance.cfg import Cfg, guided_noise
from fsd_gs.guidance.dsd import DiverseScoreDistillation
from fsd_gs.guidance.inject import inject
from fsd_gs.guidance.ism import IntervalScoreMatching
from fsd_gs.guidance.nfsd import NoiseFreeScoreDistillation
from fsd_gs.guidance.residual import score_residual
from fsd_gs.guidance.rfds import RectifiedFlowDistillation
from fsd_gs.guidance.sdi import ScoreDistillationInversion
from fsd_gs.guidance.time_schedules import SCHEDULES, TimeSchedule
from fsd_gs.guidance.ucm import UniqueCoupleMatching
from fsd_gs.guidance.vsd import TrainablePrior, VariationalScoreDistillation
from fsd_gs.guidance.weights import WEIGHTS

GUIDANCES = {
    "score": ScoreGuidance,
    "ism": IntervalScoreMatching,
    "sdi": ScoreDistillationInversion,
    "dsd": DiverseScoreDistillation,
    "nfsd": NoiseFreeScoreDistillation,
    "vsd": VariationalScoreDistillation,
    "rfds": RectifiedFlowDistillation,
    "ucm": UniqueCoupleMatching,
}


def make_guidance(method: str, cfg: Cfg, weight: str | None = None) -> Guidance:
    """The guidance called ``method`` with its published settings; ``weight`` None takes the method's own."""
    if method not in GUIDANCES:
        raise ConfigError(unknown_name("guidance.method", method, GUIDANCES))
    chosen = {} if weight is None else {"weight": weight}
    # NFSD's s scales its condition part; there is no guided prediction in it.
    leading = cfg.scale if method == "nfsd" else cfg
    return GUIDANCES[method](leading, **chosen)


__all__ = [
    "GUIDANCES",
    "SCHEDULES",
    "WEIGHTS",
    "Cfg",
    "Guidance",
    "ScoreGuidance",
    "TimeSchedule",
    "TrainablePrior",
    "guided_noise",
    "inject",
    "make_guidance",
    "score_residual",
]
