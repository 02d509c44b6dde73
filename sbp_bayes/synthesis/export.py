"""A synthetic corpus and its pairs as a data set for others: parquet and JSON lines, and a card.

Hugging Face's `datasets` reads the folder by the card's front matter, and every line has the `id` and the
`text` that datatrove's readers ask for.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sbp_bayes.base.arrays import ArrayRecord
from sbp_bayes.base.config import require, require_one_of
from sbp_bayes.base.errors import CorpusError
from sbp_bayes.base.progress import progress
from sbp_bayes.base.stage import Manifest, Outcome, Place, StageFolder, plan_stage, run_stage
from sbp_bayes.base.store import atomic_path, write_text
from sbp_bayes.corpus import Corpus
from sbp_bayes.corpus.json_lines import write_json_lines
from sbp_bayes.pairing import PairSet
from sbp_bayes.synthesis.card import README, Quality, data_card
from sbp_bayes.synthesis.collect import CORPUS

SYNTHETIC, PAIRS = "synthetic", "pairs"
"""The two tables: folders, and configurations of the data set."""

FORMATS = ("parquet", "jsonl.zst")

Columns = Mapping[str, str]
"""Name of each column → its type in Arrow."""

COLUMNS: Mapping[str, Columns] = {
    SYNTHETIC: {
        "id": "string",
        "text": "string",
        "seed_document": "string",
        "sample": "int64",
        "model": "string",
        "similarity": "float32",
        "num_tokens": "int64",
        "complete": "bool",
    },
    PAIRS: {
        "id": "string",
        "text": "string",
        "document": "string",
        "seed_document": "string",
        "seed_text": "string",
        "similarity": "float32",
    },
}

Similarity = Callable[[Corpus, np.ndarray], np.ndarray]
"""Documents (N) and the row of each one's seed document → the cosine of each with its own, float32 (N,)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """How a data set is written.

    Attributes:
        license: identifier of its licence, as the Hugging Face hub spells it.
        formats: of the tables, some of `FORMATS`; the card names the first one to `datasets`.
        file_bytes: UTF-8 bytes of text in a file, but for its last document.
    """

    license: str = "unknown"
    formats: tuple[str, ...] = FORMATS
    file_bytes: int = 256 << 20

    def __post_init__(self) -> None:
        for name in self.formats:
            require_one_of("formats", name, FORMATS)
        require(len(set(self.formats)) == len(self.formats) > 0, "formats", self.formats, "each at most once")
        require(self.file_bytes >= 1, "file_bytes", self.file_bytes, "at least 1")
        words = self.license.replace("-", "").replace(".", "")
        require(words.isalnum(), "license", self.license, "an identifier such as cc-by-sa-4.0")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RealPairs:
    """The pairs that taught the synthesizer, and what is known by them.

    Attributes:
        pairs: of `unique`'s documents.
        unique: the real documents, among them all seed documents.
        similarity: by the embedder that found the pairs, of samples and their seed documents.
        quality: measures of synthetic and of real text.
        inputs: of the similarity and the quality, as fingerprints by name.
    """

    pairs: PairSet
    unique: Corpus
    similarity: Similarity
    quality: Quality
    inputs: Mapping[str, str] = dataclasses.field(default_factory=dict)


def export_data(
    config: ExportConfig, samples: Manifest, directory: Place, *, real: RealPairs | None = None
) -> Manifest:
    """Write a synthetic corpus, and the pairs behind it where they are given, as a data set.

    Args:
        config: licence and formats.
        samples: the synthesis.
        directory: receives `synthetic/`, `pairs/` and README.md, the card.
        real: the pairs, by which rows get a similarity and the card gets a table of quality.

    Raises:
        CorpusError: pairs of other documents than the seed documents.
        StoreError: `directory` holds another plan's output, or the disk is full.
    """
    inputs = {"synthesis": samples.fingerprint}
    if real is not None:
        inputs |= {"pairs": real.pairs.fingerprint, **real.inputs}
        if samples.inputs["corpus"] != real.unique.fingerprint:
            raise CorpusError(
                f"{samples.directory}: its samples have no seed documents, or others than were paired"
            )
    plan = plan_stage("export-data", config, inputs, __name__)

    def write(folder: StageFolder) -> Outcome:
        synthetic = Corpus.load(samples.directory / CORPUS)
        tables = [_synthetic_table(synthetic, samples, real)]
        if real is not None:
            tables.append(_pairs_table(real))
        with progress("exporting", sum(len(table.sizes) for table in tables), "rows") as advance:
            files = sum(_write_table(table, config, folder, advance) for table in tables)
        rows = {table.name: len(table.sizes) for table in tables}
        quality = None if real is None else real.quality
        write_text(folder.path / README, data_card(config.license, config.formats[0], rows, samples, quality))
        return Outcome(counts={"rows": rows, "files": files})

    return run_stage(plan, directory, write)


@dataclasses.dataclass(frozen=True, eq=False)
class _Table(ArrayRecord):
    """Rows that are made where they are written.

    Attributes:
        name: of the table.
        sizes: bytes of each row's text, int64 (rows,).
        rows: returns the rows of some numbers, int64.
    """

    name: str
    sizes: np.ndarray
    rows: Callable[[np.ndarray], Sequence[Mapping[str, Any]]]


def _synthetic_table(synthetic: Corpus, samples: Manifest, real: RealPairs | None) -> _Table:
    def rows(numbers: np.ndarray) -> list[dict[str, Any]]:
        part = synthetic.select(numbers)
        similarity: Sequence[float | None] = [None] * len(part)
        if real is not None:
            seeds = np.array([metadata["seed_index"] for metadata in part.metadata], np.int64)
            similarity = real.similarity(part, seeds).tolist()
        return [
            {
                "id": part.ids[i],
                "text": part.texts[i],
                "seed_document": part.metadata[i].get("seed_document"),
                "sample": part.metadata[i]["sample"],
                "model": samples.inputs["model"],
                "similarity": similarity[i],
                "num_tokens": int(part.lengths[i]),
                "complete": bool(part.complete[i]),
            }
            for i in range(len(part))
        ]

    return _Table(SYNTHETIC, synthetic.num_bytes, rows)


def _pairs_table(real: RealPairs) -> _Table:
    pairs, unique = real.pairs, real.unique

    def rows(numbers: np.ndarray) -> list[dict[str, Any]]:
        found = []
        for number in numbers.tolist():
            first, second = int(pairs.first[number]), int(pairs.second[number])
            found.append(
                {
                    "id": f"pair:{number}",
                    "text": unique.texts[second],
                    "document": unique.ids[second],
                    "seed_document": unique.ids[first],
                    "seed_text": unique.texts[first],
                    "similarity": float(pairs.similarity[number]),
                }
            )
        return found

    return _Table(PAIRS, unique.num_bytes[pairs.first] + unique.num_bytes[pairs.second], rows)


def _write_table(
    table: _Table, config: ExportConfig, folder: StageFolder, advance: Callable[[int], None]
) -> int:
    """Write the files that are missing; return how many there are."""
    files = 0
    for number, rows in enumerate(_parts(table.sizes, config.file_bytes)):
        paths = {kind: folder.path / table.name / f"{number:06d}.{kind}" for kind in config.formats}
        missing = {kind: path for kind, path in paths.items() if not path.exists()}
        if missing:
            records = table.rows(rows)
            if "parquet" in missing:
                _write_parquet(missing["parquet"], records, COLUMNS[table.name])
            if "jsonl.zst" in missing:
                write_json_lines(missing["jsonl.zst"], records)
            folder.tick()
        files += len(paths)
        advance(len(rows))
    return files


def _parts(sizes: np.ndarray, file_bytes: int) -> Iterator[np.ndarray]:
    """Yield the numbers of the rows that share a file, int64: one file at least, even an empty one."""
    begins = np.concatenate([[0], np.cumsum(sizes)[:-1]])[: len(sizes)] // file_bytes
    cuts = np.flatnonzero(np.diff(begins)) + 1
    yield from np.split(np.arange(len(sizes)), cuts)


def _write_parquet(path: Path, records: Sequence[Mapping[str, Any]], columns: Columns) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(name, pa.type_for_alias(kind)) for name, kind in columns.items()])
    with atomic_path(path) as temporary:
        pq.write_table(
            pa.Table.from_pylist(list(records), schema=schema),
            temporary,
            compression="zstd",
            write_page_checksum=True,
        )
