"""docs/errors.md shows what the commands really say; … stands for what is left out."""

import re
import shlex
from pathlib import Path

import pytest
from export_scenes import egg

from fsd_gs.cli import main
from fsd_gs.export.formats import save_splats

PAGE = (Path(__file__).parent.parent / "docs" / "errors.md").read_text("utf-8")
SHOWN = re.findall(r"^\$ fsd-gs (.*)\n(.*)", PAGE, re.M)


def test_the_page_shows_errors():
    assert len(SHOWN) > 12
    assert all(line.startswith("error: ") for _, line in SHOWN)


@pytest.mark.parametrize(("command", "line"), SHOWN, ids=[command for command, _ in SHOWN])
def test_the_line_is_what_comes(command, line, tmp_path, monkeypatch, capsys):
    save_splats(egg(50), tmp_path / "whole.ply")
    (tmp_path / "cut.ply").write_bytes((tmp_path / "whole.ply").read_bytes()[:-100])
    (tmp_path / "empty.ply").touch()
    monkeypatch.chdir(tmp_path)
    assert main(shlex.split(command)) == 2
    said = capsys.readouterr().err.strip()
    assert "\n" not in said
    assert said == line if "…" not in line else said.startswith(line.partition("…")[0].rstrip())
    assert not (tmp_path / "outputs").exists()
