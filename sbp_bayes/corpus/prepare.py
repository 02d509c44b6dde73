"""From paths to a tokenised, de-duplicated and split corpus: the stage `corpus`."""

import dataclasses
import hashlib
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sbp_bayes.base.config import fingerprint, require
from sbp_bayes.base.errors import CorpusError
from sbp_bayes.base.progress import progress
from sbp_bayes.base.seeds import numpy_generator
from sbp_bayes.base.stage import Manifest, Outcome, StageFolder, Workspace, plan_stage, run_stage
from sbp_bayes.corpus.cleaning import clean_documents
from sbp_bayes.corpus.dedup import DedupReport, deduplicate
from sbp_bayes.corpus.packaged import PREFIX, packaged_fingerprint
from sbp_bayes.corpus.reading import MAX_DOCUMENT_BYTES, RejectLog, list_files, read_documents
from sbp_bayes.corpus.records import Corpus, Document
from sbp_bayes.corpus.splits import SPLITS, split_of
from sbp_bayes.corpus.tokenizer import SMALLEST_VOCABULARY, Tokenizer, train_tokenizer

TOKENIZER, REJECTS = "tokenizer.json", "rejects.jsonl"


@dataclasses.dataclass(frozen=True, kw_only=True)
class CorpusConfig:
    """How to make a corpus.

    Attributes:
        paths: files, folders or "packaged:…" names, as `read_documents` takes them.
        vocab_size: ids of the tokenizer, at least 258.
        min_chars: shorter documents are left out.
        dedup_threshold: Jaccard similarity of word 5-grams from which documents are duplicates.
        validation_share, test_share: shares of the unique documents that are held out.
        max_bad_share: a file with a larger share of bad records stops the reading.
        max_document_bytes: longer records are rejected.
        limit_documents: read at most this many documents of each path; None reads all.
        seed: of the split and of the MinHash permutations.
    """

    paths: tuple[str, ...]
    vocab_size: int
    min_chars: int = 200
    dedup_threshold: float = 0.8
    validation_share: float = 0.03
    test_share: float = 0.03
    max_bad_share: float = 0.01
    max_document_bytes: int = MAX_DOCUMENT_BYTES
    limit_documents: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        require(len(self.paths) > 0, "paths", self.paths, "at least one path")
        least = f"at least {SMALLEST_VOCABULARY}"
        require(self.vocab_size >= SMALLEST_VOCABULARY, "vocab_size", self.vocab_size, least)
        require(self.min_chars >= 1, "min_chars", self.min_chars, "at least 1")
        require(0 < self.dedup_threshold <= 1, "dedup_threshold", self.dedup_threshold, "in (0, 1]")
        for key in ("validation_share", "test_share", "max_bad_share"):
            require(0 <= getattr(self, key) < 1, key, getattr(self, key), "in [0, 1)")
        held_out = self.validation_share + self.test_share
        require(held_out < 1, "validation_share + test_share", held_out, "below 1")
        require(self.max_document_bytes >= 1, "max_document_bytes", self.max_document_bytes, "at least 1")
        limit = self.limit_documents
        require(limit is None or limit >= 1, "limit_documents", limit, "at least 1")


def prepare_corpus(config: CorpusConfig, directory: Path | Workspace) -> Manifest:
    """Read, clean, de-duplicate, split and tokenise the documents of `config.paths` into `directory`.

    Writes `tokenizer.json` (trained on the unique pool documents alone), the corpora `pool/`,
    `validation/` and `test/`, `rejects.jsonl`, and a manifest whose counts say what became of every
    document read. A finished directory of the same plan is returned as it is.

    Raises:
        CorpusError: bad input (see `read_documents`), two documents of one id, or an empty split.
        StoreError: the directory holds another plan's output, or cannot be written.
    """
    plan = plan_stage("corpus", config, load_corpus_inputs(config), ("corpus",))
    return run_stage(plan, directory, lambda folder: _prepare(config, folder))


def load_corpus_inputs(config: CorpusConfig) -> dict[str, str]:
    """Return, for each path of `config`, a fingerprint of its files' names, sizes and contents.

    Raises:
        CorpusError: a path is missing or unreadable.
    """
    return {path: _fingerprint_of(path) for path in config.paths}


def choose_unique(pool: Corpus, num_tokens: int, seed: int) -> Corpus:
    """Return a random subset of whole documents of at most `num_tokens` tokens, EOS included.

    Documents are taken in a random order of `seed` until the next one does not fit, so a smaller
    budget's subset lies within a larger one's. They come back in the pool's order.

    Raises:
        CorpusError: the pool holds fewer than `num_tokens` tokens, or not even one document fits.
    """
    if pool.num_tokens < num_tokens:
        raise CorpusError(f"the pool holds {pool.num_tokens:,} tokens, fewer than the {num_tokens:,} needed")
    order = numpy_generator(seed, "unique").permutation(len(pool))
    count = int((pool.lengths[order] + 1).cumsum().searchsorted(num_tokens, side="right"))
    if count == 0:
        raise CorpusError(f"{num_tokens:,} tokens are fewer than the first document chosen has")
    chosen = order[:count]
    chosen.sort()
    return pool.select(chosen)


def _prepare(config: CorpusConfig, folder: StageFolder) -> Outcome:
    rejects = folder.path / REJECTS
    rejects.unlink(missing_ok=True)  # an interrupted attempt starts over
    log = RejectLog(rejects, config.max_bad_share)
    cleaned_away: Counter[str] = Counter()
    with progress("preparing the corpus", 5, "steps") as advance:
        documents = list(clean_documents(_read(config, log), config.min_chars, cleaned_away))
        _refuse_repeated_ids(documents)
        advance(1)
        kept, report = deduplicate(documents, threshold=config.dedup_threshold, seed=config.seed)
        advance(1)
        splits = _split([documents[i] for i in kept], config)
        advance(1)
        tokenizer = train_tokenizer((d.text for d in splits["pool"]), config.vocab_size)
        tokenizer.save(folder.path / TOKENIZER)
        advance(1)
        sizes = {name: _save(splits[name], tokenizer, folder.path / name) for name in SPLITS}
        advance(1)
    read = {"read": len(documents) + cleaned_away.total() + log.num_rejected}
    counts = read | _counts(log, cleaned_away, report) | {"vocab_size": tokenizer.vocab_size, "splits": sizes}
    return Outcome(counts=counts)


def _read(config: CorpusConfig, log: RejectLog) -> Iterator[Document]:
    for path in config.paths:
        documents = read_documents(path, rejects=log, max_document_bytes=config.max_document_bytes)
        yield from itertools.islice(documents, config.limit_documents)


def _refuse_repeated_ids(documents: Sequence[Document]) -> None:
    repeated = next((name for name, n in Counter(d.id for d in documents).items() if n > 1), None)
    if repeated is not None:
        raise CorpusError(f"two documents have the id {repeated!r}: give files of the same name one folder")


def _split(documents: Sequence[Document], config: CorpusConfig) -> dict[str, list[Document]]:
    shares = {"validation": config.validation_share, "test": config.test_share}
    splits: dict[str, list[Document]] = {name: [] for name in SPLITS}
    for document in documents:
        splits[split_of(document.text, shares, config.seed)].append(document)
    for name, members in splits.items():
        if not members and shares.get(name, 1) > 0:
            raise CorpusError(f"no document in the {name} split: only {len(documents)} unique documents")
    return splits


def _save(documents: Sequence[Document], tokenizer: Tokenizer, directory: Path) -> dict[str, Any]:
    corpus = Corpus.build(documents, tokenizer)
    corpus.save(directory)
    rows = zip(corpus.sources, corpus.lengths, corpus.num_bytes, strict=True)
    by_source: dict[str, Counter[str]] = {}
    for source, length, num_bytes in rows:
        size = {"documents": 1, "tokens": int(length) + 1, "bytes": int(num_bytes)}
        by_source.setdefault(source, Counter()).update(size)
    return {
        "documents": len(corpus),
        "tokens": corpus.num_tokens,
        "bytes": int(corpus.num_bytes.sum()),
        "by_source": {source: dict(size) for source, size in by_source.items()},
    }


def _counts(log: RejectLog, cleaned_away: Mapping[str, int], report: DedupReport) -> dict[str, Any]:
    return {
        "rejected": dict(log.reasons),
        "cleaned_away": dict(cleaned_away),
        "exact_duplicates": report.exact,
        "near_duplicates": report.near,
        "exact_duplicate_rate": report.exact_rate,
        "near_duplicate_rate": report.near_rate,
        "duplicate_clusters": len(report.cluster_sizes),
        "largest_cluster": max(report.cluster_sizes, default=0),
        "unique": report.num_documents - report.exact - report.near,
    }


def _fingerprint_of(path: str) -> str:
    if path.startswith(PREFIX):
        return packaged_fingerprint(path.removeprefix(PREFIX))
    root = Path(path)
    folder = root if root.is_dir() else root.parent
    return fingerprint([[f.relative_to(folder).as_posix(), *_size_and_hash(f)] for f in list_files(root)])


def _size_and_hash(path: Path) -> tuple[int, str]:
    try:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return path.stat().st_size, digest
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read ({error.strerror})") from error
