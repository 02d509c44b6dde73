"""A checkpoint's scores on benchmarks, as a stage that goes on where it was killed."""

import dataclasses
import importlib
import importlib.metadata
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sbp_bayes.base.config import require
from sbp_bayes.base.errors import ConfigError, CorpusError
from sbp_bayes.base.progress import say
from sbp_bayes.base.stage import Manifest, Outcome, Place, StageFolder, plan_stage, run_stage
from sbp_bayes.base.store import write_json, write_text
from sbp_bayes.corpus import Corpus, Tokenizer
from sbp_bayes.evaluation.harness.answers import Answers, request_key
from sbp_bayes.evaluation.harness.benchmarks import Benchmark, benchmarks_named
from sbp_bayes.evaluation.harness.items import Items, has_items, read_items
from sbp_bayes.evaluation.harness.scores import Scored, score_benchmark
from sbp_bayes.evaluation.text import contents
from sbp_bayes.lm import load_model, model_fingerprint
from sbp_bayes.training.parallel import find_device

RECORD, ITEMS, ANSWERS = "benchmarks.json", "items", "answers"
HARNESS = "lm-eval"
PARTS = ("adapter", "tasks")
"""Modules beside this one that import the harness, and so only where it is needed."""

BOS = "documents and contexts start after EOS, once; the EOS after a document is not scored"


@dataclasses.dataclass(frozen=True, kw_only=True)
class BenchmarksConfig:
    """What is evaluated.

    Attributes:
        tasks: names of benchmarks, see `benchmarks_named`.
        limit: most items of each; None is all.
        device: "cpu", "cuda" or "cuda:N".
    """

    tasks: tuple[str, ...]
    limit: int | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        require(self.limit is None or self.limit > 0, "limit", self.limit, "a positive number")


def evaluate_benchmarks(
    config: BenchmarksConfig,
    model_dir: Path,
    tokenizer: Tokenizer,
    place: Place,
    *,
    items_dir: Path | None = None,
    against: Mapping[str, Corpus] | None = None,
) -> Manifest:
    """Score the model in `model_dir` on benchmarks as a stage.

    `benchmarks.json` has the numbers, the harness's version and each task's hash; `items/NAME.jsonl` has
    each item's prompts and answers. Answers are kept batch by batch, so a killed stage asks none again.

    Args:
        config: what is evaluated.
        model_dir: the model.
        tokenizer: its own.
        place: where the stage goes.
        items_dir: a folder with one folder of items for each benchmark (see `items`); None reads the hub.
        against: training texts by name; items that they hold are counted.

    Raises:
        ConfigError: an unknown benchmark, no harness, or a tokenizer of more ids than the model.
        CorpusError: none of the benchmarks has items, or a record is no item.
    """
    adapter, tasks = (_harness(part) for part in PARTS)
    present, absent = _with_and_without_items(benchmarks_named(config.tasks), items_dir)
    benchmarks = {one.name: one for one in present}
    items = {} if items_dir is None else _read(benchmarks.values(), items_dir, config.limit)
    model = load_model(model_dir)
    fits = tokenizer.vocab_size <= model.config.vocab_size
    require(
        fits, "tokenizer.vocab_size", tokenizer.vocab_size, f"at most the model's {model.config.vocab_size}"
    )
    inputs = {
        "model": model_fingerprint(model_dir),
        "tokenizer": tokenizer.fingerprint,
        HARNESS: importlib.metadata.version(HARNESS),
        **{f"items of {name}": items[name].fingerprint if name in items else "hub" for name in benchmarks},
    }
    against = against or {}
    inputs |= {f"overlap with {name}": corpus.fingerprint for name, corpus in against.items()}
    device = find_device(config.device)
    modules = [f"{__package__}.{part}" for part in PARTS]
    plan = plan_stage("benchmarks", config, inputs, __name__, *modules, device=device.type)

    def work(folder: StageFolder) -> Outcome:
        answers = Answers(folder.path / ANSWERS / "answers.jsonl")
        lm = adapter.CheckpointLM(model.to(device), tokenizer, answers)
        scored, hashes = _ask(lm, tasks.load_tasks(benchmarks, items), config.limit)
        overlaps = _overlaps(scored, against)
        rows = {}
        for name, of_task in scored.items():
            source = {"task_hash": hashes[name], **_source(items.get(name)), "overlap": overlaps[name]}
            rows[name] = score_benchmark(benchmarks[name], of_task) | source
            lines = (json.dumps(dataclasses.asdict(item), ensure_ascii=False) + "\n" for item in of_task)
            write_text(folder.path / ITEMS / f"{name}.jsonl", "".join(lines))
        record = {
            "harness": f"{HARNESS} {inputs[HARNESS]}",
            "beginnings": BOS,
            "without_data": [one.name for one in absent],
            "benchmarks": rows,
        }
        write_json(folder.path / RECORD, record)
        counts = {name: {"items": row["items"], "requests": row["requests"]} for name, row in rows.items()}
        return Outcome(counts=counts, scratch=(ANSWERS,))

    return run_stage(plan, place, work)


def _with_and_without_items(
    wanted: Sequence[Benchmark], items_dir: Path | None
) -> tuple[list[Benchmark], list[Benchmark]]:
    """Return the benchmarks that have items, one at least, and the others, which are named on stderr."""
    present = [one for one in wanted if items_dir is None or has_items(one, items_dir)]
    absent = [one for one in wanted if one not in present]
    if not present:
        raise CorpusError(f"{items_dir}: no items of {', '.join(dict.fromkeys(one.data for one in absent))}")
    for one in absent:
        say(f"{one.label}: no items in {items_dir}/{one.data}, left out")
    return present, absent


def _harness(part: str) -> Any:
    """Import a module that imports the harness, which is kept quiet: progress and warnings are our own."""
    try:
        module = importlib.import_module(f"{__package__}.{part}")
    except ModuleNotFoundError as error:
        if str(error.name).startswith("sbp_bayes"):
            raise
        raise ConfigError(
            f"benchmarks need lm-eval ({error.name} is missing): run `pip install 'sbp_bayes[eval]'`"
        ) from error
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    return module


def _read(benchmarks: Iterable[Benchmark], items_dir: Path, limit: int | None) -> dict[str, Items]:
    items = {one.name: read_items(one, items_dir, limit) for one in benchmarks}
    for name, found in items.items():
        if found.num_left_out:
            say(f"{name}: {found.num_left_out} items without an answer, left out")
    return items


def _overlaps(
    scored: Mapping[str, Sequence[Scored]], against: Mapping[str, Corpus]
) -> dict[str, dict[str, Any]]:
    """Return, by benchmark, how many items each text holds, and how many are too short to say so."""
    counts: dict[str, dict[str, Any]] = {name: {} for name in scored}
    # All benchmarks at once, since a text may be long and is read once.
    every = contents.Benchmark([item.query for items in scored.values() for item in items])
    ends = np.cumsum([len(items) for items in scored.values()])[:-1]
    too_short = np.split(every.is_too_short, ends)
    for text, corpus in against.items():
        found = np.split(every.search(corpus.texts)[0], ends)
        for name, is_found, is_short in zip(scored, found, too_short, strict=True):
            counts[name][text] = {"items": int(is_found.sum()), "too_short": int(is_short.sum())}
    return counts


def _source(items: Items | None) -> dict[str, Any]:
    if items is None:
        return {"source": "hub"}
    return {
        "source": list(items.files),
        "items_fingerprint": items.fingerprint,
        "left_out": items.num_left_out,
    }


def _ask(
    lm: Any, tasks: Mapping[str, Any], limit: int | None
) -> tuple[dict[str, list[Scored]], dict[str, str]]:
    """Return every task's items with the model's answers, and the harness's hash of documents and prompts."""
    from lm_eval.evaluator import evaluate
    from lm_eval.utils import apply_template, hash_string

    found = evaluate(lm, {"tasks": dict(tasks)}, limit=limit, bootstrap_iters=0)
    scored: dict[str, list[Scored]] = {}
    hashes: dict[str, str] = {}
    for name, task in tasks.items():
        kind = task.OUTPUT_TYPE if task.OUTPUT_TYPE != "multiple_choice" else "loglikelihood"
        query = task.config.doc_to_decontamination_query  # a field's name, or a template
        samples = sorted(found["samples"][name], key=lambda sample: sample["doc_id"])
        scored[name] = [
            Scored(
                number=sample["doc_id"],
                arguments=[list(arguments) for arguments in sample["arguments"]],
                answers=[lm.answers[request_key(kind, arguments)] for arguments in sample["arguments"]],
                target=sample["target"],
                metrics={metric: sample[metric] for metric in sample["metrics"]},
                query=str(sample["doc"].get(query) or apply_template(query, sample["doc"])),
            )
            for sample in samples
        ]
        whole = "".join(sample[f"{part}_hash"] for sample in samples for part in ("doc", "prompt", "target"))
        hashes[name] = hash_string(whole)
    return scored, hashes
