"""Speed of de-duplication and of reading with tokenisation beside others' on the same work: `make bench`.

Times are the process's processor seconds, all threads together, so that a busy machine changes little; each
group's table has the ratios. SBP_BENCH_COPIES (default 10) and SBP_BENCH_DOCUMENTS (default 100,000) make a
run smaller.
"""

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import zstandard
from pytest_benchmark.fixture import BenchmarkFixture

from sbp_bayes.base.errors import CorpusError
from sbp_bayes.base.progress import use_display
from sbp_bayes.corpus import Tokenizer, clean_text, deduplicate, read_documents, train_tokenizer

COPIES = int(os.environ.get("SBP_BENCH_COPIES", "10"))
DOCUMENTS = int(os.environ.get("SBP_BENCH_DOCUMENTS", "100000"))
THRESHOLD = 0.8
PACKAGED = ("packaged:wikipedia", "packaged:factbook", "packaged:cookbook")


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
    return [text for text in texts if len(text) >= 200]


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


@pytest.fixture(scope="module")
def planted(real_texts: list[str]) -> Planted:
    """Copies in other words (so that they are no duplicates), and after each copy its edited documents.

    One document in eight comes again with one word in 100 to one in 10 replaced: its similarity is
    between 0.9 and 0.4, on both sides of the threshold.
    """
    texts: list[str] = []
    edited: dict[int, tuple[int, float]] = {}
    random = np.random.default_rng(0)
    for copy in range(COPIES):
        start = len(texts)
        texts += [" ".join(f"{word}{copy or ''}" for word in text.split()) for text in real_texts]
        for i in range(start, start + len(real_texts), 8):
            words = texts[i].split()
            places = random.random(len(words)) < random.choice([0.01, 0.02, 0.1])
            new = " ".join(f"{w}new{k}" if places[k] else w for k, w in enumerate(words))
            edited[len(texts)] = (i, similarity(texts[i], new))
            texts.append(new)
    return Planted(texts, edited)


def check(planted: Planted, duplicate_of: dict[int, int]) -> dict[str, float]:
    """Return recall and false removals; a document removed at exact similarity below 0.8 is a false one."""
    alike = [i for i, (_, jaccard) in planted.edited.items() if jaccard >= THRESHOLD]
    recall = np.mean([i in duplicate_of for i in alike])
    pairs = ((planted.texts[i], planted.texts[j]) for i, j in duplicate_of.items())
    false = sum(similarity(a, b) < THRESHOLD for a, b in pairs)
    assert recall >= 0.95
    assert false <= 1e-3 * len(planted.texts)
    return {"recall": float(recall), "false_removals": false / len(planted.texts)}


@pytest.mark.benchmark(group=f"de-duplication of the packaged corpora × {COPIES}", timer=time.process_time)
class TestDeduplication:
    def test_dedup_here(self, benchmark: BenchmarkFixture, planted: Planted) -> None:
        _, report = benchmark.pedantic(deduplicate, args=(planted.texts,), rounds=1)
        note(benchmark, planted, dict(report.duplicate_of))

    def test_dedup_datasketch(self, benchmark: BenchmarkFixture, planted: Planted) -> None:
        """datasketch with our bands, for equal recall, and our verification, for equally few false removals.

        Shingles are hashed by zlib's CRC-32, which is 3 times as fast as its default, SHA-1.
        """
        import zlib

        datasketch = pytest.importorskip("datasketch")

        def remove() -> dict[int, int]:
            index = datasketch.MinHashLSH(num_perm=128, params=(25, 5))
            known: dict[int, set[str]] = {}
            duplicate_of: dict[int, int] = {}
            for i, text in enumerate(planted.texts):
                own = shingles(text)
                sketch = datasketch.MinHash(num_perm=128, hashfunc=zlib.crc32)
                sketch.update_batch([shingle.encode() for shingle in own])
                for j in sorted(index.query(sketch)):
                    if len(own & known[j]) >= THRESHOLD * len(own | known[j]):
                        duplicate_of[i] = j
                        break
                else:
                    known[i] = own
                    index.insert(i, sketch, check_duplication=False)
            return duplicate_of

        note(benchmark, planted, benchmark.pedantic(remove, rounds=1))


def note(benchmark: BenchmarkFixture, planted: Planted, duplicate_of: dict[int, int]) -> None:
    speed = len(planted.texts) / benchmark.stats.stats.min
    benchmark.extra_info.update(check(planted, duplicate_of), documents_per_second=speed)


@pytest.fixture(scope="module")
def zst(real_texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A folder of two shards of DCLM's schema, and the bytes of their texts."""
    folder = tmp_path_factory.mktemp("zst")
    for k in range(2):
        lines = (json.dumps(dclm_record(i, text)) for i, text in enumerate(real_texts[k::2]))
        write_zst(folder / f"shard_0000000{k}_processed.jsonl.zst", lines)
    return folder, sum(len(text.encode()) for text in real_texts)


@pytest.fixture(scope="module")
def tokenizer(real_texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    train_tokenizer(real_texts[::10], 2048).save(path)
    return path


def dclm_record(i: int, text: str) -> dict[str, Any]:
    metadata = {"WARC-Type": "response", "WARC-Target-URI": f"http://example.org/{i}", "WARC-Truncated": None}
    scores = {"language_id_whole_page_fasttext": {"en": 0.94}, "previous_word_count": len(text) // 6}
    return {"text": text, "url": f"http://example.org/{i}", "metadata": metadata, **scores}


def write_zst(path: Path, lines: Iterator[str]) -> None:
    with zstandard.open(path, "wt", encoding="utf-8") as file:
        file.writelines(line + "\n" for line in lines)


@pytest.mark.benchmark(group="reading and tokenising zst shards", timer=time.process_time)
class TestReading:
    def test_tokenise_here(
        self, benchmark: BenchmarkFixture, zst: tuple[Path, int], tokenizer: Path, tmp_path: Path
    ) -> None:
        def work() -> int:
            number, encoder = 0, Tokenizer.load(tokenizer)
            with open(tmp_path / "tokens", "wb") as file:
                block: list[str] = []
                for document in read_documents(zst[0]):
                    block.append(document.text)
                    if len(block) == 1024:
                        number += write_tokens(file, encoder, block)
                        block = []
                return number + write_tokens(file, encoder, block)

        number = benchmark.pedantic(work, rounds=3)
        assert number * 2 == (tmp_path / "tokens").stat().st_size
        benchmark.extra_info.update(mb_per_second=zst[1] / 1e6 / benchmark.stats.stats.min, tokens=number)

    def test_tokenise_datatrove(
        self, benchmark: BenchmarkFixture, zst: tuple[Path, int], tokenizer: Path, tmp_path: Path
    ) -> None:
        """datatrove's JsonlReader and DocumentTokenizer, without its second pass that shuffles."""
        readers = pytest.importorskip("datatrove.pipeline.readers")
        tokens = pytest.importorskip("datatrove.pipeline.tokens")
        from loguru import logger

        logger.remove()

        def work() -> int:
            reader = readers.JsonlReader(str(zst[0]))
            writer = tokens.DocumentTokenizer(str(tmp_path), str(tokenizer), shuffle_documents=False)
            writer.run(reader.run())
            return sum(path.stat().st_size for path in tmp_path.glob("*.ds")) // 2

        number = benchmark.pedantic(work, rounds=3)
        encoder = Tokenizer.load(tokenizer)
        texts = [document.text for document in read_documents(zst[0])]
        assert number == sum(len(ids) for ids in encoder.encode(texts))
        benchmark.extra_info.update(mb_per_second=zst[1] / 1e6 / benchmark.stats.stats.min, tokens=number)


def write_tokens(file: Any, encoder: Tokenizer, block: list[str]) -> int:
    arrays = encoder.encode(block)
    for ids in arrays:
        file.write(ids.astype(np.uint16).data)
    return sum(map(len, arrays))


GROW = """
import sys, time
from pathlib import Path
import torch  # which workers import, before the clock starts
from sbp_bayes.corpus import CorpusConfig, prepare_corpus
config = CorpusConfig(paths=(sys.argv[1],), vocab_size=1024)
start = time.process_time()
prepare_corpus(config, Path(sys.argv[2]), num_workers=1)
seconds = time.process_time() - start
(line,) = (x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM"))
print(seconds, int(line.split()[1]) / 1024)
"""


@pytest.mark.benchmark(group="growth: the corpus stage from a tenth of the documents to all")
def test_growth(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    """Time a document grows at most like log n; memory stays flat. Processor seconds, one process."""
    words = [f"{a}{b}" for a in "bcdfghklmnprst" for b in ("a", "en", "ion", "or", "um", "ist", "al", "er")]
    seconds, memory = {}, {}
    sizes = (DOCUMENTS // 10, DOCUMENTS)
    for size in sizes:
        random = np.random.default_rng(size)
        for k in range(10):
            draws = (random.integers(len(words), size=150) for _ in range(size // 10))
            lines = (json.dumps(dclm_record(i, " ".join(words[j] for j in d))) for i, d in enumerate(draws))
            folder = tmp_path / str(size)
            folder.mkdir(exist_ok=True)
            write_zst(folder / f"shard_0000000{k}_processed.jsonl.zst", lines)

    def grow(size: int) -> None:
        command = [sys.executable, "-c", GROW, tmp_path / str(size), tmp_path / f"out{size}"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        seconds[size], memory[size] = map(float, done.stdout.split())

    grow(sizes[0])
    benchmark.pedantic(grow, args=(sizes[1],), rounds=1)
    ratio = seconds[sizes[1]] / seconds[sizes[0]] / 10
    benchmark.extra_info.update(
        time_per_document_ratio=ratio,
        allowed_ratio=math.log(sizes[1]) / math.log(sizes[0]),
        mebibytes=list(memory.values()),
        seconds=list(seconds.values()),
    )
    assert memory[sizes[1]] < 1024
