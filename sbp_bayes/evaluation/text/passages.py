"""Which passages of synthetic documents are verbatim in real ones, as characters that a page can mark."""

import dataclasses
from collections.abc import Iterator

import numpy as np
from jaxtyping import Int

from sbp_bayes.corpus import Corpus, Tokenizer
from sbp_bayes.evaluation.text.matching import MatchIndex

PASSAGE_TOKENS = 5
"""Tokens in a row from which a match is a passage."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Passage:
    """Characters `start` … `end` − 1 of a document, and where they also are.

    Attributes:
        start, end: places in the text.
        source: "first" in d1, "unique" in another document alone.
    """

    start: int
    end: int
    source: str


def overlapping_passages(
    second: Corpus,
    first: Int[np.ndarray, " P"],
    references: Corpus,
    tokenizer: Tokenizer,
    *,
    min_tokens: int = PASSAGE_TOKENS,
) -> list[list[Passage]]:
    """Return the passages of each document d2 that are in d1, and those that are elsewhere in D_unique.

    Args:
        second: the documents d2 of P pairs.
        first: index of each d1 in `references`, int64 (P,).
        references: D_unique.
        tokenizer: of both.
        min_tokens: tokens of a passage at least.

    Returns:
        for each d2 its passages in order, without overlaps; what is in d1 is no passage of another document.
    """
    index = MatchIndex(references, second)
    found = {"first": index.in_own(first), "unique": index.in_any()}
    covered = {name: _covered(matches, min_tokens) for name, matches in found.items()}
    kinds = np.where(covered["first"], 2, np.where(covered["unique"], 1, 0))
    return [
        list(_passages(kinds[start:end], second.texts[i], second.document(i), tokenizer))
        for i, (start, end) in enumerate(zip(second.offsets[:-1], second.offsets[1:], strict=True))
    ]


def _covered(matches: np.ndarray, min_tokens: int) -> np.ndarray:
    """Return which tokens lie in a match of `min_tokens` or more, bool; a match ends within its document."""
    starts = np.flatnonzero(matches >= min_tokens)
    edges = np.zeros(len(matches) + 1, np.int64)
    np.add.at(edges, starts, 1)
    np.add.at(edges, starts + matches[starts], -1)
    return np.cumsum(edges)[:-1] > 0


def _passages(kinds: np.ndarray, text: str, tokens: np.ndarray, tokenizer: Tokenizer) -> Iterator[Passage]:
    bounds = np.flatnonzero(np.diff(kinds, prepend=-1, append=-1)).tolist()
    places = [_place(text, tokens, bound, tokenizer) for bound in bounds]
    for bound, start, end in zip(bounds[:-1], places[:-1], places[1:], strict=True):
        if kinds[bound] and start < end:
            yield Passage(start=start, end=end, source="first" if kinds[bound] == 2 else "unique")


def _place(text: str, tokens: np.ndarray, bound: int, tokenizer: Tokenizer) -> int:
    """Return where the first `bound` tokens end in the text; within a character, where that one begins."""
    while bound > 0:
        before = tokenizer.decode(tokens[:bound])
        if text.startswith(before):
            return len(before)
        bound -= 1
    return 0
