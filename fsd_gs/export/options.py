"""What an exporter is told beside the splats and the path: its own module, so that exporters need not know the table they stand in."""

from __future__ import annotations

from dataclasses import dataclass, field

from fsd_gs.export.mesh import MeshSettings
from fsd_gs.export.pictures import Progress, SplatRasterizer, TurntableSettings
from fsd_gs.export.provenance import Provenance


@dataclass
class ExportOptions:
    """What exporters may need to know.

    Args:
        target: frame of the file, a name in ``TARGETS``; None: the format's own. Exporters get it resolved.
        sh_pad: zero SH coefficients up to this degree; None: as many as the splats have (3 for the .ply of ``unity``).
        title: of a page.
        provenance: written into files with a place for it.
        rasterizer: for meshes and pictures.
        turntable, mesh: settings of those kinds.
        sheet_views, sheet_columns: layout of the png.
        progress: called with (done, total) now and then.
        strict: refuse where a splat format would change a value by more than its own rounding, which is a warning otherwise.
    """

    target: str | None = None
    sh_pad: int | None = None
    title: str = "splats"
    provenance: Provenance = field(default_factory=Provenance)
    rasterizer: SplatRasterizer | None = None
    turntable: TurntableSettings = field(default_factory=TurntableSettings)
    mesh: MeshSettings = field(default_factory=MeshSettings)
    sheet_views: int = 8
    sheet_columns: int = 4
    progress: Progress | None = None
    strict: bool = False
