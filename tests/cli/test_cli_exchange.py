"""`sbp synthesize prompts` and `import`, and `sbp export-data`, on folders that the other commands made."""

import json
from pathlib import Path

import pytest

from sbp_bayes.base.stage import read_manifest
from sbp_bayes.cli import main
from sbp_bayes.corpus import Corpus
from sbp_bayes.corpus.json_lines import read_json_lines_of
from sbp_bayes.evaluation import drift_line
from sbp_bayes.synthesis import Shard

SAMPLE = ("--unique-tokens", 12_000, "--max-document-tokens", 31)
WANTED = ("--tokens", 1500, "--set", "screen.min_kept_share=0")


@pytest.fixture(scope="module")
def made(texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus, its pairs, a model and its own samples: corpus/, pairs/, model/ and synthetic/."""
    root = tmp_path_factory.mktemp("made")
    unique, train = ("--unique-tokens", 12_000), ("--preset", "smoke", "--rows-per-batch", 8)
    commands = [
        ("corpus", texts, "--vocab-size", 400, "--workers", 1),
        ("pair", root / "corpus", *unique, "--alpha", 0.1, "-k", 4, "--set", "embedder.dimension=8"),
        ("pretrain", root / "corpus", *train, "--budget-tokens", 2048, "--set", "num_validations=1"),
        ("synthesize", root / "corpus", *SAMPLE, *WANTED, "--model", root / "model", "--workers", 1),
    ]
    commands[-1] += ("--set", "shard_size=32")
    for command, name in zip(commands, ("corpus", "pairs", "model", "synthetic"), strict=True):
        assert main([str(word) for word in (*command, "--out", root / name)]) == 0
    return root


def answer(made: Path, requests: Path, path: Path) -> Path:
    """Write the samples that our own sampler drew as the answers to requests."""
    lines = []
    for file in sorted((requests / "requests").iterdir()):
        shard = Shard.load(made / "synthetic" / "shards" / f"{file.name.split('.')[0]}.npz")
        for i, (_, request) in enumerate(read_json_lines_of(file)):
            answered = {key: request[key] for key in ("sample", "model", "seed")}
            answered["token_ids"] = shard.sample(i).tolist()
            answered["finish_reason"] = "stop" if shard.finished[i] else "length"
            lines.append(json.dumps(answered) + "\n")
    path.write_text("".join(lines))
    return path


def test_samples_of_another_engine_are_kept_as_ours_are(tmp_path, made, sbp, mistake):
    ours = read_manifest(made / "synthetic")
    number = 32 * len(list((made / "synthetic" / "shards").iterdir()))
    prompts = (
        "synthesize",
        "prompts",
        made / "corpus",
        *SAMPLE,
        "--model",
        made / "model",
        "--samples",
        number,
    )
    told = sbp(*prompts, "--set", "shard_size=32", "--out", tmp_path / "asked")
    assert f"samples        {number}" in told
    file = answer(made, tmp_path / "asked", tmp_path / "answers.jsonl")
    take = ("synthesize", "import", file, "--requests", tmp_path / "asked", *WANTED, "--workers", 1)
    told = sbp(*take, "--out", tmp_path / "imported")
    theirs = read_manifest(tmp_path / "imported")
    assert theirs.counts == ours.counts
    corpora = [Corpus.load(folder / "corpus") for folder in (made / "synthetic", tmp_path / "imported")]
    assert corpora[0].fingerprint == corpora[1].fingerprint
    drifts = [
        read_manifest(folder / "drift").counts for folder in (made / "synthetic", tmp_path / "imported")
    ]
    assert drifts[0] == drifts[1]
    assert told.rstrip().endswith(drift_line(drifts[1]))
    # The corpus is where it was, and no other one is taken for it.
    (tmp_path / "asked" / "origin.json").unlink()
    told = sbp(*take, "--out", tmp_path / "imported")
    assert told.rstrip().endswith("give --corpus CORPUS")
    line = mistake(*take, "--corpus", made / "corpus", "--out", tmp_path / "imported")
    assert line.endswith("not the documents of the requests (another corpus, or other --unique-tokens)")
    line = mistake(
        "synthesize", "import", file, "--requests", made / "synthetic", *WANTED, "--out", tmp_path / "x"
    )
    assert line == f"{made / 'synthetic'} is the output of 'synthesize', not of `sbp synthesize prompts`"


def test_a_text_of_a_sub_forms_name_is_read_as_a_path(tmp_path, texts, made, sbp, monkeypatch):
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "a.jsonl").write_text(texts.read_text())
    monkeypatch.chdir(tmp_path)
    command = ("synthesize", "./prompts", "--model", made / "model", "--tokens", 300, "--workers", 1)
    assert sbp(*command, "--max-document-tokens", 31, "--out", "own").startswith("synthesize: ")


def test_a_data_set_with_its_pairs(tmp_path, made, sbp, mistake):
    out = tmp_path / "data"
    told = sbp("export-data", made / "synthetic", "--pairs", made / "pairs", "--license", "mit", "--out", out)
    synthetic = [row for _, row in read_json_lines_of(out / "synthetic" / "000000.jsonl.zst")]
    pairs = [row for _, row in read_json_lines_of(out / "pairs" / "000000.jsonl.zst")]
    assert f"rows synthetic  {len(synthetic)}" in told
    unique = Corpus.load(made / "corpus" / "pool")
    texts = dict(zip(unique.ids, unique.texts, strict=True))
    assert len(synthetic) == read_manifest(made / "synthetic").counts["kept"]
    assert all(row["seed_document"] in texts and -1.01 <= row["similarity"] <= 1.01 for row in synthetic)
    assert len({row["similarity"] for row in synthetic}) > 1
    assert all(texts[row["seed_document"]] == row["seed_text"] for row in pairs)
    assert all(texts[row["document"]] == row["text"] for row in pairs)
    card = (out / "README.md").read_text()
    assert "license: mit" in card
    assert "| near duplicates | " in card
    assert "| copied from first | " in card
    assert "| config" not in card
    again = sbp("export-data", made / "synthetic", "--out", tmp_path / "alone", "--formats", "parquet")
    assert "files           1" in again
    line = mistake("export-data", made / "pairs", "--out", tmp_path / "no")
    assert line == f"{made / 'pairs'} is the output of 'pair', not of 'synthesize'"
    line = mistake("export-data", made / "synthetic", "--formats", "csv", "--out", tmp_path / "no")
    assert line.startswith("formats = 'csv': expected one of parquet, jsonl.zst")
    line = mistake(
        "synthesize", "vllm", made / "synthetic", "--model", made / "model", "--part", "2", "--out", "x"
    )
    assert line == "--part 2: expected I/N, for instance 1/8"


def test_a_training_is_tracked(tmp_path, made, sbp, mistake):
    pytest.importorskip("tensorboard", reason="tensorboard (extra [tracking]) is not installed")
    train = ("pretrain", made / "corpus", "--preset", "smoke", "--budget-tokens", 2048, "--rows-per-batch", 8)
    sbp(*train, "--set", "num_validations=1", "--tracker", "tensorboard", "--out", tmp_path / "model")
    assert list((tmp_path / "model" / "tensorboard").glob("events.out.*"))
    line = mistake(*train, "--tracker", "paper", "--out", tmp_path / "other")
    assert line.startswith("argument --tracker: invalid choice: 'paper'")
