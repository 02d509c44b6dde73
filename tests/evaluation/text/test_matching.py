"""Longest matches by the suffix array equal those that a direct search finds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sbp_bayes.base.errors import CorpusError
from sbp_bayes.corpus import Corpus, Document
from sbp_bayes.evaluation.text import matching
from sbp_bayes.evaluation.text.matching import MatchIndex

Documents = list[list[int]]
documents = st.lists(st.lists(st.integers(2, 4), max_size=12), min_size=1, max_size=5)
with_text = documents.filter(any)


def corpus(texts: Documents) -> Corpus:
    records = [Document(id=str(i), text="", source="") for i in range(len(texts))]
    return Corpus.from_tokens(records, [np.array(t, np.int64) for t in texts], vocab_size=5)


def longest_match(query: list[int], start: int, references: Documents) -> int:
    def occurs(piece: list[int], text: list[int]) -> bool:
        return any(text[i : i + len(piece)] == piece for i in range(len(text)))

    lengths = range(len(query) - start, 0, -1)
    return next((n for n in lengths if any(occurs(query[start : start + n], r) for r in references)), 0)


@settings(deadline=None)
@given(references=with_text, queries=documents, data=st.data())
def test_own_reference(references: Documents, queries: Documents, data: st.DataObject) -> None:
    own = [data.draw(st.integers(0, len(references) - 1)) for _ in queries]
    found = MatchIndex(corpus(references), corpus(queries)).in_own(np.array(own))
    wanted = [
        longest_match(q, i, [references[r]]) for q, r in zip(queries, own, strict=True) for i in range(len(q))
    ]
    assert found.tolist() == wanted


@settings(deadline=None)
@given(references=with_text, queries=documents)
def test_any_reference(references: Documents, queries: Documents) -> None:
    found = MatchIndex(corpus(references), corpus(queries)).in_any()
    assert found.tolist() == [longest_match(q, i, references) for q in queries for i in range(len(q))]


@settings(deadline=None)
@given(references=with_text)
def test_any_other_reference(references: Documents) -> None:
    texts = corpus(references)
    found = MatchIndex(texts, texts).in_any(except_own=np.arange(len(references)))
    others = [references[:k] + references[k + 1 :] for k in range(len(references))]
    pairs = list(zip(references, others, strict=True))
    assert found.tolist() == [longest_match(q, i, other) for q, other in pairs for i in range(len(q))]


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 7, 8, 9, 63, 64, 65])
def test_a_whole_copy_of_one_symbol(length: int) -> None:
    """The hardest text for suffix sorting, at and around the powers of two."""
    copy = corpus([[2] * length])
    index = MatchIndex(copy, copy)
    assert index.in_any().tolist() == list(range(length, 0, -1))
    assert index.in_own(np.zeros(1, np.int64)).tolist() == list(range(length, 0, -1))


def test_more_symbols_than_can_be_ranked_are_named(monkeypatch):
    """The square of the limit fits into int64, its successor's does not; 4 tokens and 2 documents are 6."""
    assert matching.MOST_SYMBOLS**2 <= np.iinfo(np.int64).max < (matching.MOST_SYMBOLS + 1) ** 2
    monkeypatch.setattr(matching, "MOST_SYMBOLS", 6)
    MatchIndex(corpus([[2, 3]]), corpus([[2, 3]]))
    with pytest.raises(CorpusError, match=r"7 tokens and documents: .* 6 at most"):
        MatchIndex(corpus([[2, 3, 4]]), corpus([[2, 3]]))
