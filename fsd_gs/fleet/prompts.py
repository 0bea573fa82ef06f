"""Prompt files: a line a prompt, with settings of its own where it needs them.

    .txt     a prompt a line; blank lines and lines that begin with # are skipped
    .csv     a header, then a prompt a line; an empty cell is not given
    .jsonl   an object a line, with the same keys

Columns: ``prompt``; ``name`` (of the folder), ``seeds`` ("0-3,7"), ``image`` (short for ``prior.image``), and every setting of ``train.py``
by its dotted name. Whatever is wrong with a line is said with its number before anything starts.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fsd_gs.config import Config, config_from_dict, load_config, rows_of
from fsd_gs.core.commandline import shown
from fsd_gs.core.naming import file_stem
from fsd_gs.errors import ConfigError, FileFormatError, FsdGsError, InputError, nearest
from fsd_gs.train.words import known_vocabulary

KINDS = (".txt", ".csv", ".jsonl")
OWN_COLUMNS = ("prompt", "name", "seeds", "image")
#: Settings that a batch gives itself; as a column they would do nothing, or harm.
TAKEN = ("seed", "count", "output", "resume", "overwrite", "reseed", "mode", "viewer", "viewer_host", "viewer_port")
MOST_SEEDS = 1_000_000


@dataclass(frozen=True)
class Row:
    """A line of the file.

    Attributes:
        seeds: its own, () where those of the command count.
        name: "" where the prompt names the folder.
    """

    line: int
    config: Config
    name: str = ""
    seeds: tuple[int, ...] = ()


def read_prompts(path: Path, base: Sequence[str] = (), files: Sequence[str] = ()) -> tuple[list[Row], list[str]]:
    """The rows of a prompt file, and a note for every line that repeats an earlier one (it is left out).

    Args:
        path: .txt, .csv or .jsonl.
        base: key=value for all lines; a line's own settings win.
        files: configuration files below them.

    Raises:
        FileFormatError: the file cannot be read, or has no prompts.
        ConfigError: a line is wrong; the message begins with the file and the number of the first, and counts the others.
    """
    common = load_config(files, base)
    if common.mode != "3d":
        raise ConfigError(f"mode: a batch makes 3d assets, got {common.mode}")
    known = {row.key: row for row in rows_of(Config)}
    rows: list[Row] = []
    bad: list[tuple[int, str]] = []
    for line, cells in _lines(path, bad):
        try:
            rows.append(_row(line, cells, common, (files, base), known))
        except FsdGsError as error:
            bad.append((line, str(error)))
    if bad:
        line, message = min(bad)
        others = sorted({number for number, _ in bad} - {line})
        also = f" (also wrong: line{'s' if len(others) > 1 else ''} {_some(others)})" if others else ""
        raise ConfigError(f"{path}, line {line}: {message}{also}")
    if not rows:
        raise FileFormatError(f"{path}: no prompts in it; write one a line")
    return _without_repeats(rows, path)


def parse_seeds(text: str, argument: str = "--seeds") -> tuple[int, ...]:
    """ "0-3,7" → (0, 1, 2, 3, 7). Raises ConfigError for anything else, and for a seed that stands twice."""
    seeds: list[int] = []
    for part in str(text).split(","):
        match = re.fullmatch(r"\s*(\d{1,18})(?:\s*-\s*(\d{1,18}))?\s*", part)
        if match is None:
            raise ConfigError(f"{argument}: expected numbers and ranges such as 0-3,7, got '{text}'")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or last - first >= MOST_SEEDS:
            raise ConfigError(f"{argument}: expected a range that rises, of at most {MOST_SEEDS:,} seeds, got '{part.strip()}'")
        seeds += range(first, last + 1)
    if len(set(seeds)) != len(seeds):
        twice = next(seed for seed in seeds if seeds.count(seed) > 1)
        raise ConfigError(f"{argument}: seed {twice} stands twice in '{text}'")
    return tuple(seeds)


# -- lines -----------------------------------------------------------------------------------------------------------------


def _lines(path: Path, bad: list[tuple[int, str]]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """(number, cells that are given) of every prompt; what cannot be taken apart goes to ``bad``."""
    if path.suffix.lower() not in KINDS:
        raise FileFormatError(f"{path}: expected a file ending in {', '.join(KINDS)}")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise FileFormatError(f"{path}: cannot be read ({error.strerror or error})") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = content[: error.start].count(b"\n") + 1
        raise FileFormatError(f"{path}, line {number}: not UTF-8 text; save the file as UTF-8") from None
    read = {".txt": _text_lines, ".csv": _csv_lines, ".jsonl": _json_lines}[path.suffix.lower()]
    return read(text, bad, path)


def _text_lines(text: str, bad: list[tuple[int, str]], path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield number, {"prompt": line.strip()}


def _csv_lines(text: str, bad: list[tuple[int, str]], path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    while True:
        try:
            number = reader.line_num + 1
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise FileFormatError(f"{path}, line {reader.line_num}: not CSV ({error})") from None
        if not any(cell.strip() for cell in cells):
            continue
        if header is None:
            header = [cell.strip() for cell in cells]
            _check_header(header, path, number)
        elif len(cells) > len(header):
            bad.append((number, f"{len(cells)} cells where the header has {len(header)}; quote a text that has commas in it"))
        else:
            yield number, {name: cell.strip() for name, cell in zip(header, cells, strict=False) if cell.strip()}


def _check_header(header: Sequence[str], path: Path, number: int) -> None:
    twice = [name for name in header if header.count(name) > 1]
    if twice:
        raise FileFormatError(f"{path}, line {number}: column '{twice[0]}' stands twice")
    known = {row.key for row in rows_of(Config)}
    for name in header:
        try:
            _check_column(name, known)
        except ConfigError as error:
            raise ConfigError(f"{path}, line {number}: {error}") from error
    if "prompt" not in header:
        raise FileFormatError(f"{path}, line {number}: expected a header with a column 'prompt', got '{','.join(header)}'")


def _json_lines(text: str, bad: list[tuple[int, str]], path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            cells = json.loads(line)
        except ValueError as error:
            bad.append((number, f"not JSON ({error})"))
            continue
        if not isinstance(cells, dict):
            bad.append((number, f'expected an object such as {{"prompt": "a red chair"}}, got {type(cells).__name__}'))
            continue
        yield number, {name: value for name, value in cells.items() if value is not None}


# -- one row ---------------------------------------------------------------------------------------------------------------


def _row(line: int, cells: Mapping[str, Any], common: Config, base: tuple[Sequence[str], Sequence[str]], known: Mapping[str, Any]) -> Row:
    for column in cells:
        _check_column(column, known)
    prompt = cells.get("prompt", "")
    if not isinstance(prompt, str) or not prompt.strip():
        raise InputError(
            "prompt: expected words that say what to make, got nothing" if not prompt else f"prompt: expected text, got {prompt!r}"
        )
    name, seeds = str(cells.get("name", "")).strip(), cells.get("seeds")
    if name and not file_stem(name).strip("-"):
        raise InputError(f"name: expected letters or digits, got '{name}'")
    settings = {("prior.image" if key == "image" else key): value for key, value in cells.items() if key not in ("prompt", "name", "seeds")}
    if settings:
        files, overrides = base
        config = load_config(files, [*overrides, *(f"{key}={_typed(value)}" for key, value in settings.items()), f"prompt={prompt}"])
        _check_image(config)
    else:
        config = replace(common, prompt=_plain_text(prompt))
    own = () if seeds is None else parse_seeds(_seed_text(seeds), "seeds")
    return Row(line, replace(config, seed=0, count=1), name, own)


def _check_image(config: Config) -> None:
    """What is known of an image prompt before the prior is loaded."""
    image, prior = config.prior.image, config.prior.name
    if image is None:
        return
    if known_vocabulary(prior) is not None:
        raise ConfigError(f"image: the prior {prior} takes words alone; use one of SD 1.5 or SDXL, such as prior.name=sd15")
    if not Path(image).expanduser().is_file():
        raise FileFormatError(f"image: no file '{image}'; paths count from the folder in which the command is given")


def _plain_text(prompt: str) -> str:
    return config_from_dict({"prompt": prompt}).prompt  # refuses what no prompt may hold


def _seed_text(seeds: Any) -> str:
    return ",".join(map(str, seeds)) if isinstance(seeds, list) else str(seeds)


def _typed(value: Any) -> str:
    """A cell as it is written on the command line."""
    return value if isinstance(value, str) else json.dumps(value) if isinstance(value, dict) else shown(value)


def _check_column(name: str, known: Any) -> None:
    if name in OWN_COLUMNS:
        return
    if name in TAKEN:
        say = "seeds (such as 0-3)" if name in ("seed", "count") else "the command line"
        raise ConfigError(f"column '{name}': a batch sets it itself; use {say}")
    if name in known or any(name.startswith(f"{key}.") for key in ("guidance.params", "schedule.params", "noise.params")):
        return
    near = nearest(name, [*OWN_COLUMNS, *known])
    hint = f"; did you mean '{near}'?" if near else f"; expected one of {', '.join(OWN_COLUMNS)} or a setting of train.py"
    raise ConfigError(f"unknown column '{name}'{hint}")


def _without_repeats(rows: list[Row], path: Path) -> tuple[list[Row], list[str]]:
    seen: dict[Any, int] = {}
    names: dict[str, tuple[int, str]] = {}
    kept, notes = [], []
    for row in rows:
        identity = (repr(row.config), row.name, row.seeds)
        if identity in seen:
            notes.append(f"{path}, line {row.line}: the same as line {seen[identity]} ('{row.config.prompt}'); made once")
            continue
        if row.name:
            line, prompt = names.setdefault(file_stem(row.name), (row.line, row.config.prompt))
            if prompt != row.config.prompt:
                raise ConfigError(f"{path}, line {row.line}: name '{row.name}' is that of line {line} ('{prompt}'); give each its own")
        seen[identity] = row.line
        kept.append(row)
    return kept, notes


def _some(numbers: Sequence[int], most: int = 5) -> str:
    more = f" and {len(numbers) - most} more" if len(numbers) > most else ""
    return ", ".join(map(str, numbers[:most])) + more
