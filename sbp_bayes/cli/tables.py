"""Plain tables for a terminal."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sbp_bayes.base.stage import Manifest


def table(rows: Iterable[Sequence[str]]) -> list[str]:
    """Return `rows` as lines with aligned columns; rows may end early."""
    rows = list(rows)
    num_columns = max((len(row) for row in rows), default=0)
    widths = [max(len(row[i]) for row in rows if i < len(row)) for i in range(num_columns)]
    return [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False)).rstrip()
        for row in rows
    ]


def section(title: str, rows: Iterable[Sequence[str]]) -> list[str]:
    """Return a table of `rows` as indented lines below an empty line and its title."""
    return ["", title, *(f"  {line}" for line in table(rows))]


def summary(manifest: Manifest) -> str:
    """Return what a finished stage counted, its cost and its folder, as lines for a person."""
    cost = f", {manifest.flops:.3g} FLOPs" if manifest.flops else ""
    head = f"{manifest.stage}: {manifest.seconds:.1f} s{cost}, in {manifest.directory}"
    return "\n".join([head, *table(_leaves(manifest.counts))])


def _leaves(counts: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, str]]:
    for key, value in counts.items():
        name = f"{within} {key}".strip().replace("_", " ")
        if isinstance(value, Mapping):
            yield from _leaves(value, name)
        else:
            yield f"  {name}", _readable(value)


def _readable(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
