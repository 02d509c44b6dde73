"""What pairing any number of documents takes: memory, shards, CPU time and traffic, before it is begun.

The plan is that of the sharded join (`sbp_bayes.pairing.join`): keys are cut into shards by ranges of ids and
stay there, a core a shard; every block of queries goes to every shard; each shard returns its k best, which
are merged by query; neighbours in both orders go to reducers by salted keys. Embedding isn't counted.

p is taken as the same for any number of keys, which makes the inverted file's plan a cautious one: see
`calibrate`.

Symbols: N documents, D dimensions, k neighbours, S shards of n keys, L lists in each, p lists asked.
"""

import dataclasses
import math

from sbp_bayes.base.config import require
from sbp_bayes.pairing.join.join import Join
from sbp_bayes.pairing.search.exact import num_candidates as exact_candidates
from sbp_bayes.pairing.search.inverted import MORE_LISTS
from sbp_bayes.pairing.search.inverted import num_candidates as inverted_candidates
from sbp_bayes.pairing.search.lists import ROUNDS, SAMPLED_ROWS_PER_LIST, number_of_lists

GIB = 1 << 30
FLOAT, SCALE, ID, PACKED, OFFERED_TO = 4, 4, 8, 8, 4
EDGE = 2 * ID + FLOAT
QUERIES_AT_ONCE, IN_FLIGHT = Join().queries_at_once, 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Constants:
    """What was measured, on one core.

    Attributes:
        selected: a, seconds a key that is scored and the best of which are kept, besides its D products.
        compared: a', the same where scores are only compared with a threshold.
        multiplied: b, seconds a component of an 8-bit product.
        reranked: c, seconds a component of a float32 product with a candidate.
        merged: d, seconds an entry of a partial list.
        reduced: e, seconds an ordered pair in a reducer.
        probes: p, lists that an inverted file asks to meet 95% of a query's neighbours.
    """

    selected: float
    compared: float
    multiplied: float
    reranked: float
    merged: float
    reduced: float
    probes: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Workload:
    """What is to be paired, and with what.

    Attributes:
        documents, dimension, k: N, D and k.
        cores: of all machines.
        memory_per_worker: GiB for a shard.
    """

    documents: int
    dimension: int = 1024
    k: int = 200
    cores: int = 1000
    memory_per_worker: float = 8.0

    def __post_init__(self) -> None:
        require(self.documents >= 2, "documents", self.documents, "at least 2")
        require(self.dimension >= 1, "dimension", self.dimension, "at least 1")
        require(1 <= self.k < self.documents, "k", self.k, "at least 1, below the number of documents")
        require(self.cores >= 1, "cores", self.cores, "at least 1")
        is_finite = 0 < self.memory_per_worker < math.inf
        require(is_finite, "memory_per_worker", self.memory_per_worker, "above 0 GiB")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairingPlan:
    """A plan's figures, each by its formula: bytes, keys, or seconds of one core.

    Attributes:
        work: what is planned.
        constants: what was measured.

    Raises:
        ConfigError: the memory isn't enough for one key.
    """

    work: Workload
    constants: Constants

    def __post_init__(self) -> None:
        needed = (self.block_bytes + self.bytes_per_key) / GIB
        memory = self.work.memory_per_worker
        require(memory >= needed, "memory_per_worker", memory, f"at least {needed:.3f} GiB")

    @property
    def bytes_per_code(self) -> int:
        """D + 4: a byte a component and a scale, which are what is searched."""
        return self.work.dimension + SCALE

    @property
    def bytes_per_key(self) -> int:
        """D + 4 + 4·D: with float32, by which candidates are ranked again."""
        return self.bytes_per_code + FLOAT * self.work.dimension

    @property
    def block_bytes(self) -> int:
        """2 · 32,768 · (4·D + 8 + 8·k): two blocks of queries, and the answers to them."""
        query = FLOAT * self.work.dimension + ID
        return IN_FLIGHT * QUERIES_AT_ONCE * (query + PACKED * self.work.k)

    @property
    def shards(self) -> int:
        """S = max(cores, ⌈N / ⌊(memory − blocks) / bytes a key⌋⌉), at most N."""
        free = self.work.memory_per_worker * GIB - self.block_bytes
        by_memory = -(-self.work.documents // int(free // self.bytes_per_key))
        return min(self.work.documents, max(self.work.cores, by_memory))

    @property
    def keys_per_shard(self) -> int:
        """n = ⌈N / S⌉."""
        return -(-self.work.documents // self.shards)

    @property
    def code_bytes(self) -> int:
        """N · (D + 4)."""
        return self.work.documents * self.bytes_per_code

    @property
    def key_bytes(self) -> int:
        """N · (5·D + 4)."""
        return self.work.documents * self.bytes_per_key

    @property
    def driver_bytes(self) -> int:
        """N · (4·D + 8·k): vectors and merged lists, which one process holds."""
        return self.work.documents * (FLOAT * self.work.dimension + PACKED * self.work.k)

    @property
    def lists(self) -> int:
        """L, the power of two nearest to 2·√n."""
        return number_of_lists(self.keys_per_shard)

    @property
    def probes(self) -> int:
        """p, at most L."""
        return min(self.constants.probes, self.lists)

    @property
    def offer_bytes(self) -> int:
        """2 · 32,768 · 12 · 3·k: of a block of queries, by list and by query.

        Three times as many lists are asked as before: of their keys, which are further away, 3·k at most beat
        the k-th neighbour so far, on average.
        """
        return 2 * QUERIES_AT_ONCE * (PACKED + OFFERED_TO) * (MORE_LISTS - 1) * self.work.k

    @property
    def exact_scoring(self) -> float:
        """N² · (a + b·D)."""
        return float(self.work.documents) ** 2 * self._selecting

    @property
    def exact_reranking(self) -> float:
        """N · S · min(4·k + 24, n) · c·D."""
        return self._asked * min(exact_candidates(self.work.k), self.keys_per_shard) * self._reranking

    @property
    def making_lists(self) -> float:
        """S · (n · L + 200 · L²) · (a + b·D): every key's list, and five rounds with 40 keys a list."""
        fitted = ROUNDS * SAMPLED_ROWS_PER_LIST * self.lists**2
        return self.shards * (self.keys_per_shard * self.lists + float(fitted)) * self._selecting

    @property
    def choosing_lists(self) -> float:
        """N · S · L · (a + b·D)."""
        return self._asked * self.lists * self._selecting

    @property
    def scoring_lists(self) -> float:
        """N · S · p · n / L · (a' + b·D)."""
        keys = self.probes * self.keys_per_shard / self.lists
        return self._asked * keys * (self.constants.compared + self._multiplying)

    @property
    def inverted_reranking(self) -> float:
        """N · S · min(1.5·k + 4, n) · c·D."""
        return self._asked * min(inverted_candidates(self.work.k), self.keys_per_shard) * self._reranking

    @property
    def merging(self) -> float:
        """N · S · k · d."""
        return self._asked * self.work.k * self.constants.merged

    @property
    def reducing(self) -> float:
        """2 · N · k · e."""
        return self.pairs * self.constants.reduced

    @property
    def exact(self) -> float:
        """All of exact search."""
        return self.exact_scoring + self.exact_reranking + self.merging + self.reducing

    @property
    def inverted(self) -> float:
        """All of a search with an inverted file in each shard."""
        lists = self.making_lists + self.choosing_lists + self.scoring_lists + self.inverted_reranking
        return lists + self.merging + self.reducing

    @property
    def pairs(self) -> int:
        """2 · N · k: neighbours in both orders, the most that there can be above α."""
        return 2 * self.work.documents * self.work.k

    @property
    def key_traffic(self) -> int:
        """N · 4·D, once."""
        return self.work.documents * FLOAT * self.work.dimension

    @property
    def query_traffic(self) -> int:
        """N · S · (4·D + 8)."""
        return self.work.documents * self.shards * (FLOAT * self.work.dimension + ID)

    @property
    def list_traffic(self) -> int:
        """N · S · min(k, n) · 8."""
        return self.work.documents * self.shards * min(self.work.k, self.keys_per_shard) * PACKED

    @property
    def pair_traffic(self) -> int:
        """2 · N · k · 20: two ids and a similarity."""
        return self.pairs * EDGE

    @property
    def traffic(self) -> int:
        """All four."""
        return self.key_traffic + self.query_traffic + self.list_traffic + self.pair_traffic

    @property
    def _asked(self) -> float:
        return float(self.work.documents) * self.shards

    @property
    def _multiplying(self) -> float:
        return self.constants.multiplied * self.work.dimension

    @property
    def _selecting(self) -> float:
        return self.constants.selected + self._multiplying

    @property
    def _reranking(self) -> float:
        return self.constants.reranked * self.work.dimension
