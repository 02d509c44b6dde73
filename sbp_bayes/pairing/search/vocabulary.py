"""The words that every search here uses, how a neighbour is written as one number, and the search in plain.

- A *key* is a unit vector that can be found, and its *id* the number by which it is told from others: its
  row, where nobody gives another one. A *query* is a unit vector whose nearest keys are wanted. Where a query
  is itself a key, that is its *own* key, which it must not find.
- A *score* is an inner product in 8 bits, a *similarity* one in float32. Scores choose *candidates*,
  similarities rank them.
- A *list* holds the keys whose nearest centre is the same. A key's *place* is its index where keys are
  written list by list. A query's *home* list is that of its nearest centre; the lists that it *probes* are
  those of its nearest centres, home first.
- An *offer* is a key of another list that scores at least a query's *threshold*, which is the score of the
  k-th neighbour known so far, or some quantisation steps less.
- *Packed* neighbours are int64: the similarity in the upper half, so that the nearest comes first, and the
  id in the lower one. `NOTHING` stands where a query has fewer than k.

`reference_neighbours` says what all searches are for, in a few lines. The exact search gives its result, the
others approach it, and the tests compare them.
"""

import numpy as np

from sbp_bayes.base.errors import PairingError

Found = tuple[np.ndarray, np.ndarray]
"""Neighbours of Q queries, the nearest first: ids, int64 (Q, k), and similarities, float32 (Q, k)."""

NOTHING = np.iinfo(np.int64).max
"""Packed number that stands for no key, and comes after all keys."""

MOST_KEYS = 1 << 32
"""Number of keys that can be told apart where a similarity and an id share 64 bits."""

ID_MASK = MOST_KEYS - 1
"""Bits of a packed number that hold the id."""


def reference_neighbours(keys: np.ndarray, queries: np.ndarray, own: np.ndarray, k: int) -> Found:
    """Return each query's k nearest keys, of equally near ones those of smaller ids, by all Q·N products.

    Args:
        keys: unit rows (N, D).
        queries: unit rows (Q, D).
        own: int64 (Q,), the key that a query must not find, as it is itself; -1 for none.
        k: below N.
    """
    similarities = queries @ keys.T
    is_own = np.arange(len(keys)) == own[:, None]
    ids = np.argsort(np.where(is_own, np.inf, -similarities), axis=1, kind="stable")[:, :k]
    return ids, np.take_along_axis(similarities, ids, axis=1)


def pack(scores: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Return int64 numbers whose ascending order is: by falling score, then by rising id.

    A float32's bits, those below the sign flipped where it's negative, are an integer in the same order.

    Args:
        scores: float32, of any shape.
        ids: int64, likewise; an id has half of the 64 bits.

    Raises:
        PairingError: an id that is negative, or not below 2³².
    """
    _refuse_wide(ids)
    bits = scores.view(np.int32)
    rising = bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))
    return ((~rising).astype(np.int64) << 32) | ids


def unpack(packed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the ids, int64, and scores, float32, of `pack`."""
    rising = ~(packed >> 32).astype(np.int32)
    bits = rising ^ ((rising >> 31) & np.int32(0x7FFFFFFF))
    return packed & ID_MASK, bits.view(np.float32)


def shifted(packed: np.ndarray, start: int) -> np.ndarray:
    """Return packed numbers with `start` added to each id, `NOTHING` left as it is.

    Raises:
        PairingError: a sum that is not below 2³²: it would change the score.
    """
    is_key = packed != NOTHING
    _refuse_wide((packed & ID_MASK)[is_key] + start)
    return np.where(is_key, packed + start, NOTHING)


def best_without_own(packed_QC: np.ndarray, own_Q: np.ndarray, k: int) -> np.ndarray:
    """Return the k first of each query's packed keys, sorted, `NOTHING` in its own key's stead."""
    is_own = (packed_QC & ID_MASK) == own_Q[:, None]
    return np.sort(np.where(is_own, NOTHING, packed_QC), axis=1)[:, :k]


def refuse_too_many(num_keys: int) -> None:
    """Raise a `PairingError` if the numbers of so many keys do not fit beside their scores."""
    if num_keys > MOST_KEYS:
        raise PairingError(
            f"{num_keys:,} documents: neighbours are searched among {MOST_KEYS:,} at most, "
            "whose numbers take 32 bits"
        )


def _refuse_wide(ids: np.ndarray) -> None:
    if ids.size and not 0 <= ids.min() <= ids.max() <= ID_MASK:
        wide = ids.min() if ids.min() < 0 else ids.max()
        raise PairingError(
            f"id {wide:,} has no room beside a similarity in 64 bits: "
            f"a search takes ids from 0 to {ID_MASK:,}"
        )
