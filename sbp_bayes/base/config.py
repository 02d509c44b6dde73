"""Frozen dataclasses to and from plain dictionaries, strictly, and their fingerprints."""

import dataclasses
import difflib
import hashlib
import json
import types
import typing
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal, TypeVar, Union

from sbp_bayes.base.errors import ConfigError

T = TypeVar("T")


def encode(config: Any) -> Any:
    """Return `config` as JSON types: dataclasses become dictionaries, tuples become lists.

    Args:
        config: a dataclass instance, or any nesting of mappings, sequences and JSON scalars.
    """
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {f.name: encode(getattr(config, f.name)) for f in dataclasses.fields(config)}
    if isinstance(config, Mapping):
        return {str(key): encode(value) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return [encode(value) for value in config]
    return config


def decode(cls: type[T], values: Mapping[str, Any], *, where: str = "") -> T:
    """Build the dataclass `cls` from `values`.

    Args:
        cls: a dataclass; nested dataclasses, tuples, unions and literals are decoded by their types.
        values: JSON types. A missing key takes the field's default; an int serves where a float is asked.
        where: prefix of the key in error messages.

    Raises:
        ConfigError: an unknown key (with the nearest known one), a missing key, or a wrong type.
    """
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    known = ", ".join(sorted(fields))
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where or cls.__name__}: expected settings by name ({known}), got {values!r}")
    for key in values:
        if key not in fields:
            paths = [_join(where, path) for path in _setting_paths(cls)]
            nearest = did_you_mean_path(key, paths) or f" (known: {known})"
            raise ConfigError(f"unknown setting {_join(where, key)!r}{nearest}")
    arguments = {}
    for name, field in fields.items():
        if name in values:
            arguments[name] = _decode_value(hints[name], values[name], _join(where, name))
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"missing setting {_join(where, name)!r}")
    return cls(**arguments)


def assign(nesting: dict[str, Any], key: str, value: Any) -> None:
    """Set one of nested settings, such as "pairs.rules.alpha".

    Raises:
        ConfigError: something above the setting has no settings of its own.
    """
    *parents, last = key.split(".")
    for name in parents:
        nesting = nesting.setdefault(name, {})
        if not isinstance(nesting, dict):
            raise ConfigError(f"{key}: {name} has no settings of its own")
    nesting[last] = value


def fingerprint(*parts: Any) -> str:
    """Hash any nesting of dataclasses and JSON types to 16 hexadecimal digits (SHA-256, shortened).

    Dataclasses are hashed with their class name, so two classes of equal fields differ.
    """
    text = json.dumps([_tagged(part) for part in parts], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def require(condition: bool, key: str, value: Any, expected: str) -> None:
    """Raise a `ConfigError` that names `key`, its `value` and the `expected` range unless `condition`."""
    if not condition:
        raise ConfigError(f"{key} = {value!r} is out of range: expected {expected}")


def require_one_of(key: str, value: str, known: Collection[str]) -> None:
    """Raise a `ConfigError` that names `key`, the `known` and the nearest unless `value` is one of them."""
    if value not in known:
        raise ConfigError(
            f"{key} = {value!r}: expected one of {', '.join(map(str, known))}{did_you_mean(value, known)}"
        )


def did_you_mean(name: Any, known: Iterable[Any]) -> str:
    """Return " (did you mean …?)" with the known name that is nearest to `name`, or "" where none is near."""
    close = difflib.get_close_matches(str(name), map(str, known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def did_you_mean_path(key: str, paths: Iterable[str]) -> str:
    """Return as `did_you_mean` the path of names joined by dots whose last name is nearest to that of `key`;
    among equal ones, the first that lies where `key` lies.
    """
    folder, _, name = key.rpartition(".")
    by_name: dict[str, str] = {}
    for path in sorted(paths, key=lambda path: not path.startswith(folder)):
        by_name.setdefault(path.rpartition(".")[2], path)
    close = difflib.get_close_matches(name, by_name, n=1)
    return f" (did you mean {by_name[close[0]]!r}?)" if close else ""


def _setting_paths(cls: type) -> list[str]:
    """Return the settings of a dataclass by name, its own before those of nested dataclasses."""
    hints = typing.get_type_hints(cls)
    fields = [field.name for field in dataclasses.fields(cls) if field.init]
    nested = [(name, hints[name]) for name in fields if dataclasses.is_dataclass(hints[name])]
    return fields + [f"{name}.{path}" for name, hint in nested for path in _setting_paths(hint)]


def _tagged(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        body = {f.name: _tagged(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"__class__": type(value).__name__, **body}
    if isinstance(value, Mapping):
        return {str(key): _tagged(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_tagged(item) for item in value]
    return value


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _decode_value(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        (hint,) = [argument for argument in arguments if argument is not type(None)]
        return _decode_value(hint, value, where)
    if origin is Literal:
        require_one_of(where, value, arguments)
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{where} = {value!r}: expected a list")
        return tuple(_decode_value(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if dataclasses.is_dataclass(hint):
        return value if isinstance(value, hint) else decode(hint, value, where=where)  # type: ignore[arg-type]
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    base = origin or hint
    if not isinstance(value, base) or (isinstance(value, bool) and base is not bool):
        raise ConfigError(f"{where} = {value!r}: expected {base.__name__}, got {type(value).__name__}")
    return value
