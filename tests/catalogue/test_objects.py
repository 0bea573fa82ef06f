"""The catalogue: every category × design builds, fits, is deterministic, differs visibly and wears its colour."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest
import torch

from fsd_gs.catalogue.mesh import sample_surface
from fsd_gs.catalogue.objects import CATEGORIES, CatalogueObject, make_object, sample_objects
from fsd_gs.catalogue.palette import COLORS
from fsd_gs.catalogue.render import render_mesh
from fsd_gs.core.cameras import orbit_cameras
from fsd_gs.errors import InputError

DESIGNS = [(category.name, design) for category in CATEGORIES.values() for design in category.designs]
VIEWS = orbit_cameras([20.0, 140.0, 260.0], 18.0, width=40)


@pytest.fixture(scope="module")
def built() -> dict[tuple[str, str], CatalogueObject]:
    """One object of every category × design, all of a category in the same colour."""
    return {(name, design): make_object(name, 7, design=design, color=CATEGORIES[name].colors[0]) for name, design in DESIGNS}


@pytest.fixture(scope="module")
def views(built) -> dict[tuple[str, str], torch.Tensor]:
    return {key: render_mesh(obj.mesh, VIEWS, supersample=2) for key, obj in built.items()}


def test_size_of_the_catalogue() -> None:
    assert len(CATEGORIES) >= 32
    for category in CATEGORIES.values():
        assert len(category.designs) >= 3, category.name
        assert len(set(category.designs)) == len(category.designs)
        assert set(category.colors) <= set(COLORS), category.name


@pytest.mark.long
def test_meshes_are_finite_coloured_and_just_fit_the_ball(built) -> None:
    for key, obj in built.items():
        mesh = obj.mesh
        assert np.isfinite(np.r_[mesh.vertices, mesh.colors]).all(), key
        assert 0 <= mesh.colors.min() <= mesh.colors.max() <= 1, key
        radius = np.linalg.norm(mesh.vertices, axis=1).max()
        assert 0.88 <= radius <= 0.95, (key, radius)
        assert 100 <= len(mesh.faces) <= 6500, (key, len(mesh.faces))


@pytest.mark.long
def test_cameras_at_the_default_distance_see_the_whole_object(views) -> None:
    for key, rgba in views.items():
        alpha = rgba[..., 3]
        border = torch.cat([alpha[:, 0], alpha[:, -1], alpha[:, :, 0], alpha[:, :, -1]], dim=1)
        assert float(border.max()) == 0.0, key
        assert 0.02 < float(alpha.mean()) < 0.6, (key, float(alpha.mean()))


@pytest.mark.long
def test_faces_turn_outwards(built) -> None:
    """Seen from any camera, what lies in front shows its outer side: removing faces turned away changes no picture by much."""
    for key, obj in built.items():
        mesh = obj.mesh
        a, b, c = (mesh.vertices[mesh.faces[:, k]] for k in range(3))
        towards = np.einsum("ij,ij->i", np.cross(b - a, c - a), VIEWS.positions[0].numpy() - a) > 0
        front_only = type(mesh)(mesh.vertices, mesh.faces[towards], mesh.colors)
        whole, culled = (render_mesh(m, VIEWS[0], supersample=1) for m in (mesh, front_only))
        wrong = (whole - culled).abs().amax(-1) > 0.05
        assert float(wrong.sum()) <= 0.03 * float((whole[..., 3] > 0).sum()), key


@pytest.mark.long
def test_same_seed_same_object_also_in_another_process() -> None:
    code = (
        "import hashlib; from fsd_gs.catalogue.objects import make_object; o = make_object('robot', 11); "
        "print(o.caption, hashlib.sha256(o.mesh.vertices.tobytes() + o.mesh.colors.tobytes()).hexdigest())"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    obj = make_object("robot", 11)
    assert out == f"{obj.caption} {hashlib.sha256(obj.mesh.vertices.tobytes() + obj.mesh.colors.tobytes()).hexdigest()}"


def test_seeds_vary_proportions_and_a_fixed_colour_leaves_the_shape_alone() -> None:
    red, blue = (make_object("chair", 5, design="with armrests", color=c) for c in ("red", "blue"))
    assert np.array_equal(np.sort(red.mesh.vertices.sum(1)), np.sort(blue.mesh.vertices.sum(1)))
    other = make_object("chair", 6, design="with armrests", color="red")
    extent = lambda obj: np.ptp(obj.mesh.vertices, axis=0)  # noqa: E731
    assert np.abs(extent(red) - extent(other)).max() > 0.01


@pytest.mark.long
def test_designs_of_a_category_differ_visibly(views) -> None:
    for category in CATEGORIES.values():
        pictures = [views[category.name, design] for design in category.designs]
        for i, first in enumerate(pictures):
            for second in pictures[i + 1 :]:
                covered = torch.maximum(first[..., 3], second[..., 3]).mean()
                change = float((first - second).abs().mean() / covered)
                assert change > 0.05, (category.name, category.designs[i], change)


# Objects whose named colour is one part among others: a tower's roof, a sword's grip, a house's walls, a windmill's body.
PARTIAL = {"sword", "castle tower", "house", "windmill"}


@pytest.mark.parametrize("name", sorted(CATEGORIES))
def test_the_named_colour_shows(name: str) -> None:
    """Repainting an object from its first to its last colour moves its mean colour by a good part of the way."""
    category = CATEGORIES[name]
    design = category.designs[0]
    first, last = category.colors[0], category.colors[-1]
    pixels = {}
    for color in (first, last):
        rgba = render_mesh(make_object(name, 3, design=design, color=color).mesh, VIEWS, supersample=1)
        pixels[color] = rgba[rgba[..., 3] > 0.5][:, :3]
    direction = torch.tensor(COLORS[last]) - torch.tensor(COLORS[first])
    moved = (pixels[last].mean(0) - pixels[first].mean(0)) @ direction / (direction @ direction)
    assert float(moved) > (0.05 if name in PARTIAL else 0.15), float(moved)


def test_sampling_is_stratified_over_designs_and_colours() -> None:
    category = CATEGORIES["lamp"]
    objects = sample_objects("lamp", 2 * len(category.designs), seed=1)
    counts = [sum(o.design == d for o in objects) for d in category.designs]
    assert counts == [2] * len(category.designs)
    assert len({o.color for o in objects}) == min(len(objects), len(category.colors))
    assert len({o.seed for o in objects}) == len(objects)
    assert [o.caption for o in objects] == [o.caption for o in sample_objects("lamp", len(objects), seed=1)]
    fixed = sample_objects("lamp", 4, seed=2, design="with an arm", color="red")
    assert {o.caption for o in fixed} == {"a red lamp with an arm"}


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: make_object("chiar", 0), "category: unknown name 'chiar'; did you mean 'chair'"),
        (lambda: make_object("chair", 0, design="with a tall bak"), "did you mean 'with a tall back'"),
        (lambda: make_object("apple", 0, color="blue"), "color: unknown name 'blue'"),
        (lambda: sample_objects("apple", 0, 0), "count: expected at least 1"),
    ],
)
def test_bad_input_is_named(call, match: str) -> None:
    with pytest.raises(InputError, match=match):
        call()


def test_surface_samples_lie_on_the_mesh_with_its_normals_and_colours() -> None:
    mesh = make_object("mug", 0, design="with a straight wall", color="red").mesh
    points, normals, colors = sample_surface(mesh, 400, torch.Generator().manual_seed(0))
    assert points.shape == normals.shape == colors.shape == (400, 3)
    torch.testing.assert_close(normals.norm(dim=1), torch.ones(400))
    a = torch.from_numpy(mesh.vertices[mesh.faces])
    planes = torch.nn.functional.normalize(torch.linalg.cross(a[:, 1] - a[:, 0], a[:, 2] - a[:, 0]), dim=1)
    offset = ((points[:, None] - a[None, :, 0]) * planes).sum(-1).abs()
    agrees = (normals @ planes.T) > 0.999
    assert float(offset.masked_fill(~agrees, 9.0).amin(1).max()) < 1e-4
    assert float(colors.min()) >= 0
    assert float(colors.max()) <= 1
    again = sample_surface(mesh, 400, torch.Generator().manual_seed(0))[0]
    assert torch.equal(points, again)


def test_surface_samples_are_uniform_in_area() -> None:
    mesh = make_object("gift", 0).mesh
    points, _, _ = sample_surface(mesh, 20000, torch.Generator().manual_seed(0))
    corners = mesh.vertices[mesh.faces].astype(np.float64)
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    centroid = (area[:, None] * corners.mean(1)).sum(0) / area.sum()
    assert np.abs(points.mean(0).numpy() - centroid).max() < 0.02
