"""The 3DGS .ply: exact round trips, foreign files, and files that must be refused."""

import struct

import numpy as np
import pytest
import torch
from export_scenes import SH_C0, random_gaussians
from plyfile import PlyData, PlyElement

from fsd_gs.core.types import Gaussians
from fsd_gs.errors import FileFormatError, InputError, OutputError
from fsd_gs.export.ply import load_ply, read_header, save_ply

COLUMNS = ["x", "y", "z", "f_dc_0", "f_dc_1", "f_dc_2", "opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"]


def foreign(path, columns, rows, *, text=False, byte_order="<", kinds: str | list[str] = "f4"):
    """A .ply with ``columns`` and float ``rows`` [N, C]; ``kinds`` is one type or one a column."""
    kinds = [kinds] * len(columns) if isinstance(kinds, str) else kinds
    table = np.zeros(len(rows), dtype=list(zip(columns, kinds, strict=True)))
    for i, name in enumerate(columns):
        table[name] = np.asarray(rows)[:, i]
    PlyData([PlyElement.describe(table, "vertex")], text=text, byte_order=byte_order).write(path)
    return path


def rows_of(count=3, extra=0):
    rng = np.random.default_rng(0)
    return rng.normal(size=(count, len(COLUMNS) + extra)) * 0.5


@pytest.mark.parametrize("sh_degree", [0, 1, 2, 3])
def test_round_trip_is_exact_to_float32(tmp_path, sh_degree):
    before = random_gaussians(500, sh_degree)
    save_ply(before, tmp_path / "a.ply")
    after = load_ply(tmp_path / "a.ply")
    for name in ("means", "quats", "sh"):
        torch.testing.assert_close(getattr(after, name), getattr(before, name), rtol=0, atol=0)
    # through log and logit: the rounding of the stored float32 only (|log s| ≤ 7, hence 7 · 2^-24)
    torch.testing.assert_close(after.scales, before.scales, rtol=6e-7, atol=0)
    torch.testing.assert_close(after.opacities, before.opacities, rtol=4e-7, atol=0)
    save_ply(after, tmp_path / "b.ply")
    again = load_ply(tmp_path / "b.ply")
    torch.testing.assert_close(again.scales, after.scales, rtol=6e-7, atol=0)


def test_layout_by_hand(tmp_path):
    """One splat whose every stored number is known."""
    sh = torch.arange(48, dtype=torch.float32).reshape(1, 16, 3)
    splat = Gaussians(
        torch.tensor([[1.0, 2, 3]]), torch.tensor([[1.0, 0, 0, 0]]), torch.tensor([[1.0, np.e, np.e**2]]), torch.tensor([0.75]), sh
    )
    save_ply(splat, tmp_path / "a.ply")
    row = PlyData.read(tmp_path / "a.ply")["vertex"][0]
    assert row.dtype.names[:9] == ("x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2")
    assert row.dtype.names[9:54] == tuple(f"f_rest_{i}" for i in range(45))
    assert row.dtype.names[54:] == ("opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3")
    assert row.dtype.itemsize == 248
    assert [row[f"f_dc_{i}"] for i in range(3)] == [0, 1, 2]
    assert [row[f"f_rest_{i}"] for i in range(15)] == [3 * k for k in range(1, 16)]  # all of red first
    assert row["f_rest_15"] == 4  # then green
    assert row["opacity"] == pytest.approx(np.log(3), rel=1e-6)
    assert [row[f"scale_{i}"] for i in range(3)] == pytest.approx([0, 1, 2], abs=1e-6)


def test_extreme_values_stay_finite(tmp_path):
    splat = Gaussians(torch.zeros(2, 3), torch.eye(4)[:2], torch.zeros(2, 3), torch.tensor([0.0, 1.0]), torch.zeros(2, 1, 3))
    save_ply(splat, tmp_path / "a.ply")
    table = PlyData.read(tmp_path / "a.ply")["vertex"]
    assert np.isfinite(table["opacity"]).all()
    assert np.isfinite(table["scale_0"]).all()
    after = load_ply(tmp_path / "a.ply")
    assert after.opacities.tolist() == pytest.approx([0, 1], abs=1e-8)
    assert after.scales.max() < 1e-19


def test_zero_splats(tmp_path):
    save_ply(random_gaussians(0, 1), tmp_path / "a.ply")
    after = load_ply(tmp_path / "a.ply")
    assert len(after) == 0
    assert after.sh_degree == 1


def test_sh_padding(tmp_path):
    before = random_gaussians(5, 1)
    save_ply(before, tmp_path / "a.ply", sh_pad=3)
    after = load_ply(tmp_path / "a.ply")
    assert after.sh_degree == 3
    assert torch.equal(after.sh[:, :4], before.sh)
    assert not after.sh[:, 4:].any()
    with pytest.raises(InputError, match="sh_pad: expected at least the splats' own SH degree 1, got 0"):
        save_ply(before, tmp_path / "b.ply", sh_pad=0)
    with pytest.raises(InputError, match="sh_pad: expected an SH degree of 0 to 3, got 4"):
        save_ply(before, tmp_path / "b.ply", sh_pad=4)


@pytest.mark.parametrize(("text", "byte_order"), [(True, "="), (False, "<"), (False, ">")])
def test_ascii_and_both_endiannesses(tmp_path, text, byte_order):
    rows = rows_of()
    splats = load_ply(foreign(tmp_path / "a.ply", COLUMNS, rows, text=text, byte_order=byte_order))
    np.testing.assert_allclose(splats.means, rows[:, :3], rtol=1e-6)
    np.testing.assert_allclose(splats.sh[:, 0], rows[:, 3:6], rtol=1e-6)
    np.testing.assert_allclose(splats.opacities, 1 / (1 + np.exp(-rows[:, 6])), rtol=1e-6)
    np.testing.assert_allclose(splats.scales, np.exp(rows[:, 7:10]), rtol=1e-6)
    np.testing.assert_allclose(splats.quats, rows[:, 10:] / np.linalg.norm(rows[:, 10:], axis=1, keepdims=True), rtol=1e-5)


def test_any_order_extra_columns_and_doubles(tmp_path):
    rows = rows_of(extra=2)
    names = [*COLUMNS, "label", "weight"]
    order = np.random.default_rng(1).permutation(len(names))
    kinds = ["u1" if names[i] == "label" else "f8" for i in order]
    rows[:, len(COLUMNS)] = 7
    splats = load_ply(foreign(tmp_path / "a.ply", [names[i] for i in order], rows[:, order], kinds=kinds))
    np.testing.assert_allclose(splats.means, rows[:, :3], rtol=1e-6)
    np.testing.assert_allclose(splats.scales, np.exp(rows[:, 7:10]), rtol=1e-6)


def test_rows_that_are_not_finite_are_dropped_with_a_count(tmp_path):
    rows = rows_of(5)
    rows[1, 0], rows[3, 6], rows[4, 8] = np.nan, np.nan, 1e4  # the last: exp overflows
    rows[2, 6] = np.inf  # stays: an opaque splat
    with pytest.warns(UserWarning, match="dropped 3 of 5 splats"):
        splats = load_ply(foreign(tmp_path / "a.ply", COLUMNS, rows))
    np.testing.assert_allclose(splats.means, rows[[0, 2], :3], rtol=1e-6)
    assert splats.opacities[1] == 1


def test_zero_quaternion_becomes_identity(tmp_path):
    rows = rows_of(2)
    rows[0, 10:] = 0
    assert load_ply(foreign(tmp_path / "a.ply", COLUMNS, rows)).quats[0].tolist() == [1, 0, 0, 0]


def test_missing_columns_are_named(tmp_path):
    keep = [i for i, name in enumerate(COLUMNS) if name not in ("opacity", "rot_2")]
    path = foreign(tmp_path / "a.ply", [COLUMNS[i] for i in keep], rows_of()[:, keep])
    with pytest.raises(FileFormatError, match="missing the columns opacity, rot_2"):
        load_ply(path)


@pytest.mark.parametrize("count", [3, 10, 72])
def test_odd_sh_columns(tmp_path, count):
    rows = rows_of(extra=count)
    path = foreign(tmp_path / "a.ply", [*COLUMNS, *(f"f_rest_{i}" for i in range(count))], rows)
    with pytest.raises(FileFormatError, match=f"expected 0, 9, 24 or 45 columns f_rest_0 … .* got {count}"):
        load_ply(path)


def test_mesh_and_point_cloud(tmp_path):
    import trimesh

    trimesh.creation.box().export(tmp_path / "mesh.ply")
    with pytest.raises(FileFormatError, match="a mesh: it has faces and no splat columns"):
        load_ply(tmp_path / "mesh.ply")
    foreign(tmp_path / "points.ply", ["x", "y", "z"], rows_of()[:, :3])
    with pytest.raises(FileFormatError, match="a point cloud: it has no splat columns"):
        load_ply(tmp_path / "points.ply")


@pytest.mark.parametrize("text", [True, False])
def test_truncated(tmp_path, text):
    path = foreign(tmp_path / "a.ply", COLUMNS, rows_of(20), text=text)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(FileFormatError, match="truncated"):
        load_ply(path)


def test_a_header_that_lies_about_a_huge_count_costs_nothing(tmp_path):
    path = foreign(tmp_path / "a.ply", COLUMNS, rows_of(2))
    for count, words in [(5_000_000, "truncated"), (2_000_000_000, "more than the limit of 10,000,000"), (-1, "negative")]:
        (tmp_path / "b.ply").write_bytes(path.read_bytes().replace(b"vertex 2", f"vertex {count}".encode()))
        with pytest.raises(FileFormatError, match=words):
            load_ply(tmp_path / "b.ply")
    with pytest.raises(FileFormatError, match="2 splats, more than the limit of 1"):
        load_ply(path, max_splats=1)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the file is empty"),
        (b"solid cube", "not a .ply file"),
        (b"ply\nformat ascii 1.0\nelement vertex 3\n", "header has no end"),
        (b"ply\nformat morse 1.0\nend_header\n", "unknown format 'morse'"),
        (b"ply\nformat ascii 1.0\nelement vertex many\nend_header\n", "damaged .ply header"),
        (b"ply\nformat ascii 1.0\nelement vertex 1\nproperty quaternion q\nend_header\n", "unknown type 'quaternion'"),
        (b"ply\nformat ascii 1.0\nelement face 0\nend_header\n", "no 'vertex' element"),
    ],
)
def test_not_a_ply(tmp_path, content, words):
    (tmp_path / "a.ply").write_bytes(content)
    with pytest.raises(FileFormatError, match=words) as caught:
        load_ply(tmp_path / "a.ply")
    assert "\n" not in str(caught.value)


def test_words_where_numbers_should_be(tmp_path):
    path = foreign(tmp_path / "a.ply", COLUMNS, rows_of(2), text=True)
    head, body = path.read_text().split("end_header\n")
    path.write_text(f"{head}end_header\nred {body.split(' ', 1)[1]}")
    with pytest.raises(FileFormatError, match="truncated or damaged"):
        load_ply(path)


def test_missing_file_folder_and_unwritable(tmp_path):
    with pytest.raises(FileFormatError, match="file not found"):
        load_ply(tmp_path / "none.ply")
    with pytest.raises(FileFormatError, match="cannot be read"):
        load_ply(tmp_path)
    (tmp_path / "plain").write_text("")
    with pytest.raises(OutputError, match="cannot create the folder"):
        save_ply(random_gaussians(1), tmp_path / "plain" / "a.ply")


def test_header_of_a_mesh_lists_faces(tmp_path):
    header = b"ply\nformat binary_little_endian 1.0\ncomment x\nelement vertex 0\nproperty float x\nelement face 1\n"
    (tmp_path / "a.ply").write_bytes(header + b"property list uchar int vertex_indices\nend_header\n" + struct.pack("<B3i", 3, 0, 1, 2))
    elements = read_header(tmp_path / "a.ply").elements
    assert elements["face"].has_list
    assert elements["vertex"].row_bytes == 4


def test_colour_convention(tmp_path):
    """f_dc = (sRGB − 0.5) / C0: a mid grey is zero, white is 1.7725."""
    splat = random_gaussians(1)
    white = Gaussians(splat.means, splat.quats, splat.scales, splat.opacities, torch.full((1, 1, 3), 0.5 / SH_C0))
    save_ply(white, tmp_path / "a.ply")
    assert PlyData.read(tmp_path / "a.ply")["vertex"]["f_dc_0"][0] == pytest.approx(1.7724538, rel=1e-6)
