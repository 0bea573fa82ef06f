"""The training time-lapse: ``previews/000050.png`` … of a run → an mp4 or gif in which the asset grows."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fsd_gs.core.sheets import Frame, write_label
from fsd_gs.errors import FileFormatError, InputError
from fsd_gs.export.pictures import save_gif
from fsd_gs.export.video import save_mp4

PREVIEWS, TIMELAPSE = "previews", "timelapse.mp4"


def write_timelapse(run: str | os.PathLike[str], path: str | os.PathLike[str] | None = None, *, fps: int = 8, hold: float = 1.5) -> Path:
    """Write ``timelapse.mp4`` (or ``path``, .mp4 or .gif) from the previews of a run's folder; the last one stays for ``hold`` seconds.

    Raises FileFormatError where there are fewer than two previews, or one of them cannot be read.
    """
    run = Path(run)
    target = run / TIMELAPSE if path is None else Path(path)
    if target.suffix.lower() not in (".mp4", ".gif"):
        raise InputError(f"path: expected .mp4 or .gif, got '{target.name}'")
    if fps < 1 or hold < 0:
        raise InputError(f"fps, hold: expected fps ≥ 1 and hold ≥ 0 seconds, got {fps} and {hold:g}")
    pictures = preview_files(run)
    if len(pictures) < 2:
        raise FileFormatError(
            f"{run}: expected at least two pictures in {PREVIEWS}/, got {len(pictures)}; train with outputs.preview_every=10"
        )
    write = save_gif if target.suffix.lower() == ".gif" else save_mp4
    write(timelapse_frames(pictures, round(hold * fps)), target, fps=fps)
    return target


def preview_files(run: Path) -> list[tuple[int, Path]]:
    """(step, file) of a run's previews, in order."""
    files = [path for path in (run / PREVIEWS).glob("*.png") if re.fullmatch(r"\d+", path.stem)]
    return sorted((int(path.stem), path) for path in files)


def timelapse_frames(pictures: list[tuple[int, Path]], extra_last: int) -> Iterator[Frame]:
    """The pictures labelled with their step, the last one ``extra_last`` times more. All get the size of the last: a run may change it."""
    last = _read(pictures[-1][1])
    for step, path in pictures:
        frame = _read(path)
        if frame.shape != last.shape:
            frame = _resized(frame, last.shape[1], last.shape[0])
        yield write_label(frame, f"step {step}")
    for _ in range(extra_last):
        yield write_label(last, f"step {pictures[-1][0]}")


def _read(path: Path) -> Frame:
    from PIL import Image

    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError) as error:  # PIL reports damaged PNG chunks as SyntaxError
        raise FileFormatError(f"{path}: not a readable picture ({error}); delete it") from error


def _resized(frame: Frame, width: int, height: int) -> Frame:
    from PIL import Image

    return np.asarray(Image.fromarray(frame).resize((width, height)))
