"""Benchmarks as a stage: the record, a kill and what is asked after it, and mistakes in one line."""

import json
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from benchmark_items import small_model, small_tokenizer, write_items

from sbp_bayes.base.errors import ConfigError, CorpusError
from sbp_bayes.base.store import read_json
from sbp_bayes.corpus import Corpus, Tokenizer
from sbp_bayes.evaluation.harness import BenchmarksConfig, evaluate_benchmarks, talk_table
from sbp_bayes.lm import save_model

pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed (the extra [eval])")

SOME = ("openwebtext2", "lambada", "arc_easy")

KILLED = """
    import os, signal
    from pathlib import Path
    from sbp_bayes.corpus import Tokenizer
    from sbp_bayes.evaluation.harness import BenchmarksConfig, evaluate_benchmarks
    from sbp_bayes.evaluation.harness.answers import Answers

    root, keep = Path({root!r}), Answers.add

    def add(answers, batch):
        keep(answers, batch)
        if batch and sum(1 for line in answers.path.open()) == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    Answers.add = add
    config = BenchmarksConfig(tasks={tasks!r}, limit=3)
    tokenizer = Tokenizer.load(root / "model" / "tokenizer.json")
    evaluate_benchmarks(config, root / "model", tokenizer, root / "killed", items_dir=root / "items")
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, its tokenizer and items."""
    root = tmp_path_factory.mktemp("benchmarks")
    tokenizer = small_tokenizer()
    save_model(small_model(tokenizer), root / "model")
    tokenizer.save(root / "model" / "tokenizer.json")
    write_items(root / "items")
    return root


@pytest.fixture(scope="module")
def tokenizer(root: Path) -> Tokenizer:
    return Tokenizer.load(root / "model" / "tokenizer.json")


def test_a_killed_evaluation_asks_no_answered_request_again(
    root: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed by SIGKILL after its second batch; the record is that of an undisturbed evaluation."""
    code = textwrap.dedent(KILLED).format(root=str(root), tasks=SOME)
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    lines = (root / "killed" / "answers" / "answers.jsonl").read_text().splitlines()
    answered = {key for line in lines for key in json.loads(line)}
    assert answered

    from sbp_bayes.evaluation.harness.answers import Answers

    asked: list[str] = []
    add = Answers.add
    monkeypatch.setattr(Answers, "add", lambda self, batch: (asked.extend(batch), add(self, batch)))
    config = BenchmarksConfig(tasks=SOME, limit=3)
    folders, asked_by = [], []
    for name in ("killed", "undisturbed"):
        asked.clear()
        found = evaluate_benchmarks(config, root / "model", tokenizer, root / name, items_dir=root / "items")
        folders.append(found.directory)
        asked_by.append(set(asked))
    assert not answered & asked_by[0]
    assert answered | asked_by[0] == asked_by[1]
    first, second = (read_json(folder / "benchmarks.json") for folder in folders)
    assert first == second
    for name in SOME:
        items = [(folder / "items" / f"{name}.jsonl").read_text() for folder in folders]
        assert items[0] == items[1]
    assert not (folders[0] / "answers").exists()


def test_the_record_says_what_was_asked_of_whom(root: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    items = (root / "items" / "arc_easy" / "test.jsonl").read_text().splitlines()
    queries = [f"Question: {json.loads(line)['question']}\nAnswer:" for line in items]
    long = " ".join(query.replace("\n", " ") for query in queries)
    config = BenchmarksConfig(tasks=("arc_easy", "webqs", "openwebtext2"), limit=4)
    found = evaluate_benchmarks(
        config,
        root / "model",
        tokenizer,
        tmp_path / "out",
        items_dir=root / "items",
        against={"the text": Corpus.build([long], tokenizer)},
    )
    record = read_json(found.directory / "benchmarks.json")
    assert record["harness"] == "lm-eval 0.4.13"
    assert "start after EOS" in record["beginnings"]
    rows = record["benchmarks"]
    assert set(rows) == {"openwebtext2", "arc_easy", "webqs"}
    assert len({row["task_hash"] for row in rows.values()}) == 3
    assert rows["webqs"]["source"] == ["test.jsonl", "train.jsonl"]
    assert rows["openwebtext2"]["perplexity_per"] == "token"
    assert rows["arc_easy"]["overlap"]["the text"] == {"items": 0, "too_short": 4}
    lines = (found.directory / "items" / "arc_easy.jsonl").read_text().splitlines()
    first = json.loads(lines[0])
    assert len(lines) == 4
    assert first["arguments"][0][0] == queries[0]
    assert len(first["answers"]) == len(first["arguments"]) == 5
    assert first["answers"][0]["log_prob_nats"] < 0
    assert [row[0].strip() for row in talk_table(record)][1:3] == [
        "Perplexity on held-out data ↓",
        "OpenWebText2",
    ]


def test_benchmarks_without_items_are_named_and_the_others_scored(
    root: Path, tokenizer: Tokenizer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    some = tmp_path / "some"
    some.mkdir()
    (some / "sciq").symlink_to(root / "items" / "sciq")
    config = BenchmarksConfig(tasks=("sciq", "webqs"), limit=2)
    found = evaluate_benchmarks(config, root / "model", tokenizer, tmp_path / "out", items_dir=some)
    assert f"WebQS (1-shot): no items in {some}/webqs, left out" in capfd.readouterr().err
    rows = {row[0].strip(): row[1:] for row in talk_table(read_json(found.directory / "benchmarks.json"))}
    assert rows["WebQS (1-shot)"] == ("no data",)
    assert rows["Average QA accuracy"] == ("not all benchmarks have data",)
    only = BenchmarksConfig(tasks=("webqs",))
    with pytest.raises(CorpusError, match="no items of webqs"):
        evaluate_benchmarks(only, root / "model", tokenizer, tmp_path / "none", items_dir=some)


def test_a_tokenizer_of_more_ids_than_the_model_is_refused(
    root: Path, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    import dataclasses

    from benchmark_items import SHAPE

    from sbp_bayes.lm import Transformer

    save_model(Transformer(dataclasses.replace(SHAPE, vocab_size=260)), tmp_path / "model")
    config = BenchmarksConfig(tasks=("sciq",))
    with pytest.raises(ConfigError, match=r"tokenizer.vocab_size .* at most the model's 260"):
        evaluate_benchmarks(config, tmp_path / "model", tokenizer, tmp_path / "out", items_dir=root / "items")
