"""Every command line of the README and the docs: what needs no GPU and no weights is run with short settings, the rest parsed."""

import importlib
import re
import shlex
from pathlib import Path

import pytest
from export_scenes import egg

from fsd_gs.cli import COMMANDS
from fsd_gs.config import load_config
from fsd_gs.core import commandline
from fsd_gs.errors import FsdGsError
from fsd_gs.experiments.evaluate.command import make_parser as evaluate_parser
from fsd_gs.experiments.evaluate.command import suite_of
from fsd_gs.experiments.sweep.command import make_parser as sweep_parser
from fsd_gs.experiments.sweep.spec import expand, load_spec
from fsd_gs.export.command import main as export
from fsd_gs.export.formats import save_splats
from fsd_gs.export.info import main as info
from fsd_gs.pretrain.command import make_parser as prior_parser
from fsd_gs.render import make_rasterizer
from fsd_gs.train.command import make_parser as train_parser
from fsd_gs.viewer.command import make_parser as view_parser

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
SHORT = ["--size", "32", "--frames", "2", "--mesh-resolution", "16", "--texture", "32"]
# Without an argument, or with one that says itself what it is about.
PLACEHOLDERS = {"FILE", "RUN", "FOLDER", "…", "..."}


def documented() -> list[tuple[str, str]]:
    """(page, command) of indented and fenced lines, of lines in tables and running text, each once."""
    found: dict[tuple[str, str], None] = {}
    for page in PAGES:
        text = page.read_text("utf-8")
        lines = [line.strip() for line in text.splitlines() if re.match(r" {4}\S", line)]
        lines += [line.strip() for block in re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S) for line in block.splitlines()]
        lines += re.findall(
            r"`((?:fsd-gs|python (?:train|export)\.py|python -m fsd_gs\S*|python benchmarks/\S+|python docs/\S+) ?[^`\n]*)`", text
        )
        for line in lines:
            for part in re.split(r"\s&&\s", line):
                command = re.sub(r"^(\w+=\S+ )+", "", part.split("  #")[0].split(" # ")[0].strip())
                if re.match(r"(fsd-gs|python) \S", command) and not re.match(r"python -(c|m (venv|pytest|pip))\b", command):
                    found[page.name, command] = None
    return list(found)


CASES = documented()


def test_the_walk_finds_commands():
    assert len(CASES) > 60
    assert any(command.startswith("fsd-gs export RUN") for _, command in CASES)
    assert {page for page, _ in CASES} >= {"README.md", "formats.md", "it_does_not_open.md", "pretraining.md", "evaluation.md"}


@pytest.mark.parametrize(("page", "command"), CASES, ids=[f"{page}: {command}" for page, command in CASES])
def test_documented_command(page, command, tmp_path, monkeypatch):
    words = shlex.split(command)
    if words[0] == "fsd-gs":
        name, arguments = words[1], words[2:]
        if name.startswith("-"):
            return
        assert name in COMMANDS, f"{page}: there is no command fsd-gs {name}"
    elif words[1] in ("train.py", "export.py"):
        name, arguments = words[1].removesuffix(".py"), words[2:]
    elif words[1] == "-m":
        return check_script(words[2:], as_module=True)
    else:
        return check_script(words[1:], as_module=False)
    if "--help" in arguments:
        with pytest.raises(SystemExit) as ended:
            parser_of(name).parse_args(["--help"])
        assert ended.value.code == 0
    elif arguments and (PLACEHOLDERS.isdisjoint(arguments) or "RUN" in arguments or "FILE" in arguments):
        CHECKS.get(name, check_any(name))(arguments, tmp_path, monkeypatch)
    return None


def parser_of(name):
    """The parser of ``fsd-gs name``, as shell completion finds it."""
    module, function = COMMANDS[name].parser.split(":")
    return getattr(importlib.import_module(module), function)(f"fsd-gs {name}")


def check_any(name):
    """Parsed to the end, by the command's own parser."""
    return lambda arguments, folder, monkeypatch: commandline.parse(parser_of(name), arguments)


def make_runs(folder, monkeypatch):
    """The runs and files that the docs speak of."""
    monkeypatch.chdir(folder)
    for name in (
        "outputs/a-house/seed-0000/splats.ply",
        "outputs/a-red-chair/seed-0000/splats.ply",
        "scan.ply",
        "trellis.ply",
        "theirs.ply",
        "RUN/splats.ply",
        "FILE.ply",
    ):
        save_splats(egg(300), folder / name)
    (folder / "FILE.ply").rename(folder / "FILE")


def check_export(arguments, folder, monkeypatch):
    """Run, whatever it writes. A name that the docs leave open is a run's folder."""
    make_runs(folder, monkeypatch)
    assert export([*arguments, *SHORT], make_rasterizer=lambda: make_rasterizer("cpu")) == 0
    if "--output" in arguments:
        assert (folder / arguments[arguments.index("--output") + 1]).exists()
    else:
        assert list(folder.rglob("export/*"))


def check_info(arguments, folder, monkeypatch):
    make_runs(folder, monkeypatch)
    assert info([a if a != "FILE" else "scan.ply" for a in arguments]) == 0


def check_train(arguments, folder, monkeypatch):
    """Parse to the settings of a run; a placeholder path need not exist."""
    options = train_parser("train.py").parse_args([a for a in arguments if "=" not in a])
    overrides = [re.sub(r"^resume=.*/.*", "resume=true", a) for a in arguments if "=" in a]  # resume=FOLDER reads that folder's settings
    load_config(options.config or [], overrides)


def check_view(arguments, folder, monkeypatch):
    view_parser("fsd-gs view").parse_args(arguments)


def check_sweep(arguments, folder, monkeypatch):
    options = sweep_parser("fsd-gs sweep").parse_args(arguments)
    assert expand(load_spec(options.spec), options.overrides)


def check_evaluate(arguments, folder, monkeypatch):
    suite_of(evaluate_parser("fsd-gs evaluate").parse_args(arguments))


def check_prior(arguments, folder, monkeypatch):
    prior_parser("fsd-gs train-prior").parse_args([a for a in arguments if "=" not in a])
    files = [arguments[i + 1] for i, a in enumerate(arguments) if a == "--config"]
    assert all((ROOT / file).is_file() for file in files)


CHECKS = {
    "export": check_export,
    "info": check_info,
    "train": check_train,
    "view": check_view,
    "sweep": check_sweep,
    "evaluate": check_evaluate,
    "train-prior": check_prior,
}


def check_script(words, *, as_module):
    """The script or module is there and knows the options of the line."""
    path = ROOT / (f"{words[0].replace('.', '/')}.py" if as_module else words[0])
    if as_module and not path.is_file():
        path = path.with_suffix("") / "__main__.py"
    assert path.is_file(), f"there is no {path.relative_to(ROOT)}"
    source = "".join(p.read_text("utf-8") for p in (path.parent.glob("*.py") if path.name == "__main__.py" else [path]))
    for word in words[1:]:
        if word.startswith("--"):
            assert f'"{word.split("=")[0]}"' in source, f"{path.name} knows no {word}"


def test_a_wrong_line_would_be_found(tmp_path, monkeypatch):
    """The checks can fail: an unknown format, setting, sweep and option."""
    make_runs(tmp_path, monkeypatch)
    assert export(["RUN", "--format", "plyy", *SHORT], make_rasterizer=lambda: make_rasterizer("cpu")) == 2
    with pytest.raises(FsdGsError):
        check_train(["prompt=a chair", "stepz=3"], tmp_path, monkeypatch)
    with pytest.raises(FsdGsError):
        check_sweep(["ablations/gama"], tmp_path, monkeypatch)
    with pytest.raises(SystemExit):
        check_evaluate(["--sweet", "nano"], tmp_path, monkeypatch)
    with pytest.raises(SystemExit):
        check_any("finish")(["outputs/a", "--nonsense"], tmp_path, monkeypatch)
    with pytest.raises(AssertionError):
        check_script(["docs/figures/diversity.py", "--nonsense"], as_module=False)
