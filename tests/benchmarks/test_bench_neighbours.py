"""Speed of nearest neighbours beside others' on the same vectors, 2 threads: `make bench`.

Each group's table has the ratios: build and query together, at a recall@10 of at least 0.95. Each peer's
effort at query time is the first of a ladder that reaches it, found beforehand and not timed.
`SBP_BENCH_ROWS` sets the number of rows (200,000). The passages' embeddings are kept in pytest's cache: the
first run takes minutes more.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from sbp_bayes.base.errors import SbpError
from sbp_bayes.corpus.packaged import read_packaged
from sbp_bayes.pairing import MiniLmEmbedder, find_neighbours
from sbp_bayes.pairing.exact import exact_neighbours
from sbp_bayes.pairing.index import unit_rows

ROWS = int(os.environ.get("SBP_BENCH_ROWS", "200000"))
EXACT_ROWS = min(ROWS, 50_000)
WIDTH, K, RECALL, THREADS = 384, 10, 0.95, 2
CORPORA = ("wikipedia", "factbook", "cookbook", "docstrings")
PASSAGE_WORDS = (48, 16)
"""Words of a passage, and from one's start to the next one's."""

Query = Callable[[np.ndarray, int], np.ndarray]
"""Row numbers and effort → ids of K + 1 neighbours, the row itself among them."""


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def group_of_vectors(benchmark: BenchmarkFixture, request: pytest.FixtureRequest) -> None:
    """One table for each kind of vectors."""
    benchmark.group = f"{benchmark.group}: {request.node.callspec.params['vectors']}"


def gaussian_clusters(num_clusters: int) -> np.ndarray:
    generator = np.random.default_rng(num_clusters)
    centres = generator.normal(size=(num_clusters, WIDTH)).astype(np.float32)
    noise = generator.normal(size=(ROWS, WIDTH)).astype(np.float32)
    return unit_rows(centres[generator.integers(num_clusters, size=ROWS)] + np.float32(0.6) * noise)


def passages(folder: Path) -> np.ndarray:
    path = folder / f"{ROWS}.npy"
    if not path.exists():
        try:
            texts = [text for name in CORPORA for d in read_packaged(name) for text in passages_of(d.text)]
            embedder = MiniLmEmbedder()
        except SbpError as error:
            pytest.skip(str(error))
        chosen = np.random.default_rng(0).permutation(len(texts))[:ROWS]
        np.save(path, embedder.embed_texts([texts[row] for row in chosen]))
    return unit_rows(np.load(path))


def passages_of(text: str) -> Iterator[str]:
    words, (length, step) = text.split(), PASSAGE_WORDS
    for start in range(0, max(1, len(words) - length + step), step):
        yield " ".join(words[start : start + length])


@pytest.fixture(scope="module", params=["1,000 clusters", "60 clusters", "passages"])
def vectors(request: pytest.FixtureRequest) -> np.ndarray:
    if request.param == "passages":
        return passages(Path(request.config.cache.mkdir("neighbours")))
    return gaussian_clusters(int(request.param.split()[0].replace(",", "")))


@pytest.fixture(scope="module")
def truth(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rows = np.unique(np.linspace(0, len(vectors) - 1, 1000).astype(np.int64))
    return rows, exact_neighbours(vectors, K, rows)[0]


def recall(ids: np.ndarray, rows: np.ndarray, true: np.ndarray) -> float:
    others = (set(found[found != row][:K].tolist()) for found, row in zip(ids, rows, strict=True))
    return float(np.mean([len(found & set(wanted)) / K for found, wanted in zip(others, true, strict=True)]))


def faiss_index(vectors: np.ndarray, kind: str) -> Query:
    faiss = pytest.importorskip("faiss")
    faiss.omp_set_num_threads(THREADS)
    product, eight_bits = faiss.METRIC_INNER_PRODUCT, faiss.ScalarQuantizer.QT_8bit
    if kind == "IVF-SQ8":
        lists = int(2 ** np.round(np.log2(len(vectors)) / 2 + 0.5))
        centres = faiss.IndexFlatIP(WIDTH)
        index = faiss.IndexIVFScalarQuantizer(centres, WIDTH, lists, eight_bits, product)
        index.cp.niter, index.cp.max_points_per_centroid = 5, 40
    else:
        index = faiss.IndexHNSWFlat(WIDTH, 16, product)
        if kind == "HNSW-SQ8":
            index = faiss.IndexHNSWSQ(WIDTH, eight_bits, 16, product)
        index.hnsw.efConstruction = 64
    index.train(vectors)
    index.add(vectors)

    def query(rows: np.ndarray, effort: int) -> np.ndarray:
        if kind == "IVF-SQ8":
            index.nprobe = effort
        else:
            index.hnsw.efSearch = 16 * effort
        return index.search(vectors[rows], K + 1)[1]

    return query


def usearch_index(vectors: np.ndarray, dtype: str) -> Query:
    usearch = pytest.importorskip("usearch.index")
    index = usearch.Index(ndim=WIDTH, metric="cos", dtype=dtype, connectivity=16, expansion_add=64)
    index.add(np.arange(len(vectors)), vectors, threads=THREADS)

    def query(rows: np.ndarray, effort: int) -> np.ndarray:
        index.expansion_search = 16 * effort
        return index.search(vectors[rows], K + 1, threads=THREADS).keys.astype(np.int64)

    return query


def pynndescent_graph(vectors: np.ndarray, _: str) -> Query:
    pynndescent = pytest.importorskip("pynndescent")
    pynndescent.NNDescent(vectors[:1000], metric="dot", n_neighbors=K + 1, n_jobs=THREADS)  # compiles

    def query(rows: np.ndarray, effort: int) -> np.ndarray:
        width = K + 1 + 4 * (effort - 1)
        graph = pynndescent.NNDescent(
            vectors, metric="dot", n_neighbors=width, n_jobs=THREADS, random_state=0, compressed=False
        )
        return graph.neighbor_graph[0][rows]

    return query


PEERS: dict[str, tuple[Callable[[np.ndarray, str], Query], str]] = {
    "faiss IVF-SQ8": (faiss_index, "IVF-SQ8"),
    "faiss HNSW": (faiss_index, "HNSW"),
    "faiss HNSW-SQ8": (faiss_index, "HNSW-SQ8"),
    "usearch bf16": (usearch_index, "bf16"),
    "usearch i8": (usearch_index, "i8"),
    "pynndescent": (pynndescent_graph, ""),
}


@pytest.mark.benchmark(group=f"k-NN graph of {ROWS:,} × {WIDTH}, k = {K}, recall ≥ {RECALL}")
class TestGraph:
    def test_graph_here(self, benchmark: BenchmarkFixture, vectors: np.ndarray, truth: Any) -> None:
        (ids, _), report = benchmark.pedantic(
            find_neighbours,
            args=(vectors, K, "inverted"),
            kwargs={"min_recall": RECALL},
            rounds=3,
            warmup_rounds=1,
        )
        share = report.bytes_per_vector / vectors[0].nbytes
        found = recall(ids[truth[0]], *truth)
        benchmark.extra_info.update(recall=found, effort=report.effort, share_of_float32_bytes=share)
        assert found >= RECALL
        assert share <= 0.3

    @pytest.mark.parametrize("peer", PEERS)
    def test_graph_peer(
        self, benchmark: BenchmarkFixture, vectors: np.ndarray, truth: Any, peer: str
    ) -> None:
        build, kind = PEERS[peer]
        query = build(vectors, kind)
        reached = {}
        for effort in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64):
            reached[effort] = recall(query(truth[0], effort), *truth)
            if reached[effort] >= RECALL:
                break
        else:
            pytest.skip(f"{peer} reaches a recall of {max(reached.values()):.3f}")
        everything = np.arange(len(vectors))
        ids = benchmark.pedantic(lambda: build(vectors, kind)(everything, effort), rounds=1)
        benchmark.extra_info.update(recall=recall(ids[truth[0]], *truth), effort=effort)


@pytest.mark.benchmark(group=f"exact neighbours of {EXACT_ROWS:,} × {WIDTH}, k = {K}")
class TestExact:
    def test_exact_here(self, benchmark: BenchmarkFixture, vectors: np.ndarray) -> None:
        some = vectors[:EXACT_ROWS]
        benchmark.pedantic(find_neighbours, args=(some, K, "exact"), rounds=2, warmup_rounds=1)

    def test_exact_faiss(self, benchmark: BenchmarkFixture, vectors: np.ndarray) -> None:
        faiss = pytest.importorskip("faiss")
        faiss.omp_set_num_threads(THREADS)
        some = vectors[:EXACT_ROWS]
        index = faiss.IndexFlatIP(WIDTH)
        index.add(some)
        similarities, _ = benchmark.pedantic(index.search, args=(some, K + 1), rounds=2)
        np.testing.assert_allclose(find_neighbours(some, K, "exact")[0][1], similarities[:, 1:], atol=1e-5)
