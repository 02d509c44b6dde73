"""What a person wants to know of a prepared corpus before spending compute on it."""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from sbp_bayes.base.stage import Manifest
from sbp_bayes.corpus.cleaning import language_of
from sbp_bayes.corpus.records import Corpus
from sbp_bayes.corpus.repetition import RepetitionRule, repeated_share
from sbp_bayes.corpus.splits import SPLITS

TOKENS_TOGETHER = 1 << 20
UNKNOWN = "not stated"


@dataclasses.dataclass(frozen=True, kw_only=True)
class SplitStatistics:
    """One split, or all of them.

    Attributes:
        documents, tokens, bytes: sizes; tokens include one EOS a document, bytes are of UTF-8.
        lengths: documents by the power of two at or below their tokens (0 for empty ones).
        languages, sources: documents by what their record says.
        repeated_tokens: tokens within a 10-gram that occurred before in the same document.
        repetitive: documents that `RepetitionRule` flags.
    """

    documents: int = 0
    tokens: int = 0
    bytes: int = 0
    lengths: Mapping[int, int] = dataclasses.field(default_factory=dict)
    languages: Mapping[str, int] = dataclasses.field(default_factory=dict)
    sources: Mapping[str, int] = dataclasses.field(default_factory=dict)
    repeated_tokens: int = 0
    repetitive: int = 0

    @property
    def tokens_per_byte(self) -> float:
        """Tokens, EOS included, for each byte of text."""
        return self.tokens / max(1, self.bytes)

    @property
    def repeated_share(self) -> float:
        """Share of the tokens, EOS left out, within a repeated 10-gram."""
        return self.repeated_tokens / max(1, self.tokens - self.documents)

    def __add__(self, other: "SplitStatistics") -> "SplitStatistics":
        """Return the statistics of both together."""
        sums: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            one, two = getattr(self, field.name), getattr(other, field.name)
            sums[field.name] = dict(Counter(one) + Counter(two)) if isinstance(one, Mapping) else one + two
        return SplitStatistics(**sums)


def split_statistics(corpus: Corpus, rule: RepetitionRule | None = None) -> SplitStatistics:
    """Count what `SplitStatistics` has; a part of the tokens is in memory at a time."""
    rule = rule or RepetitionRule()
    repeated = repetitive = 0
    for start, end in _parts(corpus.offsets):
        offsets = corpus.offsets[start : end + 1] - corpus.offsets[start]
        tokens = corpus.tokens[corpus.offsets[start] : corpus.offsets[end]]
        shares = repeated_share(tokens, offsets, rule.ngram)
        repeated += int(np.rint(shares * np.diff(offsets)).sum())
        repetitive += int((shares > rule.max_share).sum())
    powers = np.frexp(corpus.lengths)[1]  # n = m · 2^e with ½ ≤ m < 1, so 2^(e − 1) ≤ n
    lengths = Counter((1 << int(power) >> 1) for power in powers)
    return SplitStatistics(
        documents=len(corpus),
        tokens=corpus.num_tokens,
        bytes=int(corpus.num_bytes.sum()),
        lengths=dict(sorted(lengths.items())),
        languages=dict(Counter(language_of(m) or UNKNOWN for m in corpus.metadata)),
        sources=dict(Counter(corpus.sources)),
        repeated_tokens=repeated,
        repetitive=repetitive,
    )


def corpus_statistics(manifest: Manifest) -> dict[str, SplitStatistics]:
    """Return the statistics of each split of a prepared corpus.

    Raises:
        StoreError: its files are damaged.
    """
    return {name: split_statistics(Corpus.load(manifest.directory / name)) for name in SPLITS}


def _parts(offsets: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield ranges of documents of about a million tokens each."""
    start, last = 0, len(offsets) - 1
    while start < last:
        end = int(np.searchsorted(offsets, offsets[start] + TOKENS_TOGETHER, side="right")) - 1
        end = min(max(end, start + 1), last)
        yield start, end
        start = end
