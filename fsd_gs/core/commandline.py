"""What the commands' parsers share: settings as key=value anywhere between the options, ``--config``, ``--version``, and their help.

argparse carries it: the grammar of the settings is ours, and help has to come at once (importing typer alone takes longer than this).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from fsd_gs.core.configure import Row, rows_of
from fsd_gs.core.setting import names_of, range_of


def make_parser(program: str, description: str, settings: type | None = None) -> argparse.ArgumentParser:
    """A parser with the common options; settings: the tree of dataclasses whose keys the command takes and lists."""
    parser = argparse.ArgumentParser(
        prog=program,
        description=description,
        epilog=None if settings is None else settings_help(settings),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if settings is not None:
        parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings, listed below; the last one wins")
        parser.add_argument(
            "--config", action="append", default=[], metavar="FILE", help="YAML file, or its name below configs/; may be repeated"
        )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_argument("--version", action="store_true", help="print the version and end")
    return parser


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
