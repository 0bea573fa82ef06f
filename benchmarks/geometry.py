"""How well holes and tears are found: catalogue objects as surface splats, with balls of splats cut out. The tables of docs/geometry.md.

    python benchmarks/geometry.py                 # all categories, about five minutes on one core
    python benchmarks/geometry.py --objects 20    # the first 20 categories

A case cuts one ball of radius r out of one object, centred on its surface where the surface is *wide*: in at least one view the disk
of radius r + 2σ around the centre (σ the splats' scale) lies in the silhouette, at depths within r + 2σ of the centre's: no rim of a
plate, no leg thinner than the hole. The truth T of a case holds the pixels of these disks where the cut moved the surface back by more
than τ, or away altogether, by comparison with the intact object, which the metric never sees. Cases where another surface lies within τ
open nothing; they are counted apart. A case is found if a flagged pixel is in T.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass

import numpy as np
import torch

from fsd_gs.catalogue.mesh import Mesh, sample_surface
from fsd_gs.catalogue.objects import CATEGORIES, make_object
from fsd_gs.core.cameras import evaluation_orbit
from fsd_gs.core.sh import sh0_from_rgb
from fsd_gs.core.types import Cameras, Gaussians
from fsd_gs.metrics.geometry import GeometrySettings, gap_report, geometry_report, tear_report
from fsd_gs.metrics.geometry.rays import points_in_view
from fsd_gs.render.base import make_rasterizer, render_frames

SPLATS = 10_000
RADII = (0.06, 0.1, 0.15, 0.2)
MANY = ((5, 0.1), (20, 0.1), (5, 0.15), (20, 0.15))
SETTINGS = GeometrySettings()
RASTERIZER = make_rasterizer("cpu")


def surface_splats(mesh: Mesh, count: int = SPLATS, seed: int = 0) -> Gaussians:
    """About ``count`` nearly opaque disks, evenly spaced on the surface (a random sample would have gaps of its own)."""
    from scipy.spatial import KDTree

    points, normals, colors = sample_surface(mesh, 6 * count, torch.Generator().manual_seed(seed))
    corners = torch.from_numpy(mesh.vertices[mesh.faces]).float()
    area = float(torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).norm(dim=1).sum()) / 2
    spacing = 0.83 * math.sqrt(area / count)  # disks thrown until no more fit lie this close
    alive, kept = np.ones(len(points), dtype=bool), []
    xyz = points.double().numpy()
    for i, near in enumerate(KDTree(xyz).query_ball_point(xyz, spacing)):
        if alive[i]:
            alive[near] = False
            kept.append(i)
    points, normals, colors = points[kept].float(), normals[kept].float(), colors[kept].float()
    quats = torch.stack([1 + normals[:, 2], -normals[:, 1], normals[:, 0], torch.zeros(len(kept))], dim=1)  # turns z to the normal
    quats[quats.norm(dim=1) < 1e-3] = torch.tensor([0.0, 1.0, 0.0, 0.0])
    scales = torch.tensor([0.9, 0.9, 0.2]).repeat(len(kept), 1) * spacing
    sh = sh0_from_rgb(colors)[:, None]
    return Gaussians(points, torch.nn.functional.normalize(quats, dim=1), scales, torch.full((len(kept),), 0.95), sh)


@dataclass
class Views:
    """Alphas and depths [V, H, W]; depths ∞ outside the silhouettes."""

    a: np.ndarray
    z: np.ndarray

    @classmethod
    def of(cls, splats: Gaussians, cameras: Cameras) -> Views:
        render = render_frames(RASTERIZER, splats, cameras, depth=True)
        assert render.depth is not None
        a = render.alpha[..., 0].double().numpy()
        return cls(a, np.where(a > 0.5, render.depth[..., 0].double().numpy(), np.inf))

    def flagged(self, cameras: Cameras) -> tuple[np.ndarray, np.ndarray]:
        """Pixels [V, H, W] of the holes, and of the tears."""
        z = np.where(np.isfinite(self.z), self.z, 0)
        return gap_report(self.a, cameras, SETTINGS).mask, tear_report(self.a, z, cameras, SETTINGS).mask


def disks_of_wide_views(views: Views, cameras: Cameras, centre: np.ndarray, radius: float) -> np.ndarray:
    """[V, H, W] pixels around ``centre``, in the views where it is seen on a wide surface; False elsewhere."""
    disks = np.zeros(views.a.shape, dtype=bool)
    yy, xx = np.mgrid[: cameras.height, : cameras.width]
    for v in range(len(cameras)):
        row, column, depth, seen = (x[0] for x in points_in_view(cameras, v, centre[None]))
        if not seen or abs(views.z[v, row, column] - depth) > 0.03:
            continue
        disk = np.hypot(yy - row, xx - column) <= radius * float(cameras.Ks[v, 0, 0]) / depth + 1
        if (np.abs(views.z[v][disk] - depth) <= radius).all():
            disks[v] = disk
    return disks


def without_balls(splats: Gaussians, centres: torch.Tensor, radius: float) -> Gaussians:
    return splats.select((torch.cdist(splats.means, centres) > radius).all(dim=1))


def cut_case(
    splats: Gaussians, intact: Views, cameras: Cameras, radius: float, rng: np.random.Generator
) -> tuple[Views, np.ndarray] | None:
    """Views of the object with one ball cut out of a wide surface, and the truth [V, H, W]; None where no surface is wide enough."""
    margin = radius + 2 * float(splats.scales[0, 0])
    for index in rng.permutation(len(splats))[:200]:
        centre = splats.means[index]
        disks = disks_of_wide_views(intact, cameras, centre.double().numpy(), margin)
        if disks.any():
            cut = Views.of(without_balls(splats, centre[None], radius), cameras)
            with np.errstate(invalid="ignore"):
                return cut, disks & (cut.z - intact.z > SETTINGS.tear_depth)
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=len(CATEGORIES), help="how many categories, one object each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=128, help="pixels a side")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cameras = evaluation_orbit(24, width=options.size)
    names = list(CATEGORIES)[: options.objects]
    single: dict[float, list[tuple[int, int, int, int]]] = {radius: [] for radius in RADII}  # |T|, holes in T, flagged in T, flagged beside
    verdicts: dict[tuple[int, float], list[bool]] = {many: [] for many in MANY}
    reports, seconds, skipped = {}, [], dict.fromkeys(RADII, 0)
    for number, name in enumerate(names):
        rng = np.random.default_rng([options.seed, number])
        splats = surface_splats(make_object(name, options.seed).mesh)
        began = time.perf_counter()
        reports[name] = geometry_report(splats, RASTERIZER, cameras)
        seconds.append(time.perf_counter() - began)
        intact = Views.of(splats, cameras)
        at_rest = np.logical_or(*intact.flagged(cameras))
        for radius in RADII:
            case = cut_case(splats, intact, cameras, radius, rng)
            if case is None:
                skipped[radius] += 1
                continue
            cut, truth = case
            holes, tears = cut.flagged(cameras)
            flagged = holes | tears
            changed = cut.z != intact.z
            single[radius].append((truth.sum(), (holes & truth).sum(), (flagged & truth).sum(), (flagged & ~changed & ~at_rest).sum()))
        for count, radius in MANY:
            centres = splats.means[torch.from_numpy(rng.choice(len(splats), count, replace=False))]
            verdicts[count, radius].append("holes" in geometry_report(without_balls(splats, centres, radius), RASTERIZER, cameras).failures)
    print_single(single, skipped)
    print_intact(reports, seconds)
    print("\n| balls cut out, anywhere | objects that fail as holes |\n|---|---|")
    for (count, radius), failed in verdicts.items():
        print(f"| {count} of r = {radius} | {sum(failed)} of {len(failed)} |")


def print_single(single: dict[float, list[tuple[int, int, int, int]]], skipped: dict[float, int]) -> None:
    print("| r | cases | open nothing | found by alpha | found | of these pixels | no wide surface |\n|---|---|---|---|---|---|---|")
    for radius, cases in single.items():
        opened = [case for case in cases if case[0] >= 4]
        by_alpha, found = (sum(case[i] > 0 for case in opened) for i in (1, 2))
        share = sum(case[2] for case in opened) / max(sum(case[0] for case in opened), 1)
        print(
            f"| {radius} | {len(opened)} | {len(cases) - len(opened)} | {by_alpha} ({by_alpha / len(opened):.0%}) "
            f"| {found} ({found / len(opened):.0%}) | {share:.0%} | {skipped[radius]} |"
        )
    beside = sum(case[3] for cases in single.values() for case in cases)
    truth = sum(case[0] for cases in single.values() for case in cases)
    print(f"\npixels newly flagged where the cut changed nothing: {beside}, against {truth} of truth")


def print_intact(reports: dict, seconds: list[float]) -> None:
    print(f"\n{len(reports)} intact objects, {np.mean(seconds):.2f} s a report (most {max(seconds):.2f})\n")
    print("| | median | 90 % | most | in |\n|---|---|---|---|---|")
    for measure in ("holes", "tears", "haze", "image_floaters"):
        values = np.array([getattr(report, measure) for report in reports.values()])
        worst = list(reports)[int(values.argmax())]
        print(f"| {measure} | {np.median(values):.4f} | {np.quantile(values, 0.9):.4f} | {values.max():.4f} | {worst} |")
    with_tears = {name: round(r.tears, 4) for name, r in sorted(reports.items(), key=lambda x: -x[1].tears) if r.tears > 0.0005}
    print(f"\nintact with tears > 0.0005: {with_tears}")
    print("intact that fail:", {name: r.failures for name, r in reports.items() if r.failures})


if __name__ == "__main__":
    main()
