"""python export.py RUN --format ply,spz,html — write an asset for other tools; see docs/formats.md."""

import sys

from fsd_gs.cli import default_rasterizer
from fsd_gs.export.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], make_rasterizer=default_rasterizer))
