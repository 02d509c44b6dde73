"""A stage's configuration from flags and from `--set key=value`."""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from sbp_bayes.base.config import assign, decode, encode
from sbp_bayes.base.errors import ConfigError

T = TypeVar("T")


def configure(cls: type[T], flags: Mapping[str, Any], assignments: Iterable[str], **defaults: Any) -> T:
    """Build the dataclass `cls`; what is not given takes the field's default, inside nested ones too.

    Args:
        cls: the stage's configuration.
        flags: settings by name, nested with dots; None where the flag was not given.
        assignments: "key=value", nested with dots, over the flags; the value is JSON, or else a string.
        defaults: settings under the flags, for fields whose default depends on the inputs.

    Raises:
        ConfigError: an unknown or missing key, a wrong type, a value out of its range, or an assignment
            that is not "key=value".
    """
    nesting = encode(_defaults(cls) | defaults)
    for key, value in flags.items():
        if value is not None:
            assign(nesting, key, encode(value))
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not key or not equals:
            raise ConfigError(f"--set {assignment}: expected key=value")
        try:
            assign(nesting, key, _value(text))
        except ConfigError as error:
            raise ConfigError(f"--set {error}") from None
    return decode(cls, nesting)


def _defaults(cls: type) -> dict[str, Any]:
    values = {}
    for field in dataclasses.fields(cls):
        if field.default is not dataclasses.MISSING:
            values[field.name] = field.default
        elif field.default_factory is not dataclasses.MISSING:
            values[field.name] = field.default_factory()
    return values


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
