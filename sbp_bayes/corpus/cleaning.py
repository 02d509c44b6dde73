"""Text normalisation that keeps layout: Unicode NFC, one kind of space and of line end, no control codes."""

import dataclasses
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sbp_bayes.corpus.records import Document

LANGUAGE_FIELDS = ("language", "lang", "language_id_whole_page_fasttext")

ENDING = "\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029"
DROPPED = "\x00-\x08\x0e-\x1b\x1f\x7f-\x84\x86-\x9f\u200b\ufeff\ufffe\uffff"
SPACES = "\xa0\u1680\u2000-\u200a\u202f\u205f\u3000"
"""Characters that end a line, that are left out, and that become spaces, as a regular expression has them."""

_LINE_ENDS = re.compile(f"\r\n|[{ENDING}]")
_DROPPED = re.compile(f"[{DROPPED}]")
_SPACES = re.compile(f"[{SPACES}]")
_ODD = re.compile(f"[{ENDING}{DROPPED}{SPACES}]")
_ASCII = {code: "" if _DROPPED.match(chr(code)) else "\n" for code in range(128) if _ODD.match(chr(code))}
_TRAILING = re.compile("[ \t]+(?=\n)")
_BLANK_LINES = re.compile("\n{3,}")


def clean_text(text: str) -> str:
    """Return `text` in normal form; cleaning it again changes nothing.

    Unicode NFC; every line end is a newline; control characters and zero-width spaces are dropped;
    Unicode's other spaces become spaces; lines lose trailing spaces, the text its outer white space;
    at most one line in a row is blank. Indentation and inner runs of spaces stay.
    """
    # Most texts need little of this, so each pass is made only where something calls for it.
    if text.isascii():
        text = text.replace("\r\n", "\n").translate(_ASCII)
    elif _ODD.search(text):
        text = _SPACES.sub(" ", unicodedata.normalize("NFC", _DROPPED.sub("", text)))
        text = _DROPPED.sub("", _LINE_ENDS.sub("\n", text))
    else:
        text = unicodedata.normalize("NFC", text)
    if " \n" in text or "\t\n" in text:
        text = _TRAILING.sub("", text)
    if "\n\n\n" in text:
        text = _BLANK_LINES.sub("\n\n", text)
    return text.strip()


def clean_documents(
    documents: Iterable[Document], min_chars: int, reasons: Counter[str], languages: Sequence[str] = ()
) -> Iterator[Document]:
    """Yield the cleaned documents of at least `min_chars` characters.

    Args:
        documents: documents as read.
        min_chars: shorter ones (after cleaning) are left out.
        reasons: counts the documents left out, by reason.
        languages: a document whose record says that it is in another one is left out; empty keeps all.
    """
    for document in documents:
        text = clean_text(document.text)
        if not text:
            reasons["empty after cleaning"] += 1
        elif len(text) < min_chars:
            reasons["shorter than min_chars"] += 1
        elif languages and (language_of(document.metadata) or languages[0]) not in languages:
            reasons["in another language"] += 1
        else:
            yield dataclasses.replace(document, text=text)


def language_of(metadata: Mapping[str, Any]) -> str | None:
    """Return the language that a record names or scores highest (as DCLM's fastText field), or None."""
    for key in LANGUAGE_FIELDS:
        value = metadata.get(key)
        if isinstance(value, str) and value:
            return value
        scores = value.items() if isinstance(value, Mapping) else ()
        numbers = {name: score for name, score in scores if isinstance(score, int | float)}
        if numbers:
            return max(numbers, key=lambda name: numbers[name])
    return None
