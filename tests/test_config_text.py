"""Settings from strangers' files and from any terminal: one clear line each, text as it was typed, nothing read from the environment."""

import os
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from fsd_gs.cli import COMMANDS
from fsd_gs.config import config_from_dict, load_config, to_yaml
from fsd_gs.errors import ConfigError

ROOT = Path(__file__).resolve().parent.parent
TEXTS = [
    "???",
    "a ${chair}",
    "${oc.env:HOME}",
    "a $ {chair",
    "${",
    "a\\${b}",
    "1e3",
    "no",
    "null",
    "~",
    "- a",
    "a: b # c",
    "'x",
    '"',
    "été 🪑",
    "[a",
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_prompt_is_plain_text(text, tmp_path):
    config = load_config(overrides=[f"prompt={text}", f"negative_prompt={text}"])
    assert (config.prompt, config.negative_prompt) == (text, text)
    written = to_yaml(config)
    assert config_from_dict(yaml.safe_load(written)) == config
    (tmp_path / "config.yaml").write_text(written, encoding="utf-8")
    assert load_config([tmp_path / "config.yaml"]) == config


def test_a_prompt_in_a_file_is_plain_text(tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET", "the-token")
    file = tmp_path / "a.yaml"
    for typed, text in (
        ('"a chair ${oc.env:SECRET}"', "a chair ${oc.env:SECRET}"),
        ("???", "???"),
        ("1e3", "1e3"),
        ("no", "no"),
        ("0x10", "0x10"),
    ):
        file.write_text(f"prompt: {typed}\n")
        assert load_config([file]).prompt == text


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ("seed: ${seed}", r"a.yaml: seed: '\$\{…\}' is not replaced"),
        ("device: ${oc.env:HOME}", r"a.yaml: device: '\$\{…\}' is not replaced"),
        ("guidance: {params: {steps: '${seed}'}}", "a.yaml: guidance.params: "),
        ("steps: ???", r"a.yaml: steps: expected a value, got '\?\?\?'"),
        ("noise: 3", "a.yaml: noise: expected keys and values, got int"),
        ("noise:", "a.yaml: noise: expected keys and values, got nothing"),
        ("steps: 2\nsteps: 3", "key 'steps' stands twice"),
        ("prompt: [a, b]", "a.yaml: prompt: expected text, got list"),
        ("prompt:", "prompt: expected text, got nothing"),
        ("a: &x [*x]", "alias contains itself"),
        ("prompt: \"a\\ud800\"", "a.yaml: prompt: expected UTF-8 text"),
        ("output: \"a\\0b\"", "a.yaml: output: expected UTF-8 text"),
        ("? [a, b]\n: 1", "not a readable YAML file|unknown key"),
        ("x: " + "[" * 3000, "not a readable YAML file"),
        ("steps: 2024-13-45", "not a readable YAML file"),
    ],
)  # fmt: skip
def test_a_strangers_file_is_one_clear_line(line, match, tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text(line + "\n")
    with pytest.raises(ConfigError, match=match) as caught:
        load_config([file])
    assert "\n" not in str(caught.value)


def test_aliases_do_not_grow_without_bound(tmp_path):
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    (tmp_path / "a.yaml").write_text("\n".join(rows))
    with pytest.raises(ConfigError, match="more than 20,000 values"):
        load_config([tmp_path / "a.yaml"])


@pytest.mark.parametrize(
    ("override", "match"),
    [
        ("steps=${nope}", r"^steps: '\$\{…\}' is not replaced in settings"),
        ("steps=???", "^steps: expected a value"),
        ("prompt=a r\udce9d chair", r"^prompt: expected UTF-8 text, got 'a r\\udce9d chair'"),
        ("guidance.params.nope=3", "^guidance.params.nope: "),
        ("noise.params.samples=0", "samples"),
        ("noise.params.nope=1", "^noise.params.nope: "),
        ("schedule.params.m1=0.9", "^schedule.params.m1: "),
        ("guidance.params=3", "^guidance.params: "),
        ("guidance.params.=3", "unknown key"),
        ("rates.means=nan", "^rates.means: expected a value"),
        ("steps=" + "9" * 5000, "^steps: "),
        ("steps=1e400", "^steps: "),
        ("prior.dtype=float8", "^prior.dtype: unknown name 'float8'"),
        ("densify.start=0.95", "^densify.start, densify.stop: "),
        ("prior.name= ", "^prior.name: "),
        ("cameras.azimuth_grid=10", "^cameras.azimuth_grid: expected 0 or a multiple"),
        ("guidance.cfg_scale=[1]", "^guidance.cfg_scale: "),
    ],
)  # fmt: skip
def test_a_strange_override_is_one_clear_line(override, match):
    with pytest.raises(ConfigError, match=match) as caught:
        load_config(overrides=["noise.kind=surface", override] if "samples" in override else [override])
    assert "\n" not in str(caught.value)


def test_parameters_of_a_method_are_its_fields():
    config = load_config(overrides=["guidance.method=sdi", "guidance.params.steps=4", "guidance.params.eta=0"])
    guidance = config.guidance.build()
    assert (guidance.steps, guidance.eta, guidance.cfg_scale) == (4, 0.0, 5.0)
    with pytest.raises(ConfigError, match=r"guidance\.params\.stepz: unknown name 'stepz'; did you mean 'steps'"):
        load_config(overrides=["guidance.method=sdi", "guidance.params.stepz=4"])
    with pytest.raises(ConfigError, match=r"guidance\.params\.steps: .*Integer"):
        load_config(overrides=["guidance.method=sdi", "guidance.params.steps=many"])
    with pytest.raises(ConfigError, match=r"guidance\.params\.steps: expected a value from 1 to 1000, got 0"):
        load_config(overrides=["guidance.method=sdi", "guidance.params.steps=0"])
    with pytest.raises(ConfigError, match=r"guidance\.params\.cfg_scale: is a setting of every method"):
        load_config(overrides=["guidance.method=sdi", "guidance.params.cfg_scale=1"])
    schedule = load_config(overrides=["schedule.kind=dreamtime", "schedule.params.m1=0.7"]).schedule.build(10, 0)
    assert schedule.m1 == 0.7


def test_config_yaml_says_what_it_was_made_with(tmp_path, monkeypatch):
    from fsd_gs.train import runs

    monkeypatch.chdir(tmp_path)
    folder = runs.prepare_folder(load_config(overrides=["prompt=???", f"output={tmp_path / 'outputs'}"]))
    written = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    assert set(written["made_with"]) == {"fsd_gs", "torch", "gsplat", "prior"}
    assert len(written["made_with"]["prior"]) == 16
    assert written["output"] == "outputs"
    assert runs.load_run_config(folder).prompt == "???"
    assert load_config([folder / "config.yaml"]).prompt == "???"


# -- the command line ---------------------------------------------------------------------------------------------------------


def run(*arguments, **environment):
    import os

    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, env=os.environ | environment, timeout=300)


def test_options_stand_anywhere_between_settings():
    done = run("train.py", "prompt=a house", "--config", "methods/sds", "stepz=3")
    assert done.returncode == 2
    assert done.stderr.decode().splitlines() == ["error: unknown key 'stepz'; did you mean 'steps'?"]


def test_a_prompt_of_another_encoding_is_one_line():
    done = run("train.py", b"prompt=a r\xe9d chair")
    assert done.returncode == 2
    lines = done.stderr.decode().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: prompt: expected UTF-8 text")


def test_help_on_an_ascii_terminal_imports_no_torch():
    code = (
        "import runpy, sys; sys.argv = ['train.py', '--help']\n"
        "try: runpy.run_path('train.py', run_name='__main__')\n"
        "except SystemExit as end: assert end.code == 0\n"
        "print('heavy:', sorted({'torch', 'omegaconf', 'numba', 'rich', 'diffusers'} & set(sys.modules)))"
    )
    done = run("-c", code, PYTHONIOENCODING="ascii")
    text = done.stdout.decode("ascii")
    assert "guidance.method=score" in text
    assert text.rstrip().endswith("heavy: []")
    assert "dreamtime" in text  # choices come from the tables, which import nothing for it


@pytest.mark.parametrize("arguments", [["train.py", "--version"], ["export.py", "--version"], ["-m", "fsd_gs", "view", "--version"]])
def test_every_command_tells_its_version(arguments):
    from fsd_gs import __version__

    assert run(*arguments).stdout.decode().strip() == __version__


def completion_script(shell, folder):
    """The script in a file."""
    from fsd_gs.cli import COMMANDS
    from fsd_gs.completion import script

    file = folder / f"completion.{shell}"
    file.write_text(script(shell, {name: entry.parser for name, entry in COMMANDS.items()}))
    return file


def test_completion_is_read_from_the_commands_own_parsers(tmp_path):
    from fsd_gs.completion import SHELLS

    for shell in SHELLS:
        assert "guidance.method=" in completion_script(shell, tmp_path).read_text()
    file = tmp_path / "completion.bash"

    def complete(*words):
        quoted = " ".join(f"'{word}'" for word in words)
        ask = f'. {file}; COMP_WORDS=(fsd-gs {quoted}); COMP_CWORD={len(words)}; _fsd_gs; echo "${{COMPREPLY[@]}}"'
        return subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=True).stdout.split()

    assert complete("tr") == ["train", "train-prior"]
    assert complete("train", "noise.bet") == ["noise.beta="]
    assert complete("train", "guidance.method", "=", "s") == ["score", "sdi"]
    assert complete("train", "viewer", "=") == ["true", "false"]
    assert "methods/sdi" in complete("train", "--config", "methods/s")
    assert complete("export", "--targ") == ["--target"]
    assert complete("export", "--up", "y-") == ["y-down"]
    assert complete("completion", "z") == ["zsh"]
    assert complete("info", "--deb") == complete("words", "--deb") == ["--debug"]
    assert "data.meshes=" in complete("train-prior", "data.")  # its own settings, not those of train
    assert complete("train-prior", "guidance.") == []


LINES = {
    "fsd-gs trai": ["fsd-gs train"],
    "fsd-gs train noise.bet": ["fsd-gs train noise.beta="],
    "fsd-gs train guidance.method=sd": ["fsd-gs train guidance.method=sdi"],
    "fsd-gs export --targ": ["fsd-gs export --target"],
    "fsd-gs export --up y-": ["fsd-gs export --up y-down"],
}


def test_fish_completes(tmp_path):
    if shutil.which("fish") is None:
        pytest.skip("no fish here: apt-get install fish")
    file = completion_script("fish", tmp_path)
    for typed, (whole,) in LINES.items():
        done = subprocess.run(["fish", "-c", f'source {file}; complete -C "{typed}"'], capture_output=True, text=True, check=True)
        assert whole.split()[-1] in done.stdout.split()


def test_zsh_completes(tmp_path):
    """At a terminal, as a person would: type, press Tab, read the line."""
    if shutil.which("zsh") is None:
        pytest.skip("no zsh here: apt-get install zsh")
    file = completion_script("zsh", tmp_path)
    ours, theirs = os.openpty()
    start = {**os.environ, "ZDOTDIR": str(tmp_path), "TERM": "dumb"}
    shell = subprocess.Popen(["zsh", "-f", "-i"], stdin=theirs, stdout=theirs, stderr=theirs, env=start, start_new_session=True)
    try:
        os.write(ours, f"autoload -Uz compinit; compinit -D -u; source {file}; PS1=; echo re''ady\n".encode())
        assert "ready" in read_until(ours, "ready")
        for typed, (whole,) in LINES.items():
            os.write(ours, f"{typed}\t".encode())
            assert whole in read_until(ours, whole)
            os.write(ours, b"\x15")  # the line is taken away
    finally:
        shell.kill()
        shell.wait()
        os.close(ours)
        os.close(theirs)


def read_until(terminal, text, seconds=30.0):
    """What the terminal shows until ``text`` is there, without its control sequences."""
    shown, end = "", time.monotonic() + seconds
    while text not in (plain := re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|[\r\x07]", "", shown)) and time.monotonic() < end:
        if select.select([terminal], [], [], 0.2)[0]:
            shown += os.read(terminal, 4096).decode(errors="replace")
    return plain


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_the_common_options_and_an_example(name):
    import shlex

    from fsd_gs.cli import COMMANDS, usage
    from fsd_gs.completion import _parser
    from fsd_gs.core import commandline

    entry = COMMANDS[name]
    assert f"fsd-gs {name}" in usage()
    assert entry.meaning in usage()
    parser = _parser(entry.parser, name)
    arguments = ["--debug", *shlex.split(entry.example)]
    assert commandline.parse(parser, arguments).debug
    assert "--version" in parser.format_help()
    assert "{program}" not in parser.format_help()
