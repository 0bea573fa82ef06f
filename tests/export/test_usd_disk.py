"""OpenUSD files where the disk does not take them: one line, nothing half written, the old file as it was."""

import pytest
from export_scenes import egg

from fsd_gs.errors import OutputError

pytest.importorskip("pxr.UsdVol")


@pytest.mark.parametrize("suffix", [".usda", ".usdc", ".usdz"])
def test_a_file_that_does_not_fit_is_refused_and_the_old_one_stays(tmp_path, suffix):
    resource = pytest.importorskip("resource")
    import signal

    from fsd_gs.export.usd import load_usd, save_usd

    path = tmp_path / f"egg{suffix}"
    save_usd(egg(50), path)
    before = path.read_bytes()
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
        with pytest.raises(OutputError, match=rf"egg{suffix}: cannot be written"):
            save_usd(egg(3000), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    assert len(load_usd(path)) == 50


def test_a_package_that_was_cut_off_is_noticed(tmp_path):
    """What OpenUSD leaves on a full disk without a word."""
    from fsd_gs.export.usd import _is_whole, save_usd

    path = tmp_path / "egg.usdz"
    save_usd(egg(50), path)
    assert _is_whole(path)
    path.write_bytes(path.read_bytes()[:-30])
    assert not _is_whole(path)
