"""The sharded join: each query's nearest keys, with the keys cut into shards by ranges of ids.

Keys stay where they are and queries move: a block of queries is sent to every shard, each shard answers with
its k best, and the answers are merged by query. Since a shard ranks by the same float32 products as one
index of all keys would, and the k best of k bests are the k best of all, exact search gives the same bits
for any number of shards, any blocks and any engine.

An approximate search has an index a shard, all searched with the same effort, which rises until the merged
result of audited queries has the recall wanted. Shards cost work there: each of S searches for all queries,
while an index of N/S keys is less than S times as fast as one of N: by about √S in the inverted file.
"""

import dataclasses
import hashlib
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import get_args

import numpy as np

from sbp_bayes.base.arrays import ArrayRecord
from sbp_bayes.base.config import fingerprint, require, require_one_of
from sbp_bayes.base.errors import PairingError
from sbp_bayes.base.progress import progress
from sbp_bayes.base.threads import blocks
from sbp_bayes.pairing.join.engines import Engine, LocalEngine, QueryBlock, Shards
from sbp_bayes.pairing.join.parts import Parts
from sbp_bayes.pairing.join.shard import Method
from sbp_bayes.pairing.search import hnsw, inverted
from sbp_bayes.pairing.search.audit import (
    Audit,
    SearchReport,
    audited_rows,
    filled,
    held_out_rows,
    search_with_audit,
)
from sbp_bayes.pairing.search.vocabulary import Found, refuse_too_many, unpack


@dataclasses.dataclass(frozen=True, kw_only=True)
class Join:
    """How a join is carried out. Exact results don't depend on it, approximate ones on the shards alone.

    Attributes:
        num_shards: parts of the keys, of equal size within one.
        queries_at_once: queries of a block; a part of the work is a block against a shard. The inverted file
            asks list by list, so it wants many.
        engine: who does it.
        scratch: a folder for finished parts, from which an interrupted join goes on; None: it starts anew.
    """

    num_shards: int = 1
    queries_at_once: int = 32_768
    engine: Engine = dataclasses.field(default_factory=LocalEngine)
    scratch: Path | None = None

    def __post_init__(self) -> None:
        for key in ("num_shards", "queries_at_once"):
            require(getattr(self, key) >= 1, key, getattr(self, key), "at least 1")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Rows(ArrayRecord):
    """Unit vectors with ids of the caller's.

    Attributes:
        unit: float32 (N, D).
        ids: int64 (N,), each once.
    """

    unit: np.ndarray
    ids: np.ndarray

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.unit):
            raise PairingError(f"{len(self.ids)} ids for {len(self.unit)} vectors")
        hnsw.refuse_repeated(self.ids)

    @classmethod
    def numbered(cls, unit: np.ndarray) -> "Rows":
        """Return rows whose ids are their numbers."""
        return cls(unit=unit, ids=np.arange(len(unit)))

    def by_id(self) -> "Rows":
        """Return the rows by rising id."""
        order = np.argsort(self.ids, kind="stable")
        if (np.diff(order) == 1).all():
            return self
        return Rows(unit=self.unit[order], ids=self.ids[order])

    def find(self, ids: np.ndarray) -> np.ndarray:
        """Return the row of each id, -1 where there is none; the rows are by rising id."""
        places = np.searchsorted(self.ids, ids)
        return np.where(self.ids[np.minimum(places, len(self.ids) - 1)] == ids, places, -1)


def join_neighbours(
    queries: Rows,
    keys: Rows,
    k: int,
    method: Method = "exact",
    *,
    min_recall: float = 0.98,
    join: Join | None = None,
) -> tuple[Found, SearchReport]:
    """Return each query's k nearest keys by cosine, the nearest first and of equal ones the smaller id.

    A key with a query's own id isn't its neighbour.

    Args:
        queries: rows of any number.
        keys: rows to be found.
        k: neighbours wanted.
        method: how a shard is searched.
        min_recall: lowest share of the true neighbours, on up to 500 audited queries, unless "exact".
        join: how; by default one shard in this process.

    Returns:
        ids, int64 (Q, k), and similarities, float32 (Q, k), and the report.

    Raises:
        PairingError: widths that differ, k above the number of other keys, more shards than keys, or a
            recall that stays lower with the widest search.
        ConfigError: k below 1 or an unknown method.
        StoreError: the scratch folder cannot be written.
    """
    join, keys = Join() if join is None else join, keys.by_id()
    own = keys.find(queries.ids)
    _refuse(queries, keys, k, method, join, has_own=bool((own >= 0).any()))
    starts = len(keys.unit) * np.arange(join.num_shards) // join.num_shards
    with join.engine.start() as session, session.hold(keys.unit, starts) as shards:
        work = _Work(queries=queries.unit, own=own, k=k, join=join, shards=shards)
        if method == "exact":
            packed = work.ask("exact", 0, np.arange(len(own)), join.scratch, _identity(queries, keys))
            assert packed is not None
            found, effort, recall = unpack(packed), 0, 1.0
        else:
            found, effort, recall = _audited(
                work, method, len(keys.unit), min_recall, _identity(queries, keys)
            )
    width = keys.unit.shape[1]
    size = hnsw.bytes_per_vector(width) if method == "hnsw" else width + 4.0
    report = SearchReport(
        backend=method, recall=recall, effort=effort, bytes_per_vector=size, shards=join.num_shards
    )
    return (keys.ids[found[0]], found[1]), report


def _audited(
    work: "_Work", method: Method, num_keys: int, min_recall: float, identity: str
) -> tuple[Found, int, float]:
    def search_exactly(rows: np.ndarray) -> np.ndarray:
        packed = work.ask("exact", 0, rows, None, identity)
        assert packed is not None
        return packed

    def truth_about(rows: np.ndarray) -> Audit:
        ids, similarities = unpack(search_exactly(rows))
        return Audit(rows=rows, ids=ids, similarities=similarities)

    def search(effort: int, some: np.ndarray) -> Found | None:
        is_audit = len(some) < len(work.own)
        packed = work.ask(method, effort, some, None if is_audit else work.join.scratch, identity)
        return None if packed is None else filled(packed, lambda short: search_exactly(some[short]))

    largest = -(-num_keys // work.join.num_shards)
    return search_with_audit(
        "HNSW index" if method == "hnsw" else "inverted file",
        search,
        efforts=hnsw.efforts(work.k) if method == "hnsw" else inverted.efforts(largest),
        audit=truth_about(audited_rows(len(work.own))),
        held_out=truth_about(held_out_rows(len(work.own))),
        num_rows=len(work.own),
        min_recall=min_recall,
    )


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _Work(ArrayRecord):
    """A join's queries, and the shards that they are sent to."""

    queries: np.ndarray
    own: np.ndarray
    k: int
    join: Join
    shards: Shards

    def ask(
        self, method: Method, effort: int, rows: np.ndarray, scratch: Path | None, identity: str
    ) -> np.ndarray | None:
        """Return packed similarities and key numbers (len(rows), k) of some queries, see `Shard.answer`."""
        num_shards, parts_of = self.join.num_shards, blocks(len(rows), self.join.queries_at_once)
        how = fingerprint(identity, method, effort, self.k, num_shards, self.join.queries_at_once)
        parts = Parts(num_shards, self.k, scratch, how)
        missing = [parts.missing(block) for block in range(len(parts_of))]
        total = num_shards * len(parts_of)

        def query_blocks() -> Iterator[QueryBlock]:
            for block, part in enumerate(parts_of):
                if missing[block]:
                    some = rows[part]
                    yield QueryBlock(
                        number=block, shards=missing[block], queries=self.queries[some], own=self.own[some]
                    )

        display = nullcontext(_show_nothing) if scratch is None else progress("neighbours", total, "parts")
        with display as advance:
            advance(total - sum(map(len, missing)))
            for block, shard, packed in self.shards.answers(query_blocks(), self.k, method, effort):
                if packed is None:
                    return None
                parts.add(block, shard, packed)
                advance(1)
        return parts.result(len(parts_of))


def _show_nothing(_: int) -> None:
    """A search that keeps nothing is short."""


def _refuse(queries: Rows, keys: Rows, k: int, method: str, join: Join, *, has_own: bool) -> None:
    require_one_of("method", method, get_args(Method))
    require(k >= 1, "k", k, "at least 1")
    width, number = keys.unit.shape[1], len(keys.unit)
    refuse_too_many(number)
    if queries.unit.shape[1] != width:
        raise PairingError(f"queries of width {queries.unit.shape[1]} asked of keys of width {width}")
    if k > number - has_own:
        less = "k must be below their number" if has_own else "there are no more"
        raise PairingError(f"k = {k} neighbours asked of {number} documents: {less}")
    if join.num_shards > number:
        raise PairingError(f"{join.num_shards} shards of {number} documents: at most one shard a document")


def _identity(queries: Rows, keys: Rows) -> str:
    digest = hashlib.sha256()
    for array in (queries.unit, queries.ids, keys.unit, keys.ids):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
