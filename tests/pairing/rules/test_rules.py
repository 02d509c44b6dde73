"""Every rule against a loop over neighbours; every neighbour under one reason; ranks by hand."""

import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sbp_bayes.base.errors import PairingError
from sbp_bayes.pairing.join.salted import most_similar
from sbp_bayes.pairing.rules.pair_rules import (
    REJECTIONS,
    PairRules,
    neighbour_ranks,
    ordered_pairs,
    pair_keys,
)

WORDS = [f"w{i}" for i in range(40)]
FULL = " ".join(WORDS)
HALF = " ".join(WORDS[:20])  # contained whole in FULL: 8 of its 8 shingles, of 28
REST = " ".join(WORDS[20:])  # shares no shingle with HALF
TURNED = " ".join(WORDS[8:] + WORDS[:8])  # 20 of 28 shingles are FULL's: containment 0.71, Jaccard 0.56
TEXTS = (FULL, FULL.upper(), HALF, REST, TURNED, "other words alone", "?!", "!?")


def shingles(text):
    words = re.findall(r"\w+", text.lower())
    width = min(13, len(words))
    return {tuple(words[i : i + width]) for i in range(len(words) - width + 1)} if words else set()


def reason_of(a, b, rules):
    """What forbids two texts, by Python's sets."""
    if a == b:
        return "exact_copies"
    shared, sizes = len(shingles(a) & shingles(b)), (len(shingles(a)), len(shingles(b)))
    containment, jaccard = shared / max(1, min(sizes)), shared / max(1, sum(sizes) - shared)
    if rules.near_duplicate_containment is not None and containment >= rules.near_duplicate_containment:
        return "near_duplicates_by_containment"
    if rules.near_duplicate_jaccard is not None and jaccard >= rules.near_duplicate_jaccard:
        return "near_duplicates_by_jaccard"
    return None


def rules_by_loops(ids, similarities, texts, rules, limit):
    """One neighbour at a time: the reasons, and (similarity, rank) of each ordered pair by either end."""
    reasons, given_by = Counter(), {}
    for row, neighbours in enumerate(ids):
        for rank, other in enumerate(neighbours, start=1):
            if other == row:
                reasons["neighbours_self"] += 1
            elif not similarities[row, rank - 1] > rules.alpha:
                reasons["neighbours_below_alpha"] += 1
            elif (int(other), row) in given_by:
                given_by[row, int(other)] = (similarities[row, rank - 1], rank)
                reasons["neighbours_mutual"] += 1
            else:
                given_by[row, int(other)] = (similarities[row, rank - 1], rank)
                reasons[reason_of(texts[row], texts[other], rules) or "kept"] += 1
    pairs = {}
    for a, b in given_by:
        if reason_of(texts[a], texts[b], rules) is None:
            similarity = given_by.get((min(a, b), max(a, b)), given_by.get((max(a, b), min(a, b))))[0]
            for d1, d2 in ((a, b), (b, a)):
                ranks = [given_by.get(pair, (0, -1))[1] for pair in ((d1, d2), (d2, d1))]
                pairs[d1, d2] = (similarity, *ranks)
    ordered = sorted(pairs, key=lambda pair: (pair[0], -pairs[pair][0], pair[1]))
    kept = [
        p for i, p in enumerate(ordered) if sum(q[0] == p[0] for q in ordered[:i]) < (limit or len(ordered))
    ]
    return reasons, [(*pair, *pairs[pair]) for pair in kept], len(ordered)


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    alpha=st.floats(-0.9, 0.5),
    containment=st.sampled_from([None, 0.3, 0.8, 1.0]),
    jaccard=st.sampled_from([None, 0.3, 0.6, 1.0]),
    limit=st.sampled_from([None, 1, 2]),
)
def test_rules_are_those_of_loops_and_every_neighbour_has_one_reason(
    seed, alpha, containment, jaccard, limit
):
    generator = np.random.default_rng(seed)
    num_rows, k = 9, 4
    texts = [str(text) for text in generator.choice(TEXTS, num_rows + 3)]
    rows = generator.permutation(len(texts))[:num_rows]
    matrix = generator.uniform(-1, 1, (num_rows, num_rows)).astype(np.float32)
    matrix = np.maximum(matrix, matrix.T)
    # A row itself is among its neighbours here, which a search leaves out.
    ids = np.argsort(-matrix, axis=1)[:, :k]
    similarities = np.take_along_axis(matrix, ids, axis=1)
    rules = PairRules(
        alpha=alpha,
        near_duplicate_containment=containment,
        near_duplicate_jaccard=jaccard,
    )
    in_rows = [texts[row] for row in rows]
    reasons, wanted, num_ordered = rules_by_loops(ids, similarities, in_rows, rules, limit)
    if not wanted:
        with pytest.raises(PairingError, match="alpha"):
            ordered_pairs(ids, similarities, texts, rows, rules)
        return
    edges, counts = ordered_pairs(ids, similarities, texts, rows, rules)
    kept = most_similar(edges, limit)
    ranks = [neighbour_ranks(ids, *ends) for ends in ((kept.first, kept.second), (kept.second, kept.first))]
    columns = (kept.first, kept.second, kept.similarity, *ranks)
    assert list(zip(*(column.tolist() for column in columns), strict=True)) == wanted
    assert {name: counts[name] for name in REJECTIONS} == {name: reasons[name] for name in REJECTIONS}
    left = counts["neighbours"] - sum(counts[name] for name in REJECTIONS)
    assert counts["ordered_pairs"] == len(edges) == num_ordered == 2 * left


def test_ranks_are_of_each_among_the_other_s_neighbours(monkeypatch):
    ids = np.array([[1, 2], [2, 0], [1, 0], [0, 1]])
    first, second = np.array([0, 0, 1, 1, 2, 3]), np.array([1, 3, 2, 0, 1, 0])
    monkeypatch.setattr("sbp_bayes.pairing.rules.pair_rules.RANKED_TOGETHER", 4)
    ranks = neighbour_ranks(ids, first, second)
    assert (ranks.dtype, ranks.tolist()) == (np.int32, [1, -1, 1, 2, 1, 1])
    assert neighbour_ranks(ids, second, first).tolist() == [2, 1, 1, 1, 1, -1]


def test_only_itself_above_alpha_names_the_highest_similarity_of_others():
    ids, similarities = np.array([[0, 1], [1, 0]]), np.array([[1, 0.25], [1, 0.25]], np.float32)
    with pytest.raises(PairingError, match=r"alpha = 0.5: the highest similarity is 0.250"):
        ordered_pairs(ids, similarities, ["a", "b"], np.arange(2), PairRules(alpha=0.5))


def test_pairs_of_as_many_rows_as_fit_have_keys_of_their_own():
    num_rows = 1 << 32
    smaller, larger = np.array(
        [[0, 1], [0, num_rows - 1], [1 << 31, 1 << 31], [num_rows - 2, num_rows - 1]]
    ).T
    keys = pair_keys(smaller, larger, num_rows)
    wanted = [a * num_rows + b for a, b in zip(smaller.tolist(), larger.tolist(), strict=True)]
    assert keys.tolist() == wanted
