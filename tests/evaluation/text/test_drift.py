"""Drift: within noise where there is none, found where it was planted, and told in words."""

import dataclasses

import numpy as np
import pytest

from sbp_bayes.base.config import encode
from sbp_bayes.base.errors import ConfigError
from sbp_bayes.corpus import Corpus, Document
from sbp_bayes.evaluation import DriftConfig, drift, drift_line
from sbp_bayes.evaluation.text.drift import FEWEST_DOCUMENTS, two_sample_auc

CONFIG = DriftConfig(max_document_tokens=12)
VOCAB_SIZE = 60
WORDS = np.arange(2, VOCAB_SIZE)


def documents(number, seed, *, tilt=0.0, seeds=None, length=20):
    """Documents of two sources, each with words of its own; `tilt` raises the odds of the low words."""
    generator = np.random.default_rng(seed)
    records, tokens = [], []
    for i in range(number):
        source = (i if seeds is None else int(seeds[i])) % 2
        odds = np.exp(-tilt * WORDS / VOCAB_SIZE) * np.where(source == WORDS % 2, 3.0, 1.0)
        drawn = generator.choice(WORDS, generator.integers(4, length), p=odds / odds.sum())
        tokens.append(drawn)
        metadata = {} if seeds is None else {"seed_index": int(seeds[i]), "seed_document": str(seeds[i])}
        records.append(Document(id=str(i), text="", source=f"source {source}", metadata=metadata))
    return Corpus.from_tokens(records, tokens, vocab_size=VOCAB_SIZE)


REAL = documents(400, 0)


def samples(seed=1, *, seeds=None, number=300, **changes):
    chosen = np.random.default_rng(seed).integers(400, size=number) if seeds is None else seeds
    return documents(len(chosen), seed, seeds=chosen, **changes)


def test_samples_of_the_same_distribution_have_none():
    found = drift(CONFIG, REAL, samples(length=13))
    cut = drift(CONFIG, REAL, samples())  # longer ones are no cut ones: lengths differ, and it is seen
    assert found.auc_of_halves.low < 0.5 < found.auc_of_halves.high
    assert found.sources_variation.value < 0.1 > found.sources_variation.of_halves
    assert found.labels_variation is None
    assert cut.synthetic_quantiles[-1] > 12 >= cut.real_quantiles[-1]
    assert cut.synthetic_cut == 0 < cut.real_cut < 1


def test_a_corpus_against_itself_in_two_halves_is_noise():
    """n = 20 splits; of 95% intervals at most 4 miss 0.5, with a probability of 0.997."""
    missed = 0
    for seed in range(20):
        order = np.random.default_rng(seed).permutation(200)
        halves = order[:100], order[100:]
        interval = two_sample_auc((REAL.select(halves[0]), REAL.select(halves[1])), halves, seed)
        missed += not interval.low <= 0.5 <= interval.high
    assert missed <= 4


def test_a_planted_drift_of_words_is_found():
    found = drift(CONFIG, REAL, samples(tilt=3.0))
    assert found.auc.low > 0.6
    assert found.auc_of_halves.low < 0.5 < found.auc_of_halves.high


def test_a_planted_drift_of_sources_is_found():
    seeds = np.random.default_rng(2).integers(200, size=300) * 2  # of source 0 alone
    found = drift(CONFIG, REAL, samples(seeds=seeds))
    assert found.sources_variation.value == pytest.approx(0.5)
    assert found.sources["source 0"] == pytest.approx(
        {"real": 0.5, "synthetic": 1, "real_tokens": 0.5, "synthetic_tokens": 1}, abs=0.05
    )
    labelled = dataclasses.replace(REAL, labels=["even" if i % 4 < 2 else None for i in range(400)])
    assert drift(CONFIG, labelled, samples(seeds=seeds)).labels_variation.value == 0  # one label


def test_a_planted_drift_of_clusters_is_found():
    generator = np.random.default_rng(0)
    real = generator.normal(size=(400, 4)) + 20 * (np.arange(400) % 4)[:, None]
    found = [
        drift(CONFIG, REAL, samples(), (real, real[of])).clusters_variation
        for of in (generator.integers(400, size=300), np.arange(0, 400, 4))
    ]
    assert found[0].value < 0.2 > found[0].of_halves
    assert found[1].value == pytest.approx(0.75)
    vectors = real[:FEWEST_DOCUMENTS], np.zeros((300, 4))
    assert drift(CONFIG, REAL, samples(), vectors).clusters_variation is None


def test_a_copy_is_not_told_from_its_original():
    """Were they in different folds, a copy would look like the real document that it is of."""
    seeds = np.arange(400)
    records = [
        Document(id=str(i), text="", source="", metadata={"seed_index": int(i), "seed_document": str(i)})
        for i in seeds
    ]
    copies = Corpus.from_tokens(records, [REAL.document(i)[:12] for i in seeds], vocab_size=VOCAB_SIZE)
    found = drift(CONFIG, REAL, copies)
    assert found.auc.estimate == pytest.approx(0.5)
    assert drift(CONFIG, REAL, copies) == found


def test_samples_without_d1_have_no_sources():
    found = drift(CONFIG, REAL, documents(100, 3))
    assert (found.sources, found.sources_variation, found.clusters_variation) == ({}, None, None)
    assert "sources" not in drift_line(encode(found))


def test_words_for_what_was_found():
    line = drift_line(encode(drift(CONFIG, REAL, samples())))
    assert line.startswith(
        "drift of the marginal: a classifier tells samples from real documents with AUC 0."
    )
    assert "sources differ by " in line
    few = drift(CONFIG, REAL, samples(number=FEWEST_DOCUMENTS - 1))
    assert few is None
    assert drift_line(few).startswith("drift of the marginal: not known")
    with pytest.raises(ConfigError, match="max_documents = 3"):
        DriftConfig(max_document_tokens=1, max_documents=3)
