"""What text should not hold: personal data, and passages of benchmarks.

Both are counted and none of it is shown or kept: a report that lists addresses would publish them.
"""

import dataclasses
import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sbp_bayes.base.errors import CorpusError
from sbp_bayes.base.progress import progress
from sbp_bayes.corpus.minhash import mix, word_hashes
from sbp_bayes.corpus.reading import read_values

BENCHMARK_WORDS = 13
"""Words of the n-grams that stand for a passage, as for GPT-3 (Brown et al. 2020, appendix C)."""

TEXTS_TOGETHER = 1024

_NOT_WORDS = re.compile(r"[^\w\s]+")


def _is_public(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).is_global
    except ValueError:
        return False


def _is_card(text: str) -> bool:
    """Whether digits have the check digit of payment cards (Luhn, ISO/IEC 7812)."""
    digits = [int(digit) for digit in text if digit.isdecimal()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return (sum(digits[::-2]) + sum(doubled)) % 10 == 0 and len(set(digits)) > 1


PERSONAL: Mapping[str, tuple[re.Pattern[str], Callable[[str], bool]]] = {
    "e-mail address": (
        re.compile(
            r"(?<![\w.+-])[A-Za-z0-9][\w.+-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,24}\b", re.ASCII
        ),
        lambda _: True,
    ),
    "telephone number": (
        re.compile(
            r"(?<![\w.+-])(?:\+\d{1,3}(?:[ .-]?\(?\d{1,4}\)?){2,6}|\(\d{3}\) ?\d{3}[ .-]\d{4}"
            r"|\d{3}[.-]\d{3}[.-]\d{4})(?![\w-])"
        ),
        lambda text: 8 <= sum(map(str.isdecimal, text)) <= 15,
    ),
    "public IP address": (re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w]|\.\d)"), _is_public),
    "payment card number": (re.compile(r"(?<![\w.-])\d(?:[ -]?\d){12,18}(?![\w-])"), _is_card),
}
"""Kind of personal data → its form, and what must hold of a match besides."""


def personal_data(texts: Iterable[str]) -> dict[str, int]:
    """Return how many texts hold personal data of each kind in `PERSONAL`, and under "any" of some kind."""
    counts = dict.fromkeys([*PERSONAL, "any"], 0)
    for text in texts:
        found = [
            kind
            for kind, (form, holds) in PERSONAL.items()
            if any(holds(match[0]) for match in form.finditer(text))
        ]
        for kind in [*found, "any"] if found else []:
            counts[kind] += 1
    return counts


@dataclasses.dataclass(frozen=True, kw_only=True)
class Overlap:
    """How much of a benchmark a collection of texts holds.

    Attributes:
        items: items of the benchmark.
        too_short: those of fewer words than an n-gram has, which are not searched for.
        items_found: those of which some n-gram is in some text.
        texts_found: texts that hold an n-gram of some item.
    """

    items: int
    too_short: int
    items_found: int
    texts_found: int


class Benchmark:
    """The n-grams of a benchmark's items, by 64-bit hashes of their words.

    Words are in lower case and without punctuation. Two n-grams have one hash by chance with 2^-64.

    Attributes:
        is_too_short: whether an item has fewer words than an n-gram, and so is never found, bool (items,).
    """

    def __init__(self, items: Sequence[str], words: int = BENCHMARK_WORDS) -> None:
        """Read the items; `words` is the length of an n-gram."""
        self._words = words
        grams, self._item = _ngrams(items, words)
        self._grams, self._place = np.unique(grams, return_inverse=True)
        self.is_too_short = np.bincount(self._item, minlength=len(items)) == 0

    def overlap(self, texts: Sequence[str]) -> Overlap:
        """Count the items that `texts` hold, and the texts that hold some."""
        is_found, texts_found = self.search(texts)
        return Overlap(
            items=len(is_found),
            too_short=int(self.is_too_short.sum()),
            items_found=int(is_found.sum()),
            texts_found=texts_found,
        )

    def search(self, texts: Sequence[str]) -> tuple[np.ndarray, int]:
        """Return which items have some n-gram in some text, bool (items,), and how many texts hold one.

        The texts are read once, some at a time.
        """
        seen, texts_found = np.zeros(len(self._grams), bool), 0
        with progress("searching for benchmarks", len(texts), "documents") as advance:
            for start in range(0, len(texts), TEXTS_TOGETHER):
                block = texts[start : start + TEXTS_TOGETHER]
                grams, text = _ngrams(block, self._words)
                found = np.isin(grams, self._grams)
                seen[np.searchsorted(self._grams, grams[found])] = True
                texts_found += len(np.unique(text[found]))
                advance(len(block))
        is_found = np.zeros(len(self.is_too_short), bool)
        is_found[self._item[seen[self._place]]] = True
        return is_found, texts_found


def read_benchmark(path: Path) -> list[str]:
    """Return the items of a benchmark: of each JSON object (or row, or array) of a file all its strings.

    Args:
        path: a file of JSON, plain or compressed, or a folder of such files.

    Raises:
        CorpusError: a missing or unreadable file, a line that is not JSON, or no item.
    """
    items = ["\n".join(_strings(value)) for value in read_values(path)]
    if not items:
        raise CorpusError(f"{path}: no items")
    return items


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _strings(part)


def _ngrams(texts: Sequence[str], words: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a hash of each n-gram of words, uint64 (G,), and the number of the text that it is in, (G,)."""
    hashes, ends = word_hashes([_NOT_WORDS.sub(" ", text) for text in texts])
    count = max(len(hashes) - words + 1, 0)
    grams = np.zeros(count, np.uint64)
    for offset in range(words):
        grams = mix(grams ^ hashes[offset : offset + count])
    text = np.repeat(np.arange(len(texts)), np.diff(ends))
    whole = text[:count] == text[words - 1 :] if count else np.zeros(0, bool)
    return grams[whole], text[:count][whole]
