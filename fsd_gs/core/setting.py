"""A setting and everything that is known about it, in one place: the field of a dataclass.

    @dataclass(frozen=True)
    class Regularizers:
        alpha: float = setting(0.05, "weight of the entropy of the rendered alpha", low=0)

        def __post_init__(self) -> None:
            check(self)

Default, meaning, range, choices, whether it may change on resume: the command line, its help, its completion and the checks of YAML files
read them from here, and so does whoever builds the object in Python. ``make`` builds an object from settings that all of its kind share and
from parameters of its own. Needs neither torch nor a configuration.
"""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from fsd_gs.errors import ConfigError, unknown_name

T = TypeVar("T")
Names = Iterable[str] | Callable[[], Iterable[str]]
"""Choices: the names themselves, or a function that gives them (a table to which names may be added)."""


def setting(
    default: Any,
    meaning: str,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    below: float | None = None,
    choices: Names | None = None,
    free: bool = False,
    text: bool = False,
) -> Any:
    """A dataclass field with its meaning for ``--help``; lists and dictionaries are copied for each instance.

    Args:
        default: the value where nothing else is said.
        meaning: one line for people.
        low: smallest value allowed. For lists: of every entry, as the next three.
        high: largest value allowed.
        above: what the value must be above.
        below: what the value must be below.
        choices: the names allowed, of a text or of every entry of a list.
        free: the value cannot change what the splats become, so it may differ when a run is resumed and is no part of its identity.
        text: the value is free text: taken literally, whatever signs it holds.
    """
    metadata = {
        "help": meaning,
        "bounds": {k: v for k, v in (("low", low), ("high", high), ("above", above), ("below", below)) if v is not None},
        "choices": choices,
        "free": free,
        "text": text,
    }
    if isinstance(default, list | dict):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def group(cls: type, meaning: str) -> Any:
    """A field that holds a nested group of settings."""
    return dataclasses.field(default_factory=cls, metadata={"help": meaning})


def default_of(field: dataclasses.Field[Any]) -> Any:
    """The field's default, made anew where it is a list or a group."""
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def names_of(field: dataclasses.Field[Any]) -> tuple[str, ...]:
    """The choices of a setting; () where any value may stand."""
    choices: Names = field.metadata.get("choices") or ()
    return tuple(choices() if callable(choices) else choices)


def range_of(field: dataclasses.Field[Any]) -> str:
    """The allowed range in words, such as "from 0 to 1"; empty where there is none."""
    bounds = field.metadata.get("bounds") or {}
    if bounds.keys() == {"low", "high"}:
        return f"from {bounds['low']:g} to {bounds['high']:g}"
    words = {"low": "of at least", "above": "above", "high": "of at most", "below": "below"}
    return " and ".join(f"{words[name]} {bounds[name]:g}" for name in words if name in bounds)


def check(settings: Any) -> None:
    """Raise ConfigError, one line that begins with the field's name, for the first value out of its range or not among its choices."""
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        for entry in value if isinstance(value, list | tuple) else (value,):
            _check_value(field, entry)


def _check_value(field: dataclasses.Field[Any], value: Any) -> None:
    if value is None:
        return
    choices = names_of(field)
    if choices and value not in choices:
        raise ConfigError(unknown_name(field.name, str(value), choices))
    bounds = field.metadata.get("bounds") or {}
    if isinstance(value, str) or not bounds:
        return
    if not isinstance(value, int | float):
        raise ConfigError(f"{field.name}: expected a number {range_of(field)}, got {value!r}")
    # Written so that a value that is not a number fails as well.
    if not (
        bounds.get("low", value) <= value <= bounds.get("high", value)
        and ("above" not in bounds or value > bounds["above"])
        and ("below" not in bounds or value < bounds["below"])
    ):
        raise ConfigError(f"{field.name}: expected a value {range_of(field)}, got {value}")


def parameters(cls: Callable[..., Any], shared: Iterable[str] = ()) -> dict[str, Any]:
    """The parameters that ``cls`` takes besides the ``shared`` ones, with their defaults."""
    shared = set(shared)
    return {name: p.default for name, p in inspect.signature(cls).parameters.items() if name not in shared}


def make(cls: Callable[..., T], shared: Mapping[str, Any], params: Mapping[str, Any], key: str) -> T:
    """``cls`` from those of the ``shared`` values that it takes and from parameters of its own.

    Args:
        cls: a dataclass or any class with annotated parameters.
        shared: values by name; a class is given the ones it has a parameter for.
        params: its own parameters, as they come out of a YAML file; unknown names and wrong types are refused.
        key: what the user calls the parameters, such as "guidance.params".

    Raises:
        ConfigError: one line that begins with ``key`` and the parameter's name.
    """
    own = parameters(cls, shared)
    for name in params:
        if name not in own:
            known = f"unknown parameter; {cls.__name__} takes {', '.join(own)}" if own else f"{cls.__name__} takes no parameters"
            hint = f"{unknown_name(f'{key}.{name}', name, own)}" if own else f"{key}.{name}: {known}"
            raise ConfigError(hint)
    values = _typed(cls, own, params, key) if params else {}
    taken = inspect.signature(cls).parameters
    try:
        return cls(**{name: value for name, value in shared.items() if name in taken}, **values)
    except ConfigError as error:
        named = str(error).partition(":")[0] in own
        raise ConfigError(f"{key}.{error}" if named else str(error)) from error


def _typed(cls: Callable[..., Any], own: Mapping[str, Any], params: Mapping[str, Any], key: str) -> dict[str, Any]:
    """``params`` converted to the types that ``cls`` is annotated with."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    hints = typing.get_type_hints(cls if dataclasses.is_dataclass(cls) else cls.__init__)  # type: ignore[misc]
    typed = {}
    for name, value in params.items():
        schema = dataclasses.make_dataclass("Parameter", [(name, hints.get(name, Any), dataclasses.field(default=own[name]))])
        try:
            typed[name] = OmegaConf.to_container(OmegaConf.merge(OmegaConf.structured(schema), {name: value}))[name]  # type: ignore[index,call-overload]
        except (OmegaConfBaseException, ValueError, TypeError) as error:
            raise ConfigError(f"{key}.{name}: {' '.join(str(error).splitlines()[0].split())}") from error
    return typed
