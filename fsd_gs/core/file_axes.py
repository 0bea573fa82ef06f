"""How files stand: one line a format, for everybody who reads or writes one.

Our world is right-handed, z up, and the front of an object looks along +x. A *frame* is another choice of axes, given as the matrix
file_from_world whose rows are the file's x, y and z in world coordinates. A format belongs to one of three kinds:

* its specification fixes the frame (SPZ, glTF, and OBJ by the habit of every importer): writers and readers turn always;
* it has a place for words (.ply comments, SOG's meta.json): the frame that its readers expect is written and named there, and our reader
  undoes what the file names; a file that names nothing is left as it stands;
* it has neither (.splat, .ksplat): the numbers are left as they stand, unless the caller names a frame.

Nothing here needs torch: the table serves splats and meshes alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

Vector = tuple[float, float, float]
Matrix = tuple[Vector, Vector, Vector]

_RIGHT, _UP, _FRONT = (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1.0, 0.0, 0.0)  # of our world, seen by a viewer before the object


def _negative(axis: Vector) -> Vector:
    return (-axis[0], -axis[1], -axis[2])


@dataclass(frozen=True)
class Frame:
    """Axes of a file.

    Attributes:
        file_from_world: rows are the file's x, y, z in world coordinates.
        words: the same for people.
    """

    file_from_world: Matrix
    words: str

    @property
    def up(self) -> str:
        """The file's axis that points up, such as "-y"."""
        return self._axis_along(_UP)

    @property
    def front(self) -> str:
        """The file's axis that the front of an object looks along, such as "+z"."""
        return self._axis_along(_FRONT)

    @property
    def handedness(self) -> str:
        """ "right", or "left" where the numbers are mirrored."""
        (a, b, c), (d, e, f), (g, h, i) = self.file_from_world
        return "right" if a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g) > 0 else "left"

    def _axis_along(self, direction: Vector) -> str:
        along = [sum(r * d for r, d in zip(row, direction, strict=True)) for row in self.file_from_world]
        index = max(range(3), key=lambda i: abs(along[i]))
        return f"{'+' if along[index] > 0 else '-'}{'xyz'[index]}"


#: Name → frame. The names are those of ``--target``: an application that reads files so.
FRAMES: dict[str, Frame] = {
    "raw": Frame(((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)), "z up, front along +x"),
    # The convention of COLMAP and the reference 3DGS code: x right, y down, z forward, away from the viewer.
    "supersplat": Frame((_RIGHT, _negative(_UP), _negative(_FRONT)), "y down, front along -z"),
    "spark": Frame((_RIGHT, _UP, _FRONT), "y up, front along +z"),  # three.js, glTF
    "unity": Frame((_negative(_RIGHT), _UP, _FRONT), "y up, front along +z, left-handed"),
    "blender": Frame((_RIGHT, _negative(_FRONT), _UP), "z up, front along -y"),
    "unreal": Frame((_FRONT, _negative(_RIGHT), _UP), "z up, front along +x, left-handed"),
}


@dataclass(frozen=True)
class FormatAxes:
    """How the files of a format stand.

    Attributes:
        frame: name in ``FRAMES`` that its readers expect.
        fixed: by specification, no target changes it.
        says: the file has a place where its frame is named.
    """

    frame: str
    fixed: bool = False
    says: bool = False


_COLMAP, _COLMAP_UNSAID, _Y_UP, _AS_OURS = (
    FormatAxes("supersplat", says=True),
    FormatAxes("supersplat"),
    FormatAxes("spark", fixed=True),
    FormatAxes("raw"),
)

#: Suffix → how its files stand. Splats first, then meshes; ``.ply`` is both, and the reader knows which it has before it.
SPLAT_AXES: dict[str, FormatAxes] = {
    ".ply": _COLMAP,
    ".compressed.ply": _COLMAP,
    ".sog": _COLMAP,
    ".splat": _COLMAP_UNSAID,
    ".ksplat": _COLMAP_UNSAID,
    ".spz": _Y_UP,  # Niantic's specification: RUB
    ".splat.glb": _Y_UP,  # glTF 2.0, 3.4 Coordinate System and Units: +Y up, the front of an asset faces +Z
    ".glb": _Y_UP,
    ".gltf": _Y_UP,
    ".usda": _Y_UP,  # said by the stage's upAxis; AR Quick Look takes nothing else
    ".usdc": _Y_UP,
    ".usdz": _Y_UP,
}
MESH_AXES: dict[str, FormatAxes] = {
    ".glb": _Y_UP,
    ".gltf": _Y_UP,
    ".obj": _Y_UP,  # not in the file's specification, but what importers of .obj take it for
    ".ply": _AS_OURS,
    ".stl": _AS_OURS,  # 3D printing: z up
    ".off": _AS_OURS,
}

_MARK = "fsd_gs.axes = "


def splat_axes(path: Path) -> FormatAxes:
    """The line of ``SPLAT_AXES`` for a file's name: its longest known suffix; our own axes for a suffix that is not known."""
    matches = [suffix for suffix in SPLAT_AXES if path.name.lower().endswith(suffix)]
    return SPLAT_AXES[max(matches, key=len)] if matches else _AS_OURS


def axes_comment(frame: str) -> str:
    """The line that names ``frame`` in a file with room for words."""
    return f"{_MARK}{frame} ({FRAMES[frame].words})"


def stated_axes(comments: Iterable[str]) -> str | None:
    """The frame that :func:`axes_comment` named in one of ``comments``; None where none did (or one that we do not know)."""
    for line in comments:
        name = line.strip().removeprefix(_MARK).split(" ")[0]
        if line.strip().startswith(_MARK) and name in FRAMES:
            return name
    return None
