"""Which fields of a record are kept beside its text."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

OWN_PLACES = ("url", "label")
"""Fields that `keep` need not name: documents have places of their own for them."""


@dataclasses.dataclass(frozen=True)
class Fields:
    """A choice of metadata fields, by name; dots lead into nested fields ("metadata.WARC-Date").

    Attributes:
        keep: the fields that are kept, besides url and label; None keeps all.
        drop: fields that are left out, also within those that `keep` names.
    """

    keep: tuple[str, ...] | None = None
    drop: tuple[str, ...] = ()

    @property
    def are_all(self) -> bool:
        """Whether every field is kept."""
        return self.keep is None and not self.drop

    def of(self, record: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the kept fields of a record."""
        if self.keep is not None:
            record = _kept(record, (*OWN_PLACES, *self.keep))
        for name in self.drop:
            record = _without(record, name)
        return record

    def columns(self, paths: Iterable[str], text_field: str) -> list[str]:
        """Return those of a table's leaf columns (dotted paths) that hold the text or a kept field."""
        keep = None if self.keep is None else (*OWN_PLACES, *self.keep)
        return [
            path
            for path in paths
            if _is_within(path, (text_field,))
            or ((keep is None or _is_within(path, keep)) and not _is_within(path, self.drop))
        ]


def _is_within(path: str, names: Iterable[str]) -> bool:
    return any(path == name or path.startswith(f"{name}.") for name in names)


def _kept(record: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    nested: dict[str, list[str]] = {}
    for name in names:
        head, dot, rest = name.partition(".")
        if name in record:
            kept[name] = record[name]
        elif dot and isinstance(record.get(head), Mapping):
            nested.setdefault(head, []).append(rest)
    for head, rests in nested.items():
        if head not in kept and (inner := _kept(record[head], rests)):
            kept[head] = inner
    return kept


def _without(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    if name in record:
        return {key: value for key, value in record.items() if key != name}
    head, dot, rest = name.partition(".")
    if dot and isinstance(record.get(head), Mapping):
        return {**record, head: _without(record[head], rest)}
    return record
