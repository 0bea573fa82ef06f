"""python export.py RUN --format ply,spz,html — write an asset for other tools; see docs/formats.md."""

import sys

from fsd_gs.cli import export, guarded

if __name__ == "__main__":
    sys.exit(guarded(export, sys.argv[1:], "export.py"))
