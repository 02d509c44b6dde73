"""Overlap of 13-word shingles, against Python's own sets and its regular expressions."""

import re
import tracemalloc
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sbp_bayes.base.workers import one_thread
from sbp_bayes.corpus.scripts import UNSPACED
from sbp_bayes.pairing import containment
from sbp_bayes.pairing.rules.shingles import shingle_overlap

WORDS = st.sampled_from(["a", "b", "A", "b.", "é", "_", "7", "—", "İ", "ΑΣ", "ß", "中", "𝔸", "\n"])
WORD = re.compile(rf"(?![^\W{UNSPACED}])\w|[^\W{UNSPACED}]+")


def shingle_set(text):
    words = WORD.findall(text.lower())
    width = min(13, len(words))
    return {tuple(words[i : i + width]) for i in range(len(words) - width + 1)} if words else set()


@settings(max_examples=60, deadline=None)
@given(parts=st.lists(st.lists(WORDS, max_size=40), min_size=2, max_size=6))
def test_overlap_is_that_of_sets(parts):
    texts = [" ".join(words) for words in parts]
    texts.append(texts[0] + " " + texts[1])
    first, second = np.triu_indices(len(texts), k=1)
    sets = [shingle_set(text) for text in texts]
    found = shingle_overlap(texts, first, second)
    pairs = [(sets[i], sets[j]) for i, j in zip(first, second, strict=True)]
    assert found.shared.tolist() == [len(a & b) for a, b in pairs]
    assert found.first.tolist() == [len(a) for a, _ in pairs]
    assert found.second.tolist() == [len(b) for _, b in pairs]
    np.testing.assert_allclose(found.jaccard, [len(a & b) / max(1, len(a | b)) for a, b in pairs])
    wanted = [len(a & b) / max(1, min(len(a), len(b))) for a, b in pairs]
    np.testing.assert_allclose(containment(texts, first, second), wanted)


@settings(max_examples=200, deadline=None)
@given(text=st.text(st.characters(codec="utf-8"), max_size=60))
def test_words_are_those_of_the_regular_expression(text):
    """A shingle of a text below 13 words is all of them, so the two texts share it where words are alike."""
    plain = " ".join(WORD.findall(text.lower()))
    found = shingle_overlap([text, plain], np.array([0]), np.array([1]))
    assert found.shared == found.first == found.second == len(shingle_set(text))


def test_an_excerpt_of_text_without_spaces_is_contained():
    characters = [chr(0x4E00 + k) for k in np.random.default_rng(0).integers(3000, size=700)]
    text = "".join(characters)
    texts = [text[:300], "题：" + text[100:250] + "。", text[400:]]
    found = shingle_overlap(texts, np.array([0, 0]), np.array([1, 2]))
    assert found.shared.tolist() == [138, 0]
    np.testing.assert_allclose(found.containment, [138 / 139, 0])


def test_excerpt_is_contained_whole_in_either_order():
    words = [f"w{i}" for i in range(60)]
    texts = ["unrelated", " ".join(words), "Title: " + " ".join(words[10:40]).upper()]
    shared = containment(texts, np.array([1, 2, 0]), np.array([2, 1, 1]))
    np.testing.assert_allclose(shared, [18 / 19, 18 / 19, 0.0])


def texts_that_overlap(num_texts, num_words=30):
    return [" ".join(f"w{(i * j) % 7}" for i in range(num_words)) for j in range(num_texts)]


@pytest.mark.parametrize(("name", "value"), [("SHINGLES_TOGETHER", 5), ("CHARACTERS_TOGETHER", 100)])
def test_blocks_do_not_show(monkeypatch, name, value):
    texts = texts_that_overlap(8)
    first, second = np.triu_indices(8, k=1)
    whole = containment(texts, first, second)
    monkeypatch.setattr(f"sbp_bayes.pairing.rules.shingles.{name}", value)
    np.testing.assert_array_equal(containment(texts, first, second), whole)
    assert 0 < whole.mean() < 1


def test_many_short_texts_are_told_apart():
    """More texts than a batch has numbers for."""
    texts = [f"{i - 1000 if i >= 1000 and i % 2 == 0 else i} a" for i in range(2000)]
    copies = np.arange(1000, 2000)
    assert containment(texts, copies - 1000, copies).tolist() == [1.0, 0.0] * 500


class Written(Sequence):
    """Texts that are written when they are read, half of each like its neighbour's."""

    def __init__(self, length):
        self.length = length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        shared, own = np.random.default_rng([0, index // 2]), np.random.default_rng([1, index])
        words = [*shared.integers(1 << 30, size=150), *own.integers(1 << 30, size=150)]
        return " ".join(map(str, words))


def peak_of_overlap(num_texts):
    first = np.repeat(np.arange(num_texts // 2) * 2, 2)
    second = np.stack([first[::2] + 1, (first[::2] + 7) % num_texts], axis=1).reshape(-1)
    tracemalloc.start()
    shared = containment(Written(num_texts), first, second)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_allclose(shared, np.tile([138 / 288, 0], num_texts // 2))
    return peak


def test_memory_does_not_grow_with_the_number_of_texts(monkeypatch):
    monkeypatch.setattr("sbp_bayes.pairing.rules.shingles.SHINGLES_TOGETHER", 50_000)
    monkeypatch.setattr("sbp_bayes.pairing.rules.shingles.BATCHES_TOGETHER", 4)
    with one_thread():  # of two, the peak is theirs together, or not
        peak_of_overlap(100)  # its tables stay
        small, large = peak_of_overlap(500), peak_of_overlap(3000)
    assert large < small + 2500 * 200  # a few numbers a text, not its 2.3 kB of shingles
