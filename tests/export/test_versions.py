"""Versions beside an original: which is the newest, what the next is called, and who takes it."""

from export_scenes import egg

from fsd_gs.export.command import find_splats
from fsd_gs.export.ply import save_ply
from fsd_gs.export.versions import newest_version, next_version, versions_of


def test_numbers(tmp_path):
    original = tmp_path / "splats.ply"
    assert newest_version(original) == original
    assert versions_of(original) == {}
    save_ply(egg(20), original)
    assert next_version(original).name == "splats.v2.ply"
    for name in ("splats.v2.ply", "splats.v10.ply", "splats.v03.ply", "splats.v1.ply", "splats.v2.ply.part", "x.v99.ply", "splats.v-7.ply"):
        (tmp_path / name).write_bytes(original.read_bytes())
    (tmp_path / "splats.v11.ply").mkdir()
    assert list(versions_of(original)) == [1, 2, 10]
    assert newest_version(original).name == "splats.v10.ply"
    assert next_version(original).name == "splats.v11.ply"


def test_exports_take_the_newest(tmp_path):
    run = tmp_path / "a-red-chair" / "seed-0000"
    run.mkdir(parents=True)
    for name in ("splats.ply", "splats.v2.ply"):
        save_ply(egg(20), run / name)
    assert find_splats(run) == (run / "splats.v2.ply", "a-red-chair-seed-0000")
    assert find_splats(run / "splats.ply")[0] == run / "splats.ply"
