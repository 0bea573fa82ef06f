"""Frames → H.264 in an .mp4, through PyAV (FFmpeg's libraries in this process, so that their errors are errors here).

The pixel format is yuv420p, the one that everything plays: colour is stored for 2 × 2 pixels, so a picture of odd size gets its last row
or column once more. Y'CbCr is BT.709 and says so in the file. The index ("moov") stands in front, so that a video starts while it loads.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fsd_gs.core.sheets import Frame
from fsd_gs.errors import BackendError, InputError
from fsd_gs.io import atomic_write, output_error

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.stream import VideoStream

log = logging.getLogger(__name__)

ENCODER = "libx264"
QUALITY = {"crf": "16", "preset": "medium"}  # close to lossless to the eye
BT709 = 1  # the number of the matrix, the primaries and the transfer curve in H.264 (ITU-T H.273)
NO_ENCODER_NEEDED = "gif and png need no encoder"


def save_mp4(frames: Iterable[Frame], path: str | os.PathLike[str], *, fps: int, metadata: Mapping[str, str] | None = None) -> None:
    """Write a video; whatever fails, the file that was there before is as it was.

    Args:
        frames: uint8 [H, W, 3], sRGB, all of one size; taken one at a time.
        path: the .mp4.
        fps: frames a second.
        metadata: tags of the file; the format keeps title, artist, comment, copyright, description and date.

    Raises:
        BackendError: PyAV, or its H.264 encoder, is missing.
        InputError: there are no frames, or they differ in size.
        OutputError: the place cannot take the file.
    """
    require_encoder()
    import av

    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise InputError("frames: expected at least one, got none")
    height, width = (side + side % 2 for side in first.shape[:2])
    if (height, width) != first.shape[:2]:
        log.warning("%s: %d × %d pixels, padded from %d × %d: the format needs even sides", path, width, height, *first.shape[1::-1])
    with atomic_write(path) as temporary:
        try:
            with av.open(os.fspath(temporary), "w", format="mp4", options={"movflags": "faststart"}) as container:
                container.metadata.update(metadata or {})
                stream = _stream(container, width, height, fps)
                for frame in chain([first], frames):
                    if frame.shape != first.shape:
                        raise InputError(f"frames: expected one size, got {first.shape} and {frame.shape}")
                    container.mux(stream.encode(_picture(frame)))
                container.mux(stream.encode(None))
        except av.FFmpegError as error:  # pyright: ignore[reportPrivateImportUsage]
            # It carries the operating system's number where that is the cause.
            raise output_error(Path(path), OSError(error.errno, f"the video encoder reports: {error.strerror}")) from error


def require_encoder() -> str:
    """FFmpeg's version with its H.264 encoder, in words; BackendError says what to install."""
    try:
        import av
    except ImportError as error:
        raise BackendError(f"writing mp4 needs PyAV, which cannot be loaded ({error}): pip install av; {NO_ENCODER_NEEDED}") from error
    if ENCODER not in av.codecs_available:
        raise BackendError(
            f"this build of PyAV {av.__version__} has no H.264 encoder ({ENCODER}): "
            f"pip install --force-reinstall av (PyPI's wheels have it); {NO_ENCODER_NEEDED}"
        )
    return f"PyAV {av.__version__} with {ENCODER}"


def _stream(container: OutputContainer, width: int, height: int, fps: int) -> VideoStream:
    stream: Any = container.add_stream(ENCODER, rate=fps, options=QUALITY)
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    context = stream.codec_context
    context.colorspace = context.color_primaries = context.color_trc = BT709
    return stream


def _picture(frame: Frame) -> Any:
    """The frame with even sides as FFmpeg holds it."""
    import av

    padded = np.pad(frame, ((0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)), mode="edge")
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(padded), format="rgb24").reformat(
        format="yuv420p", dst_colorspace="ITU709", src_color_range="JPEG", dst_color_range="MPEG"
    )
