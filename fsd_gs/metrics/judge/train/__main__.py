"""``python -m fsd_gs.metrics.judge.train``."""

import sys

from fsd_gs.metrics.judge.train.training import main

sys.exit(main())
