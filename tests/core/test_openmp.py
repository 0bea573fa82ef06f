"""What OpenMP itself says it was told: the setting must be there before torch loads the library."""

import os
import re
import subprocess
import sys

import pytest

from fsd_gs.core.openmp import SPINS

pytestmark = pytest.mark.long


def spins(code: str, **settings: str) -> str:
    """GOMP_SPINCOUNT as GNU's OpenMP read it in a new process."""
    free = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    environment = free | {"OMP_DISPLAY_ENV": "VERBOSE"} | settings
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True).stderr
    found = re.search(r"GOMP_SPINCOUNT = '(\d+)'", said)
    if found is None:
        maps = [sys.executable, "-c", "import torch; print(open('/proc/self/maps').read())"]
        loaded = sys.platform == "linux" and "libgomp" in subprocess.run(maps, capture_output=True, text=True, check=True).stdout
        assert not loaded, "GNU's OpenMP is loaded and does not say what it was told"
        pytest.skip("torch does not use GNU's OpenMP here")
    return found.group(1)


def test_threads_sleep_soon():
    default = spins("import torch")
    assert spins("import fsd_gs, torch") == SPINS != default
    assert spins("from fsd_gs.cli import main; import torch") == SPINS


def test_settings_of_the_user_win():
    assert spins("import fsd_gs, torch", GOMP_SPINCOUNT="77") == "77"
    assert spins("import fsd_gs, torch", OMP_WAIT_POLICY="passive") == "0"
