"""A hundred damaged files of every format: splats or one FileFormatError, nothing else. ``benchmarks/fuzz_readers.py`` reads thousands."""

import time
import warnings

import pytest
from splat_mutations import SUFFIXES, USD, Mutator
from usd_forks import forked_usd

from fsd_gs.errors import FileFormatError
from fsd_gs.export.formats import load_splats


@pytest.fixture(scope="module")
def reads_usd():
    pytest.importorskip("pxr")
    with forked_usd():
        yield


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_damaged_files_are_read_or_refused(tmp_path, suffix, request):
    if suffix in USD:
        request.getfixturevalue("reads_usd")
    mutator = Mutator(suffix)
    mutator.read_samples(load_splats, tmp_path)
    path = tmp_path / f"a{suffix}"
    outcomes = {"read": 0, "refused": 0}
    slowest = 0.0
    for number in range(100):
        path.write_bytes(mutator(1, number))
        start = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                splats = load_splats(path)
            except FileFormatError as error:
                outcomes["refused"] += 1
                assert "\n" not in str(error)  # noqa: PT017
                assert path.name in str(error)  # noqa: PT017
            else:
                outcomes["read"] += 1
                for values in (splats.means, splats.quats, splats.scales, splats.opacities, splats.sh):
                    assert values.isfinite().all(), number
        slowest = max(slowest, time.process_time() - start)
    assert slowest < 5
    assert outcomes["refused"] >= 10, outcomes  # the damage reaches what is checked
