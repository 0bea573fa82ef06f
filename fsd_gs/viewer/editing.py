"""Cleaning an asset by hand: which splats are selected, and what was done to them, with a way back. No widget and no server in here.

A camera is that of a browser: with R = R(wxyz) from camera to world (OpenCV axes), position c, vertical field of view φ and aspect a,

    (x, y, z) = Rᵀ (μ − c),     u = ½ + x / (2 z a tan φ/2),     v = ½ + y / (2 z tan φ/2),     z > 0

is where a centre μ stands on the screen, (0, 0) the upper left corner, (1, 1) the lower right one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from fsd_gs.core.points import component_masses
from fsd_gs.core.quaternions import matrix_from_quat
from fsd_gs.core.sh import rgb_from_sh0, sh0_from_rgb
from fsd_gs.core.types import Gaussians
from fsd_gs.errors import InputError
from fsd_gs.export.axes import transform
from fsd_gs.export.filters import recentre
from fsd_gs.viewer.painter import View

Combine = Literal["replace", "add", "remove"]
COMBINE: tuple[Combine, ...] = ("replace", "add", "remove")
HIGHLIGHT = (1.0, 0.75, 0.0)
MOST_UNDO = 30


@dataclass(frozen=True)
class State:
    """An asset in the making and what of it is selected.

    Attributes:
        splats: N of them.
        selected: [N] bool.
    """

    splats: Gaussians
    selected: Tensor


class Editor:
    """One asset being cleaned. Each method is one step that :meth:`undo` takes back."""

    def __init__(self, splats: Gaussians) -> None:
        self._states = [State(splats, torch.zeros(len(splats), dtype=torch.bool))]
        self._at = 0
        self._saved = splats

    @property
    def splats(self) -> Gaussians:
        return self._states[self._at].splats

    @property
    def selected(self) -> Tensor:
        return self._states[self._at].selected

    @property
    def changed(self) -> bool:
        """Whether there is anything to save."""
        return self.splats is not self._saved

    def mark_saved(self) -> None:
        self._saved = self.splats

    def select(self, mask: Tensor, combine: Combine = "replace") -> None:
        """Set, widen or narrow the selection by ``mask`` [N] bool."""
        before = self.selected
        mask = mask.cpu()
        after = mask if combine == "replace" else before | mask if combine == "add" else before & ~mask
        if not torch.equal(after, before):
            self._push(State(self.splats, after))

    def invert(self) -> None:
        self._push(State(self.splats, ~self.selected))

    def delete(self) -> int:
        """Drop what is selected; how many splats that were.

        Raises:
            InputError: nothing is selected, or everything is.
        """
        count = int(self.selected.sum())
        if not count:
            raise InputError("nothing is selected; choose a tool or a slider first")
        if count == len(self.splats):
            raise InputError("everything is selected; an asset needs at least one splat")
        self._change(self.splats.select(~self.selected))
        return count

    def recentre(self) -> None:
        """The middle of the bounding box to the origin."""
        self._change(recentre(self.splats), keep_selection=True)

    def turn(self, axis: str, degrees: float) -> None:
        """Counter-clockwise about the world's x, y or z axis."""
        if axis not in "xyz" or len(axis) != 1 or not math.isfinite(degrees):
            raise InputError(f"turn: expected an axis x, y or z and degrees, got {axis} and {degrees}")
        angle = math.radians(degrees)
        first, second = [k for k in range(3) if k != "xyz".index(axis)]
        matrix = torch.eye(3, dtype=torch.float64)
        sine = math.sin(angle) * (-1 if axis == "y" else 1)
        matrix[first, first] = matrix[second, second] = math.cos(angle)
        matrix[second, first], matrix[first, second] = sine, -sine
        self._change(transform(self.splats, matrix), keep_selection=True)

    def set_height(self, height: float) -> None:
        """Scale about the origin so that the centres span ``height`` along z, in the units of whoever opens the file."""
        if not (math.isfinite(height) and 0 < height <= 1e6):
            raise InputError(f"height: expected a number above 0 and at most 1000000, got {height}")
        span = float(self.splats.means[:, 2].max() - self.splats.means[:, 2].min())
        if span <= 0:
            raise InputError("height: the asset is flat; turn it upright first")
        factor = height / span
        scaled = replace(self.splats, means=self.splats.means * factor, scales=self.splats.scales * factor)
        self._change(scaled, keep_selection=True)

    def undo(self) -> bool:
        return self._step(-1)

    def redo(self) -> bool:
        return self._step(1)

    def highlighted(self) -> Gaussians:
        """The splats with the selected ones in one strong colour."""
        if not bool(self.selected.any()):
            return self.splats
        sh = self.splats.sh.clone()
        sh[self.selected] = 0.0
        sh[self.selected, 0] = sh0_from_rgb(sh.new_tensor(HIGHLIGHT))
        opacities = torch.where(self.selected, self.splats.opacities.clamp_min(0.6), self.splats.opacities)
        return replace(self.splats, sh=sh, opacities=opacities)

    def _change(self, splats: Gaussians, *, keep_selection: bool = False) -> None:
        self._push(State(splats, self.selected if keep_selection else torch.zeros(len(splats), dtype=torch.bool)))

    def _push(self, state: State) -> None:
        self._states = [*self._states[: self._at + 1], state][-MOST_UNDO - 1 :]
        self._at = len(self._states) - 1

    def _step(self, by: int) -> bool:
        moved = 0 <= self._at + by < len(self._states)
        self._at += by if moved else 0
        return moved


# -- what a tool takes: masks [N] ------------------------------------------------------------------------------------------


def on_screen(points: Tensor, view: View) -> tuple[Tensor, Tensor]:
    """(u, v) [N, 2] of ``points`` [N, 3] as ``view`` shows them, and whether they are in front of it [N]."""
    rotation = matrix_from_quat(torch.tensor([view.wxyz], dtype=torch.float64))[0]
    x, y, z = ((points.double() - torch.tensor(view.position, dtype=torch.float64)) @ rotation).unbind(1)
    half = math.tan(view.fov / 2)
    depth = z.clamp_min(1e-9)
    return torch.stack([0.5 + x / (2 * depth * half * view.aspect), 0.5 + y / (2 * depth * half)], dim=1), z > 1e-9


def in_rectangle(points: Tensor, view: View, low: tuple[float, float], high: tuple[float, float]) -> Tensor:
    """What stands in the rectangle on the screen, whatever its depth."""
    uv, front = on_screen(points, view)
    a, b = torch.tensor(low, dtype=torch.float64), torch.tensor(high, dtype=torch.float64)
    return front & (uv >= torch.minimum(a, b)).all(dim=1) & (uv <= torch.maximum(a, b)).all(dim=1)


def under_brush(points: Tensor, view: View, at: tuple[float, float], radius: float) -> Tensor:
    """What stands within ``radius`` (a share of the screen's height) of a place on the screen."""
    uv, front = on_screen(points, view)
    offset = (uv - torch.tensor(at, dtype=torch.float64)) * torch.tensor([view.aspect, 1.0], dtype=torch.float64)
    return front & (offset.norm(dim=1) <= radius)


def in_sphere(points: Tensor, centre: tuple[float, float, float], radius: float) -> Tensor:
    """Centres within ``radius`` of ``centre``."""
    return (points - points.new_tensor(centre)).norm(dim=1) <= radius


def in_box(points: Tensor, centre: tuple[float, float, float], side: float) -> Tensor:
    """Centres in the cube of that side."""
    return ((points - points.new_tensor(centre)).abs() <= side / 2).all(dim=1)


def fainter(splats: Gaussians, opacity: float) -> Tensor:
    """Splats below an opacity."""
    return splats.opacities < opacity


def larger(splats: Gaussians, share: float) -> Tensor:
    """Splats whose largest standard deviation is above ``share`` of the asset's own radius."""
    return splats.scales.amax(dim=1) > share * _radius(splats)


def of_colour(splats: Gaussians, rgb: tuple[float, float, float], tolerance: float) -> Tensor:
    """Base colours within ``tolerance`` of ``rgb``, all in [0, 1], by the largest difference of a channel."""
    return (rgb_from_sh0(splats.sh[:, 0]).clamp(0, 1) - splats.sh.new_tensor(rgb)).abs().amax(dim=1) <= tolerance


def away_from_body(splats: Gaussians, share: float) -> Tensor:
    """Splats outside the heaviest connected piece that are farther from it than ``share`` of the asset's radius."""
    from scipy.spatial import KDTree

    if len(splats) < 2:
        return torch.zeros(len(splats), dtype=torch.bool)
    labels, mass = component_masses(splats)
    body = labels == mass.argmax()
    distance, _ = KDTree(splats.means[body].double().numpy()).query(splats.means.double().numpy())
    return ~body & (torch.from_numpy(distance) > share * _radius(splats))


def _radius(splats: Gaussians) -> float:
    """Of the ball around the median that holds nine tenths of the centres: floaters do not stretch it."""
    return float((splats.means - splats.means.median(dim=0).values).norm(dim=1).quantile(0.9).clamp_min(1e-9))
