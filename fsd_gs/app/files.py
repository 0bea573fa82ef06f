"""What can be downloaded of an asset: a closed list of names, so that no request ever names a path."""

from __future__ import annotations

import threading
from pathlib import Path

from fsd_gs.app.jobs import DONE, Job, NotFoundError
from fsd_gs.export.formats import export, format_of, load_splats
from fsd_gs.export.options import ExportOptions
from fsd_gs.export.versions import newest_version
from fsd_gs.train import runs
from fsd_gs.viewer.overview import thumbnail

THUMBNAIL = "thumbnail.jpg"
WRITTEN = {  # by the run itself
    runs.SPLATS: "application/octet-stream",
    runs.PREVIEW: "image/png",
    runs.TURNTABLE: "video/mp4",
    runs.TIMELAPSE: "video/mp4",
    runs.CONFIG: "application/yaml",
    runs.LOG: "application/jsonl",
}
MADE = {  # from the splats, when they are first asked for
    "view.html": "text/html; charset=utf-8",
    "asset.spz": "application/octet-stream",
    "asset.sog": "application/octet-stream",
    "asset.splat": "application/octet-stream",
    "asset.compressed.ply": "application/octet-stream",
    "asset.splat.glb": "model/gltf-binary",
}
MEDIA = {**WRITTEN, **MADE, THUMBNAIL: "image/jpeg"}
_making = threading.Lock()


def names(job: Job) -> list[str]:
    """The files that ``job`` has now."""
    written = [name for name in WRITTEN if (job.folder / name).is_file()]
    pictures = [THUMBNAIL] if runs.PREVIEW in written else []
    return [*written, *pictures, *(MADE if job.state in DONE and runs.SPLATS in written else ())]


def file_of(job: Job, name: str) -> Path | bytes:
    """The file ``name`` of ``job``, made now if it is one of ``MADE``; a thumbnail as bytes.

    Raises:
        NotFoundError: the asset has no such file.
    """
    missing = NotFoundError(f"{job.id}: no file '{name[:100]}'; it has {', '.join(names(job)) or 'none yet'}")
    if name not in names(job):
        raise missing
    if name in WRITTEN:
        return job.folder / name
    if name == THUMBNAIL:
        picture = thumbnail(job.folder / runs.PREVIEW)
        if picture is None:
            raise missing
        return picture
    return _made(job, name)


def _made(job: Job, name: str) -> Path:
    source, made = newest_version(job.folder / runs.SPLATS), job.folder / "export" / name
    with _making:
        if not made.is_file() or made.stat().st_mtime < source.stat().st_mtime:
            made.parent.mkdir(exist_ok=True)
            title = f"{job.config.prompt} · seed {job.config.seed}"
            export(load_splats(source), made, format_of(made), ExportOptions(title=title, provenance=runs.origin(job.config)))
    return made
