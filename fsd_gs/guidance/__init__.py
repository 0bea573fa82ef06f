"""Guidance: from a rendered batch to the gradient of its latents. Start reading at ``base``, then ``score``.

A new method is one file with its formula and one line in ``GUIDANCES``; its dataclass fields are its settings (``guidance.params.NAME=…``).
A new time schedule is a dataclass and one line in ``SCHEDULES``. Classes are imported when they are first used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fsd_gs.core.lazy import Table, exports
from fsd_gs.core.setting import make
from fsd_gs.errors import ConfigError, unknown_name

if TYPE_CHECKING:
    from fsd_gs.guidance.base import Guidance, Noised, inject
    from fsd_gs.guidance.cfg import guided_noise
    from fsd_gs.guidance.render_score import TrainablePrior
    from fsd_gs.guidance.score import ScoreGuidance
    from fsd_gs.guidance.time_schedules import TimeSchedule

GUIDANCES = Table(
    {
        "score": "fsd_gs.guidance.score:ScoreGuidance",
        "ism": "fsd_gs.guidance.ism:IntervalScoreMatching",
        "sdi": "fsd_gs.guidance.sdi:ScoreDistillationInversion",
        "dsd": "fsd_gs.guidance.dsd:DiverseScoreDistillation",
        "nfsd": "fsd_gs.guidance.nfsd:NoiseFreeScoreDistillation",
        "vsd": "fsd_gs.guidance.vsd:VariationalScoreDistillation",
        "rfds": "fsd_gs.guidance.rfds:RectifiedFlowDistillation",
        "ucm": "fsd_gs.guidance.ucm:UniqueCoupleMatching",
        "pfd": "fsd_gs.guidance.pfd:ProbabilityFlowDistillation",
        "dive3d": "fsd_gs.guidance.dive3d:ScoreImplicitMatching",
        "gsd": "fsd_gs.guidance.gsd:GeometryAwareScoreDistillation",
    }
)
SCHEDULES = Table(
    {
        "linear": "fsd_gs.guidance.time_schedules:Linear",
        "sqrt": "fsd_gs.guidance.time_schedules:Sqrt",
        "dreamtime": "fsd_gs.guidance.time_schedules:DreamTime",
        "piecewise": "fsd_gs.guidance.time_schedules:Piecewise",
        "random": "fsd_gs.guidance.time_schedules:RandomUniform",
        "random_annealed": "fsd_gs.guidance.time_schedules:RandomAnnealed",
    }
)
WEIGHTS = Table({name: f"fsd_gs.guidance.weights:{name}" for name in ("one", "sigma", "sigma2", "fantasia3d", "lambda_capped")})
WEIGHTS["lambda"] = "fsd_gs.guidance.weights:lambda_"  # a word of Python's own


def make_guidance(
    method: str,
    cfg_scale: float = 7.5,
    weight: str | None = None,
    *,
    cfg_late: float = 1.0,
    cfg_late_from: float = 0.6,
    cfg_rescale: float = 0.0,
    params: Mapping[str, Any] | None = None,
) -> Guidance:
    """The guidance called ``method``.

    Args:
        method: a name of ``GUIDANCES``.
        cfg_scale: s of classifier-free guidance in the diffusers form, ε_neg + s (ε_text − ε_neg); 1 is none.
        weight: a name of ``WEIGHTS``; None takes the one that the method was published with.
        cfg_late: share of it at times below ``cfg_late_from``, never less than 1; 1: all of it.
        cfg_late_from: that time.
        cfg_rescale: φ ∈ [0, 1] of CFG rescale, measured on x̂_0 at the price of one more prediction (``cfg``).
        params: the method's own parameters, its dataclass fields, by name; those left out have their published values.

    Raises:
        ConfigError: an unknown method, weight or parameter, or a value that it cannot take.
    """
    if method not in GUIDANCES:
        raise ConfigError(unknown_name("guidance.method", method, GUIDANCES))
    shared: dict[str, Any] = {
        "cfg_scale": cfg_scale,
        "cfg_late": cfg_late,
        "cfg_late_from": cfg_late_from,
        "cfg_rescale": cfg_rescale,
    }
    if weight is not None:
        shared["weight"] = weight
    # A method's own weight is no parameter of its own: it is the setting guidance.weight.
    cls = GUIDANCES[method]
    own = {"weight", *shared}
    if params and not params.keys().isdisjoint(own):
        name = next(name for name in params if name in own)
        raise ConfigError(f"guidance.params.{name}: is a setting of every method; give guidance.{name} instead")
    return make(cls, shared, params or {}, "guidance.params")


__getattr__ = exports(
    __name__,
    {
        "Guidance": "base",
        "Noised": "base",
        "ScoreGuidance": "score",
        "TimeSchedule": "time_schedules",
        "TrainablePrior": "render_score",
        "guided_noise": "cfg",
        "inject": "base",
    },
)

__all__ = [
    "GUIDANCES",
    "SCHEDULES",
    "WEIGHTS",
    "Guidance",
    "Noised",
    "ScoreGuidance",
    "TimeSchedule",
    "TrainablePrior",
    "guided_noise",
    "inject",
    "make_guidance",
]
