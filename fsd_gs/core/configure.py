"""Trees of settings: read, merged, checked, described, written. Plain data in, dataclasses out, one clear line for whatever is wrong.

    settings = load_settings(Config, files=["a.yaml"], overrides=["prompt=a red chair", "noise.beta=0.5"])

Later sources win: defaults < files in order < overrides. Keys are strict; types are converted by OmegaConf against the dataclasses'
annotations, ranges and choices are the fields' own (``setting``). A settings file is data that may come from a stranger: ``${…}``, by which
OmegaConf would read environment variables or other keys, and ``???`` are refused everywhere but in free text (a prompt), which is kept as
it was typed. What a run notes about its making in ``config.yaml`` (``made_with``) is no setting and skipped on reading.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from fsd_gs.core.setting import check, default_of
from fsd_gs.errors import ConfigError, FsdGsError

Settings = TypeVar("Settings")

MADE_WITH = "made_with"
MOST_VALUES, MOST_BYTES = 20_000, 1_000_000  # of a settings file; ours have some fifty values


# -- what there is to set --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One setting of a tree: its dotted name, its field, its default and the dataclass it belongs to."""

    key: str
    field: dataclasses.Field[Any]
    default: Any
    owner: type

    @property
    def hint(self) -> Any:
        """The type that the field is annotated with."""
        return typing.get_type_hints(self.owner)[self.field.name]

    @property
    def group(self) -> str:
        return self.key.rpartition(".")[0]

    @property
    def meaning(self) -> str:
        return self.field.metadata["help"]

    @property
    def is_text(self) -> bool:
        return bool(self.field.metadata.get("text"))

    @property
    def is_open(self) -> bool:
        """Whether any key may stand below it (``guidance.params``)."""
        return isinstance(self.default, dict)

    @property
    def is_list_of_groups(self) -> bool:
        """Whether its entries are groups of settings themselves (``stages``)."""
        return self.hint == list[dict[str, Any]]


@dataclass(frozen=True)
class _InEntry:
    """A value for one entry of a list of groups: ``stages.1.guidance.cfg_scale=20``."""

    place: int
    values: dict[str, Any]


def rows_of(cls: type, prefix: str = "") -> list[Row]:
    """Every setting of a tree of dataclasses, in order."""
    rows: list[Row] = []
    for field in dataclasses.fields(cls):
        default = default_of(field)
        key = f"{prefix}{field.name}"
        rows += rows_of(type(default), f"{key}.") if dataclasses.is_dataclass(default) else [Row(key, field, default, cls)]
    return rows


def value_of(settings: Any, key: str) -> Any:
    """The value of a dotted name."""
    for part in key.split("."):
        settings = getattr(settings, part)
    return settings


# -- reading ---------------------------------------------------------------------------------------------------------------


def load_settings(
    cls: type[Settings],
    files: Sequence[tuple[str, Path]],
    overrides: Sequence[str],
    word: tuple[str, Callable[[Settings, str], dict[str, Any]]] | None = None,
) -> Settings:
    """A checked tree.

    Args:
        cls: the root, a dataclass all of whose fields have defaults.
        files: (name for messages, path) of YAML files.
        overrides: "key=value" each, the value in YAML.
        word: a key whose value stands for other settings, and what says which, from the settings before it. Those given beside it, in the
            same file or among the overrides, win. Only the last file (or the overrides) that has the key counts.

    Raises:
        ConfigError: one line that names the key (and the file), what was expected and what came.
    """
    rows = {row.key: row for row in rows_of(cls)}
    sources = [(f"{name}: ", flatten(*read_yaml(path), rows, f"{name}: ")) for name, path in files]
    first_override = len(sources)
    sources += [("", dict([_parse_override(override, rows)])) for override in overrides]
    if word is not None:
        key, meant_by = word
        last = max((place for place, (_, flat) in enumerate(sources) if key in flat), default=None)
        if last is not None:
            before = min(last, first_override)
            chosen = str(_converted(rows[key], sources[last][1][key], sources[last][0]))
            sources.insert(before, ("", meant_by(_merge(cls, rows, sources[:before]), chosen)))
    return _merge(cls, rows, sources)


def settings_from(cls: type[Settings], values: Mapping[str, Any], origin: str = "config") -> Settings:
    """A checked tree from nested plain values (the content of a ``config.yaml``); text among them is taken literally."""
    rows = {row.key: row for row in rows_of(cls)}
    return _merge(cls, rows, [(f"{origin}: ", flatten(values, values, rows, f"{origin}: "))])


def settings_over(settings: Settings, values: Mapping[str, Any], may_change: Callable[[str], bool], origin: str) -> Settings:
    """``settings`` with nested ``values`` in place of some of its own.

    Args:
        settings: a checked tree.
        values: as strict as a file's; what is open (``guidance.params``) is merged.
        may_change: whether a setting of that dotted name may be among them.
        origin: put in front of errors.

    Raises:
        ConfigError: as for a file; or a setting that must stay.
    """
    rows = {row.key: row for row in rows_of(type(settings))}
    flat = flatten(values, values, rows, origin)
    kept = [key for key in flat if not may_change(key)]
    if kept:
        raise ConfigError(f"{origin}{kept[0]}: belongs to the whole run and cannot be set here")
    try:
        return _merge(type(settings), rows, [(origin, flat)], {key: value_of(settings, key) for key in rows})
    except ConfigError as error:
        raise ConfigError(str(error) if str(error).startswith(origin) else f"{origin}{error}") from error


def flatten(values: Any, texts: Any, rows: Mapping[str, Row], origin: str, prefix: str = "") -> dict[str, Any]:
    """Nested values → value by dotted name. texts: the same tree with every scalar as it was typed, for free text."""
    if not isinstance(values, Mapping):
        where = prefix.rstrip(".")
        got = "nothing" if values is None else type(values).__name__
        raise ConfigError(f"{origin}{where + ': ' if where else ''}expected keys and values, got {got}")
    flat: dict[str, Any] = {}
    for name, value in values.items():
        key = f"{prefix}{name}"
        if key == MADE_WITH:
            continue
        row = rows.get(key)
        if row is None and any(known.startswith(f"{key}.") for known in rows):
            flat |= flatten(value, texts[name], rows, origin, f"{key}.")
        elif row is None:
            raise ConfigError(f"{origin}{_unknown_key(key, rows)}")
        elif row.is_text:
            flat[key] = _texts(key, value, origin) if isinstance(row.default, list) else _text(key, value, texts[name], origin)
        else:
            _refuse_special(value, f"{origin}{key}")
            flat[key] = value
    return flat


def read_yaml(path: Path) -> tuple[Any, Any]:
    """The content of a YAML file twice: with numbers, and with every scalar as the text that was typed."""
    try:
        text = path.read_text(encoding="utf-8")
        if len(text) > MOST_BYTES:
            raise ValueError(f"{len(text):,} characters, more than settings need")
        _measure(yaml.compose(text, _Loader))
        return yaml.load(text, _Loader), yaml.load(text, yaml.BaseLoader)
    except (OSError, ValueError, TypeError, OverflowError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: not a readable YAML file ({one_line(error)})") from error


class _Loader(yaml.SafeLoader):
    """YAML with the numbers that people write (1e-3) and without keys that stand twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ValueError(f"key '{twice[0]}' stands twice")
        return {str(key): value for key, value in super().construct_mapping(node, deep).items()}


class _Dumper(yaml.SafeDumper):
    """What :class:`_Loader` would read as a number is quoted where it is text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _construct_float(loader: Any, node: Any) -> float:
    return _float(loader.construct_scalar(node))


_DIGITS = r"[-+]?(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)"
_FLOAT = rf"(?:{_DIGITS}[eE][-+]?\d+|[-+]?\d[\d_]*\.[\d_]*|[-+]?\.\d[\d_]*|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))"
for _kind in (_Loader, _Dumper):
    _kind.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(rf"^{_FLOAT}$"), list("-+0123456789."))
_Loader.add_constructor("tag:yaml.org,2002:float", _construct_float)


def _float(text: str) -> float:
    """inf and nan in YAML begin with a dot."""
    return float(text.replace("_", "").lower().replace(".inf", "inf").replace(".nan", "nan"))


def _measure(node: yaml.Node | None, open_nodes: tuple[int, ...] = ()) -> int:
    """The number of values below a node, aliases counted each time they are used; ValueError for too many, or for one inside itself."""
    if node is None or isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) in open_nodes:
        raise ValueError("an alias contains itself")
    children = [child for pair in node.value for child in (pair if isinstance(pair, tuple) else (pair,))]
    total = 1
    for child in children:
        total += _measure(child, (*open_nodes, id(node)))
        if total > MOST_VALUES:
            raise ValueError(f"more than {MOST_VALUES:,} values")
    return total


def _parse_override(override: str, rows: Mapping[str, Row]) -> tuple[str, Any]:
    key, separator, value = override.partition("=")
    key = key.strip()
    if not separator or not key:
        hint = ' (quote a prompt of several words: prompt="a red chair")' if not separator else ""
        raise ConfigError(f"'{shortened(override)}': expected key=value{hint}")
    row = rows.get(key) or _open_row(key, rows) or _entry_row(key, rows)
    if row is None:
        raise ConfigError(_unknown_key(key, rows))
    if row.is_text:
        return key, _text(key, value, value)
    try:
        parsed = yaml.load(value, _Loader)
        _measure(yaml.compose(value, _Loader))
    except (ValueError, TypeError, OverflowError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError(f"{key}: cannot read the value '{shortened(value)}' ({one_line(error)})") from error
    _refuse_special(parsed, key)
    names = key.removeprefix(row.key).split(".")[1:]
    place = int(names.pop(0)) if names and row.is_list_of_groups else None
    for name in reversed(names):
        parsed = {name: parsed}
    return row.key, parsed if place is None else _InEntry(place, parsed)


def _entry_row(key: str, rows: Mapping[str, Row]) -> Row | None:
    """The list of groups in one of whose entries ``key`` lies, such as stages for stages.1.steps."""
    list_name, _, rest = key.partition(".")
    row = rows.get(list_name)
    return row if row is not None and row.is_list_of_groups and re.fullmatch(r"\d{1,3}(\.\w+)+", rest) else None


def _open_row(key: str, rows: Mapping[str, Row]) -> Row | None:
    """The open setting that ``key`` lies below, such as guidance.params for guidance.params.steps."""
    return next((row for row in rows.values() if row.is_open and key.startswith(f"{row.key}.") and not key.endswith(".")), None)


def _text(key: str, value: Any, text: Any, origin: str = "") -> Any:
    """Free text as it was typed. None stays None, for settings that may be left out."""
    if value is None:
        return None
    if not isinstance(text, str):
        if isinstance(text, list | Mapping):
            raise ConfigError(f"{origin}{key}: expected text, got {type(text).__name__}; put it into quotes")
        text = str(text)
    _refuse_encoding(text, f"{origin}{key}")
    return text


def _texts(key: str, value: Any, origin: str) -> list[str]:
    if not isinstance(value, list):
        raise ConfigError(f"{origin}{key}: expected a list of texts, got {'nothing' if value is None else type(value).__name__}")
    for entry in value:
        if not isinstance(entry, str):
            raise ConfigError(f"{origin}{key}: expected texts, got {shortened(str(entry))}; put it into quotes")
        _refuse_encoding(entry, f"{origin}{key}")
    return value


def _refuse_special(value: Any, key: str) -> None:
    """What OmegaConf would take for more than a value."""
    if isinstance(value, str):
        if "${" in value:
            raise ConfigError(f"{key}: '${{…}}' is not replaced in settings, got '{shortened(value)}'; write the value itself")
        if value == "???":
            raise ConfigError(f"{key}: expected a value, got '???'")
        _refuse_encoding(value, key)
    for entry in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
        _refuse_special(entry, key)


def _refuse_encoding(text: str, key: str) -> None:
    bad = next((sign for sign in text if sign == "\0" or "\ud800" <= sign <= "\udfff"), None)
    if bad is not None:
        shown = text.encode("ascii", "backslashreplace").decode()
        raise ConfigError(
            f"{key}: expected UTF-8 text, got '{shortened(shown)}'; set the terminal to UTF-8, or put the text into a YAML file"
        )


# -- merging and building --------------------------------------------------------------------------------------------------


def _merge(
    cls: type[Settings], rows: Mapping[str, Row], sources: Sequence[tuple[str, dict[str, Any]]], start: Mapping[str, Any] | None = None
) -> Settings:
    values: dict[str, Any] = dict(start or {})
    for origin, flat in sources:
        for key, value in flat.items():
            row = rows[key]
            if row.is_text:
                if value is None and row.default is not None:
                    raise ConfigError(f"{origin}{key}: expected text, got nothing")
                values[key] = value
            elif isinstance(value, _InEntry):
                values[key] = _with_entry(key, values.get(key) or [], value)
            elif row.is_open and isinstance(value, Mapping):
                values[key] = {**values.get(key, {}), **_converted(row, value, origin)}
            else:
                values[key] = _converted(row, value, origin)
    return _build(cls, values)


def _with_entry(key: str, entries: Sequence[Any], changed: _InEntry) -> list[Any]:
    """``entries`` with the values of one of them replaced, group by group."""
    if changed.place >= len(entries):
        held = f"{key} has {len(entries)}, counted from 0" if entries else f"there are no {key}"
        raise ConfigError(f"{key}.{changed.place}: {held}")
    return [_deep(entry, changed.values) if place == changed.place else entry for place, entry in enumerate(entries)]


def _deep(values: Any, over: Any) -> Any:
    if not (isinstance(values, Mapping) and isinstance(over, Mapping)):
        return over
    return {**values, **{name: _deep(values.get(name), value) for name, value in over.items()}}


def _converted(row: Row, value: Any, origin: str) -> Any:
    """``value`` as the field's annotation says, by OmegaConf's rules ("3" is a number where one is expected, 2.5 is no integer)."""
    from omegaconf import OmegaConf  # a sixth of a second; --help can do without

    schema = dataclasses.make_dataclass("Value", [("value", row.hint, dataclasses.field(default_factory=lambda: row.default))])
    try:
        converted: Any = OmegaConf.to_container(OmegaConf.merge(OmegaConf.structured(schema), {"value": value}))
    except Exception as error:  # OmegaConf's own errors, and what its conversions let through
        raise ConfigError(f"{origin}{row.key}: {one_line(error)}") from error
    return converted["value"]


def _build(cls: type[Settings], values: Mapping[str, Any], prefix: str = "") -> Settings:
    """The tree from values by dotted name; a group's own error gets the name of the group in front."""
    arguments = {}
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        default, key = default_of(field), f"{prefix}{field.name}"
        arguments[field.name] = _build(type(default), values, f"{key}.") if dataclasses.is_dataclass(default) else values.get(key, default)
    try:
        return cls(**arguments)
    except FsdGsError as error:
        raise ConfigError(_in_group(prefix, str(error))) from error


def _in_group(prefix: str, message: str) -> str:
    """ "start, end: …" → "schedule.start, schedule.end: …"."""
    names, colon, rest = message.partition(":")
    return ", ".join(name if name.startswith(prefix) else f"{prefix}{name}" for name in names.split(", ")) + colon + rest


def _unknown_key(key: str, rows: Mapping[str, Row]) -> str:
    by_leaf = [k for k in rows if k.rpartition(".")[2] == key.rpartition(".")[2]]
    near = by_leaf or difflib.get_close_matches(key, rows, n=1, cutoff=0.4)
    near = near or [k for k in rows if difflib.get_close_matches(key, [k.rpartition(".")[2]], cutoff=0.6)]
    hint = f"did you mean '{near[0]}'?" if near else "see --help for all keys"
    return f"unknown key '{shortened(key)}'; {hint}"


def one_line(error: BaseException) -> str:
    """The first line of an error's message, or its kind where it has none."""
    return " ".join((str(error).strip().splitlines() or [type(error).__name__])[0].split())


def shortened(text: str, longest: int = 120) -> str:
    """``text`` on one line of at most ``longest`` signs, with … where it is cut off."""
    text = " ".join(text.split())
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


# -- writing ---------------------------------------------------------------------------------------------------------------


def to_yaml(settings: Any, made_with: Mapping[str, Any] | None = None) -> str:
    """All settings as YAML; read back they are the same. made_with: versions and the like, a note that is skipped on reading."""
    values = _plain(dataclasses.asdict(settings))
    if made_with:
        values = {MADE_WITH: dict(made_with)} | values
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(entry) for name, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, list | tuple) else value


def decisive_values(settings: Any) -> dict[str, Any]:
    """Every setting of a tree that is not free, by its dotted name: what decides a result."""
    return {row.key: value_of(settings, row.key) for row in rows_of(type(settings)) if not row.field.metadata.get("free")}


def check_tree(settings: Any, prefix: str = "") -> None:
    """ConfigError, one line that begins with the dotted name, for the first value out of its range or not among its choices."""
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            check_tree(value, f"{prefix}{field.name}.")
    try:
        check(settings)
    except ConfigError as error:
        raise ConfigError(_in_group(prefix, str(error))) from error


def walk_values(settings: Any) -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of every setting."""
    for row in rows_of(type(settings)):
        yield row.key, value_of(settings, row.key)
