"""Settings: strict keys, clear errors, round trip through YAML."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from fsd_gs.config import Config, config_from_dict, describe_settings, load_config, rows_of, to_yaml
from fsd_gs.core.configure import flatten, read_yaml, walk_values
from fsd_gs.errors import ConfigError

CONFIGS = Path(__file__).parent.parent / "configs"


def test_defaults_are_valid_and_every_setting_has_a_meaning():
    assert load_config() == Config()
    for key, _, meaning in describe_settings():
        assert len(meaning) > 10, key


def test_round_trip_through_yaml():
    config = load_config(overrides=["prompt=a chair: red, 50% {off}", "steps=12", "noise.theta=auto", "render.sizes=[32]", "prior.lora=x"])
    values = OmegaConf.to_container(OmegaConf.create(to_yaml(config)))
    assert config_from_dict(values) == config
    assert config.prompt == "a chair: red, 50% {off}"
    assert config.render.sizes == [32]


def test_later_sources_win(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("steps: 7\nnoise:\n  beta: 0.25\n")
    config = load_config([file], ["steps=9"])
    assert (config.steps, config.noise.beta) == (9, 0.25)


@pytest.mark.parametrize(
    ("override", "match"),
    [
        ("betta=1", r"unknown key 'betta'; did you mean 'noise\.beta'\?"),
        ("beta=1", r"did you mean 'noise\.beta'\?"),
        ("noise.betta=1", r"did you mean 'noise\.beta'\?"),
        ("stesp=3", r"did you mean 'steps'\?"),
        ("steps=-3", "steps: expected a value from 0 to"),
        ("steps=abc", "could not be converted to Integer"),
        ("steps=2.5", "steps"),
        ("noise.beta=2", "noise.beta: expected a value from 0 to 1, got 2"),
        ("noise.beta=nan", "noise.beta: expected a value from 0 to 1"),
        ("noise.theta=-3", "noise.theta: expected degrees above 0 or 'auto'"),
        ("noise.theta=big", "noise.theta: expected degrees above 0 or 'auto', got 'big'"),
        ("noise.kind=worldmap", r"did you mean 'world_map'\?"),
        ("schedule.end=.99", "start ≥ end"),
        ("render.sizes=[64, 128]", "render.sizes, render.size_at"),
        ("cameras.distance=[3, 2]", r"cameras.distance: expected \[low, high\]"),
        ("prompt", "expected key=value"),
        ("steps=[1", "cannot read the value"),
        ("noise=3", "unknown key 'noise'"),
        ("seed=null", "seed"),
    ],
)
def test_bad_overrides_are_one_clear_line(override, match):
    with pytest.raises(ConfigError, match=match) as caught:
        load_config(overrides=[override])
    assert "\n" not in str(caught.value)


def test_bad_files_are_one_clear_line(tmp_path):
    (tmp_path / "typo.yaml").write_text("noise:\n  bta: 1\n")
    (tmp_path / "list.yaml").write_text("- 1\n")
    (tmp_path / "broken.yaml").write_text("a: [1\n")
    for name, match in [("typo", "bta"), ("list", "expected keys and values"), ("broken", "not a readable YAML")]:
        with pytest.raises(ConfigError, match=match):
            load_config([tmp_path / f"{name}.yaml"])
    with pytest.raises(ConfigError, match="no file 'nowhere'"):
        load_config(["nowhere"])


RUNS = [path for pattern in ("*.yaml", "methods/*.yaml", "variants/*.yaml") for path in sorted(CONFIGS.glob(pattern))]


@pytest.mark.parametrize("path", RUNS, ids=lambda path: str(path.relative_to(CONFIGS)))
def test_a_shipped_file_says_only_what_departs_from_the_default(path):
    """Every value it sets arrives, and none of them is the default's: what is written twice will differ one day."""
    written = flatten(*read_yaml(path), {row.key: row for row in rows_of(Config)}, "")
    config = load_config([path])
    found = {key: value for key, value in walk_values(config) if key in written}
    assert {key: tuple(v) if isinstance(v, list) else v for key, v in found.items()} == {
        key: tuple(v) if isinstance(v, list) else v for key, v in written.items()
    }
    assert written or path.stem in ("fsd", "nano")


def test_every_kind_of_shipped_file_is_read_by_somebody():
    """Names of folders below configs/ with the command that reads them; the others have tests of their own."""
    assert {path.name for path in CONFIGS.iterdir() if path.is_dir()} == {
        "ablations", "evaluate", "fleet", "methods", "nano", "sweep", "variants",
    }  # fmt: skip
    assert len(RUNS) >= 26
