"""``fsd-gs completion bash|zsh|fish``: a script that completes commands, options, settings and their choices.

    fsd-gs completion bash > ~/.local/share/bash-completion/completions/fsd-gs
    fsd-gs completion zsh  > ~/.zfunc/_fsd-gs
    fsd-gs completion fish > ~/.config/fish/completions/fsd-gs.fish

The words are written into the script, so that completing starts no Python; make it anew after an update.
"""

from __future__ import annotations

from collections.abc import Sequence

from fsd_gs.config import Config, config_names, rows_of
from fsd_gs.core.setting import names_of
from fsd_gs.errors import InputError

SHELLS = ("bash", "zsh", "fish")
OPTIONS = {
    "train": "--config --debug --help --version",
    "finish": "--debug --help --version",
    "view": "--host --port --up --backend --output --debug --help --version",
    "export": "--format --output --target --up --overwrite --debug --help --version",
    "sweep": "--output --workers --retry --report --no-plots --debug --help --version",
    "evaluate": "--suite --quick --prior --methods --prompts --seeds --config --output --workers --report --debug --help --version",
    "train-prior": "--config --init --debug --help --version",
    "doctor": "--help --version",
    "completion": "bash zsh fish",
}
WITH_SETTINGS = ("train", "sweep", "evaluate")


def words() -> tuple[list[str], dict[str, list[str]]]:
    """(settings as "key=", choices by key)."""
    rows = rows_of(Config)
    choices = {row.key: list(names_of(row.field)) or (["true", "false"] if isinstance(row.default, bool) else []) for row in rows}
    return [f"{row.key}=" for row in rows], {key: names for key, names in choices.items() if names}


def script(shell: str) -> str:
    """The script for ``shell``. Raises InputError for another shell."""
    if shell not in SHELLS:
        raise InputError(f"completion: expected one of {', '.join(SHELLS)}, got '{shell}'")
    return _fish() if shell == "fish" else _bash(zsh=shell == "zsh")


def _bash(zsh: bool) -> str:
    keys, choices = words()
    # Bash breaks words at "=": what is being typed is then the part after it, and the key two words back.
    cases = "\n".join(f'      {key}) values="{" ".join(names)}" ;;' for key, names in choices.items())
    commands = "\n".join(f'    {name}) options="{options}" ;;' for name, options in OPTIONS.items())
    head = "#compdef fsd-gs\nautoload -U +X bashcompinit && bashcompinit\n" if zsh else ""
    return f"""{head}# completion of fsd-gs; made by: fsd-gs completion {"zsh" if zsh else "bash"}
_fsd_gs() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" key="" values="" options="" command="${{COMP_WORDS[1]}}"
  COMPREPLY=()
  if [ "$COMP_CWORD" -le 1 ]; then
    COMPREPLY=($(compgen -W "{" ".join(OPTIONS)} --help --version" -- "$current"))
    return
  fi
  case "$current" in
    =) key="${{COMP_WORDS[COMP_CWORD-1]}}"; current="" ;;
    *=*) key="${{current%%=*}}"; current="${{current#*=}}" ;;
    *) if [ "${{COMP_WORDS[COMP_CWORD-1]}}" = "=" ]; then key="${{COMP_WORDS[COMP_CWORD-2]}}"; fi ;;
  esac
  if [ -n "$key" ]; then
    case "$key" in
{cases}
    esac
    COMPREPLY=($(compgen -W "$values" -- "$current"))
    return
  fi
  if [ "${{COMP_WORDS[COMP_CWORD-1]}}" = "--config" ]; then
    COMPREPLY=($(compgen -f -W "{" ".join(config_names())}" -- "$current"))
    return
  fi
  case "$command" in
{commands}
  esac
  case "$command" in
    {"|".join(WITH_SETTINGS)}) options="$options {" ".join(keys)}" ;;
    *) COMPREPLY=($(compgen -f -W "$options" -- "$current")); return ;;
  esac
  COMPREPLY=($(compgen -W "$options" -- "$current"))
  case "${{COMPREPLY[0]}}" in *=) compopt -o nospace 2>/dev/null ;; esac
}}
complete -F _fsd_gs fsd-gs
"""


def _fish() -> str:
    keys, choices = words()
    lines = ["# completion of fsd-gs; made by: fsd-gs completion fish", "complete -c fsd-gs -f"]
    lines += [f"complete -c fsd-gs -n __fish_use_subcommand -a {name}" for name in OPTIONS]
    for name, options in OPTIONS.items():
        seen = f"'__fish_seen_subcommand_from {name}'"
        lines += [f"complete -c fsd-gs -n {seen} -l {option[2:]}" for option in options.split() if option.startswith("--")]
        if name == "completion":
            lines.append(f"complete -c fsd-gs -n {seen} -a '{options}'")
        if name in ("view", "export", "finish", "sweep"):
            lines.append(f"complete -c fsd-gs -n {seen} -F")
    seen = f"'__fish_seen_subcommand_from {' '.join(WITH_SETTINGS)}'"
    for key in keys:
        values = " ".join(f"{key}{name}" for name in choices.get(key[:-1], [""]))
        lines.append(f"complete -c fsd-gs -n {seen} -a '{values}'")
    lines.append(f"complete -c fsd-gs -n {seen} -l config -x -a '{' '.join(config_names())}'")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str], program: str) -> int:
    """Print the script."""
    from fsd_gs.core.commandline import make_parser

    parser = make_parser(program, __doc__ or "")
    parser.add_argument("shell", metavar="SHELL", help=", ".join(SHELLS))
    print(script(parser.parse_args(arguments).shell), end="")
    return 0
