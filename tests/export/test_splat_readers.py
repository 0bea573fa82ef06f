"""Reading what other tools write: every version and level, odd but good files, damage, and files that lie about their size."""

import json
import os
import re
import resource
import time
import tracemalloc
import warnings
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import splat_files as made
import torch
from export_scenes import random_gaussians

import fsd_gs
from fsd_gs.core.types import Gaussians
from fsd_gs.errors import FileFormatError
from fsd_gs.export.formats import load_splats, save_splats
from fsd_gs.export.ply_file import read_header

DATA = Path(__file__).parent.parent / "data" / "splats"
SUFFIXES = [".ply", ".splat", ".spz", ".sog", ".ksplat"]
RDF = torch.tensor([1.0, -1.0, -1.0])  # from right, up, back


def tame(count, sh_degree=0, seed=0):
    """Splats whose colours lie in [0, 1], so that no format clips them."""
    g = random_gaussians(count, sh_degree, seed)
    return Gaussians(g.means, g.quats, g.scales, g.opacities, g.sh.clamp(-0.9, 0.9))


def alike(got, want, *, means=1e-3, quats=1e-3, scales=1e-3, opacities=2e-3, dc=0.01, rest=1e-3):
    """Every field to its tolerance; scales relatively, quaternions up to their sign."""
    assert len(got) == len(want)
    assert got.sh_degree == want.sh_degree
    torch.testing.assert_close(got.means, want.means, atol=means, rtol=0)
    torch.testing.assert_close(got.scales, want.scales, atol=1e-9, rtol=scales)
    torch.testing.assert_close(got.opacities, want.opacities, atol=opacities, rtol=0)
    torch.testing.assert_close(got.sh[:, :1], want.sh[:, :1], atol=dc, rtol=0)
    torch.testing.assert_close(got.sh[:, 1:], want.sh[:, 1:], atol=rest, rtol=0)
    assert (1 - (got.quats * want.quats).sum(dim=1).abs()).max() < quats


def read(tmp_path, name, content, **options):
    (tmp_path / name).write_bytes(content)
    return load_splats(tmp_path / name, target="raw", **options)


# Good files


@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize("sh_degree", [0, 1, 2])
def test_ksplat_of_every_level_and_degree(tmp_path, level, sh_degree):
    """Several sections of different SH degree and, from level 1, full and partly filled buckets."""
    parts = [tame(21, sh_degree), tame(5, 0, seed=1), tame(16, sh_degree, seed=2)]
    got = read(tmp_path, "a.ksplat", made.ksplat(parts, level))
    alike(got, made.joined(parts), rest={0: 1e-6, 1: 1e-3, 2: 0.0061}[level], means=1e-6 if level == 0 else 1e-4)


@pytest.mark.parametrize(("level", "tolerance"), [(0, 1e-6), (1, 2e-4)])
def test_ksplat_keeps_the_order_of_the_higher_bands(level, tolerance):
    splats = load_splats(DATA / f"sh2-level{level}.ksplat", target="raw")
    f_rest = splats.sh[0, 1:].T.reshape(-1)
    torch.testing.assert_close(f_rest, 0.01 * torch.arange(1, 25), atol=tolerance, rtol=0)


@pytest.mark.parametrize("version", [1, 2, 3, 4])
@pytest.mark.parametrize("sh_degree", [0, 1, 3])
def test_spz_of_every_version(tmp_path, version, sh_degree):
    before = tame(50, sh_degree)
    got = read(tmp_path, "a.spz", made.spz(before, version))
    alike(got, before, means=1e-3, quats=5e-3 if version < 3 else 1e-5, scales=0.04, dc=0.02, rest=0.005)


def test_spz_without_its_gzip_and_with_other_fractional_bits(tmp_path):
    before = tame(9, 1)
    alike(read(tmp_path, "a.spz", made.spz(before, 3, packed=False)), before, scales=0.04, dc=0.02, rest=0.005)
    alike(read(tmp_path, "b.spz", made.spz(before, 3, bits=20)), before, means=1e-6, scales=0.04, dc=0.02, rest=0.005)


@pytest.mark.parametrize("version", [3, 4])
def test_spz_that_names_its_own_axes_is_turned(tmp_path, version):
    before = tame(9, 2)
    rdf = made.spz_extension(0xADBE0003, (6).to_bytes(4, "little"))
    got = read(tmp_path, "a.spz", made.spz(before, version, extensions=rdf))
    torch.testing.assert_close(got.means, before.means * RDF, atol=1e-3, rtol=0)
    orbit = made.spz_extension(0xADBE0002, bytes(12)) + made.spz_extension(0xADBE0003, (4).to_bytes(4, "little"))
    alike(read(tmp_path, "b.spz", made.spz(before, version, extensions=orbit)), before, scales=0.04, dc=0.02, rest=0.005)
    with pytest.warns(UserWarning, match="extension 0x12340001 is not known"):
        read(tmp_path, "c.spz", made.spz(before, version, extensions=made.spz_extension(0x12340001, b"abcd")))
    bad = made.spz_extension(0xADBE0003, (99).to_bytes(4, "little"))
    with pytest.raises(FileFormatError, match="no system 99"):
        read(tmp_path, "d.spz", made.spz(before, version, extensions=bad))


def test_spz_of_degree_4_is_cut(tmp_path):
    before = tame(5, 3)
    wider = SimpleNamespace(**{**vars(before), "sh": torch.cat([before.sh, torch.zeros(5, 9, 3)], dim=1)})
    with pytest.warns(UserWarning, match="degree 4 are cut to degree 3"):
        got = read(tmp_path, "a.spz", made.spz(wider, 4))
    alike(got, before, scales=0.04, dc=0.02, rest=0.005)


@pytest.mark.parametrize("spz_version", [2, 3, 4])
def test_spz_of_another_writer(tmp_path, spz_version, capfd):
    gaussforge = pytest.importorskip("gaussforge")
    before = tame(40, 2)
    save_splats(before, tmp_path / "a.ply", target="raw")
    result = gaussforge.GaussForge().convert((tmp_path / "a.ply").read_bytes(), "ply", "spz", spz_version=spz_version)
    assert "error" not in result
    capfd.readouterr()  # it prints
    got = read(tmp_path, "a.spz", result["data"])
    assert capfd.readouterr() == ("", "")
    alike(got, before, scales=0.04, dc=0.02, rest=0.07, quats=5e-3 if spz_version < 3 else 1e-5)


@pytest.mark.parametrize("sh_degree", [0, 1, 2, 3])
def test_sog_of_version_1(tmp_path, sh_degree):
    before = tame(70, sh_degree)
    files = made.sog_v1(before)
    got = read(tmp_path, "a.sog", made.bundle(files))
    alike(got, before, quats=5e-4, scales=0.02, opacities=0.02, rest=0.01)
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    for path in (tmp_path, tmp_path / "meta.json"):
        torch.testing.assert_close(load_splats(path, target="raw").means, got.means)


def test_sog_in_a_folder_and_in_a_folder_of_the_archive(tmp_path):
    before = tame(70, 1)
    save_splats(before, tmp_path / "a.sog")
    files = made.unbundle((tmp_path / "a.sog").read_bytes())
    (tmp_path / "chair").mkdir()
    for name, content in files.items():
        (tmp_path / "chair" / name).write_bytes(content)
    want = load_splats(tmp_path / "a.sog")
    torch.testing.assert_close(load_splats(tmp_path / "chair").means, want.means)  # the axes that meta.json names are undone as well
    torch.testing.assert_close(load_splats(tmp_path / "chair" / "meta.json").sh, want.sh)
    (tmp_path / "b.sog").write_bytes(made.bundle({f"chair/{name}": c for name, c in files.items()}, zipfile.ZIP_DEFLATED))
    torch.testing.assert_close(load_splats(tmp_path / "b.sog", target="raw").means, load_splats(tmp_path / "a.sog", target="raw").means)
    (tmp_path / "chair" / "quats.webp").unlink()
    with pytest.raises(FileFormatError, match=r"chair: 'quats.webp' is missing"):
        load_splats(tmp_path / "chair")


def test_sog_that_is_good():
    splats = load_splats(DATA / "sog-valid.sog", target="raw")
    assert (len(splats), splats.sh_degree) == (40, 1)


# .ply


@pytest.mark.parametrize(
    ("name", "count", "warns"),
    [("ascii-plain", 12, False), ("ascii-blank-lines", 12, False), ("ascii-nan-ind", 11, True), ("cr-only", 300, False)],
)
def test_ply_of_other_runtimes(name, count, warns):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")  # a ResourceWarning, too: files are closed
        splats = load_splats(DATA / f"ply-{name}.ply")
    assert len(splats) == count
    assert splats.means.isfinite().all()
    assert splats.means.abs().max() < 100
    assert [bool(re.search("dropped 1 of 12 splats", str(w.message))) for w in caught] == [True] * warns


@pytest.mark.parametrize("text", [True, False])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_ply_with_every_line_end_and_comments_of_any_encoding(tmp_path, end, text):
    before = tame(30, 1)
    save_splats(before, tmp_path / "a.ply", target="raw")
    head, _, body = (tmp_path / "a.ply").read_bytes().partition(b"end_header\n")
    lines = [line for line in head.split(b"\n") if line and not line.startswith(b"comment")]
    lines[2:2] = ["comment Stühle – 椅子".encode(), "comment Stühle end_header".encode("latin-1"), b"", b"obj_info \xff\xfe"]
    body = b"\n" + body[1:]  # a byte of the data that looks like the end of a line
    rows = np.frombuffer(body, "<f4").reshape(30, -1)
    if text:
        lines[1] = b"format ascii 1.0"
        body = end.join(b" ".join(repr(float(v)).encode() for v in row) for row in rows) + end
    (tmp_path / "b.ply").write_bytes(end.join([*lines, b"end_header", body]))
    got = load_splats(tmp_path / "b.ply")
    torch.testing.assert_close(got.means, torch.from_numpy(rows[:, :3].copy()), rtol=1e-6, atol=0)
    torch.testing.assert_close(got.sh, before.sh)
    assert "Stühle – 椅子" in read_header(tmp_path / "b.ply").comments


@pytest.mark.parametrize("text", [True, False])
def test_ply_with_lists_around_the_splats(tmp_path, text):
    before = tame(4)
    save_splats(before, tmp_path / "a.ply", target="raw")
    head, _, body = (tmp_path / "a.ply").read_bytes().partition(b"end_header\n")
    head = b"\n".join(line for line in head.split(b"\n") if not line.startswith(b"comment"))
    face = b"element face 2\nproperty list uchar int vertex_indices\nproperty float quality\n"
    faces = b"3 0 1 2 0.5\n2 0 1 1.5\n" if text else b"\x03" + bytes(12) + bytes(4) + b"\x02" + bytes(8) + bytes(4)
    if text:
        head = head.replace(b"binary_little_endian", b"ascii")
        body = b"".join(b" ".join(repr(float(v)).encode() for v in row) + b"\n" for row in np.frombuffer(body, "<f4").reshape(4, -1))
    before_them = head.replace(b"element vertex", face + b"element vertex")
    for name, content in [("b.ply", before_them + b"end_header\n" + faces + body), ("c.ply", head + face + b"end_header\n" + body + faces)]:
        (tmp_path / name).write_bytes(content)
        torch.testing.assert_close(load_splats(tmp_path / name).means, before.means)


def test_ply_words_for_what_is_no_number(tmp_path):
    text = (DATA / "ply-ascii-plain.ply").read_text()
    head, _, body = text.partition("end_header\n")
    rows = [line.split() for line in body.splitlines()]
    opacity = re.findall(r"property \w+ (\w+)", head).index("opacity")
    for row, word in zip(rows, ["-nan(ind)", "1.#QNAN", "-1.#IND00", "nan", "-inf", "NaN(snan)"], strict=False):
        row[0] = word
    rows[6][opacity], rows[7][opacity] = "1.#INF", "-1.#INF00"  # fully opaque and empty
    (tmp_path / "a.ply").write_text(head + "end_header\n" + "\n".join(" ".join(row) for row in rows) + "\n")
    with pytest.warns(UserWarning, match="dropped 6 of 12 splats"):
        splats = load_splats(tmp_path / "a.ply")
    assert splats.opacities[:2].tolist() == [1.0, 0.0]


# Opacity bytes


@pytest.mark.parametrize("suffix", [".splat", ".spz", ".sog", ".compressed.ply"])
def test_an_opacity_byte_survives(tmp_path, suffix):
    """Every byte is read as byte / 255 and written as the same byte; 255 is 1 and 0 is 0."""
    g = tame(256)
    before = Gaussians(g.means, g.quats, g.scales, torch.arange(256) / 255, g.sh)
    save_splats(before, tmp_path / f"a{suffix}")
    once = load_splats(tmp_path / f"a{suffix}")
    torch.testing.assert_close(once.opacities.sort().values, before.opacities, atol=1e-6, rtol=0)
    save_splats(once, tmp_path / f"b{suffix}")
    assert torch.equal(load_splats(tmp_path / f"b{suffix}").opacities.sort().values, once.opacities.sort().values)


def test_an_opacity_of_1_survives_ply(tmp_path):
    g = tame(2)
    save_splats(Gaussians(g.means, g.quats, g.scales, torch.tensor([1.0, 0.0]), g.sh), tmp_path / "a.ply")
    assert load_splats(tmp_path / "a.ply").opacities.round(decimals=7).tolist() == [1.0, 0.0]


# Damage, and lies about sizes


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("section-count.ksplat", "32,513 splats in room for 1"),
        ("sog-no-quats-file.sog", r"'quats.webp' is not in the archive"),
        ("sog-means-files-empty.sog", r"means.files: expected 2 file names, got \[\]"),
        ("sog-shN-bands-99.sog", r"shN.bands: expected a whole number from 1 to 3, got 99"),
        ("sog-bad-webp.sog", r"'means_u.webp' is a damaged"),
        ("sog-count-x1000.sog", r"'means_l.webp' has 8 × 8 pixels for 40,000 splats, 'count'"),
        ("sog-tiny-sh0.sog", r"'sh0.webp' has 1 × 1 pixels for 40 splats"),
        ("list-1e12.ply", r"'face': 1,000,000,000,000 rows, at least 1 bytes each"),
        ("list-2e8.ply", r"'face': 200,000,000 rows, at least 1 bytes each"),
        ("sog-pictures-16383.sog", r"16,383 × 16,383 pixels for 40 splats"),
    ],
)
def test_refused_in_one_line_at_once(name, words):
    load_splats(DATA / "sog-valid.sog")  # imports
    resident, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(FileFormatError, match=words) as caught:
        load_splats(DATA / name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)
    assert time.process_time() - start < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - resident < 100_000  # kB


def test_members_that_unpack_to_too_much(tmp_path):
    files = made.unbundle((DATA / "sog-valid.sog").read_bytes())
    for name in ("quats.webp", "meta.json"):
        (tmp_path / "a.sog").write_bytes(made.bundle({**files, name: bytes(30 << 20)}, zipfile.ZIP_DEFLATED))
        tracemalloc.start()
        with pytest.raises(FileFormatError, match=f"'{name}' unpacks to 31,457,280 bytes"):
            load_splats(tmp_path / "a.sog")
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
        tracemalloc.stop()


def test_spz_that_unpacks_to_something_else(tmp_path):
    import gzip

    good = made.spz(tame(20), 3, packed=False)
    for count, words in [(19_999_999, "more than the limit of 10,000,000"), (9_999_999, "takes"), (21, "truncated")]:
        with pytest.raises(FileFormatError, match=words):
            read(tmp_path, "a.spz", gzip.compress(good[:8] + count.to_bytes(4, "little") + good[12:]))
    with pytest.raises(FileFormatError, match="holds something else"):
        read(tmp_path, "b.spz", gzip.compress(b"a text in a gzip archive, and no splats"))
    v4 = made.spz(tame(20), 4)
    with pytest.raises(FileFormatError, match="a stream of 180 bytes where 21 splats have 189"):
        read(tmp_path, "c.spz", v4[:8] + (21).to_bytes(4, "little") + v4[12:])
    with pytest.raises(FileFormatError, match="a stream of 180 bytes where 9,000,000 splats have"):
        read(tmp_path, "d.spz", v4[:8] + (9_000_000).to_bytes(4, "little") + v4[12:])


def test_a_zstd_bomb_is_not_unpacked(tmp_path):
    """Both the table and the header tell the truth about a small stream, but the frame holds 256 MB."""
    zstandard = pytest.importorskip("zstandard")
    v4 = made.spz(tame(20), 4)
    first = int.from_bytes(v4[32:40], "little")
    bomb = zstandard.ZstdCompressor().compress(bytes(256 << 20))
    data = 32 + 16 * 5
    content = v4[:32] + len(bomb).to_bytes(8, "little") + v4[40:data] + bomb + v4[data + first :]
    tracemalloc.start()
    with pytest.raises(FileFormatError, match="more than 180 bytes"):
        read(tmp_path, "a.spz", content)
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("version", 3, "version: expected 1 or 2, got 3"),
        ("count", -1, "count: expected a whole number"),
        ("count", "40", 'count: expected a whole number from 0 to 4294967296, got "40"'),
        ("count", 11_000_000, "11,000,000 splats, more than the limit"),
        ("means.mins", [0, 0], "means.mins: expected 3 numbers, got 2"),
        ("means.mins", [0, 0, float("nan")], "means.mins: expected finite numbers"),
        ("means", [], "means: expected an object"),
        ("quats.files", ["../quats.webp"], "quats.files: expected a plain file name"),
        ("quats.files", [7], "quats.files: expected 1 file name"),
        ("scales.codebook", [], "scales.codebook: expected 1 to 256 numbers, got 0"),
        ("scales.codebook", [0.5], "scales.codebook: a splat uses entry"),
        ("shN.count", 39, "a splat uses entry 39 of 39"),
        ("shN.count", 1 << 40, "shN.count: expected a whole number from 1 to 65536"),
    ],
)
def test_sog_fields(tmp_path, field, value, words):
    files = made.unbundle((DATA / "sog-valid.sog").read_bytes())
    meta = json.loads(files["meta.json"])
    part, _, key = field.partition(".")
    if key:
        meta[part][key] = value
    else:
        meta[part] = value
    with pytest.raises(FileFormatError, match=words) as caught:
        read(tmp_path, "a.sog", made.bundle({**files, "meta.json": json.dumps(meta).encode()}))
    assert "\n" not in str(caught.value)


def test_sog_that_names_axes_we_do_not_know(tmp_path):
    files = made.unbundle((DATA / "sog-valid.sog").read_bytes())
    meta = {**json.loads(files["meta.json"]), "asset": {"fsd_gs": {"axes": "sideways"}}}
    (tmp_path / "a.sog").write_bytes(made.bundle({**files, "meta.json": json.dumps(meta).encode()}))
    torch.testing.assert_close(load_splats(tmp_path / "a.sog").means, load_splats(DATA / "sog-valid.sog", target="raw").means)


@pytest.mark.parametrize("key", ["mins", "maxs", "files"])
def test_sog_of_version_1_without_a_field(tmp_path, key):
    files = made.sog_v1(tame(20, 1))
    for part in ("means", "scales", "sh0", "shN"):
        meta = json.loads(files["meta.json"])
        del meta[part][key]
        with pytest.raises(FileFormatError, match=rf"meta.json, {part}.{key}"):
            read(tmp_path, "a.sog", made.bundle({**files, "meta.json": json.dumps(meta).encode()}))


@pytest.mark.parametrize("meta", [b"", b"{", b"[]", b"{}", b"[" * 100_000, b"\xff\xfe", b'{"version": 2}'])
def test_sog_with_no_sense_in_its_meta(tmp_path, meta):
    files = made.unbundle((DATA / "sog-valid.sog").read_bytes())
    with pytest.raises(FileFormatError, match="SOG"):
        read(tmp_path, "a.sog", made.bundle({**files, "meta.json": meta}))


def test_sog_rotations_without_an_index(tmp_path):
    files = made.unbundle((DATA / "sog-valid.sog").read_bytes())
    pixels = np.zeros((8, 8, 4), np.uint8)
    with pytest.warns(UserWarning, match="40 of 40 splats have no valid rotation"):
        got = read(tmp_path, "a.sog", made.bundle({**files, "quats.webp": made.webp(pixels)}))
    assert got.quats.tolist() == [[1, 0, 0, 0]] * 40


def test_ksplat_that_lies(tmp_path):
    good = made.ksplat([tame(21, 1)], 1)

    def patched(at, value, size=4):
        return good[:at] + value.to_bytes(size, "little") + good[at + size :]

    section = 4096
    for content, words in [
        (patched(4, 4_000_000_000), "the headers of 4,000,000,000 sections"),
        (patched(16, 20_000_000), "more than the limit"),
        (patched(16, 22), "the header declares 22 splats, its sections 21"),
        (patched(20, 3, 2), "compression level 3"),
        (patched(section + 4, 4_000_000_000), "a section of 4,000,000,000 splats takes"),
        (patched(section + 8, 1), "hold 7 of its 21 splats"),
        (patched(section + 12, 4_000_000_000), "takes"),
        (patched(section + 20, 16, 2), "16 bytes a bucket"),
        (patched(section + 32, 4_000_000_000), "4,000,000,002 full and partly filled buckets of 4"),
        (patched(section + 40, 3, 2), "SH degree 3"),
        (good[:5000], "truncated or damaged"),
        (good[:100], "the header takes 4,096 bytes"),
        (b"\x01" + good[1:], "not a .ksplat file"),
    ]:
        with pytest.raises(FileFormatError, match=words):
            read(tmp_path, "a.ksplat", content)


# What a file is, whatever its suffix


FOREIGN = {
    "page": (b"<!DOCTYPE html>\n<html><head><title>Sign in</title>" + b" " * 600, "a web page; the download went wrong"),
    "lfs": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32\nsize 12345\n",
        "a git-lfs pointer, not the file itself; run .git lfs pull",
    ),
    "text": (b"Dear reader, this is a letter and not a chair.\n" * 20, "a text file .it begins with 'Dear reader"),
    "utf-16": ("Dear reader, this is a letter".encode("utf-16"), "a text file"),
    "json": (b'{"error": "not found"}', "a JSON file"),
    "png": (b"\x89PNG\r\n\x1a\n" + bytes(120), "a PNG picture"),
    "zip": (made.bundle({"a.txt": b"text"}), "a zip archive"),
    "gzip": (b"\x1f\x8b\x08\x00" + bytes(100), "a gzip archive"),
    "7z": (b"7z\xbc\xaf\x27\x1c" + bytes(100), "a 7-Zip archive"),
    "tar": (b"chair.ply" + bytes(248) + b"ustar\x0000" + bytes(300), "a tar archive"),
    "glb": (b"glTF" + bytes(60), "a binary glTF file"),
    "ply": (b"ply\nformat ascii 1.0\nelement vertex 0\nend_header\n", "a .ply file; give it that suffix"),
    "spz": (made.spz(tame(2), 4), "an .spz file; give it that suffix"),
}
OWN = {(".ply", "ply"), (".spz", "gzip"), (".spz", "spz"), (".sog", "zip")}  # have the magic of the format


@pytest.mark.parametrize(("suffix", "kind"), [(s, k) for s in SUFFIXES for k in FOREIGN if (s, k) not in OWN])
def test_a_file_under_a_wrong_suffix_is_named_for_what_it_is(tmp_path, suffix, kind):
    content, words = FOREIGN[kind]
    with pytest.raises(FileFormatError, match=f"not a {suffix} file: this is {words}") as caught:
        read(tmp_path, f"a{suffix}", content)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_nothing(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, 3200, dtype=np.uint8).tobytes()
    for suffix in SUFFIXES:
        with pytest.raises(FileFormatError, match=f"not a {suffix} file"):
            read(tmp_path, f"a{suffix}", b"\x91" + noise[1:])


def test_a_pipe_is_not_waited_for(tmp_path):
    for suffix in SUFFIXES:
        os.mkfifo(tmp_path / f"a{suffix}")
        with pytest.raises(FileFormatError, match="a device or a pipe"):
            load_splats(tmp_path / f"a{suffix}")


def test_a_name_that_no_file_can_have(tmp_path):
    for name in ("x" * 300 + ".ply", "x\0.spz"):
        with pytest.raises(FileFormatError):
            load_splats(tmp_path / name)


def test_reading_is_silent(tmp_path, capfd):
    save_splats(tame(5), tmp_path / "a.spz")
    fsd_gs.load_splats(tmp_path / "a.spz")
    assert capfd.readouterr() == ("", "")


def test_a_header_of_many_elements_is_parsed_in_no_time(tmp_path):
    header = b"ply\nformat ascii 1.0\n" + b"".join(b"element e%d 0\nproperty float x\n" % i for i in range(25_000)) + b"end_header\n"
    (tmp_path / "a.ply").write_bytes(header)
    start = time.process_time()
    with pytest.raises(FileFormatError):
        load_splats(tmp_path / "a.ply")
    assert time.process_time() - start < 1
