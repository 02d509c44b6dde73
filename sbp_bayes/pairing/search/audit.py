"""How much of the truth an approximate search finds, and how far it was pushed for that."""

import dataclasses
from collections.abc import Callable, Iterable

import numpy as np

from sbp_bayes.base.arrays import ArrayRecord
from sbp_bayes.base.errors import PairingError
from sbp_bayes.pairing.search.exact import ExactKeys
from sbp_bayes.pairing.search.vocabulary import NOTHING, Found, unpack

AUDITED_ROWS = 500

MOST_SHORT = 0.01
"""Share of rows for which an approximate search may find fewer than k: exact search helps these out."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchReport:
    """How neighbours were found.

    Attributes:
        backend: the search that ran.
        recall: share of the k nearest that it found, on rows that had no part in choosing the effort (see
            `held_out_rows`); 1 for exact search.
        effort: ef of the graph, lists probed of the inverted file, or 0.
        bytes_per_vector: of what is searched, before float32 ranks again.
        shards: parts that the vectors were cut into.
    """

    backend: str
    recall: float
    effort: int
    bytes_per_vector: float
    shards: int = 1


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Audit(ArrayRecord):
    """The truth about up to 500 rows, k neighbours each.

    Attributes:
        rows: int64 (R,).
        ids, similarities: (R, k), exact.
    """

    rows: np.ndarray
    ids: np.ndarray
    similarities: np.ndarray

    @classmethod
    def of(cls, keys: ExactKeys, k: int, rows: np.ndarray) -> "Audit":
        """Search the keys exactly for the neighbours of `rows` of them."""
        ids, similarities = unpack(keys.search(keys.unit[rows], rows, k))
        return cls(rows=rows, ids=ids, similarities=similarities)

    def recall(self, similarities: np.ndarray) -> float:
        """Share of found similarities (R, k) that reach the true k-th: equally near rows count alike."""
        return float((similarities >= self.similarities[:, -1:] - 1e-5).mean())


def audited_rows(num_rows: int) -> np.ndarray:
    """Return up to 500 evenly spaced row numbers, int64, rising: those that the effort is chosen on."""
    return np.unique(np.linspace(0, num_rows - 1, min(AUDITED_ROWS, num_rows)).astype(np.int64))


def held_out_rows(num_rows: int) -> np.ndarray:
    """Return 500 others, evenly spaced among those left: the recall that is reported is on them.

    The effort is the first that suffices on the rows it is chosen on, which flatters its recall there. Of up
    to 1,000 rows all are returned: their recall is then known, not estimated.
    """
    if num_rows <= 2 * AUDITED_ROWS:
        return np.arange(num_rows)
    others = np.setdiff1d(np.arange(num_rows), audited_rows(num_rows), assume_unique=True)
    return others[audited_rows(len(others))]


def filled(packed: np.ndarray, search: Callable[[np.ndarray], np.ndarray]) -> Found | None:
    """Return what was found, rows with fewer than k searched exactly; None where these are more than 1%.

    Args:
        packed: similarities and ids, int64 (N, k), see `pack`; `NOTHING` after the last one found.
        search: numbers of rows, int64 (R,) → the same of exact search, (R, k).
    """
    short = np.flatnonzero(packed[:, -1] == NOTHING)
    if len(short) > MOST_SHORT * len(packed):
        return None
    if len(short):
        packed = packed.copy()
        packed[short] = search(short)
    return unpack(packed)


def search_with_audit(
    name: str,
    search: Callable[[int, np.ndarray], Found | None],
    *,
    efforts: Iterable[int],
    audit: Audit,
    held_out: Audit,
    num_rows: int,
    min_recall: float,
) -> tuple[Found, int, float]:
    """Search with rising effort until the recall suffices; return what was found, the effort, and the recall
    on other rows, which may lie a little below.

    Args:
        name: of the index, for the message.
        search: effort, rows (R,) → their ids and similarities (R, k), each row's the same whatever the
            others are; None where the index reaches fewer than k.
        efforts: rising.
        audit: the truth about the rows that the effort is chosen on.
        held_out: the truth about the rows whose recall is returned.
        num_rows: of all rows.
        min_recall: lowest recall accepted.

    Raises:
        PairingError: no effort reaches `min_recall`.
    """
    recall = 0.0
    for effort in efforts:
        sampled = search(effort, audit.rows)
        recall = 0.0 if sampled is None else audit.recall(sampled[1])
        if recall >= min_recall and (found := search(effort, np.arange(num_rows))) is not None:
            return found, effort, held_out.recall(found[1][held_out.rows])
    neighbours = audit.ids.shape[1]
    raise PairingError(
        f"the {name} finds {recall:.1%} of the {neighbours} neighbours, below {min_recall:.1%}: "
        "use backend = exact"
    )
