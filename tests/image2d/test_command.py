"""``mode=2d``: the sheet of methods × seeds, and its refusals."""

import numpy as np
import pytest
from PIL import Image

from fsd_gs.errors import ConfigError, OutputError
from fsd_gs.train.command import main

TINY = ["mode=2d", "prompt=a red chair", "prior.name=exact", "guidance.cfg_scale=1.0", "prior.objects=2", "prior.distractors=1",
        "render.sizes=[32]", "cameras.azimuth_grid=4", "cameras.elevation_grid=1", "count=2", "steps=4", "image2d.exact_steps=4",
        "device=cpu"]  # fmt: skip


def test_the_sheet_has_a_row_a_method_and_a_column_a_seed(tmp_path):
    methods = "image2d.methods=[ddim,fsd,sds]"
    assert main([*TINY, methods, f"output={tmp_path}"], program="train.py") == 0
    sheet = np.asarray(Image.open(tmp_path / "a-red-chair" / "2d" / "grid.png").convert("RGB")).astype(int)
    assert sheet.shape[0] // 3 >= 192  # small pictures are enlarged, so that a label does not cover them
    assert sheet.shape[1] // 2 >= 192
    first, second = sheet[40:180, :180], sheet[40:180, 200:380]
    assert np.abs(first - second[:, :180]).mean() > 1  # seeds differ
    assert np.ptp(first.reshape(-1, 3), axis=0).max() > 30  # and show something


def test_a_sheet_is_not_overwritten_unasked(tmp_path):
    methods = "image2d.methods=[ddim]"
    assert main([*TINY, methods, f"output={tmp_path}"], program="train.py") == 0
    with pytest.raises(OutputError, match="overwrite=true"):
        main([*TINY, methods, f"output={tmp_path}"], program="train.py")
    assert main([*TINY, methods, f"output={tmp_path}", "overwrite=true"], program="train.py") == 0


@pytest.mark.parametrize("methods", ["[ddmi]", "[fsd,vds]"])
def test_unknown_methods_are_named(tmp_path, methods):
    with pytest.raises(ConfigError, match=r"image2d\.methods: unknown name"):
        main([*TINY, f"image2d.methods={methods}", f"output={tmp_path}"], program="train.py")
