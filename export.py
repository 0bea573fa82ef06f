#!/usr/bin/env python
"""Export a run, or any splat file, to other formats: ``python export.py --help``."""

import sys

from fsd_gs.export.command import main
from fsd_gs.render import Rasterizer, make_rasterizer


def _rasterizer() -> Rasterizer:
    import torch

    return make_rasterizer("auto", device="cuda" if torch.cuda.is_available() else "cpu")


if __name__ == "__main__":
    sys.exit(main(make_rasterizer=_rasterizer))
