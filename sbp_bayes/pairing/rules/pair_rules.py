"""The rules that make neighbours pairs, and what each of them drops.

Paper: arXiv 2509.15248, step 1 of SBP; its α and k, and the near-duplicate rule's form, are unverified.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from sbp_bayes.base.config import require
from sbp_bayes.base.errors import NoPairsError
from sbp_bayes.base.threads import blocks
from sbp_bayes.pairing.records import Edges
from sbp_bayes.pairing.rules.shingles import shingle_overlap

RANKED_TOGETHER = 1 << 14

REJECTIONS = (
    "neighbours_self",
    "neighbours_below_alpha",
    "neighbours_mutual",
    "exact_copies",
    "near_duplicates_by_containment",
    "near_duplicates_by_jaccard",
)
"""The reasons why a neighbour gives no pair, each neighbour under the first that applies. `neighbours_mutual`
are those of a pair that the other document has already given.
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairRules:
    """Which neighbours are pairs.

    Attributes:
        alpha: similarity that a pair exceeds; each embedder has its own scale (paper value unverified: 0.75).
        near_duplicate_containment: pairs that share this part of the shorter one's shingles are dropped;
            None: none are.
        near_duplicate_jaccard: likewise of the shingles of both. It's never above the containment, so it
            drops nothing more at a threshold that isn't below that one's.
    """

    alpha: float = 0.5
    near_duplicate_containment: float | None = 0.5
    near_duplicate_jaccard: float | None = None

    def __post_init__(self) -> None:
        require(-1 <= self.alpha < 1, "alpha", self.alpha, "-1 to below 1")
        for key in ("near_duplicate_containment", "near_duplicate_jaccard"):
            share = getattr(self, key)
            require(share is None or 0 < share <= 1, key, share, "above 0, at most 1")


def ordered_pairs(
    ids: np.ndarray, similarities: np.ndarray, texts: Sequence[str], rows: np.ndarray, rules: PairRules
) -> tuple[Edges, dict[str, int]]:
    """Return the pairs among N rows' neighbours, in both orders, and how many neighbours each rule dropped.

    Rows are a pair if one of them is among the other's neighbours, their similarity is above α, and their
    texts are neither equal nor near-duplicates. The limit of pairs a document comes later.

    Args:
        ids: int64 (N, k), neighbours, the nearest first.
        similarities: float32 (N, k), of them.
        texts: of all documents.
        rows: int64 (N,), each row's index in `texts`.
        rules: what to drop.

    Returns:
        pairs of rows, and counts: "neighbours", `REJECTIONS`, and "ordered_pairs", 2 for each one left.

    Raises:
        NoPairsError: no pair is left; the message has the highest similarity.
    """
    is_self = ids == np.arange(len(ids))[:, None]
    is_above = (similarities > rules.alpha) & ~is_self
    if not is_above.any():
        highest = np.max(similarities, where=~is_self, initial=-np.inf)
        raise NoPairsError(
            f"no two documents are more similar than alpha = {rules.alpha}: the highest similarity is "
            f"{highest:.3f}"
        )
    first, second, similarity = _unordered(ids, similarities, is_above)
    rejected = _rejected_texts(texts, rows[first], rows[second], rules)
    kept = ~np.any(list(rejected.values()), axis=0)
    if not kept.any():
        raise NoPairsError(
            f"all {len(first):,} pairs more similar than alpha = {rules.alpha}, up to {similarity.max():.3f},"
            " are copies or near-duplicates"
        )
    edges = Edges(
        first=np.concatenate([first[kept], second[kept]]),
        second=np.concatenate([second[kept], first[kept]]),
        similarity=np.concatenate([similarity[kept], similarity[kept]]),
    )
    counts = {
        "neighbours": ids.size,
        "neighbours_self": int(is_self.sum()),
        "neighbours_below_alpha": ids.size - int(is_self.sum()) - int(is_above.sum()),
        "neighbours_mutual": int(is_above.sum()) - len(first),
        **{reason: int(dropped.sum()) for reason, dropped in rejected.items()},
        "ordered_pairs": len(edges),
    }
    return edges, counts


def neighbour_ranks(ids: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the rank of second[p] among first[p]'s neighbours, 1 the nearest, -1 for none, int32 (P,).

    Args:
        ids: int64 (N, k), neighbours, the nearest first.
        first: int64 (P,), rows.
        second: int64 (P,), likewise.
    """
    ranks = np.full(len(first), -1, np.int32)
    for part in blocks(len(first), RANKED_TOGETHER):
        pair, column = np.nonzero(ids[first[part]] == second[part, None])
        ranks[part.start + pair] = column + 1
    return ranks


def pair_keys(smaller: np.ndarray, larger: np.ndarray, num_rows: int) -> np.ndarray:
    """Return one uint64 per pair of rows, in the order of the pairs; there is room for 2³² rows."""
    return smaller.astype(np.uint64) * np.uint64(num_rows) + larger.astype(np.uint64)


def _unordered(
    ids: np.ndarray, similarities: np.ndarray, is_above: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return each unordered pair once, as (smaller row, larger row, similarity)."""
    rows, columns = np.nonzero(is_above)
    others = ids[rows, columns]
    smaller, larger = np.minimum(rows, others), np.maximum(rows, others)
    _, once = np.unique(pair_keys(smaller, larger, len(ids)), return_index=True)
    return smaller[once], larger[once], similarities[rows, columns][once]


def _rejected_texts(
    texts: Sequence[str], first: np.ndarray, second: np.ndarray, rules: PairRules
) -> dict[str, np.ndarray]:
    """Return by reason which pairs their texts forbid, bool (P,); no pair has two reasons."""
    overlap = shingle_overlap(texts, first, second)
    copies = np.zeros(len(first), bool)
    for pair in np.flatnonzero((overlap.shared == overlap.first) & (overlap.shared == overlap.second)):
        copies[pair] = texts[first[pair]] == texts[second[pair]]
    contained = _reaches(overlap.containment, rules.near_duplicate_containment) & ~copies
    alike = _reaches(overlap.jaccard, rules.near_duplicate_jaccard) & ~copies & ~contained
    return dict(zip(REJECTIONS[3:], (copies, contained, alike), strict=True))


def _reaches(shares: np.ndarray, threshold: float | None) -> np.ndarray:
    return shares >= (np.inf if threshold is None else threshold)
