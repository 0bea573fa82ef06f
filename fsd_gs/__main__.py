"""``python -m fsd_gs COMMAND``: the same as ``fsd-gs COMMAND``."""

import sys

from fsd_gs.cli import main

if __name__ == "__main__":
    sys.exit(main())
