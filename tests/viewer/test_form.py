"""What may be typed into the start page: settings yes; paths, hub ids and places to write no."""

import dataclasses

import pytest

from fsd_gs.config import Config, describe_settings, load_config
from fsd_gs.errors import ConfigError
from fsd_gs.viewer.form import DEFAULTS, Request, presets, requested_config


def asked(settings="", **fields):
    return requested_config(Request("a red chair", settings=settings, **fields), "somewhere", fields.pop("overrides", ()))


def test_the_form_makes_a_configuration():
    config = asked("steps=7  noise.beta=0.5 guidance.method=sdi device=cpu", seed=3, count=2)
    assert (config.prompt, config.seed, config.count, config.output) == ("a red chair", 3, 2, "somewhere")
    assert (config.steps, config.noise.beta, config.guidance.method, config.device) == (7, 0.5, "sdi", "cpu")
    assert config.resume
    assert not config.overwrite
    assert asked(replace=True).overwrite
    for name in ("nano", "exact", "sd15"):
        assert asked(f"prior.name={name}").prior.name == name
    assert asked('noise.theta="auto"').noise.theta == "auto"
    assert asked("negative_prompt=/etc/passwd").negative_prompt == "/etc/passwd"  # words, for a network that reads words


@pytest.mark.parametrize(
    "setting",
    [
        "prior.name=/etc",
        "prior.name=../weights",
        "prior.name=somebody/their-model",
        'prior={"name":"somebody/their-model"}',
        "prior.name=sd15/../../x",
        "prior.lora=/etc/passwd",
        "prior.lora=lora",
        "prior.tiny_vae=somebody/vae",
        "prior.config=elsewhere",
        "splats.init=/etc/passwd",
        "splats.init=mesh.glb",
        'splats={"init":"mesh.glb"}',
        "device=cuda:0;x",
    ],
)
def test_paths_and_hub_ids_cannot_be_typed(setting):
    key = setting.partition("=")[0]
    with pytest.raises(ConfigError, match=rf"^{key.partition('.')[0]}.*cannot be chosen from a page|unknown key"):
        asked(setting)


@pytest.mark.parametrize(
    "setting",
    ["output=/tmp", "resume=false", "overwrite=true", "viewer_host=0.0.0.0", "viewer=true", "prompt=x", "seed=9", "count=99", "mode=2d"],
)
def test_places_and_what_the_form_has_fields_for_cannot_be_typed(setting):
    with pytest.raises(ConfigError, match=r"cannot be typed here; use the fields above, or the command line"):
        asked(setting)


def test_no_text_setting_is_open_but_those_listed():
    """Also those that will come: whatever takes free text or a path must refuse it from a page."""
    open_ones = []
    for key, default, _ in describe_settings(Config):
        if not (default is None or isinstance(default, str | list | dict)):
            continue
        for value in ("/etc/passwd", "[/etc/passwd]"):
            try:
                config = asked(f"{key}={value}")
            except ConfigError:
                continue
            if "passwd" in str(dataclasses.asdict(config)):
                open_ones.append(key)
    assert set(open_ones) == {"negative_prompt"}


def test_the_command_line_may_name_what_the_page_may_not():
    config = requested_config(Request("a red chair", settings="steps=5"), "out", ("splats.init=mesh.glb", "prior.lora=mine.safetensors"))
    assert (config.splats.init, config.prior.lora, config.steps) == ("mesh.glb", "mine.safetensors", 5)


@pytest.mark.parametrize("setting", ["steps=${oc.env:HOME}", "steps=${nope}", "prior.name=${oc.env:HOME}"])
def test_nothing_of_the_machine_is_read_into_an_error(setting):
    with pytest.raises(ConfigError, match=r"'\$' is not taken"):
        asked(setting)


def test_bad_fields_are_one_line():
    for settings, message in [
        ("steps", r"'steps': expected key=value"),
        ("stepz=3", r"unknown key 'stepz'; did you mean 'steps'\?"),
        ("steps=many", "steps"),
        ("steps=0", "steps"),
    ]:
        with pytest.raises(ConfigError, match=message) as error:
            asked(settings)
        assert "\n" not in str(error.value)
    with pytest.raises(ConfigError, match=r"preset: unknown preset '\.\./\.\./etc/passwd'"):
        asked(preset="../../etc/passwd")
    with pytest.raises(ConfigError, match="seed"):
        asked(seed=-1)


def test_presets_begin_with_the_default():
    assert presets()[0] == DEFAULTS
    assert len(set(presets())) == len(presets())


def test_the_box_goes_on_without_unknown_words():
    assert requested_config(Request("a yelow duck"), "out").anyway is False
    assert requested_config(Request("a yelow duck", anyway=True), "out").anyway is True


@pytest.mark.parametrize(
    "setting", ["stepz=3", "steps=many", "steps=0", "noise.beta=2", "guidance.method=none", "quality=better", "keep=-1", "render.sizes=[]"]
)
def test_the_page_says_the_line_of_the_terminal(setting):
    with pytest.raises(ConfigError) as typed:
        asked(setting)
    with pytest.raises(ConfigError) as terminal:
        load_config(overrides=["prompt=a red chair", setting])
    assert str(typed.value) == str(terminal.value)
