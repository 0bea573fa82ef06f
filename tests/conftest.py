"""Before anything imports torch: one thread a test process, because pytest runs one process a core and they would fight for them."""

import os
import tempfile

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may reach for a hub
os.environ.setdefault("FSD_GS_CACHE", tempfile.mkdtemp(prefix="fsd-gs-tests-"))  # times of tests are nobody's estimate
