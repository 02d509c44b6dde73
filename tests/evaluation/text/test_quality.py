"""Measures of quality: by hand, by direct search, and on texts whose answer is known beforehand."""

import dataclasses
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sbp_bayes.base.errors import ConfigError, CorpusError
from sbp_bayes.corpus import Corpus, Document
from sbp_bayes.corpus.repetition import RepetitionRule, repeated_share
from sbp_bayes.evaluation import (
    QualityConfig,
    document_quality,
    pair_quality,
    pair_similarity,
    quality_report,
)
from sbp_bayes.evaluation.text.quality import _extractive_fragments

Texts = list[list[int]]
texts = st.lists(st.lists(st.integers(2, 4), min_size=1, max_size=12), min_size=1, max_size=4)
CONFIG = QualityConfig(max_document_tokens=30)


def corpus(documents: Texts, **fields: object) -> Corpus:
    records = [Document(id=str(i), text=" ".join(map(str, d)), source="") for i, d in enumerate(documents)]
    tokens = [np.array(d, np.int64) for d in documents]
    return dataclasses.replace(Corpus.from_tokens(records, tokens, vocab_size=60_000), **fields)


def greedy_fragments(article: list[int], summary: list[int]) -> Texts:
    """Figure 3 of Grusky et al. 2018, as printed: the longest shared run at i, over all j."""
    fragments, i = [], 0
    while i < len(summary):
        best: list[int] = []
        for j in range(len(article)):
            k = 0
            while i + k < len(summary) and j + k < len(article) and summary[i + k] == article[j + k]:
                k += 1
            best = max(best, summary[i : i + k], key=len)
        fragments += [best] if best else []
        i += max(len(best), 1)
    return fragments


@settings(deadline=None)
@given(first=texts, data=st.data())
def test_coverage_and_density_are_those_of_grusky(first: Texts, data: st.DataObject) -> None:
    second = data.draw(st.lists(st.lists(st.integers(2, 5), min_size=1, max_size=12), min_size=1, max_size=4))
    own = np.array([data.draw(st.integers(0, len(first) - 1)) for _ in second])
    quality = pair_quality(corpus(second), own, corpus(first))
    fragments = [greedy_fragments(first[i], d2) for i, d2 in zip(own, second, strict=True)]
    sizes = [[len(f) for f in found] for found in fragments]
    assert quality.coverage == pytest.approx(
        np.mean([sum(s) / len(d) for s, d in zip(sizes, second, strict=True)])
    )
    assert quality.density == pytest.approx(
        np.mean([sum(n * n for n in s) / len(d) for s, d in zip(sizes, second, strict=True)])
    )


@settings(deadline=None)
@given(references=texts, second=texts, ngram=st.integers(1, 5))
def test_novel_and_contained_ngrams(references: Texts, second: Texts, ngram: int) -> None:
    def grams(text: list[int]) -> Texts:
        return [text[i : i + ngram] for i in range(len(text) - ngram + 1)]

    first = np.arange(len(second)) % len(references)
    quality = pair_quality(corpus(second), first, corpus(references), copy_length=ngram, max_ngram=ngram)
    known = [g for r in references for g in grams(r)]
    all_grams = [g for d in second for g in grams(d)]
    novel = np.mean([g not in known for g in all_grams]) if all_grams else 1.0
    assert quality.novel_ngrams[ngram - 1] == pytest.approx(novel)
    assert quality.contained_in_any == pytest.approx(1 - novel)
    copies = [any(g in grams(references[i]) for g in grams(d)) for i, d in zip(first, second, strict=True)]
    assert quality.copied_from_first == pytest.approx(np.mean(copies))
    assert quality.copied_from_any == pytest.approx(
        np.mean([any(g in known for g in grams(d)) for d in second])
    )


def test_a_whole_copy_and_a_new_text() -> None:
    real = corpus([list(range(10, 30)), list(range(40, 60))])
    quality = pair_quality(corpus([list(range(10, 30)), list(range(70, 90))]), np.array([0, 1]), real)
    assert (quality.coverage, quality.density) == (0.5, 10.0)
    assert quality.copied_from_first == quality.copied_from_any == 0.5
    assert quality.longest_from_first[-1] == 20
    assert quality.novel_ngrams == (0.5,) * 13


def test_a_real_document_is_no_source_of_itself() -> None:
    real = corpus([list(range(10, 30)), list(range(40, 60))])
    own = np.array([0, 1])
    assert pair_quality(real, own[::-1], real, own=own).novel_ngrams == (1.0,) * 13
    assert pair_quality(real, own[::-1], real).novel_ngrams == (0.0,) * 13


def test_documents_by_hand() -> None:
    loop, plain, short = [5] * 20, list(range(20, 40)), [7]
    documents = [loop, plain, short, plain, [*plain, 1]]
    complete = np.array([True, True, True, True, False])
    quality = document_quality(corpus(documents, complete=complete), RepetitionRule())
    assert (quality.num_documents, quality.repetition) == (5, 0.2)
    assert (quality.exact_duplicates, quality.near_duplicates, quality.cut) == (0.2, 0.2, pytest.approx(0.2))
    assert quality.mean_tokens == 82 / 5
    assert quality.token_quantiles[2:] == pytest.approx((20, 20, 20.8))


@settings(deadline=None)
@given(documents=st.lists(st.lists(st.integers(2, 4), max_size=15), min_size=1), ngram=st.integers(1, 4))
def test_repeated_share_by_direct_search(documents: Texts, ngram: int) -> None:
    def share(text: list[int]) -> float:
        grams = [tuple(text[i : i + ngram]) for i in range(len(text) - ngram + 1)]
        repeats = [i for i, gram in enumerate(grams) if gram in grams[:i]]
        covered = {place for i in repeats for place in range(i, i + ngram)}
        return len(covered) / max(len(text), 1)

    together = corpus(documents)
    found = repeated_share(together.tokens, together.offsets, ngram)
    assert found.tolist() == pytest.approx([share(d) for d in documents])


def test_extractive_fragments_of_an_empty_document() -> None:
    coverage, density = _extractive_fragments(np.array([2, 1]), np.array([0, 0, 2]))
    assert (coverage.tolist(), density.tolist()) == ([0.0, 1.0], [0.0, 2.0])


def test_related_pairs_are_nearer_than_random_ones() -> None:
    generator = np.random.default_rng(0)
    first = generator.normal(size=(500, 32))
    near, unrelated = first + generator.normal(size=(500, 32)), generator.normal(size=(500, 32))
    similarity = pair_similarity(first, near, seed=0)
    assert similarity.nearer_share > 0.99
    assert similarity.pairs.mean() == pytest.approx(0.5**0.5, abs=5 * similarity.pairs.std() / 500**0.5)
    assert abs(similarity.random.mean()) < 5 * similarity.random.std() / 500**0.5
    assert abs(pair_similarity(first, unrelated, seed=0).nearer_share - 0.5) < 5 * 0.5 / 500**0.5
    scaled = pair_similarity(first, 3 * near, seed=0)  # only directions count
    np.testing.assert_allclose(scaled.random, similarity.random, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("number", [2, 3, 50])
def test_no_random_pair_is_the_pair_itself(number: int) -> None:
    """Orthogonal documents: a pair has similarity 1, any other 0."""
    similarity = pair_similarity(np.eye(number), np.eye(number), seed=1)
    assert similarity.pairs.tolist() == [1.0] * number
    assert similarity.random.tolist() == [0.0] * number


@dataclasses.dataclass(frozen=True)
class FakePairs:
    """Real pairs as the pairing stage gives them."""

    first: np.ndarray
    second: np.ndarray
    corpus_fingerprint: str
    fingerprint: str = "pairs"


def world() -> tuple[Corpus, Corpus, FakePairs]:
    generator = np.random.default_rng(0)
    unique = corpus([generator.integers(2, 50, generator.integers(20, 60)).tolist() for _ in range(40)])
    first, second = np.arange(39), np.arange(1, 40)
    synthetic = corpus([unique.document(i)[:30].tolist() for i in second])
    metadata = [{"seed_index": int(i), "seed_document": unique.ids[i], "sample": 0} for i in first]
    return (
        unique,
        dataclasses.replace(synthetic, metadata=metadata),
        FakePairs(first, second, unique.fingerprint),
    )


def test_the_report_treats_real_and_synthetic_alike() -> None:
    """Synthetic documents that are the real ones: all that may differ is the source that does not count."""
    unique, synthetic, pairs = world()
    report = quality_report(CONFIG, synthetic, unique, pairs)
    for name in ("coverage", "density", "copied_from_first", "contained_in_first", "longest_from_first"):
        assert getattr(report.synthetic_pairs, name) == pytest.approx(getattr(report.real_pairs, name)), name
    assert report.synthetic_pairs.copied_from_any == 1
    assert report.real_pairs.copied_from_any == 0
    assert report.real_documents.token_quantiles[-1] == 30
    assert report.real_documents.num_documents == report.synthetic_documents.num_documents == 39


def test_mistakes_are_named() -> None:
    unique, synthetic, pairs = world()
    with pytest.raises(CorpusError, match="another corpus"):
        quality_report(CONFIG, synthetic, unique.select(np.arange(5)), pairs)
    with pytest.raises(CorpusError, match="at least"):
        quality_report(CONFIG, synthetic.select([]), unique, pairs)
    strangers = dataclasses.replace(unique, ids=[f"other:{i}" for i in range(len(unique))])
    pairs = dataclasses.replace(pairs, corpus_fingerprint=strangers.fingerprint)
    with pytest.raises(CorpusError, match="sampled from other documents"):
        quality_report(CONFIG, synthetic, strangers, pairs)
    with pytest.raises(ConfigError, match="copy_length"):
        QualityConfig(max_document_tokens=5, copy_length=0)
    with pytest.raises(ConfigError, match="pairs"):
        pair_similarity(np.ones((1, 2)), np.ones((1, 2)), seed=0)


def test_copying_scales() -> None:
    """Whole copies, the hardest case, cost no more than other text: linear up to a logarithm."""
    generator = np.random.default_rng(0)
    real = corpus([generator.integers(2, 4000, 250).tolist() for _ in range(100)])
    first = generator.integers(0, 100, 800)
    started = time.process_time()
    quality = pair_quality(real.select(first), first, real)
    assert quality.density == pytest.approx(250)
    assert time.process_time() - started < 10  # about 0.4 s of 200,000 tokens on an idle core


@pytest.mark.parametrize(("copied", "mostly"), [(26, 1.0), (25, 0.0), (40, 1.0)])
def test_mostly_copied_is_half_of_the_ngrams(copied: int, mostly: float) -> None:
    first = list(range(10, 60))
    second = first[:copied] + list(range(100, 140 - copied))  # 28 13-grams, of which copied − 12 are in d1
    quality = pair_quality(corpus([second]), np.array([0]), corpus([first]))
    assert quality.mostly_from_first == mostly


def test_a_short_passage_of_d1_is_mostly_copied() -> None:
    quality = pair_quality(corpus([[5, 6], [5, 9]]), np.array([0, 0]), corpus([[4, 5, 6, 7]]))
    assert quality.mostly_from_first == 0.5
