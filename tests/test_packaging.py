"""A release that can be installed: the wheel holds every file that a run reads and works outside the checkout; one version."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

import fsd_gs
from fsd_gs.config import config_files, config_names

ROOT = Path(__file__).parent.parent
BUILD = "from setuptools import build_meta; print(build_meta.build_wheel('made'))"


def run(*words, cwd, **environment):
    done = subprocess.run(
        [sys.executable, *words],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The unpacked wheel of this tree, built from a copy of it."""
    source = tmp_path_factory.mktemp("source")
    for folder in ("fsd_gs", "configs"):
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    wheel = run("-c", BUILD, cwd=source, PYTHONPATH="").splitlines()[-1]
    unpacked = tmp_path_factory.mktemp("site")
    zipfile.ZipFile(source / "made" / wheel).extractall(unpacked)
    return unpacked


def files_of(folder):
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts}


def test_the_wheel_holds_every_file_of_the_package_and_of_configs(site):
    assert files_of(site / "fsd_gs") == files_of(ROOT / "fsd_gs") | {f"configs/{name}" for name in files_of(ROOT / "configs")}
    assert not (site / "configs").exists(), "a folder called configs beside all other packages"


ELSEWHERE = """
from fsd_gs import __version__
from fsd_gs.config import config_names, load_config
for name in config_names("*.yaml", "methods/*.yaml"):
    load_config([name], ["prompt=a red chair"])
print(__version__, load_config(["sd15"]).steps, load_config(["configs/sd21.yaml"]).prior.name, *config_names())
"""


@pytest.mark.long
def test_installed_presets_work_from_any_folder(site, tmp_path):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "sd15.yaml").write_text("steps: 7\n")
    words = run("-c", ELSEWHERE, cwd=tmp_path, PYTHONPATH=str(site)).split()
    assert words == [fsd_gs.__version__, "7", "sd21", *config_names()]


def test_a_path_comes_before_the_folder_and_the_folder_before_the_package(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert config_files("methods/sds") == config_files("configs/methods/sds.yaml") == ROOT / "configs" / "methods" / "sds.yaml"
    for place in ("configs/methods", "methods"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "sds.yaml").write_text("steps: 7\n")
        assert config_files("methods/sds") == Path(place) / "sds.yaml"


def test_one_version():
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))["version"] == fsd_gs.__version__
    assert 'version = { attr = "fsd_gs.__version__" }' in (ROOT / "pyproject.toml").read_text("utf-8")
    assert not re.search(r'^version = "', (ROOT / "pyproject.toml").read_text("utf-8"), re.M)


def test_the_repository_says_how_to_report_and_checks_itself():
    """What GitHub reads is valid YAML, and asks for what is needed."""
    forms = ROOT / ".github" / "ISSUE_TEMPLATE"
    bug = yaml.safe_load((forms / "bug.yml").read_text("utf-8"))
    doctor = next(field for field in bug["body"] if field["id"] == "doctor")
    assert doctor["validations"]["required"]
    assert "fsd-gs doctor" in doctor["attributes"]["label"]
    assert all(
        {"name", "description", "body"} <= yaml.safe_load(path.read_text("utf-8")).keys()
        for path in (forms / "bug.yml", forms / "idea.yml")
    )
    steps = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8"))["jobs"]["check"]["steps"]
    assert {"run": ".ci/run"} in steps
