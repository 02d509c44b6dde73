"""Scoring blocks of queries against many keys in 8 bits, and keeping the best: the core of every search here.

A tile of scores is one integer matrix product. Selecting from all of it would take longer than the product:
groups of columns are reduced to their best, only the groups with the best ones are read, and what is kept
travels as one int64, score above and column below, which NumPy partitions with vector instructions.

Shapes: Q queries, L keys, C candidates kept, D width.
"""

import threading
import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from sbp_bayes.base.operators import int8_products
from sbp_bayes.pairing.search.quantise import Codes
from sbp_bayes.pairing.search.vocabulary import ID_MASK, pack, unpack

QUERIES_AT_ONCE, KEYS_AT_ONCE = 256, 4096
SCORES_AT_ONCE = QUERIES_AT_ONCE * 2 * KEYS_AT_ONCE
FEWEST_GROUPS = 32

Part = tuple[slice, slice]
"""Some of the queries, and the keys that they're compared with."""

_buffers = threading.local()

with warnings.catch_warnings():  # torch says once that sparse rows are in beta
    warnings.simplefilter("ignore")
    torch.sparse_csr_tensor([0, 1], [0], [0.0], (1, 1), check_invariants=False)


def best_keys(
    queries_QD: Tensor,
    keys: Codes,
    count: int,
    own_Q: np.ndarray | None = None,
    parts: Sequence[Part] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the `count` best keys of each query by scales[l]·(query · codes[l]), in any order.

    Args:
        queries_QD: int8, at most 256 of them, or more in parts.
        keys: of any number.
        count: candidates a query, 1 ≤ count ≤ L.
        own_Q: int64, each query's own key; -1 or no array for none. It is found, with score -inf, where there
            are no others.
        parts: queries that are compared with some of the keys only; they come part by part. The longest
            part's keys times the queries of all are at most `SCORES_AT_ONCE`, or 4,096 times.

    Returns:
        columns, int64 (Q, count), and scores, float32 (Q, count); any column with score -inf where a part
        has fewer than `count` keys.
    """
    parts = parts or [(slice(0, len(queries_QD)), slice(0, len(keys)))]
    lengths = [some.stop - some.start for some, _ in parts]
    first_Q = np.repeat([held.start for _, held in parts], lengths)
    last_Q = np.repeat([held.stop - 1 for _, held in parts], lengths)
    if own_Q is not None:
        own_Q = np.concatenate([own_Q[some] for some, _ in parts]) - first_Q
    kept_QC = np.empty((len(first_Q), 0), np.int64)
    longest = max(held.stop - held.start for _, held in parts)
    for start in range(0, longest, KEYS_AT_ONCE):
        tiles = [
            (some, slice(held.start + start, min(held.start + start + KEYS_AT_ONCE, held.stop)))
            for some, held in parts
        ]
        width = min(KEYS_AT_ONCE, longest - start)
        groups = _num_groups(width, count)
        scores_QL = _scores(queries_QD, keys, tiles, -(-width // groups) * groups)
        if own_Q is not None:
            here = np.flatnonzero((own_Q >= start) & (own_Q < start + width))
            scores_QL.numpy()[here, own_Q[here] - start] = -np.inf
        found_QC = _best_of_tile(scores_QL, count, groups)
        kept_QC = _smallest(np.concatenate([kept_QC, found_QC + start], axis=1), count)
    columns, scores = unpack(kept_QC)
    return np.minimum(columns + first_Q[:, None], last_Q[:, None]), scores


def keys_above(
    queries_QD: Tensor, keys: Codes, least_Q: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return all keys that score at least `least_Q`.

    Args:
        queries_QD: int8, at most 256 of them, or more where the keys are few: see `queries_for`.
        keys: of any number.
        least_Q: float32 thresholds of scales[l]·(query · codes[l]).

    Returns:
        queries and columns, int64 (P,), and scores, float32 (P,): by rising query among the first 4,096
        keys, then among the next ones, and so on.
    """
    found = []
    all_queries = slice(0, len(queries_QD))
    for start in range(0, len(keys), KEYS_AT_ONCE):
        width = min(KEYS_AT_ONCE, len(keys) - start)
        scores_QL = _scores(queries_QD, keys, [(all_queries, slice(start, start + width))], width).numpy()
        above = np.flatnonzero(scores_QL >= least_Q[:, None])
        query = above // width
        found.append((query, above - query * width + start, scores_QL.reshape(-1)[above]))
    query, column, score = (np.concatenate(pieces) for pieces in zip(*found, strict=True))
    return query, column, score


def queries_for(num_keys: int) -> int:
    """Return how many queries `keys_above` takes at once: few calls where lists are short."""
    return max(QUERIES_AT_ONCE, SCORES_AT_ONCE // 4 // min(max(num_keys, 1), KEYS_AT_ONCE))


def dot_products(
    unit: Tensor, rows: np.ndarray, offsets: np.ndarray, ids: np.ndarray, keys: Tensor | None = None
) -> np.ndarray:
    """Return unit[rows[i]] · keys[j] for j in ids[offsets[i] : offsets[i + 1]], float32, as long as `ids`.

    Each product is summed by itself, in one order: equal rows have equal products wherever they stand.

    Args:
        unit: float32 (N, D).
        rows: int64 (Q,), of `unit`.
        offsets: int64 (Q + 1,), of `ids`.
        ids: int64 (P,), rows of `keys`.
        keys: float32 (L, D); `unit` by default.
    """
    keys = unit if keys is None else keys
    crow, columns = torch.from_numpy(offsets), torch.from_numpy(ids)
    shape = (len(rows), len(keys))
    wanted = torch.sparse_csr_tensor(crow, columns, torch.zeros(len(ids)), shape, check_invariants=False)
    products = torch.sparse.sampled_addmm(wanted, unit[torch.from_numpy(rows)], keys.T, beta=0.0)
    return products.values().numpy()


def pack_products(
    unit: Tensor, rows: np.ndarray, candidates_QC: np.ndarray, keys: Tensor | None = None
) -> np.ndarray:
    """Return each row's float32 products with its candidates, packed with their ids, int64 (Q, C)."""
    offsets = np.arange(len(rows) + 1) * candidates_QC.shape[1]
    products = dot_products(unit, rows, offsets, np.ascontiguousarray(candidates_QC).reshape(-1), keys)
    return pack(products.reshape(candidates_QC.shape), candidates_QC)


def _scores(queries_QD: Tensor, keys: Codes, parts: Sequence[Part], width: int) -> Tensor:
    """Return scores float32 (queries of all parts, `width`), -inf beyond a part's keys."""
    num_queries = sum(some.stop - some.start for some, _ in parts)
    scores_QL = _buffer("scores", torch.float32, num_queries, width)
    end = 0
    for some, held in parts:
        queries, tile = queries_QD[some], keys.rows(held)
        row, end = end, end + len(queries)
        if len(tile):
            products = _buffer("products", torch.int32, len(queries), len(tile))
            int8_products(queries, tile.codes, products)
            torch.mul(products, tile.scales, out=scores_QL[row:end, : len(tile)])
        if len(tile) < width:
            scores_QL[row:end, len(tile) :] = -torch.inf
    return scores_QL


def _num_groups(num_keys: int, count: int) -> int:
    """Return a power of two near √(count · keys): to choose groups and to read them then cost alike."""
    return max(FEWEST_GROUPS, 1 << (max(1, num_keys * count) - 1).bit_length() // 2)


def _best_of_tile(scores_QL: Tensor, count: int, groups: int) -> np.ndarray:
    """Return packed (score, column), int64 (Q, at least `count` or all), of the tile's best.

    The `count` best lie in the `count` groups with the highest maxima; a group is every `groups`-th column.
    """
    num_queries, width = scores_QL.shape
    if count == 1:
        columns = scores_QL.numpy().argmax(axis=1)[:, None]
        return pack(np.take_along_axis(scores_QL.numpy(), columns, axis=1), columns)
    if count >= groups or width <= 2 * groups:
        return _smallest(pack(scores_QL.numpy(), np.arange(width)), count)
    maxima_QG = scores_QL.view(num_queries, width // groups, groups).amax(dim=1).numpy()
    groups_QC = _smallest(pack(maxima_QG, np.arange(groups)), count) & ID_MASK
    columns = (groups_QC[:, None, :] + np.arange(0, width, groups)[:, None]).reshape(num_queries, -1)
    return _smallest(pack(scores_QL.gather(1, torch.from_numpy(columns)).numpy(), columns), count)


def _smallest(packed: np.ndarray, count: int) -> np.ndarray:
    return packed if packed.shape[1] <= count else np.partition(packed, count - 1, axis=1)[:, :count]


def _buffer(name: str, dtype: torch.dtype, rows: int, columns: int) -> Tensor:
    """Return this thread's buffer: fresh memory for each tile would cost as much as the product."""
    if not hasattr(_buffers, name):
        setattr(_buffers, name, torch.empty(SCORES_AT_ONCE, dtype=dtype))
    buffer: Tensor = getattr(_buffers, name)
    return buffer[: rows * columns].view(rows, columns)
