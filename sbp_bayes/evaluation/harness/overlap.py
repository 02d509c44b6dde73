"""Which items of a benchmark a text holds: those that share 13 words in a row with it, as for GPT-3."""

import re
from collections.abc import Iterable, Iterator, Sequence

NGRAM = 13
"""Words in a row, without case and punctuation, that two texts have in common by copying alone."""

_WORD = re.compile(r"\w+")


def overlapping_items(queries: Sequence[str], texts: Iterable[str]) -> set[int]:
    """Return the numbers of the `queries` that share `NGRAM` words in a row with any of the texts.

    The texts are read once, one after the other. A query of fewer words has no such n-gram.
    """
    items: dict[str, set[int]] = {}
    for number, query in enumerate(queries):
        for ngram in _ngrams(query):
            items.setdefault(ngram, set()).add(number)
    found: set[int] = set()
    for text in texts:
        for ngram in _ngrams(text):
            found |= items.get(ngram, set())
    return found


def is_too_short(query: str) -> bool:
    """Whether a query has fewer than `NGRAM` words, so that no overlap can be found."""
    return next(_ngrams(query), None) is None


def _ngrams(text: str) -> Iterator[str]:
    words = _WORD.findall(text.lower())
    for start in range(len(words) - NGRAM + 1):
        yield " ".join(words[start : start + NGRAM])
