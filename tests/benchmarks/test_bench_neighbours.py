"""Speed of nearest neighbours beside others' on the same vectors, 2 threads: `make bench`.

Build and query together, at a recall@10 of at least 0.95. Each peer's effort at query time is the first of
a ladder that reaches it, found beforehand and not timed.
`SBP_BENCH_ROWS` sets the number of rows (200,000), `SBP_BENCH_EMBEDDER` what embeds the passages: lsa, or
minilm, which takes an hour, and `SBP_BENCH_PEERS` the peers, by name, with commas between. The passages'
embeddings are kept in pytest's cache.
"""

import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from side_by_side import Report, SideBySide
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from sbp_bayes.base.errors import SbpError
from sbp_bayes.corpus.packaged import read_packaged
from sbp_bayes.pairing import MiniLmEmbedder, find_neighbours
from sbp_bayes.pairing.neighbours import unit_rows
from sbp_bayes.pairing.search.exact import exact_neighbours

ROWS = int(os.environ.get("SBP_BENCH_ROWS", "200000"))
EMBEDDER = os.environ.get("SBP_BENCH_EMBEDDER", "lsa")
EXACT_ROWS = min(ROWS, 50_000)
WIDTH, K, RECALL, THREADS, ROUNDS = 384, 10, 0.95, 2, 3
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
    benchmark.group = f"{benchmark.group}: {request.node.callspec.params['vectors']}"


def gaussian_clusters(num_clusters: int) -> np.ndarray:
    generator = np.random.default_rng(num_clusters)
    centres = generator.normal(size=(num_clusters, WIDTH)).astype(np.float32)
    noise = generator.normal(size=(ROWS, WIDTH)).astype(np.float32)
    return unit_rows(centres[generator.integers(num_clusters, size=ROWS)] + np.float32(0.6) * noise)


def passages(folder: Path) -> np.ndarray:
    path = folder / f"{EMBEDDER}-{ROWS}.npy"
    if not path.exists():
        try:
            texts = [text for name in CORPORA for d in read_packaged(name) for text in passages_of(d.text)]
            chosen = np.random.default_rng(0).permutation(len(texts))[:ROWS]
            embed = MiniLmEmbedder().embed_texts if EMBEDDER == "minilm" else latent_semantic_analysis
            np.save(path, embed([texts[row] for row in chosen]))
        except SbpError as error:
            pytest.skip(str(error))
    return unit_rows(np.load(path))


def latent_semantic_analysis(texts: list[str]) -> np.ndarray:
    """As `LsaEmbedder`, whose singular vectors are exact and take longer, fitted on a tenth of the texts."""
    words = TfidfVectorizer(sublinear_tf=True, min_df=2, max_df=0.5, dtype=np.float32).fit(texts)
    svd = TruncatedSVD(WIDTH, n_iter=2, random_state=0).fit(words.transform(texts[: len(texts) // 10]))
    vectors = svd.transform(words.transform(texts)).astype(np.float32)
    vectors[~vectors.any(axis=1)] = 1  # of words that no other passage has
    return vectors


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


CHOSEN_PEERS = os.environ.get("SBP_BENCH_PEERS", ",".join(PEERS)).split(",")
EFFORTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64)


def tried(
    peer: str, vectors: np.ndarray, truth: tuple[np.ndarray, np.ndarray]
) -> tuple[float, Callable[[], float] | None]:
    """Return the seconds that `peer` takes for build and query at the least effort that reaches the recall.

    And the same as a road; without one where no effort does.
    """
    build, kind = PEERS[peer]
    build(vectors[:1000], kind)(np.arange(10), 1)  # compiles what is compiled at first
    start = time.perf_counter()
    query = build(vectors, kind)
    built = time.perf_counter() - start
    reached = ((effort, recall(query(truth[0], effort), *truth)) for effort in EFFORTS)
    effort = next((effort for effort, share in reached if share >= RECALL), None)
    if effort is None:
        return math.inf, None
    everything = np.arange(len(vectors))

    def road() -> float:
        build(vectors, kind)(everything, effort)
        return float(len(vectors))

    start = time.perf_counter()
    query(everything, effort)
    return built + time.perf_counter() - start, road


@pytest.mark.benchmark(group=f"k-NN graph of {ROWS:,} × {WIDTH}, k = {K}, recall ≥ {RECALL}")
def test_graph(
    benchmark: BenchmarkFixture, capsys: pytest.CaptureFixture[str], vectors: np.ndarray, truth: Any
) -> None:
    """Every chosen peer once, then the fastest in turn with ours."""
    report, found = Report(benchmark, capsys), []

    def here() -> float:
        found[:] = [find_neighbours(vectors, K, "inverted", min_recall=RECALL)]
        return float(len(vectors))

    here()
    (ids, _), search = found[0]
    share, reached = search.bytes_per_vector / vectors[0].nbytes, recall(ids[truth[0]], *truth)
    report.say(f"  sbp_bayes: recall {reached:.3f}, {search.effort} lists, {share:.3f} of float32's bytes")
    tries = {}
    for peer in CHOSEN_PEERS:
        tries[peer] = seconds, road = tried(peer, vectors, truth)
        report.say(f"  {peer}: {f'{seconds:.1f} s' if road else f'recall below {RECALL}'}")
    fastest = min(tries, key=lambda peer: tries[peer][0])
    road = tries[fastest][1]
    assert road is not None, f"no peer reaches a recall of {RECALL}"
    timed = SideBySide({"sbp_bayes": here, fastest: road})
    timed.run(benchmark, ROUNDS)
    report.speeds(timed, "rows/s")
    report.bar(f"times {fastest}", timed.ratio("sbp_bayes", fastest), 1.5)
    assert reached >= RECALL
    assert share <= 0.3


@pytest.mark.benchmark(group=f"exact neighbours of {EXACT_ROWS:,} × {WIDTH}, k = {K}")
def test_exact(benchmark: BenchmarkFixture, capsys: pytest.CaptureFixture[str], vectors: np.ndarray) -> None:
    faiss = pytest.importorskip("faiss")
    faiss.omp_set_num_threads(THREADS)
    report, some, results = Report(benchmark, capsys), vectors[:EXACT_ROWS], {}
    index = faiss.IndexFlatIP(WIDTH)
    index.add(some)

    def here() -> float:
        results["here"] = find_neighbours(some, K, "exact")[0][1]
        return float(len(some))

    def there() -> float:
        results["there"] = index.search(some, K + 1)[0][:, 1:]
        return float(len(some))

    roads = SideBySide({"sbp_bayes": here, "faiss IndexFlatIP": there})
    roads.run(benchmark, ROUNDS)
    np.testing.assert_allclose(results["here"], results["there"], atol=1e-5)
    report.speeds(roads, "rows/s")
    report.bar("times faiss IndexFlatIP", roads.ratio("sbp_bayes", "faiss IndexFlatIP"), 1.0)
