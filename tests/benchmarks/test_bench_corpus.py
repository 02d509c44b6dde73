"""Speed of de-duplication and of reading with tokenisation beside others' on the same work: `make bench`.

Each turn of one road is followed by one of the other, on 2 threads; ratios are taken turn by turn, of the
process's processor seconds, all threads together, which a busy machine changes little, and of seconds on the
clock. The corpus stage is timed at 10,000, 100,000 and 300,000 documents. SBP_BENCH=small tries the file on
little work.
"""

import contextlib
import functools
import io
import itertools
import json
import math
import multiprocessing
import os
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from dclm_shards import NAME, dclm_record, open_shard, write_shards
from planted import THRESHOLD, Planted, Removal, plant, shingles
from pytest_benchmark.fixture import BenchmarkFixture
from side_by_side import IS_SMALL, Report, SideBySide, Spread

from sbp_bayes.base.errors import CorpusError
from sbp_bayes.base.progress import use_display
from sbp_bayes.corpus import Tokenizer, clean_text, deduplicate, read_documents, train_tokenizer

ROUNDS = 1 if IS_SMALL else 3
BANDS, ROWS = 25, 5
PACKAGED = ("packaged:wikipedia", "packaged:factbook", "packaged:cookbook")
SIZES = (300, 1000, 3000) if IS_SMALL else (10_000, 100_000, 300_000)


class Silent:
    def open(self, *arguments: Any) -> None: ...
    def advance(self, *arguments: Any) -> None: ...
    def close(self, *arguments: Any) -> None: ...


@pytest.fixture(autouse=True)
def _silent() -> Iterator[None]:
    use_display(Silent())
    yield
    use_display(None)


@pytest.fixture(scope="module")
def real_texts() -> list[str]:
    try:
        texts = [clean_text(document.text) for name in PACKAGED for document in read_documents(name)]
    except CorpusError as error:
        pytest.skip(str(error))
    texts = [text for text in texts if len(text) >= 200]
    return texts[::100] if IS_SMALL else texts


def timed(road: Callable[[], float]) -> tuple[float, float, float]:
    """Return a road's work, processor seconds and seconds."""
    clock, start = time.perf_counter(), time.process_time()
    work = road()
    return work, time.process_time() - start, time.perf_counter() - clock


class ByProcessor(SideBySide):
    """`speeds` counts processor seconds, `on_the_clock` has the speeds in seconds."""

    def __init__(self, roads: Mapping[str, Callable[[], float]]) -> None:
        super().__init__(roads)
        self.on_the_clock: dict[str, list[float]] = {name: [] for name in roads}

    def round(self) -> None:
        for name in self.roads:
            work, processor_seconds, seconds = self.turn(name)
            self.speeds[name].append(work / processor_seconds)
            self.on_the_clock[name].append(work / seconds)

    def turn(self, name: str) -> tuple[float, float, float]:
        return timed(self.roads[name])

    def compare(self, report: Report, first: str, second: str, unit: str, bar: float | None = None) -> None:
        """Report both roads' speeds, and how many times as fast the first one is."""
        report.speeds(self, f"{unit} a processor second")
        pairs = zip(self.on_the_clock[first], self.on_the_clock[second], strict=True)
        on_the_clock = Spread.of([one / other for one, other in pairs][-len(self.speeds[first]) :])
        name = f"{first} over {second}"
        if bar is None:
            report.value(name, self.ratio(first, second), "times")
        else:
            report.bar(name, self.ratio(first, second), bar)
        report.value(f"{name} by the clock", on_the_clock, "times")


class Deduplication(ByProcessor):
    """Roads from texts to {removed: kept}, timed in documents; the last round's answers are kept."""

    def __init__(self, planted: Planted, roads: dict[str, Callable[[Sequence[str]], dict[int, int]]]) -> None:
        self.planted = planted
        self.answers: dict[str, dict[int, int]] = {}
        super().__init__({name: self._road(name, remove) for name, remove in roads.items()})

    def _road(self, name: str, remove: Callable[[Sequence[str]], dict[int, int]]) -> Callable[[], float]:
        def road() -> float:
            self.answers[name] = remove(self.planted.texts)
            return len(self.planted.texts)

        return road

    def report(self, report: Report) -> dict[str, Removal]:
        removals = {name: Removal.of(self.planted, answer) for name, answer in self.answers.items()}
        report.say(f"  {len(self.planted.texts):,} documents, {len(self.planted.edited):,} of them edited")
        for name, removal in removals.items():
            report.say(f"  {name}: {removal}")
            report.benchmark.extra_info[f"{name}: removals"] = removal._asdict()
        return removals


def batched(values: Iterable[str], size: int) -> Iterator[list[str]]:
    values = iter(values)
    while block := list(itertools.islice(values, size)):
        yield block


def ours(texts: Sequence[str]) -> dict[int, int]:
    return dict(deduplicate(texts, threshold=THRESHOLD)[1].duplicate_of)


def trusting(texts: Sequence[str]) -> dict[int, int]:
    return dict(deduplicate(texts, threshold=THRESHOLD, verify=False)[1].duplicate_of)


def first_verified(
    texts: Sequence[str],
    sketches: Iterator[tuple[set[str], Any]],
    query: Callable[[Any], Sequence[int]],
    insert: Callable[[int, Any], None],
) -> dict[int, int]:
    """De-duplicate by a library's index, with our order and our verification."""
    known: dict[int, set[str]] = {}
    duplicate_of: dict[int, int] = {}
    for i, (own, sketch) in enumerate(sketches):
        for j in sorted(query(sketch)):
            if len(own & known[j]) >= THRESHOLD * len(own | known[j]):
                duplicate_of[i] = j
                break
        else:
            known[i] = own
            insert(i, sketch)
    return duplicate_of


def by_datasketch(texts: Sequence[str]) -> dict[int, int]:
    """datasketch with our bands, for equal recall.

    Shingles are hashed by zlib's CRC-32, which is 3 times as fast as its default, SHA-1.
    """
    datasketch = pytest.importorskip("datasketch")
    index = datasketch.MinHashLSH(num_perm=BANDS * ROWS, params=(BANDS, ROWS))

    def sketches() -> Iterator[tuple[set[str], Any]]:
        for text in texts:
            own, sketch = shingles(text), datasketch.MinHash(num_perm=BANDS * ROWS, hashfunc=zlib.crc32)
            sketch.update_batch([shingle.encode() for shingle in own])
            yield own, sketch

    insert = lambda i, sketch: index.insert(i, sketch, check_duplication=False)  # noqa: E731
    return first_verified(texts, sketches(), index.query, insert)


def by_rensa(texts: Sequence[str]) -> dict[int, int]:
    """rensa's own signatures and index, with our bands."""
    import rensa

    index = rensa.RMinHashLSH(THRESHOLD, BANDS * ROWS, BANDS)

    def sketches() -> Iterator[tuple[set[str], Any]]:
        for block in batched(texts, 1024):
            sets = [shingles(text) for text in block]
            yield from zip(sets, rensa.RMinHash.from_token_sets(sets, BANDS * ROWS, 0), strict=True)

    return first_verified(texts, sketches(), index.query, index.insert)


@pytest.mark.parametrize(("copies", "rounds"), [(3, ROUNDS), (10, 1)])
@pytest.mark.benchmark(group="de-duplication of copies of the packaged corpora in other words")
def test_deduplication(
    benchmark: BenchmarkFixture,
    capsys: pytest.CaptureFixture[str],
    real_texts: list[str],
    copies: int,
    rounds: int,
) -> None:
    roads = Deduplication(plant(real_texts, copies), {"here": ours, "datasketch": by_datasketch})
    benchmark.pedantic(roads.round, rounds=rounds)
    report = Report(benchmark, capsys)
    removal = roads.report(report)["here"]
    roads.compare(report, "here", "datasketch", "documents", 5)
    assert removal.recall >= 0.95
    assert removal.false <= 1e-3


@pytest.mark.benchmark(group="rensa and datasketch as libraries: signatures and index, same bands")
def test_libraries(
    benchmark: BenchmarkFixture, capsys: pytest.CaptureFixture[str], real_texts: list[str]
) -> None:
    roads = Deduplication(plant(real_texts, 1), {"rensa": by_rensa, "datasketch": by_datasketch})
    benchmark.pedantic(roads.round, rounds=ROUNDS)
    report = Report(benchmark, capsys)
    roads.report(report)
    roads.compare(report, "rensa", "datasketch", "documents")


@pytest.mark.benchmark(group="exact Jaccard similarity of the candidates, or trust in the bands")
def test_verification(
    benchmark: BenchmarkFixture, capsys: pytest.CaptureFixture[str], real_texts: list[str]
) -> None:
    roads = Deduplication(plant(real_texts, 3), {"verified": ours, "trusting": trusting})
    benchmark.pedantic(roads.round, rounds=ROUNDS)
    report = Report(benchmark, capsys)
    roads.report(report)
    roads.compare(report, "trusting", "verified", "documents")


class Shards(NamedTuple):
    """A folder of two shards of DCLM's schema, the bytes and tokens of their texts, and room to write."""

    folder: Path
    num_bytes: int
    num_tokens: int
    tokenizer: Path
    out: Path


@pytest.fixture(scope="module")
def shards(real_texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Shards:
    root = tmp_path_factory.mktemp("zst")
    for k in range(2):
        with open_shard(root / "shards" / NAME.format(1, 0, k)) as file:
            file.writelines(
                json.dumps(dclm_record(i, text)) + "\n" for i, text in enumerate(real_texts[k::2])
            )
    tokenizer = train_tokenizer(real_texts[::10], 2048)
    tokenizer.save(root / "tokenizer.json")
    (root / "out").mkdir()
    num_bytes = sum(len(text.encode()) for text in real_texts)
    num_tokens = sum(map(len, tokenizer.encode(real_texts)))
    return Shards(root / "shards", num_bytes, num_tokens, root / "tokenizer.json", root / "out")


def tokenise_here(shards: Shards) -> float:
    encoder = Tokenizer.load(shards.tokenizer)
    with open(shards.out / "tokens", "wb") as file:
        texts = (document.text for document in read_documents(shards.folder))
        for block in batched(texts, 1024):
            for ids in encoder.encode(block):
                file.write(ids.astype(np.uint16).data)
        assert file.tell() == 2 * shards.num_tokens
    return shards.num_bytes / 1e6


def tokenise_by_datatrove(shards: Shards) -> float:
    """datatrove's JsonlReader and DocumentTokenizer, without its second pass that shuffles."""
    from datatrove.pipeline import readers, tokens
    from loguru import logger

    logger.remove()
    folder = shards.out / "datatrove"
    writer = tokens.DocumentTokenizer(str(folder), str(shards.tokenizer), shuffle_documents=False)
    with contextlib.redirect_stderr(io.StringIO()):  # its progress bar
        writer.run(readers.JsonlReader(str(shards.folder)).run())
    assert sum(path.stat().st_size for path in folder.glob("*.ds")) == 2 * shards.num_tokens
    return shards.num_bytes / 1e6


class Apart(ByProcessor):
    """Each road in a process of its own: in one, what one leaves on the heap slows the other by a tenth."""

    def __init__(self, roads: Mapping[str, Callable[[], float]], processes: contextlib.ExitStack) -> None:
        super().__init__(roads)
        spawn = multiprocessing.get_context("spawn")
        pools = {name: ProcessPoolExecutor(1, mp_context=spawn) for name in roads}
        self.pools = {name: processes.enter_context(pool) for name, pool in pools.items()}

    def turn(self, name: str) -> tuple[float, float, float]:
        return self.pools[name].submit(timed, self.roads[name]).result()


@pytest.mark.benchmark(group="reading and tokenising zst shards")
def test_reading(benchmark: BenchmarkFixture, capsys: pytest.CaptureFixture[str], shards: Shards) -> None:
    pytest.importorskip("datatrove")
    works = {"here": tokenise_here, "datatrove": tokenise_by_datatrove}
    with contextlib.ExitStack() as processes:
        roads = Apart({name: functools.partial(work, shards) for name, work in works.items()}, processes)
        roads.run(benchmark, rounds=1 if IS_SMALL else 7)
    report = Report(benchmark, capsys)
    roads.compare(report, "here", "datatrove", "MB of text", 1)


GROW = """
import sys, time
from pathlib import Path
import torch  # which workers import, before the clock starts
from sbp_bayes.corpus import CorpusConfig, prepare_corpus
config = CorpusConfig(paths=(sys.argv[1],), vocab_size=1024)

def resident(name):
    (line,) = [x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(name)]
    return int(line.split()[1]) * 1024

before, start = resident("VmRSS"), time.process_time()
prepare_corpus(config, Path(sys.argv[2]), num_workers=1)
print(time.process_time() - start, resident("VmHWM") - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's count of a process's peak")
@pytest.mark.benchmark(group="growth of the corpus stage: " + ", ".join(f"{n:,}" for n in SIZES))
def test_growth(benchmark: BenchmarkFixture, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Processor seconds of one process, which a busy machine changes little, and its peak."""
    for size in SIZES:
        write_shards(tmp_path / str(size), num_documents=size, median_words=100, seed=size)
    seconds, memory = {}, {}

    def grow() -> None:
        for size in SIZES:
            command = [sys.executable, "-c", GROW, tmp_path / str(size), tmp_path / f"out{size}"]
            environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
            done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
            seconds[size], memory[size] = map(float, done.stdout.split())

    benchmark.pedantic(grow, rounds=1)
    report = Report(benchmark, capsys)
    for size in SIZES:
        report.value(f"{size:,} documents", Spread.of([1e6 * seconds[size] / size]), "µs a document")
        report.value(
            f"{size:,} documents, peak", Spread.of([memory[size] / 2**20]), "MiB over the libraries'"
        )
    first = SIZES[0]
    for size in SIZES[1:]:
        ratio = seconds[size] / size / (seconds[first] / first)
        allowed = math.log(size) / math.log(first)
        report.bar(f"time a document, {size:,} over {first:,}", Spread.of([ratio]), allowed, most=True)
    slope = (memory[SIZES[2]] - memory[SIZES[1]]) / (SIZES[2] - SIZES[1])
    report.value("memory for each further document", Spread.of([slope]), "bytes")
