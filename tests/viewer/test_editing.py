"""Cleaning by hand without a browser: what each tool takes, against brute force; history; what is never possible."""

import math
from dataclasses import replace

import pytest
import torch
from export_scenes import egg

from fsd_gs.errors import InputError
from fsd_gs.export.ply import save_ply
from fsd_gs.render import make_rasterizer
from fsd_gs.viewer import editing
from fsd_gs.viewer.editing import Editor
from fsd_gs.viewer.painter import View, camera_of

VIEW = View((0.5, -0.5, 0.5, -0.5), (-3.0, 0.1, 0.2), math.radians(40), 1.5)


def with_floater(count=500):
    """An egg and five splats that hang in the air at (0, 0, 0.9)."""
    splats, extra = egg(count), egg(count).select(torch.arange(5))
    extra = replace(extra, means=torch.tensor([0.0, 0.0, 0.9]) + 0.01 * extra.means, scales=0.2 * extra.scales)
    return type(splats)(*(torch.cat([getattr(splats, n), getattr(extra, n)]) for n in ("means", "quats", "scales", "opacities", "sh")))


def test_the_screen_is_the_rasterizers():
    points = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    points[0] = torch.tensor([-5.0, 0.0, 0.0])
    uv, front = editing.on_screen(points, VIEW)
    camera = camera_of(VIEW, 400)
    inside = camera.viewmats[0].double() @ torch.cat([points.double(), torch.ones(200, 1)], dim=1).T
    pixels = camera.Ks[0].double() @ inside[:3]
    expected = (pixels[:2] / pixels[2]).T / torch.tensor([camera.width, camera.height])
    seen = inside[2] > 0
    assert torch.equal(front, seen)
    assert 0 < int(seen.sum()) < 200
    assert torch.allclose(uv[seen], expected[seen], atol=1e-5)


def test_rectangle_and_brush_take_what_stands_there():
    points = torch.randn(500, 3, generator=torch.Generator().manual_seed(1))
    uv, front = editing.on_screen(points, VIEW)
    found = editing.in_rectangle(points, VIEW, (0.7, 0.6), (0.2, 0.3))  # corners in any order
    assert found.tolist() == [bool(f and 0.2 <= u <= 0.7 and 0.3 <= v <= 0.6) for (u, v), f in zip(uv, front, strict=True)]
    brush = editing.under_brush(points, VIEW, (0.5, 0.5), 0.1)
    near = [bool(f and math.hypot((u - 0.5) * 1.5, v - 0.5) <= 0.1) for (u, v), f in zip(uv, front, strict=True)]
    assert brush.tolist() == near
    assert 0 < sum(near) < int(found.sum())


def test_rules():
    splats = with_floater()
    assert editing.away_from_body(splats, 0.1).nonzero()[:, 0].tolist() == list(range(500, 505))
    assert not editing.away_from_body(splats, 10.0).any()
    assert torch.equal(editing.fainter(splats, 0.5), splats.opacities < 0.5)
    big = replace(splats, scales=torch.where(torch.arange(505)[:, None] == 7, 5.0, splats.scales))
    assert editing.larger(big, 0.9).nonzero().tolist() == [[7]]
    red = replace(splats, sh=torch.zeros_like(splats.sh))
    assert editing.of_colour(red, (0.5, 0.5, 0.5), 0.01).all()
    assert not editing.of_colour(red, (1.0, 0.5, 0.5), 0.3).any()
    assert int(editing.in_sphere(splats.means, (0, 0, 0.9), 0.2).sum()) == 5
    assert int(editing.in_box(splats.means, (0, 0, 0.9), 0.4).sum()) == 5


def test_every_step_can_be_taken_back():
    splats = with_floater()
    editor = Editor(splats)
    editor.select(editing.away_from_body(splats, 0.1))
    assert editor.delete() == 5
    assert len(editor.splats) == 500
    assert editor.changed
    editor.turn("x", 90)
    editor.recentre()
    editor.set_height(3.0)
    assert float(editor.splats.means[:, 2].max() - editor.splats.means[:, 2].min()) == pytest.approx(3.0, rel=1e-5)
    for _ in range(5):
        assert editor.undo()
    assert editor.splats is splats
    assert not editor.changed
    assert not editor.undo()
    assert all(editor.redo() for _ in range(5))
    assert not editor.redo()
    editor.undo()
    editor.select(torch.ones(500, dtype=torch.bool))
    assert not editor.redo()  # a new step ends what could be done again


def test_turns_are_counter_clockwise():
    for axis, start, end in (("x", (0, 1, 0), (0, 0, 1)), ("y", (0, 0, 1), (1, 0, 0)), ("z", (1, 0, 0), (0, 1, 0))):
        splats = egg(1)
        editor = Editor(replace(splats, means=torch.tensor([start], dtype=torch.float32)))
        editor.turn(axis, 90)
        assert torch.allclose(editor.splats.means[0], torch.tensor(end, dtype=torch.float32), atol=1e-6)


def test_selections_combine():
    editor, first, second = Editor(egg(4)), torch.tensor([1, 1, 0, 0]).bool(), torch.tensor([0, 1, 1, 0]).bool()
    for how, mask, expected in (("replace", first, [1, 1, 0, 0]), ("add", second, [1, 1, 1, 0]), ("remove", first, [0, 0, 1, 0])):
        editor.select(mask, how)
        assert editor.selected.int().tolist() == expected
    editor.invert()
    assert editor.selected.int().tolist() == [1, 1, 0, 1]
    marked = editor.highlighted()
    assert torch.equal(marked.means, editor.splats.means)
    assert torch.equal(marked.sh[2], editor.splats.sh[2])
    assert not torch.equal(marked.sh[0], editor.splats.sh[0])


def test_what_makes_no_sense_is_one_line():
    editor = Editor(egg(4))
    with pytest.raises(InputError, match="nothing is selected"):
        editor.delete()
    editor.select(torch.ones(4, dtype=torch.bool))
    with pytest.raises(InputError, match="everything is selected"):
        editor.delete()
    for height in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(InputError, match="height: expected"):
            editor.set_height(height)
    with pytest.raises(InputError, match="turn: expected an axis"):
        editor.turn("w", 90)
    with pytest.raises(InputError, match="turn: expected an axis"):
        editor.turn("x", math.nan)


def test_a_version_is_saved_beside_the_original(tmp_path):
    pytest.importorskip("viser")
    from fsd_gs.export.formats import load_splats
    from fsd_gs.viewer.inspector import Inspector
    from fsd_gs.viewer.server import open_server

    path = tmp_path / "splats.ply"
    save_ply(with_floater(), path)
    before, saved = path.read_bytes(), []
    server = open_server(port=0, say=lambda _: None)
    try:
        page = Inspector(server, {"egg": path}, make_rasterizer("cpu"), saved=saved.append)
        page.edit(lambda e: e.select(editing.away_from_body(e.splats, 0.1)))
        page.edit(lambda e: e.delete())
        page._worker.close()  # what was poked is done
        page._refresh()
        page.save_version()
        assert "v2" in page.board.message
        page.close()
    finally:
        server.stop()
    assert path.read_bytes() == before
    assert saved == [path]
    assert len(load_splats(tmp_path / "splats.v2.ply")) == 500
