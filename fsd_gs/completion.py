"""``fsd-gs completion bash|zsh|fish``: a script that completes commands, options, settings and their choices.

    fsd-gs completion bash > ~/.local/share/bash-completion/completions/fsd-gs
    fsd-gs completion zsh  > ~/.zfunc/_fsd-gs
    fsd-gs completion fish > ~/.config/fish/completions/fsd-gs.fish

Everything in it is read from the commands' own parsers. The words are written into the script, so that completing starts no Python; make it
anew after an update.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fsd_gs.config import config_names, rows_of
from fsd_gs.core import commandline
from fsd_gs.core.setting import names_of

SHELLS = ("bash", "zsh", "fish")
_OF_FILES = ("FILE", "FOLDER", "PATH", "SWEEP")  # in the metavar of an argument: file names complete it


@dataclass
class Words:
    """What may follow a command.

    Attributes:
        options: "--name" each.
        values: Choices of an option, by its name.
        settings: "key=" each.
        choices: Choices of a setting, by its key.
        files: Whether file names may stand there.
    """

    options: list[str] = field(default_factory=list)
    values: dict[str, list[str]] = field(default_factory=dict)
    settings: list[str] = field(default_factory=list)
    choices: dict[str, list[str]] = field(default_factory=dict)
    files: bool = False


def words_of(parser: commandline.Parser) -> Words:
    """The words of a command, from its parser."""
    words = Words()
    for action in parser._actions:
        names = [name for name in action.option_strings if name.startswith("--")]
        words.options += names or _positional_choices(action)
        if names and action.choices is not None:
            words.values |= {name: list(map(str, action.choices)) for name in names}
        words.files |= any(kind in str(action.metavar) for kind in _OF_FILES)
    if "--config" in words.options:
        words.values["--config"] = config_names()
    for row in rows_of(parser.settings) if parser.settings is not None else []:
        words.settings.append(f"{row.key}=")
        choices = list(names_of(row.field)) or (["true", "false"] if isinstance(row.default, bool) else [])
        if choices:
            words.choices[row.key] = choices
    return words


def _positional_choices(action: argparse.Action) -> list[str]:
    return [] if action.option_strings or action.choices is None else list(map(str, action.choices))


def script(shell: str, parsers: Mapping[str, str]) -> str:
    """The script for a shell.

    Args:
        shell: One of ``SHELLS``.
        parsers: Command → "module:function", where the function makes the command's parser.
    """
    words = {name: words_of(_parser(place, name)) for name, place in parsers.items()}
    return _fish(words) if shell == "fish" else _bash(words, zsh=shell == "zsh")


def _parser(place: str, name: str) -> commandline.Parser:
    module, _, function = place.partition(":")
    return getattr(importlib.import_module(module), function)(f"fsd-gs {name}")


def _cases(indent: int, values: Mapping[str, str]) -> str:
    """Branches of a shell's ``case``; patterns with the same values share one."""
    patterns: dict[str, list[str]] = {}
    for pattern, value in values.items():
        patterns.setdefault(value, []).append(pattern)
    return "\n".join(f"{' ' * indent}{'|'.join(names)}) words='{value}' ;;" for value, names in patterns.items())


def _bash(words: Mapping[str, Words], zsh: bool) -> str:
    # Bash breaks words at "=": what is being typed is then the part after it, and the key two words back.
    settings = {f"{c}:{key}": " ".join(names) for c, w in words.items() for key, names in w.choices.items()}
    values = {f"{c}:{option}": " ".join(names) for c, w in words.items() for option, names in w.values.items()}
    options = {c: " ".join([*w.options, *w.settings]) for c, w in words.items()}
    # Zsh does not: the whole key=value is what it compares, and it does so itself. It has no compopt, so that "key=" would get a blank.
    of_key, nospace = (' -P "$key="', "-o nospace ") if zsh else ("", "")
    head = "#compdef fsd-gs\nautoload -U +X bashcompinit && bashcompinit\n" if zsh else ""
    return f"""{head}# completion of fsd-gs; made by: fsd-gs completion {"zsh" if zsh else "bash"}
_fsd_gs() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}" command="${{COMP_WORDS[1]}}" key="" words="" files=""
  COMPREPLY=()
  if [ "$COMP_CWORD" -le 1 ]; then
    COMPREPLY=($(compgen -W "{" ".join(words)} --help --version" -- "$current"))
    return
  fi
  case "$current" in
    =) key="$before"; current="" ;;
    *=*) key="${{current%%=*}}"; current="${{current#*=}}" ;;
    *) if [ "$before" = "=" ]; then key="${{COMP_WORDS[COMP_CWORD-2]}}"; fi ;;
  esac
  if [ -n "$key" ]; then
    case "$command:$key" in
{_cases(6, settings)}
    esac
    COMPREPLY=($(compgen{of_key} -W "$words" -- "$current"))
    return
  fi
  case "$command:$before" in
{_cases(4, values)}
  esac
  if [ -n "$words" ]; then
    if [ "$before" = "--config" ]; then files="-f"; fi
    COMPREPLY=($(compgen $files -W "$words" -- "$current"))
    return
  fi
  case "$command" in
{_cases(4, options)}
  esac
  case "$command" in
    {"|".join(c for c, w in words.items() if w.files)}) files="-f" ;;
  esac
  COMPREPLY=($(compgen $files -W "$words" -- "$current"))
  case "${{COMPREPLY[0]}}" in *=) compopt -o nospace 2>/dev/null ;; esac
}}
complete {nospace}-F _fsd_gs fsd-gs
"""


def _fish(words: Mapping[str, Words]) -> str:
    lines = ["# completion of fsd-gs; made by: fsd-gs completion fish", "complete -c fsd-gs -f"]
    lines += [f"complete -c fsd-gs -n __fish_use_subcommand -a {name}" for name in words]
    for name, its in words.items():
        seen = f"complete -c fsd-gs -n '__fish_seen_subcommand_from {name}'"
        for word in its.options:
            values = its.values.get(word)
            lines.append(f"{seen} -l {word[2:]}{_fish_values(values)}" if word.startswith("--") else f"{seen} -a {word}")
        for key in its.settings:
            lines.append(f"{seen} -a '{' '.join(f'{key}{value}' for value in its.choices.get(key[:-1], ['']))}'")
        if its.files:
            lines.append(f"{seen} -F")
    return "\n".join(lines) + "\n"


def _fish_values(values: Sequence[str] | None) -> str:
    return "" if values is None else f" -x -a '{' '.join(values)}'"


def make_parser(program: str) -> commandline.Parser:
    """The options of ``fsd-gs completion``."""
    parser = commandline.make_parser(program, __doc__ or "")
    parser.add_argument("shell", choices=SHELLS)
    return parser


def main(arguments: Sequence[str], program: str, parsers: Mapping[str, str]) -> int:
    """Print the script. parsers: as in :func:`script`."""
    print(script(commandline.parse(make_parser(program), arguments).shell, parsers), end="")
    return 0
