"""The stages run one after the other on folders, as the help's example says."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sbp_bayes.base.stage import read_manifest
from sbp_bayes.base.store import read_json
from sbp_bayes.corpus import Corpus
from sbp_bayes.evaluation import drift_line, gauge_line
from sbp_bayes.lm import load_model
from sbp_bayes.synthesizer import TuneConfig, load_alone
from sbp_bayes.training import OptimiserConfig, loop

TRAIN = ("--preset", "smoke", "--rows-per-batch", 8, "--set", "num_validations=2")


@pytest.fixture
def saved(monkeypatch) -> list[int]:
    """How many checkpoints were to be kept, each time that one was written."""
    save, numbers = loop.save_checkpoint, []
    monkeypatch.setattr(loop, "save_checkpoint", lambda *a, **k: numbers.append(k["kept"]) or save(*a, **k))
    return numbers


def test_the_example_in_the_help(tmp_path, texts, sbp, saved):
    w, unique = tmp_path, ("--unique-tokens", 12_000)
    sbp("corpus", texts, "--vocab-size", 400, "--out", w / "corpus", "--set", "validation_share=0.1")
    sbp("pretrain", w / "corpus", *unique, *TRAIN, "--budget-tokens", 20_000, "--out", w / "base")
    pair = ("--alpha", 0.1, "-k", 4, "--set", "embedder.dimension=8")
    sbp("pair", w / "corpus", *unique, *pair, "--out", w / "pairs")
    tune = (
        "--pairs",
        w / "pairs",
        "--model",
        w / "base",
        "--epochs",
        0.2,
        "--set",
        "optimiser.weight_decay=0",
    )
    saved.clear()
    checkpoints = ("--checkpoint-seconds", 0, "--kept-checkpoints", 3)
    tuning = ("tune", w / "corpus", *unique, *tune, "--max-document-tokens", 48, "--out", w / "tuned")
    told = sbp(*tuning, *checkpoints)
    gauged = read_manifest(w / "tuned" / "gauge").counts
    assert told.rstrip().endswith(gauge_line(gauged))
    assert "net information: " in told
    loss = read_manifest(w / "tuned").counts["validation_nats_per_token"]
    assert gauged["loss"] == pytest.approx(loss, rel=1e-5)
    assert saved == [3] * read_manifest(w / "tuned").counts["steps"]
    sbp("evaluate", texts, "--model", w / "tuned", "--out", w / "tuned_scores")
    synthesize = ("synthesize", w / "corpus", *unique, "--model", w / "tuned", "--tokens", 3000)
    told = sbp(*synthesize, "--out", w / "synthetic", "--set", "shard_size=64")
    assert told.rstrip().endswith(drift_line(read_manifest(w / "synthetic" / "drift").counts))
    assert "drift of the marginal: a classifier tells samples from real documents with AUC " in told
    joint = ("--synthetic", w / "synthetic", "--synthetic-share", 0.1, "--budget-tokens", 20_000)
    printed = sbp("pretrain", w / "corpus", *unique, *TRAIN, *joint, "--out", w / "joint")
    assert printed.startswith("pretrain: ")
    assert str(w / "joint") in printed
    scored = sbp("evaluate", w / "corpus", "--model", w / "joint", "--out", w / "scores")

    tuned, synthetic = read_manifest(w / "tuned"), read_manifest(w / "synthetic")
    assert tuned.config["optimiser"]["weight_decay"] == 0
    default = TuneConfig(max_document_tokens=1).optimiser.peak_lr  # of tuning, not of pretraining
    assert tuned.config["optimiser"]["peak_lr"] == default != OptimiserConfig().peak_lr
    assert synthetic.config["max_document_tokens"] == 48  # as in tuning
    assert Corpus.load(w / "synthetic" / "corpus").num_tokens >= 3000
    counts = read_manifest(w / "joint").counts
    assert counts["tokens_by_source"]["synthetic"] == pytest.approx(0.1 * counts["num_tokens"], abs=64)
    real = read_manifest(w / "joint").inputs["real"]
    assert real == read_manifest(w / "base").inputs["real"] == read_manifest(w / "pairs").inputs["train"]
    assert real == synthetic.inputs["corpus"]
    loss = read_manifest(w / "scores").counts["loss_nats_per_token"]
    assert f"loss nats per token  {loss:.4g}" in scored

    again = sbp("evaluate", w / "corpus", "--model", w / "joint", "--out", w / "scores")
    assert again == scored
    of_best = sbp("evaluate", w / "corpus", "--model", w / "joint" / "best", "--out", w / "scores")
    assert of_best == scored


def test_statistics_of_a_corpus(tmp_path, texts, sbp, mistake, monkeypatch):
    sbp("corpus", texts, "--vocab-size", 400, "--out", tmp_path / "corpus", "--workers", 2)
    lines = [line.split() for line in sbp("corpus", "stats", tmp_path / "corpus").splitlines()]
    manifest = read_manifest(tmp_path / "corpus")
    pool = manifest.counts["splits"]["pool"]
    assert ["read", "240"] in lines
    assert ["near", "duplicates", "−0", "240"] in lines
    assert ["texts", "240", "█" * 40] in lines
    assert ["not", "stated", "240", "█" * 40] in lines
    (row,) = [line for line in lines if line[:1] == ["pool"]]
    assert row[1:4] == [f"{pool[key]:,}" for key in ("documents", "tokens", "bytes")]
    assert ["a", "budget", "of", "20", "repetitions", f"{20 * pool['tokens']:,}"] in lines
    numbers = json.loads(sbp("corpus", "stats", tmp_path / "corpus", "--json"))
    assert numbers["counts"] == manifest.counts
    assert numbers["splits"]["pool"]["tokens"] == pool["tokens"]
    assert sum(numbers["splits"]["pool"]["lengths"].values()) == pool["documents"]
    assert mistake("corpus", "stats", texts).endswith("(`sbp corpus TEXT --out DIR` makes one)")
    # Text in a folder of this name is read as a path.
    (tmp_path / "stats").mkdir()
    (tmp_path / "stats" / "a.jsonl").write_text(texts.read_text())
    monkeypatch.chdir(tmp_path)
    assert sbp("corpus", "./stats", "--out", "other").startswith("corpus: ")


def test_raw_text_is_prepared_on_the_way(tmp_path, texts, sbp):
    pair = ("--alpha", 0.1, "--set", "embedder.dimension=8")
    sbp("pair", texts, "--vocab-size", 300, *pair, "--out", tmp_path / "pairs")
    prepared = tmp_path / "pairs" / "corpus"
    assert read_manifest(prepared).counts["vocab_size"] == 300
    assert read_manifest(tmp_path / "pairs").inputs["train"] == Corpus.load(prepared / "pool").fingerprint

    sbp("pretrain", texts, "--vocab-size", 300, *TRAIN, "--budget-tokens", 4096, "--out", tmp_path / "model")
    assert load_model(tmp_path / "model" / "best").config.vocab_size == 300
    printed = sbp("evaluate", texts, "--model", tmp_path / "model" / "last", "--out", tmp_path / "scores")
    assert "documents            240" in printed
    sbp("synthesize", texts, "--model", tmp_path / "model", "--tokens", 500, "--out", tmp_path / "own")
    assert read_manifest(tmp_path / "own").counts["tokens"] >= 500


def test_documents_without_d1_fill_the_context_and_a_balanced_synthesizer_leaves_d1_out(tmp_path, texts, sbp):
    sbp("corpus", texts, "--vocab-size", 300, "--out", tmp_path / "corpus")
    sbp("pretrain", tmp_path / "corpus", *TRAIN, "--budget-tokens", 4096, "--out", tmp_path / "model")
    command = ("synthesize", tmp_path / "corpus", "--tokens", 500, "--model")
    sbp(*command, tmp_path / "model", "--unconditional", "--out", tmp_path / "own")
    context = load_model(tmp_path / "model" / "best").config.context_length
    assert read_manifest(tmp_path / "own").config["max_document_tokens"] == context - 1
    assert context // 2 < Corpus.load(tmp_path / "own" / "corpus").lengths.max() < context

    # With one neighbour for each document, most are those of one hub, which cannot balance them all.
    pair = ("pair", tmp_path / "corpus", "--alpha", 0.1, "--set", "embedder.dimension=8", "--set", "k=1")
    sbp(*pair, "--out", tmp_path / "pairs")
    tune = ("tune", tmp_path / "corpus", "--pairs", tmp_path / "pairs", "--model", tmp_path / "model")
    sbp(*tune, "--epochs", 0.2, "--set", "marginal=documents", "--out", tmp_path / "balanced")
    alone = load_alone(tmp_path / "balanced", Corpus.load(tmp_path / "corpus" / "pool"))
    sbp(*command, tmp_path / "balanced", "--max-document-tokens", 8, "--out", tmp_path / "synthetic")
    read = Corpus.load(tmp_path / "synthetic" / "corpus").metadata
    left_out = [one.get("seed_is_left_out", False) for one in read]
    expected = sum(alone[one["seed_index"]] for one in read)
    assert abs(sum(left_out) - expected) < 4 * (expected + 1) ** 0.5
    assert 0 < sum(left_out) < len(read)


def test_embeddings_are_kept_where_the_user_says(tmp_path, texts, sbp, monkeypatch):
    sbp("corpus", texts, "--vocab-size", 300, "--out", tmp_path / "corpus")
    command = ("pair", tmp_path / "corpus", "--set", "embedder.dimension=8", "--alpha")
    sbp(*command, 0.1, "--out", tmp_path / "one", "--cache", tmp_path / "kept")
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("kept/*/vectors.npy")}
    assert len(kept) == 2  # of the training and the validation documents
    monkeypatch.setenv("SBP_CACHE", str(tmp_path / "kept"))
    sbp(*command, 0.2, "--out", tmp_path / "two")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("kept/*/vectors.npy")} == kept
    sbp(*command, 0.2, "--seed", 1, "--out", tmp_path / "three")
    assert len(list(tmp_path.glob("kept/*/vectors.npy"))) == 4
    assert not list(tmp_path.glob("*/embeddings"))


def test_synthetic_text_is_repeated_on_demand_alone(tmp_path, texts, sbp, mistake, saved):
    sbp("corpus", texts, "--vocab-size", 300, "--out", tmp_path / "corpus")
    command = ("pretrain", tmp_path / "corpus", *TRAIN, "--budget-tokens", 4096)
    sbp(*command, "--out", tmp_path / "model")
    assert saved == [2]
    synthetic = tmp_path / "synthetic"
    sbp("synthesize", tmp_path / "corpus", "--model", tmp_path / "model", "--tokens", 500, "--out", synthetic)
    joint = (*command, "--synthetic", synthetic, "--synthetic-share", 0.5, "--out", tmp_path / "joint")
    assert mistake(*joint).endswith("or set repeat_synthetic")
    printed = sbp(*joint, "--repeat-synthetic", "--checkpoint-seconds", 0, "--kept-checkpoints", 5)
    assert saved[1:] == [5] * 8
    held, counts = Corpus.load(synthetic / "corpus").num_tokens, read_manifest(tmp_path / "joint").counts
    assert counts["tokens_by_source"] == {"real": 2048, "synthetic": 2048}
    assert counts["epochs_by_source"]["synthetic"] == 2048 / held > 1
    assert f"{2048 / held:.4g}" in printed
    # Another setting of checkpoints is the same plan; repetition is part of it.
    assert sbp(*joint, "--set", "repeat_synthetic=true") == printed
    line = mistake(*joint[:-1], tmp_path / "other", "--repeat-synthetic", "--kept-checkpoints", 0)
    assert line == "kept_checkpoints = 0 is out of range: expected a positive number"


def test_the_default_budget_is_twenty_repetitions(tmp_path, texts, sbp):
    sbp("corpus", texts, "--vocab-size", 400, "--out", tmp_path / "corpus")
    command = ("pretrain", tmp_path / "corpus", "--unique-tokens", 1000, *TRAIN)
    sbp(*command, "--set", "model.width=16", "--out", tmp_path / "model")
    manifest = read_manifest(tmp_path / "model")
    unique = manifest.config["budget_tokens"] / 20
    assert 0 < unique <= 1000
    assert manifest.counts["epochs_by_source"]["real"] == pytest.approx(20, abs=1)
    assert manifest.config["model"]["width"] == 16


def _wait_for(path: Path, process: subprocess.Popen) -> None:
    while not path.exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_command_goes_on_to_the_same_weights(tmp_path_factory, texts, sbp, kind):
    shared = tmp_path_factory.getbasetemp() / "stopped"
    sbp("corpus", texts, "--vocab-size", 400, "--out", shared / "corpus")
    command = [str(x) for x in ("pretrain", shared / "corpus", *TRAIN, "--budget-tokens", 30_000)]
    sbp(*command, "--out", shared / "whole")

    out = shared / kind.name
    script = "import sys; from sbp_bayes.cli import main; sys.exit(main())"
    started = [sys.executable, "-c", script, *command, "--out", str(out)]
    with subprocess.Popen(started, stderr=subprocess.PIPE, text=True) as process:
        _wait_for(out / "plan.json", process)
        process.send_signal(kind)
        errors = process.communicate()[1]
    if kind is not signal.SIGKILL:
        assert process.returncode == 130
        line = errors.splitlines()[-1]  # before the training, or during it
        assert line.startswith(("sbp: error: interrupted;", "sbp: error: stopped by SIGTERM after "))
        assert line.endswith("; the same command goes on where it stopped")
    assert not (out / "manifest.json").exists()
    sbp(*command, "--out", out)
    for place in ("best", "last"):
        assert read_json(out / place / "config.json") == read_json(shared / "whole" / place / "config.json")
