"""Plots with matplotlib, the extra ``plots``: without a screen, written atomically."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from fsd_gs.errors import BackendError
from fsd_gs.io import atomic_write


def pyplot() -> Any:
    """matplotlib.pyplot without a screen; BackendError where matplotlib is missing."""
    try:
        import matplotlib
    except ImportError as error:
        raise BackendError("plots need matplotlib; install fsd-gs[plots], or use --no-plots") from error
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def is_number(text: str) -> bool:
    """Whether the text is a finite number."""
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def save_figure(plt: Any, figure: Any, path: Path) -> Path:
    """Write ``figure`` to ``path``, atomically, and close it."""
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=110)
    plt.close(figure)
    return path
