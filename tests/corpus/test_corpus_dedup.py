"""De-duplication against brute force on word 5-grams computed with Python sets."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sbp_bayes.base.errors import ConfigError
from sbp_bayes.corpus import Document, deduplicate
from sbp_bayes.corpus.minhash import (
    LONGEST_WORD,
    MISS_PROBABILITY,
    Bands,
    band_keys,
    shingle_hashes,
    word_hashes,
)

WORDS = [f"w{i}" for i in range(400)]


def shingles(text: str) -> set[tuple[str, ...]]:
    words = text.lower().split()
    width = min(5, len(words))
    return {tuple(words[i : i + width]) for i in range(len(words) - width + 1)} if words else set()


def similarity(a: str, b: str) -> float:
    first, second = shingles(a), shingles(b)
    return len(first & second) / max(1, len(first | second))


def brute_force(texts: list[str], threshold: float) -> list[int]:
    kept: list[int] = []
    for i, text in enumerate(texts):
        if not any(text == texts[j] or similarity(text, texts[j]) >= threshold for j in kept):
            kept.append(i)
    return kept


def varied_texts(seed: int, count: int) -> list[str]:
    """Random texts, some of which are edited copies of earlier ones, by 0 to 6 words."""
    random = np.random.default_rng(seed)
    texts: list[list[str]] = []
    for _ in range(count):
        if texts and random.random() < 0.6:
            words = list(texts[random.integers(len(texts))])
            for _ in range(random.integers(0, 7)):
                words[random.integers(len(words))] = WORDS[random.integers(400)]
        else:
            words = [WORDS[k] for k in random.integers(400, size=random.integers(1, 120))]
        texts.append(words)
    return [" ".join(words) for words in texts]


@given(st.integers(0, 10**6), st.sampled_from([0.5, 0.8, 0.95]))
@settings(max_examples=40, deadline=None)
def test_agrees_with_brute_force(seed, threshold):
    texts = varied_texts(seed, 40)
    kept, report = deduplicate(texts, threshold=threshold)
    expected = brute_force(texts, threshold)
    # A pair at the threshold is missed with probability < 1e-3: a missed one only keeps more.
    assert len(set(expected) ^ set(kept)) <= 1
    assert report.exact + report.near == len(texts) - len(kept)
    for removed, survivor in report.duplicate_of.items():
        assert survivor < removed
        assert survivor in kept
        same = texts[removed] == texts[survivor]
        assert same or any(similarity(texts[removed], texts[k]) >= threshold for k in kept if k < removed)


def test_large_sample_agrees_exactly_with_brute_force():
    texts = varied_texts(7, 300)
    kept, report = deduplicate(texts)
    assert kept == brute_force(texts, 0.8)
    assert min(report.exact, report.near) > 20


@given(st.lists(st.text(alphabet="ab \n", max_size=12), max_size=12))
@settings(max_examples=100, deadline=None)
def test_short_and_empty_texts(texts):
    kept, report = deduplicate(texts)
    assert kept == brute_force(texts, 0.8)
    assert report.num_documents == len(texts)


def test_report_counts_exact_near_and_clusters():
    base = " ".join(WORDS[:100])
    edited = " ".join([*WORDS[:99], "other"])
    texts = [base, "something else entirely", base, edited, edited, "x y z", base]
    kept, report = deduplicate([Document(id=str(i), text=t, source="s") for i, t in enumerate(texts)])
    assert kept == [0, 1, 5]
    assert (report.exact, report.near) == (3, 1)
    assert report.duplicate_of == {2: 0, 3: 0, 4: 0, 6: 0}
    assert report.cluster_sizes == [5]
    assert report.exact_rate == 3 / 7
    assert report.near_rate == 1 / 7


def test_a_chain_is_not_followed():
    """b is like a, and c like b but not like a: c stays, since nothing kept is like it."""
    a = WORDS[:100]
    b = [*a[:-8], *(f"b{i}" for i in range(8))]
    c = [*(f"c{i}" for i in range(8)), *b[8:]]
    texts = [" ".join(words) for words in (a, b, c)]
    assert similarity(texts[0], texts[1]) >= 0.8 <= similarity(texts[1], texts[2])
    assert similarity(texts[0], texts[2]) < 0.8
    assert deduplicate(texts)[0] == [0, 2]
    # Like two survivors, b counts for the first.
    for order in ([0, 2, 1], [2, 0, 1]):
        assert deduplicate([texts[i] for i in order])[1].duplicate_of == {2: 0}


def test_the_same_in_any_company_and_for_any_seed():
    texts = varied_texts(1, 60)
    kept, _ = deduplicate(texts)
    fresh = [" ".join(f"n{i}x{j}" for j in range(50)) for i in range(60)]
    mixed = [text for pair in zip(fresh, texts, strict=True) for text in pair]
    assert [i // 2 for i in deduplicate(mixed)[0] if i % 2] == kept
    assert deduplicate(texts, seed=5)[0] == kept


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.99, 1.0])
def test_bands_find_pairs_at_the_threshold(threshold):
    assert 1 - Bands.at(threshold).probability(threshold) <= MISS_PROBABILITY


@pytest.mark.parametrize(("verified", "rows"), [(True, 5), (False, 11)])
def test_pairs_share_a_band_as_often_as_the_s_curve_says(verified, rows):
    bands = Bands.at(0.8, verified=verified)
    assert bands.rows == rows
    for shared in (60, 120, 160):  # of 200 shingles a text: words that occur once each
        pairs = []
        for i in range(300):
            common = [f"c{i}x{k}" for k in range(shared + 4)]
            pairs += [" ".join([*common, *(f"{side}{i}x{k}" for k in range(200 - shared))]) for side in "ab"]
        keys = band_keys(*shingle_hashes(pairs), bands, seed=shared)
        found = int((keys[::2] == keys[1::2]).any(1).sum())
        expected = bands.probability(shared / (400 - shared))
        assert abs(found - 300 * expected) <= 4.5 * (300 * expected * (1 - expected)) ** 0.5 + 1e-9


WHITE_SPACE = " \t\n\x0b\x0c\r\x1c\x1f\x85\xa0\u1680\u2003\u2028\u3000"


@given(st.lists(st.text(alphabet="aBÄ한\0\u200b" + WHITE_SPACE, max_size=30), max_size=6))
@settings(max_examples=200, deadline=None)
def test_words_are_what_python_splits_and_equal_where_their_hashes_are(texts):
    hashes, ends = word_hashes(texts)
    words = [text.lower().split() for text in texts]
    assert np.diff(ends).tolist() == list(map(len, words))
    known = dict(zip(itertools.chain.from_iterable(words), hashes.tolist(), strict=False))
    assert [known[w] for text in words for w in text] == hashes.tolist()
    assert len(set(known.values())) == len(known)


def test_characters_of_scripts_without_spaces_are_words():
    hashes, ends = word_hashes(["日本x語 한국 日", "日 本 x 語 한국 日", "ภาษา ไทย"])
    assert np.diff(ends).tolist() == [6, 6, 7]
    assert np.array_equal(hashes[:6], hashes[6:12])


@pytest.mark.parametrize(
    ("first", "last"), [("一", "龥"), ("ก", "ฮ"), ("ぁ", "ん"), ("ក", "អ"), ("က", "အ"), ("𠀀", "𠿿")]
)
def test_near_duplicates_of_scripts_without_spaces_are_found(first, last):
    random = np.random.default_rng(0)

    def written(length):
        return "".join(map(chr, random.integers(ord(first), ord(last) + 1, size=length)))

    texts = [written(600) for _ in range(10)]
    near = [text[:300] + written(10) + text[310:] for text in texts]
    other = [text[:300] + written(300) for text in texts]
    kept, report = deduplicate(texts + near + other)
    assert report.duplicate_of == {10 + i: i for i in range(10)}
    assert kept == [*range(10), *range(20, 30)]


def test_words_of_every_length_differ_by_each_of_their_letters():
    alike = ["a" * n for n in range(1, LONGEST_WORD + 20)]
    changed = [w[:k] + "b" + w[k + 1 :] for w in alike for k in range(len(w))]
    hashes, _ = word_hashes([" ".join(alike), " ".join(changed)])
    assert len(np.unique(hashes)) == len(set(alike + changed)) == len(hashes)


def test_band_keys_do_not_depend_on_company():
    texts = varied_texts(3, 40)
    bands = Bands.at(0.8)
    together = band_keys(*shingle_hashes(texts), bands, 0)
    alone = np.concatenate([band_keys(*shingle_hashes([text]), bands, 0) for text in texts])
    assert np.array_equal(together, alone)


def test_without_verification_bands_alone_decide():
    alike = [" ".join([*WORDS[:100], f"end{i}"]) for i in range(3)]
    texts = [*alike, *varied_texts(5, 50)[-5:]]
    kept, report = deduplicate(texts, verify=False)
    assert report.duplicate_of[1] == report.duplicate_of[2] == 0
    assert 0 in kept


def test_nothing_in_nothing_out():
    kept, report = deduplicate([])
    assert (kept, report.exact_rate, report.cluster_sizes) == ([], 0.0, [])


@pytest.mark.parametrize("threshold", [0, -1, 1.1])
def test_bad_threshold(threshold):
    with pytest.raises(ConfigError, match="dedup_threshold"):
        deduplicate(["a"], threshold=threshold)
