"""Pairs grouped by document, however many of them are one document's.

A document is a pair of each that has it among its neighbours, so a hub, which is near to everyone, has as
many pairs as there are documents: the reducer that groups them would do the work of all. A hub's pairs are
dealt to several groups, (document, salt), each of which keeps its m best; a second merge, of hubs alone, has
these few to choose from. The m best of m bests are the m best of all, so the result doesn't depend on salts.
"""

import dataclasses
from functools import partial

import numpy as np

from sbp_bayes.base.seeds import derive_seed
from sbp_bayes.pairing.join.engines import Session
from sbp_bayes.pairing.records import Edges

GROUPS_PER_REDUCER = 16
"""A document with more pairs than this part of a reducer's fair share is a hub, and each of its groups has
about as many.
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Balance:
    """How evenly ordered pairs are dealt to reducers.

    Attributes:
        reducers: their number.
        largest_share: the fullest reducer's share of all ordered pairs.
        largest_share_unsalted: what it were if each document's pairs went to one reducer.
    """

    reducers: int
    largest_share: float
    largest_share_unsalted: float


def best_by_document(
    edges: Edges, limit: int | None, *, session: Session, num_reducers: int, seed: int = 0
) -> tuple[Edges, Balance]:
    """Return each document's most similar pairs, by d1, then by falling similarity, then by d2.

    Args:
        edges: ordered pairs, each once, at least one of them.
        limit: most pairs of one d1; None: all.
        session: does the reducers' work.
        num_reducers: parts of the work.
        seed: of salts and of the dealing; the pairs returned depend on neither.
    """
    salt = _salts(edges, limit, num_reducers, seed)
    whole = _hash(edges.first, seed) % num_reducers
    dealt = (whole + salt) % num_reducers
    balance = Balance(
        reducers=num_reducers,
        largest_share=float(np.bincount(dealt).max() / len(edges)),
        largest_share_unsalted=float(np.bincount(whole).max() / len(edges)),
    )
    reduce = partial(most_similar, limit=limit)
    merged = Edges.joined(session.map(reduce, edges.split(dealt, num_reducers)))
    is_salted = np.isin(merged.first, edges.first[salt > 0])
    if is_salted.any():
        hubs = merged.take(is_salted)
        parts = hubs.split(_hash(hubs.first, seed) % num_reducers, num_reducers)
        merged = Edges.joined([merged.take(~is_salted), *session.map(reduce, parts)])
    return merged.take(np.argsort(merged.first, kind="stable")), balance


def most_similar(edges: Edges, limit: int | None) -> Edges:
    """Return each d1's `limit` most similar pairs (None: all), by d1, falling similarity, then d2."""
    ordered = edges.take(np.lexsort((edges.second, -edges.similarity, edges.first)))
    if limit is None:
        return ordered
    rank = np.arange(len(ordered)) - np.searchsorted(ordered.first, ordered.first)
    return ordered.take(rank < limit)


def _salts(edges: Edges, limit: int | None, num_reducers: int, seed: int) -> np.ndarray:
    """Return each pair's salt, int64 (P,): 0 for all pairs of a document that isn't a hub."""
    if num_reducers == 1:
        return np.zeros(len(edges), np.int64)
    _, document, degrees = np.unique(edges.first, return_inverse=True, return_counts=True)
    fair = len(edges) / num_reducers
    group = max(limit or 1, 2 * degrees.mean(), fair / GROUPS_PER_REDUCER)
    salts = np.ceil(degrees / group).astype(np.int64)
    salt: np.ndarray = _hash(edges.second, seed) % salts[document]
    return salt


def _hash(ids: np.ndarray, seed: int) -> np.ndarray:
    """Return numbers below 2⁶³, int64, that are a function of id and seed (SplitMix64's mixing)."""
    mixed = ids.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(derive_seed(seed, "salt"))
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return ((mixed ^ (mixed >> np.uint64(31))) >> np.uint64(1)).astype(np.int64)
