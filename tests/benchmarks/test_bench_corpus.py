"""Speed of de-duplication and of reading with tokenisation beside others' on the same work: `make bench`.

Each turn of one road is followed by one of the other, on 2 threads; ratios are taken turn by turn, of the
process's processor seconds, all threads together, which a busy machine changes little, and of seconds on the
clock. The corpus stage is timed at 10,000, 100,000 and 300,000 documents. SBP_BENCH=small tries the file on
little work.
"""

import contextlib
import io
import itertools
import json
import math
import os
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from dclm_shards import NAME, dclm_record, open_shard, write_shards
from pytest_benchmark.fixture import BenchmarkFixture
from side_by_side import IS_SMALL, Report, SideBySide, Spread

from sbp_bayes.base.errors import CorpusError
from sbp_bayes.base.progress import use_display
from sbp_bayes.corpus import Tokenizer, clean_text, deduplicate, read_documents, train_tokenizer

ROUNDS = 1 if IS_SMALL else 3
THRESHOLD = 0.8
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


class Planted(NamedTuple):
    """Texts, and {position of an edited one: (position of its original, exact Jaccard similarity)}."""

    texts: list[str]
    edited: dict[int, tuple[int, float]]


def shingles(text: str) -> set[str]:
    words = text.lower().split()
    width = min(5, len(words))
    return {" ".join(words[i : i + width]) for i in range(len(words) - width + 1)}


def similarity(a: str, b: str) -> float:
    first, second = shingles(a), shingles(b)
    return len(first & second) / max(1, len(first | second))


def plant(real_texts: Sequence[str], copies: int) -> Planted:
    """Copies in other words (so that they are no duplicates), and after each copy its edited documents.

    One document in eight comes again with one word in 100 to one in 10 replaced: its similarity is
    between 0.9 and 0.4, on both sides of the threshold.
    """
    texts: list[str] = []
    edited: dict[int, tuple[int, float]] = {}
    random = np.random.default_rng(0)
    for copy in range(copies):
        start = len(texts)
        texts += [" ".join(f"{word}{copy or ''}" for word in text.split()) for text in real_texts]
        for i in range(start, start + len(real_texts), 8):
            words = texts[i].split()
            places = random.random(len(words)) < random.choice([0.01, 0.02, 0.1])
            new = " ".join(f"{w}new{k}" if places[k] else w for k, w in enumerate(words))
            edited[len(texts)] = (i, similarity(texts[i], new))
            texts.append(new)
    return Planted(texts, edited)


class Removal(NamedTuple):
    """Share of the planted duplicates that was found, and of all documents removed below the threshold."""

    recall: float
    false: float

    @classmethod
    def of(cls, planted: Planted, duplicate_of: dict[int, int]) -> "Removal":
        alike = [i for i, (_, jaccard) in planted.edited.items() if jaccard >= THRESHOLD]
        found = sum(i in duplicate_of for i in alike)
        pairs = ((planted.texts[i], planted.texts[j]) for i, j in duplicate_of.items())
        false = sum(similarity(a, b) < THRESHOLD for a, b in pairs)
        return cls(found / len(alike), false / len(planted.texts))

    def __str__(self) -> str:
        return f"recall {self.recall:.4f}, false removals {self.false:.3%}"


class ByProcessor(SideBySide):
    """`speeds` counts processor seconds, `on_the_clock` has the speeds in seconds."""

    def __init__(self, roads: Mapping[str, Callable[[], float]]) -> None:
        super().__init__(roads)
        self.on_the_clock: dict[str, list[float]] = {name: [] for name in roads}

    def round(self) -> None:
        for name, road in self.roads.items():
            clock, start = time.perf_counter(), time.process_time()
            work = road()
            self.speeds[name].append(work / (time.process_time() - start))
            self.on_the_clock[name].append(work / (time.perf_counter() - clock))

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
    """A folder of two shards of DCLM's schema, the bytes of their texts, a tokenizer, and room to write."""

    folder: Path
    num_bytes: int
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
    train_tokenizer(real_texts[::10], 2048).save(root / "tokenizer.json")
    (root / "out").mkdir()
    num_bytes = sum(len(text.encode()) for text in real_texts)
    return Shards(root / "shards", num_bytes, root / "tokenizer.json", root / "out")


def tokenise_here(shards: Shards) -> int:
    number, encoder = 0, Tokenizer.load(shards.tokenizer)
    with open(shards.out / "tokens", "wb") as file:
        texts = (document.text for document in read_documents(shards.folder))
        for block in batched(texts, 1024):
            arrays = encoder.encode(block)
            for ids in arrays:
                file.write(ids.astype(np.uint16).data)
            number += sum(map(len, arrays))
    return number


def tokenise_by_datatrove(shards: Shards) -> int:
    """datatrove's JsonlReader and DocumentTokenizer, without its second pass that shuffles."""
    readers = pytest.importorskip("datatrove.pipeline.readers")
    tokens = pytest.importorskip("datatrove.pipeline.tokens")
    from loguru import logger

    logger.remove()
    folder = shards.out / "datatrove"
    writer = tokens.DocumentTokenizer(str(folder), str(shards.tokenizer), shuffle_documents=False)
    with contextlib.redirect_stderr(io.StringIO()):  # its progress bar
        writer.run(readers.JsonlReader(str(shards.folder)).run())
    return sum(path.stat().st_size for path in folder.glob("*.ds")) // 2


@pytest.mark.benchmark(group="reading and tokenising zst shards")
def test_reading(benchmark: BenchmarkFixture, capsys: pytest.CaptureFixture[str], shards: Shards) -> None:
    numbers: dict[str, int] = {}

    def road(name: str, work: Callable[[Shards], int]) -> Callable[[], float]:
        def turn() -> float:
            numbers[name] = work(shards)
            return shards.num_bytes / 1e6

        return turn

    works = {"here": tokenise_here, "datatrove": tokenise_by_datatrove}
    roads = ByProcessor({name: road(name, work) for name, work in works.items()})
    roads.run(benchmark, rounds=1 if IS_SMALL else 7)
    assert numbers["here"] == numbers["datatrove"]
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
