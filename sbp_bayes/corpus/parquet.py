"""Parquet files to records: every text as bytes, every other value as JSON has it, or lost alone."""

import datetime
import decimal
import os
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sbp_bayes.corpus.fields import Fields
from sbp_bayes.corpus.listing import shown
from sbp_bayes.corpus.rejects import BadFileError

ROWS_TOGETHER = 64
BUFFER_BYTES = 1 << 20
UNITS_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
LOST = object()
"""Stands for a value that cannot be converted."""


def parquet_rows(path: Path, text_field: str, fields: Fields) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (row from 1, values by column); columns that `fields` leaves out are not read.

    Strings and binary values are bytes, since one may be invalid UTF-8, which costs itself only.

    Raises:
        BadFileError: there is no column `text_field`.
        OSError, ValueError, pyarrow.ArrowException: the file is damaged or no parquet.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    # Pieces of this size, lest a row group's whole columns be in memory.
    with (
        pa.OSFile(os.fsencode(path)) as source,
        pq.ParquetFile(source, pre_buffer=False, buffer_size=BUFFER_BYTES) as file,
    ):
        names = file.schema_arrow.names
        if text_field not in names:
            message = f"{shown(path)}: no column {text_field!r} (columns: {', '.join(names)})"
            raise BadFileError(message, f"no column {text_field!r}")
        columns = None
        if not fields.are_all:
            leaves = [file.schema.column(i).path for i in range(len(file.schema))]
            columns = fields.columns(leaves, text_field)
        line = 0
        for batch in file.iter_batches(ROWS_TOGETHER, columns=columns):
            values = [_values(batch.column(i)) for i in range(batch.num_columns)]
            for row in zip(*values, strict=True):
                line += 1
                yield line, dict(zip(batch.schema.names, row, strict=True))


def plain_value(value: Any) -> Any:
    """Return a Python value as JSON has it: times, decimals and UUIDs as text, durations in seconds."""
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, decimal.Decimal | uuid.UUID):
        return str(value)
    if isinstance(value, np.generic):
        return plain_value(value.item())
    if isinstance(value, Mapping):
        return {key: plain_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_value(item) for item in value]
    return value


def _values(column: Any) -> list[Any]:
    import pyarrow as pa

    if isinstance(column.type, pa.BaseExtensionType):
        column = column.storage if _is_text(column.type.storage_type) else column
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if _is_text(kind):
        return column.cast(kind).cast(pa.large_binary()).to_pylist()
    if _is_json(column.type):
        try:
            return column.to_pylist()
        except UnicodeDecodeError:  # within a structure
            pass
    return [_value_or_lost(scalar) for scalar in column]


def _value_or_lost(scalar: Any) -> Any:
    try:
        return _value(scalar)
    except Exception:  # whatever a value out of Python's range, or a library that is missing, brings up
        return LOST


def _value(scalar: Any) -> Any:
    """Convert an Arrow value without pandas, whose presence would change what `as_py` returns."""
    import pyarrow as pa

    kind = scalar.type
    if not scalar.is_valid:
        return None
    if pa.types.is_dictionary(kind):
        return _value(scalar.value)
    if pa.types.is_struct(kind):
        return {name: _value(value) for name, value in scalar.items()}
    if pa.types.is_map(kind):
        return [[_value(entry[0]), _value(entry[1])] for entry in scalar.values]
    if pa.types.is_nested(kind):
        return [_value(value) for value in scalar.values]
    if pa.types.is_duration(kind):
        return scalar.value / UNITS_PER_SECOND[kind.unit]
    if pa.types.is_temporal(kind):
        return _time_text(scalar)
    if _is_text(kind):
        return scalar.cast(pa.large_binary()).as_py().decode()
    return plain_value(scalar.as_py())


def _time_text(scalar: Any) -> str:
    """Return a date or time in ISO 8601; numpy has those that Python's types cannot hold (in UTC)."""
    import pyarrow as pa

    kind = scalar.type
    unit: Any = getattr(kind, "unit", "D" if pa.types.is_date32(kind) else "ms")
    if unit == "ns" and scalar.value % 1000 == 0:
        scalar = scalar.cast(pa.timestamp("us", kind.tz) if pa.types.is_timestamp(kind) else pa.time64("us"))
        unit = "us"
    if unit != "ns":
        try:
            return str(scalar.as_py().isoformat())
        except (ValueError, OverflowError, LookupError):  # a year above 9999, or a time zone that is unknown
            pass
    text = str(np.datetime64(scalar.value, unit))
    if pa.types.is_time(kind):
        return text.partition("T")[2]
    return f"{text}+00:00" if getattr(kind, "tz", None) else text


def _is_text(kind: Any) -> bool:
    return str(kind).removeprefix("large_").removesuffix("_view") in ("string", "binary")


def _is_json(kind: Any) -> bool:
    """Whether `to_pylist` gives values of JSON types, but for strings within that are no UTF-8."""
    import pyarrow as pa

    if pa.types.is_nested(kind):
        return all(_is_json(kind.field(i).type) for i in range(kind.num_fields))
    if pa.types.is_dictionary(kind):
        return _is_json(kind.value_type)
    is_number = pa.types.is_integer(kind) or pa.types.is_float32(kind) or pa.types.is_float64(kind)
    is_string = _is_text(kind) and "string" in str(kind)
    return is_number or is_string or pa.types.is_boolean(kind) or pa.types.is_null(kind)
