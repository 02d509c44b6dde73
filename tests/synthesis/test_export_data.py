"""The exported data set: every row and where it comes from, read back by other libraries."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from sbp_bayes.base.errors import ConfigError, CorpusError, StoreError
from sbp_bayes.base.stage import Manifest
from sbp_bayes.corpus import Corpus, Document
from sbp_bayes.corpus.json_lines import read_json_lines_of
from sbp_bayes.pairing import PairSet
from sbp_bayes.synthesis import ExportConfig, RealPairs, export, export_data

NUM_REAL, NUM_SAMPLES = 6, 25
COUNTS = {"samples": 30, "kept": NUM_SAMPLES, "duplicate": 5, "tokens": 1234}
TEXTS = [f'the {i}th sample says "{word} ☃"\nand ends' for i, word in enumerate("abcde" * 5)]


@pytest.fixture
def unique() -> Corpus:
    documents = [Document(id=f"real:{i}", text=f"real document {i}", source="real") for i in range(NUM_REAL)]
    return Corpus.from_tokens(documents, [np.array([2, 3, i + 4]) for i in range(NUM_REAL)], vocab_size=20)


@pytest.fixture
def samples(tmp_path: Path, unique: Corpus) -> Manifest:
    """A synthesis of 25 documents, every fourth one cut at the limit."""
    documents = [
        Document(
            id=f"synthetic:{i + 1}",
            text=text,
            source="synthetic",
            metadata={"seed_document": f"real:{i % NUM_REAL}", "seed_index": i % NUM_REAL, "sample": i + 1},
        )
        for i, text in enumerate(TEXTS)
    ]
    tokens = [np.arange(2, 3 + i % 9) for i in range(NUM_SAMPLES)]
    complete = [i % 4 != 0 for i in range(NUM_SAMPLES)]
    Corpus.from_tokens(documents, tokens, vocab_size=20, complete=complete).save(tmp_path / "made" / "corpus")
    return Manifest(
        stage="synthesize",
        fingerprint="f" * 16,
        inputs={"model": "0123456789abcdef", "corpus": unique.fingerprint, "tokenizer": "t" * 16},
        config={"num_tokens": 1000, "temperature": 1.0, "screen": {"reasons": ["empty", "duplicate"]}},
        code_version="c",
        counts=COUNTS,
        seconds=1.0,
        flops=1e9,
        directory=tmp_path / "made",
    )


@pytest.fixture
def real(unique: Corpus) -> RealPairs:
    pairs = dataclasses.replace(
        PairSet.empty(unique.fingerprint, {}),
        first=np.array([0, 1, 4]),
        second=np.array([2, 3, 5]),
        similarity=np.array([0.5, 0.75, 1.0], np.float32),
    )
    return RealPairs(
        pairs=pairs,
        unique=unique,
        similarity=lambda part, seeds: (seeds / 8 + part.lengths / 1024).astype(np.float32),
        quality=lambda: {"near duplicates": {"synthetic": 0.25, "real": 0.125}},
    )


def expected_rows() -> list[dict[str, object]]:
    return [
        {
            "id": f"synthetic:{i + 1}",
            "text": text,
            "seed_document": f"real:{i % NUM_REAL}",
            "sample": i + 1,
            "model": "0123456789abcdef",
            "similarity": (i % NUM_REAL) / 8 + (1 + i % 9) / 1024,
            "num_tokens": 1 + i % 9,
            "complete": i % 4 != 0,
        }
        for i, text in enumerate(TEXTS)
    ]


EXPECTED_PAIRS = [
    {
        "id": f"pair:{i}",
        "text": f"real document {second}",
        "document": f"real:{second}",
        "seed_document": f"real:{first}",
        "seed_text": f"real document {first}",
        "similarity": similarity,
    }
    for i, (first, second, similarity) in enumerate([(0, 2, 0.5), (1, 3, 0.75), (4, 5, 1.0)])
]


def lines_of(folder: Path) -> list[dict[str, object]]:
    return [row for path in sorted(folder.glob("*.jsonl.zst")) for _, row in read_json_lines_of(path)]


def rows_of(folder: Path) -> list[dict[str, object]]:
    return [row for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def test_both_formats_hold_every_row_with_its_provenance(
    samples: Manifest, real: RealPairs, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    manifest = export_data(ExportConfig(file_bytes=300), samples, out, real=real)
    assert lines_of(out / "synthetic") == rows_of(out / "synthetic") == expected_rows()
    assert lines_of(out / "pairs") == rows_of(out / "pairs") == EXPECTED_PAIRS
    files = sorted((out / "synthetic").glob("*.parquet"))
    texts = sum(len(text.encode()) for text in TEXTS)
    assert len(files) == (texts - len(TEXTS[-1].encode())) // 300 + 1 == 3
    assert manifest.counts == {"rows": {"synthetic": 25, "pairs": 3}, "files": 2 * (len(files) + 1)}


def test_the_card(samples: Manifest, real: RealPairs, tmp_path: Path) -> None:
    export_data(ExportConfig(license="cc-by-sa-4.0"), samples, tmp_path / "out", real=real)
    _, front, text = (tmp_path / "out" / "README.md").read_text().split("---\n", 2)
    meta = yaml.safe_load(front)
    assert meta["license"] == "cc-by-sa-4.0"
    assert meta["size_categories"] == ["n<1K"]
    assert meta["configs"] == [
        {"config_name": "synthetic", "data_files": "synthetic/*.parquet", "default": True},
        {"config_name": "pairs", "data_files": "pairs/*.parquet"},
    ]
    for line in (
        "25 rows. Columns:",
        "| tokens | 1,234 |",
        "| near duplicates | 0.25 | 0.125 |",
        "| screen.reasons | empty, duplicate |",
        "| model | 0123456789abcdef |",
        "`cc-by-sa-4.0`.",
    ):
        assert line in text


def test_without_pairs_nothing_is_made_up(samples: Manifest, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export_data(ExportConfig(formats=("jsonl.zst",)), samples, out)
    assert [row["similarity"] for row in lines_of(out / "synthetic")] == [None] * NUM_SAMPLES
    assert sorted(path.name for path in out.iterdir() if path.is_dir()) == ["synthetic"]
    card = (out / "README.md").read_text()
    assert "data_files: synthetic/*.jsonl.zst" in card
    assert "license: unknown" in card
    assert "Not measured: the real pairs were not given." in card


def test_a_file_that_is_there_is_not_written_again(
    samples: Manifest, real: RealPairs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, written, out = export.write_json_lines, [], tmp_path / "out"

    def broken(path: Path, records: list[dict[str, object]]) -> None:
        written.append(path.name)
        if len(written) == 3:
            raise KeyboardInterrupt
        write(path, records)

    monkeypatch.setattr(export, "write_json_lines", broken)
    config = ExportConfig(file_bytes=300)
    with pytest.raises(KeyboardInterrupt):
        export_data(config, samples, out, real=real)
    assert not (out / "README.md").exists()
    export_data(config, samples, out, real=real)
    assert written[2] == written[3]
    assert len(written) == len(set(written[:-1])) + 2  # one file again, and pairs has a first file too
    assert lines_of(out / "synthetic") == rows_of(out / "synthetic") == expected_rows()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"license": "my licence: free"}, "license = 'my licence: free' is out of range"),
        ({"license": ""}, "license = ''"),
        ({"formats": ("csv",)}, r"formats = 'csv': expected one of parquet, jsonl\.zst"),
        ({"formats": ()}, "formats"),
        ({"file_bytes": 0}, "file_bytes = 0"),
    ],
)
def test_settings_out_of_range(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ExportConfig(**change)


def test_other_pairs_and_other_plans_are_refused(
    samples: Manifest, real: RealPairs, unique: Corpus, tmp_path: Path
) -> None:
    fewer = dataclasses.replace(real, unique=unique.select([0, 1]))
    with pytest.raises(CorpusError, match="its samples have no seed documents, or others than were paired"):
        export_data(ExportConfig(), samples, tmp_path / "out", real=fewer)
    export_data(ExportConfig(), samples, tmp_path / "out", real=real)
    with pytest.raises(StoreError, match="another plan"):
        export_data(ExportConfig(license="mit"), samples, tmp_path / "out", real=real)


@pytest.mark.parametrize("data_format", ["parquet", "jsonl.zst"])
def test_datasets_reads_it_back(
    samples: Manifest,
    real: RealPairs,
    tmp_path: Path,
    data_format: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    datasets = pytest.importorskip("datasets", reason="the extra [datasets] is not installed")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()
    export_data(ExportConfig(file_bytes=300, formats=(data_format,)), samples, tmp_path / "out", real=real)
    for name, expected in (("synthetic", expected_rows()), ("pairs", EXPECTED_PAIRS)):
        data = datasets.load_dataset(
            str(tmp_path / "out"), name, split="train", cache_dir=str(tmp_path / "c")
        )
        assert data.to_list() == expected
    default = datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "c"))
    assert default.column_names == list(expected_rows()[0])


@pytest.mark.parametrize("data_format", ["parquet", "jsonl.zst"])
def test_datatrove_reads_it_back(
    samples: Manifest, real: RealPairs, tmp_path: Path, data_format: str
) -> None:
    readers = pytest.importorskip(
        "datatrove.pipeline.readers", reason="datatrove (extra [bench]) is not installed"
    )
    export_data(ExportConfig(file_bytes=300, formats=(data_format,)), samples, tmp_path / "out", real=real)
    for name, expected in (("synthetic", expected_rows()), ("pairs", EXPECTED_PAIRS)):
        folder = str(tmp_path / "out" / name)
        if data_format == "parquet":
            reader = readers.ParquetReader(folder, glob_pattern="*.parquet")
        else:
            reader = readers.JsonlReader(folder, glob_pattern="*.jsonl.zst", compression="zstd")
        read = [
            {"id": d.id, "text": d.text} | {k: v for k, v in d.metadata.items() if k in expected[0]}
            for d in reader.run()
        ]
        assert sorted(map(json.dumps, (dict(sorted(row.items())) for row in read))) == sorted(
            map(json.dumps, (dict(sorted(row.items())) for row in expected))
        )
