"""Containment of 13-word shingles, against Python's own sets."""

import re

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sbp_bayes.pairing import containment

WORDS = st.sampled_from(["a", "b", "A", "b.", "é", "_", "7", "—"])


def shingle_set(text):
    words = re.findall(r"\w+", text.lower())
    width = min(13, len(words))
    return {tuple(words[i : i + width]) for i in range(len(words) - width + 1)} if words else set()


@settings(max_examples=60, deadline=None)
@given(parts=st.lists(st.lists(WORDS, max_size=40), min_size=2, max_size=6))
def test_containment_is_that_of_sets(parts):
    texts = [" ".join(words) for words in parts]
    texts.append(texts[0] + " " + texts[1])
    first, second = np.triu_indices(len(texts), k=1)
    sets = [shingle_set(text) for text in texts]
    wanted = [
        len(sets[i] & sets[j]) / max(1, min(len(sets[i]), len(sets[j])))
        for i, j in zip(first, second, strict=True)
    ]
    np.testing.assert_allclose(containment(texts, first, second), wanted)


def test_excerpt_is_contained_whole_in_either_order():
    words = [f"w{i}" for i in range(60)]
    texts = ["unrelated", " ".join(words), "Title: " + " ".join(words[10:40]).upper()]
    shared = containment(texts, np.array([1, 2, 0]), np.array([2, 1, 1]))
    np.testing.assert_allclose(shared, [18 / 19, 18 / 19, 0.0])


def test_chunks_do_not_show(monkeypatch):
    texts = [" ".join(f"w{(i * j) % 7}" for i in range(30)) for j in range(8)]
    first, second = np.triu_indices(8, k=1)
    whole = containment(texts, first, second)
    monkeypatch.setattr("sbp_bayes.pairing.shingles.PAIRS_TOGETHER", 3)
    np.testing.assert_array_equal(containment(texts, first, second), whole)
    assert 0 < whole.mean() < 1
