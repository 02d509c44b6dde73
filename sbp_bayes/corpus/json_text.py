"""JSON that is not one value per line: several on a line, one over many lines, or an array of them."""

import codecs
import io
import json
from collections.abc import Iterator
from typing import Any

from sbp_bayes.corpus.rejects import Rejected

CHARS_TOGETHER = 1 << 16
BETWEEN = " \t\r\n\ufeff\x1e"
"""Characters between values: white space, byte order marks, and the record separator of RFC 7464."""

_parse = json.JSONDecoder().raw_decode


def values_of_line(line: str) -> list[Any]:
    """Return the JSON values on a line that is not one value.

    A line counts as a whole: a value that rubbish follows may be the front of a damaged record.

    Raises:
        Rejected: the line is not a sequence of values; the reason says how it begins.
    """
    values: list[Any] = []
    place = _next_place(line, 0)
    try:
        while place < len(line):
            value, end = _parse(line, place)
            values.append(value)
            place = _next_place(line, end)
    except (ValueError, RecursionError) as error:
        raise Rejected("not JSON after a complete value" if values else "not JSON") from error
    return values


def is_one_document(reader: io.BufferedReader) -> bool:
    """Tell from a .json file's first bytes whether it is no JSON lines: an array, or values of many lines.

    An array is one that goes on after the first line, or that nothing follows. An object goes on after a
    first line that ends at a bracket or a comma, with a name and not with another object.
    """
    head = reader.peek(CHARS_TOGETHER).removeprefix(codecs.BOM_UTF8).lstrip()
    first, end, rest = head.partition(b"\n")
    if head.startswith(b"["):
        return not (rest.strip() and _is_json(first))
    goes_on = first.rstrip().endswith((b"{", b",")) and rest.lstrip().startswith((b'"', b"}"))
    return head.startswith(b"{") and bool(end) and (goes_on or first.rstrip().endswith(b"["))


def values_of_document(reader: io.BufferedReader, max_bytes: int) -> Iterator[tuple[int, Any]]:
    """Yield (number from 1, value) of a file that is an array, or values one after the other.

    Little more than one value is in memory, and no more than twice `max_bytes` characters. Bytes that are
    not UTF-8 become lone surrogates, which cost the values that hold them.

    Raises:
        OSError: after the last value before the place where the text is not JSON or is truncated, or
            before a value that is larger than `max_bytes`.
    """
    decode = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode
    text, place, number, is_ended = "", 0, 0, False
    in_array, between = False, BETWEEN + ","
    while True:
        place = _next_place(text, place, between)
        if number == 0 and not in_array and text.startswith("[", place):
            in_array, place = True, place + 1
            continue
        if in_array and text.startswith("]", place):
            in_array, place = False, place + 1
            continue
        reason = "it has no end"
        try:
            value, end = _parse(text, place)
            is_whole = is_ended or end < len(text)
        except ValueError as error:
            is_whole, reason = False, str(error)
        except RecursionError as error:
            raise OSError(f"value {number + 1} is nested too deeply") from error
        if is_whole:
            number, place = number + 1, end
            yield number, value
        elif is_ended:
            if place < len(text) or in_array:
                raise OSError(f"not JSON after {number} values ({reason})")
            return
        else:
            text, place = text[place:], 0
            if len(text) > max_bytes:
                raise OSError(f"value {number + 1} is no JSON of at most {max_bytes:,} characters ({reason})")
            more = reader.read(max(CHARS_TOGETHER, len(text)))
            is_ended = not more
            text += decode(more, final=is_ended)


def _next_place(text: str, place: int, between: str = BETWEEN) -> int:
    while place < len(text) and text[place] in between:
        place += 1
    return place


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True
