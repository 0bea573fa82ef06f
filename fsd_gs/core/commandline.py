"""What the commands' parsers share: the common options, settings as key=value anywhere between the options, ``--config``, and their help.

argparse carries it: the grammar of the settings is ours, and help has to come at once (importing typer or tyro alone takes longer than
this). A command is a parser and a function; :class:`Parser` knows which settings it takes, so that completion can read everything from it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from fsd_gs.core.configure import Row, rows_of
from fsd_gs.core.setting import names_of, range_of


class Parser(argparse.ArgumentParser):
    """An argument parser that remembers whose settings it takes.

    Attributes:
        settings: The tree of dataclasses whose keys may be given as key=value; None for a command without settings.
    """

    settings: type | None = None

    def _print_message(self, message: str, file: Any = None) -> None:
        """argparse swallows what a full disk says of the help, and ends with 0."""
        if message and file is sys.stdout:
            sys.stdout.write(message)
        else:
            super()._print_message(message, file)


def make_parser(program: str, description: str, epilog: str | None = None) -> Parser:
    """A parser with the options that every command has.

    Args:
        program: What the user typed, such as "fsd-gs train".
        description: Shown above the options; {program} in it is replaced.
        epilog: Shown below them, likewise.
    """
    parser = Parser(
        prog=program,
        description=description.replace("{program}", program),
        epilog=None if epilog is None else epilog.replace("{program}", program),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_argument("--version", action="store_true", help="print the version and end")
    return parser


def add_settings(parser: Parser, settings: type, *, listed: bool = True, files: bool = True, metavar: str = "key=value") -> None:
    """Let ``parser`` take key=value arguments (``overrides``) and settings files (``config``).

    Args:
        parser: Of the command.
        settings: Tree of dataclasses with those keys.
        listed: Whether the help lists every setting.
        files: Whether there is ``--config``.
        metavar: What such an argument is called in the help.
    """
    parser.settings = settings
    where = "listed below" if listed else "as train takes them (fsd-gs train --help lists them)"
    parser.add_argument("overrides", nargs="*", metavar=metavar, help=f"settings, {where}; the last one wins")
    if files:
        parser.add_argument(
            "--config", action="append", default=[], metavar="FILE", help="YAML file, or its name below configs/; may be repeated"
        )
    if listed:
        parser.epilog = "\n\n".join(text for text in (parser.epilog, settings_help(settings)) if text)


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
    """Options may stand anywhere between the settings."""
    return parser.parse_intermixed_args(arguments)


def settings_help(settings: type) -> str:
    """Every setting with default, meaning, choices and range, group by group."""
    lines, last_group = ["settings (key=default  meaning):"], ""
    for row in rows_of(settings):
        if row.group != last_group:
            lines.append("")
            last_group = row.group
        lines.append(f"  {row.key}={shown(row.default)}\n      {row.meaning}{_limits(row)}")
    return "\n".join(lines).replace("%", "%%")


def _limits(row: Row) -> str:
    """What the meaning does not say already."""
    choices, bounds = names_of(row.field), range_of(row.field)
    if any(name not in row.meaning for name in choices):
        return f" ({', '.join(choices)})"
    return f" ({bounds.removeprefix('of ')})" if bounds else ""


def shown(value: object) -> str:
    """A value as it is written on the command line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(shown, value))}]"
    return str(value)
