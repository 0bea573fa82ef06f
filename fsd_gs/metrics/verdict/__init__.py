"""Would an artist keep this asset? A few signs of its renders (``signs``) and one number from them (``model``)."""

from fsd_gs.metrics.verdict.model import SHIPPED, Verdict, VerdictModel, judge_asset, load_verdict
from fsd_gs.metrics.verdict.signs import NAMES, SIZE, VIEWS, Signs, look, signs_of

__all__ = ["NAMES", "SHIPPED", "SIZE", "VIEWS", "Signs", "Verdict", "VerdictModel", "judge_asset", "load_verdict", "look", "signs_of"]
