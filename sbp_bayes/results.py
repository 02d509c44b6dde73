"""Rows of results: all that a figure needs to know of one measured loss; standard library only.

Figures read these rows and nothing else, so a row names its experiment, run, arm, data and cost.
"""

import dataclasses
import json
import math
import os
import types
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

SCHEMA_VERSION = 1
"""Grows when a field changes its meaning; rows of another version are refused."""

Checkpoint = Literal["last", "best_validation"]


class ResultError(ValueError):
    """A row that is not valid, or a file of results that is damaged or of another version."""


def read_table(path: Path) -> Any:
    """Read a committed table or a report, JSON.

    Raises:
        ResultError: the file is missing or damaged; the message names it.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ResultError(f"{path}: cannot be read ({error})") from error


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResultRow:
    """The loss of one arm, for one seed, on one split, at one point of its training.

    Attributes:
        experiment: name of the question, for instance "repetition".
        run: id of the run that measured it.
        arm: "baseline", "sbp", "oracle", or the name of a control.
        seed: the run's seed.
        split: what was scored, for instance "validation" or "test".
        checkpoint: the weights scored: the last ones, or the best on validation.
        tokens_seen: positions trained on up to here, repeats and synthetic tokens included.
        unique_tokens: distinct real tokens (with one EOS a document) that the arm could train on.
        total_flops: floating-point operations spent up to here, over all stages that the arm needs.
        loss_nats_per_token: mean loss over the split's tokens and EOS.
        bits_per_byte: the same loss per UTF-8 byte of text; None where there is no text.
        interval_low, interval_high: interval of `loss_nats_per_token` over documents alone, since a row is of
            one seed; both None where none was taken.
        config_fingerprint: fingerprint of the configuration that produced the weights.
        schema_version: `SCHEMA_VERSION` at the time of writing.

    Raises:
        ResultError: a number that is not finite, a type or an interval that cannot be.
    """

    experiment: str
    run: str
    arm: str
    seed: int
    split: str
    checkpoint: Checkpoint
    tokens_seen: int
    unique_tokens: int
    total_flops: float
    loss_nats_per_token: float
    bits_per_byte: float | None
    interval_low: float | None
    interval_high: float | None
    config_fingerprint: str
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        if self.schema_version != SCHEMA_VERSION:
            raise ResultError(f"schema_version {self.schema_version}, but this code reads {SCHEMA_VERSION}")
        for name, hint in typing.get_type_hints(type(self)).items():
            value = getattr(self, name)
            if not _is_valid(value, hint):
                raise ResultError(f"{name} = {value!r} is not a valid {_name(hint)}")
        low, high = self.interval_low, self.interval_high
        if (low is None) != (high is None) or (low is not None and high is not None and low > high):
            raise ResultError(f"interval_low = {low!r} and interval_high = {high!r} are no interval")


def write_results(path: Path, rows: Iterable[ResultRow]) -> None:
    """Write `rows` to `path`, one JSON object a line, atomically."""
    path = Path(path)
    lines = [json.dumps(dataclasses.asdict(row), allow_nan=False) for row in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_results(path: Path) -> list[ResultRow]:
    """Read the rows that `write_results` wrote.

    Raises:
        ResultError: the file is missing, or a line is not a row of this version; names file and line.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ResultError(f"{path}: cannot be read ({error})") from error
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(ResultRow(**json.loads(line)))
        except (TypeError, ValueError) as error:
            raise ResultError(f"{path}:{number}: not a result row ({error})") from error
    return rows


def _is_valid(value: object, hint: object) -> bool:
    if isinstance(hint, types.UnionType):
        return any(_is_valid(value, option) for option in typing.get_args(hint))
    if typing.get_origin(hint) is Literal:
        return value in typing.get_args(hint)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, hint) and not isinstance(value, bool)  # type: ignore[arg-type]


def _name(hint: object) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint)
