"""Items from local files: every public form becomes the hub's columns, and what is no item is named."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from benchmark_items import FILES, write_items

from sbp_bayes.base.errors import ConfigError, CorpusError
from sbp_bayes.evaluation.harness import BENCHMARKS, benchmarks_named
from sbp_bayes.evaluation.harness.items import has_items, read_items

ARC = {"question": "Why?", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "B"}
WINOGRANDE = {"sentence": "The _ is red.", "option1": "cat", "option2": "car", "answer": "2"}


def read_one(root: Path, data: str, record: Any) -> dict[str, Any] | None:
    (root / data).mkdir(exist_ok=True)
    (root / data / "items.jsonl").write_text(f"{json.dumps(record)}\n" * 3)
    benchmark = next(one for one in BENCHMARKS.values() if one.data == data)
    return read_items(benchmark, root).evaluated[0]


@pytest.mark.parametrize(
    ("data", "record", "expected"),
    [
        ("arc_easy", ARC, ARC),
        ("arc_challenge", {"query": "Question: Why?", "choices": ["a", "b"], "gold": 1}, ARC),
        ("winogrande", WINOGRANDE, WINOGRANDE),
        ("lambada", {"context": "to be or not to", "continuation": "be"}, {"text": "to be or not to be"}),
        ("lambada", {"text": "to be or not to be"}, {"text": "to be or not to be"}),
        (
            "webqs",
            {"qId": "x", "qText": "who?", "answers": ["me"]},
            {"question": "who?", "answers": ["me"]},
        ),
        (
            "triviaqa",
            {"context": "Question: Who?\nAnswer:", "answer": "I", "aliases": ["I", "me", "I"]},
            {"question": "Who?", "answer": {"value": "I", "aliases": ["I", "me"]}},
        ),
        (
            "triviaqa",
            {"question": "Who?", "answer": {"value": "I", "aliases": ["I"], "type": "x"}},
            {"question": "Who?", "answer": {"value": "I", "aliases": ["I"]}},
        ),
    ],
)
def test_public_forms_become_the_hubs_columns(tmp_path: Path, data: str, record: Any, expected: Any) -> None:
    assert read_one(tmp_path, data, record) == expected


def test_options_in_context_are_scored_on_the_same_texts(tmp_path: Path) -> None:
    options = ["The cat is black so the cat", "The cat is black so the car"]
    item = read_one(tmp_path, "winogrande", {"context_options": options, "continuation": "runs.", "gold": 1})
    assert item is not None
    before, after = item["sentence"].split("_")
    assert [before + item[name] for name in ("option1", "option2")] == options
    assert after == " runs."
    assert item["answer"] == "2"


def test_a_files_name_says_its_split(tmp_path: Path) -> None:
    root = write_items(tmp_path)
    (root / "triviaqa" / "more.jsonl").write_text("not read\n")
    items = read_items(BENCHMARKS["triviaqa"], root)
    assert items.files == ("validation.jsonl", "train.jsonl")
    assert (len(items.evaluated), len(items.examples or [])) == (8, 5)
    (root / "triviaqa" / "train.jsonl").unlink()
    assert read_items(BENCHMARKS["triviaqa"], root).examples is None
    assert len(read_items(BENCHMARKS["triviaqa"], root, limit=2).evaluated) == 8  # the shots are among them
    assert len(read_items(BENCHMARKS["sciq"], root, limit=2).evaluated) == 2


def test_the_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    root = write_items(tmp_path)
    before = read_items(BENCHMARKS["sciq"], root).fingerprint
    path = root / "sciq" / "test.jsonl"
    path.write_bytes(path.read_bytes() + path.read_bytes())
    assert read_items(BENCHMARKS["sciq"], root).fingerprint != before


def test_compressed_and_columnar_files_are_read(tmp_path: Path) -> None:
    root = write_items(tmp_path)
    plain = read_items(BENCHMARKS["arc_easy"], root).evaluated
    path = root / "arc_easy" / "test.jsonl"
    lines = path.read_bytes()
    path.unlink()
    (path.parent / "test.jsonl.gz").write_bytes(gzip.compress(lines))
    assert read_items(BENCHMARKS["arc_easy"], root).evaluated == plain
    (path.parent / "test.jsonl.gz").unlink()
    pq.write_table(
        pa.Table.from_pylist([json.loads(line) for line in lines.splitlines()]), path.parent / "test.parquet"
    )
    assert read_items(BENCHMARKS["arc_easy"], root).evaluated == plain


@pytest.mark.parametrize(
    ("data", "line", "message"),
    [
        ("arc_easy", '{"question": "Why?"}', r"items.jsonl:1: not an item of arc_easy \(no 'choices'\)"),
        ("arc_easy", json.dumps(ARC | {"answerKey": "C"}), "answerKey = 'C' is none of"),
        ("mmlu", '{"question": "?", "subject": "s", "choices": ["a"], "answer": 0}', "1 choices"),
        ("sciq", "[1]", "items.jsonl:1: not a JSON object"),
        ("winogrande", "{", "items.jsonl:1: not JSON"),
        ("lambada", "", "0 items of LAMBADA, too few"),
    ],
)
def test_what_is_no_item_is_named(tmp_path: Path, data: str, line: str, message: str) -> None:
    (tmp_path / data).mkdir()
    (tmp_path / data / "items.jsonl").write_text(line + "\n")
    benchmark = next(one for one in BENCHMARKS.values() if one.data == data)
    with pytest.raises(CorpusError, match=message) as caught:
        read_items(benchmark, tmp_path)
    assert "\n" not in str(caught.value)


def test_items_without_an_answer_are_left_out_and_counted(tmp_path: Path) -> None:
    (tmp_path / "winogrande").mkdir()
    lines = [WINOGRANDE, WINOGRANDE | {"answer": ""}]
    (tmp_path / "winogrande" / "test.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    items = read_items(BENCHMARKS["winogrande"], tmp_path)
    assert (len(items.evaluated), items.num_left_out) == (1, 1)


def test_a_folder_without_files_has_no_items(tmp_path: Path) -> None:
    assert not has_items(BENCHMARKS["sciq"], tmp_path)
    (tmp_path / "sciq").mkdir()
    (tmp_path / "sciq" / "README.md").write_text("to come")
    assert not has_items(BENCHMARKS["sciq"], tmp_path)
    with pytest.raises(CorpusError, match=r"no file of SciQ \(0-shot\)'s items"):
        read_items(BENCHMARKS["sciq"], tmp_path)


def test_names_choose_rows_in_the_talks_order() -> None:
    assert [one.name for one in benchmarks_named(["sciq", "mmlu"])] == ["mmlu_letter", "mmlu_text", "sciq"]
    assert benchmarks_named(["talk"]) == list(BENCHMARKS.values())
    assert {name.split("/")[0] for name in FILES} == {one.data for one in BENCHMARKS.values()}
    with pytest.raises(ConfigError, match=r"--tasks = 'arc_eazy'.*did you mean 'arc_easy'"):
        benchmarks_named(["arc_eazy"])
