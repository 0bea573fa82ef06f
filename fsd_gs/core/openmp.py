"""How long OpenMP's threads wait before they sleep; imported first, since OpenMP reads its settings when torch loads it.

torch's threads meet after every operation, and the early ones spin until the last has come: with GNU's OpenMP for some 15 ms, although the
next operation is due within one. Where another program wants a core, the spinning keeps the late thread from the core it needs, and a step
takes several times as long (docs/performance.md). Half a millisecond is as fast on a free machine. The user's own settings win.
"""

import os

SPINS = "10000"

if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
