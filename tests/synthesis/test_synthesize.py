"""Synthesis by a tiny real model: exact against sampling one by one, and unmoved by kills and shards."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tiny_synthesizer import Given, make_synthesizer

from sbp_bayes.base.errors import CheckpointError, ConfigError, CorpusError, StoreError
from sbp_bayes.corpus import Corpus, train_tokenizer
from sbp_bayes.lm import Transformer, generate, load_model, save_model, with_context_length
from sbp_bayes.synthesis import (
    CORPUS,
    NoDocuments,
    SeedDocuments,
    SynthesisConfig,
    seed_document,
    stream_seed,
    synthesize,
)

OTHER = ["a model of other words learns them here, pair after pair, until nothing else is left to say"]
CONFIG = SynthesisConfig(num_tokens=400, max_document_tokens=12, slots=64, shard_size=16, seed=5)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Given:
    return make_synthesizer(tmp_path_factory.mktemp("synthesizer"))


def run(given: Given, directory: Path, num_workers: int = 1, **changes: object) -> Corpus:
    config = dataclasses.replace(CONFIG, **changes)
    synthesize(
        config,
        given.model_dir,
        SeedDocuments(given.corpus),
        directory,
        tokenizer=given.tokenizer,
        num_workers=num_workers,
    )
    return Corpus.load(directory / CORPUS)


def content(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((directory / CORPUS).iterdir())}


def test_samples_are_the_models_one_by_one(given: Given, tmp_path: Path) -> None:
    """Each kept document, sampled alone from its own seed document and stream."""
    synthetic = run(given, tmp_path)
    limit = CONFIG.max_document_tokens
    model = with_context_length(load_model(given.model_dir), 2 * limit + 2)
    for place in range(0, len(synthetic), 5):
        sample = synthetic.metadata[place]["sample"]
        index = seed_document(CONFIG.seed, sample, len(given.corpus))
        prompt = np.array([0, *given.corpus.document(index)[:limit], 1])
        stream = stream_seed(CONFIG.seed, given.corpus.ids[index], sample)
        (alone,) = generate(model, [prompt], max_new_tokens=limit + 1, stream_seeds=[stream])
        assert synthetic.document(place).tolist() == alone.tokens[:limit].tolist()
        assert bool(synthetic.complete[place]) == alone.finished
        assert synthetic.texts[place] == given.tokenizer.decode(alone.tokens[:limit])
        assert synthetic.ids[place] == f"synthetic:{sample}"
        assert synthetic.metadata[place]["seed_index"] == index
        assert synthetic.metadata[place]["seed_document"] == given.corpus.ids[index]


def test_samples_of_no_document_are_the_models_own(given: Given, tmp_path: Path) -> None:
    """Each sampled alone after EOS, from its own stream; none names a seed document."""
    fresh = Transformer(load_model(given.model_dir).config, seed=3)  # of which not every sample is empty
    save_model(fresh, tmp_path / "model")
    synthesize(
        CONFIG, tmp_path / "model", NoDocuments(), tmp_path / "out", tokenizer=given.tokenizer, num_workers=1
    )
    synthetic, limit = Corpus.load(tmp_path / "out" / CORPUS), CONFIG.max_document_tokens
    model = with_context_length(fresh, 2 * limit + 2)
    for place in range(0, len(synthetic), 5):
        assert synthetic.metadata[place].keys() == {"sample"}
        stream = stream_seed(CONFIG.seed, "", synthetic.metadata[place]["sample"])
        (alone,) = generate(model, [np.array([0])], max_new_tokens=limit + 1, stream_seeds=[stream])
        assert synthetic.document(place).tolist() == alone.tokens[:limit].tolist()
        assert bool(synthetic.complete[place]) == alone.finished


def test_the_corpus_is_as_long_as_asked(given: Given, tmp_path: Path) -> None:
    synthetic = run(given, tmp_path)
    assert synthetic.num_tokens - (synthetic.lengths[-1] + 1) < CONFIG.num_tokens <= synthetic.num_tokens
    assert 0 < synthetic.complete.sum() < len(synthetic)
    assert synthetic.lengths.max() == CONFIG.max_document_tokens
    assert (np.diff([m["sample"] for m in synthetic.metadata]) > 0).all()


@pytest.mark.parametrize(
    "changes",
    [
        {"shard_size": 7},
        {"shard_size": 100, "slots": 1},
        {"slots": 200},
        {"shard_size": 7, "num_workers": 3},
    ],
)
def test_shards_slots_and_workers_change_nothing(
    given: Given, tmp_path: Path, changes: dict[str, int]
) -> None:
    run(given, tmp_path / "a")
    run(given, tmp_path / "b", **changes)
    assert content(tmp_path / "a") == content(tmp_path / "b")


def test_a_document_may_end_right_at_the_limit(given: Given, tmp_path: Path) -> None:
    synthetic = run(given, tmp_path, max_document_tokens=4)
    complete = synthetic.complete[synthetic.lengths == 4]
    assert 0 < complete.sum() < len(complete)


def test_a_shorter_corpus_is_a_beginning_of_a_longer_one(given: Given, tmp_path: Path) -> None:
    short, long = (run(given, tmp_path / str(n), num_tokens=n) for n in (150, 400))
    assert long.ids[: len(short)] == short.ids
    assert np.array_equal(long.tokens[: len(short.tokens)], short.tokens)


def test_another_seed_gives_other_documents(given: Given, tmp_path: Path) -> None:
    first, second = run(given, tmp_path / "a"), run(given, tmp_path / "b", seed=6)
    assert first.texts != second.texts


PROGRAM = """
import dataclasses, sys, time
from pathlib import Path
from sbp_bayes.corpus import Corpus, Tokenizer
from sbp_bayes.synthesis import SeedDocuments, SynthesisConfig, generate, synthesize
home, out = Path(sys.argv[1]), Path(sys.argv[2])
config = SynthesisConfig(num_tokens=400, max_document_tokens=12, slots=64, shard_size=16, seed=5)
real = generate.generate
generate.generate = lambda *args, **kwargs: (time.sleep(0.2), real(*args, **kwargs))[1]
synthesize(config, home / "model", SeedDocuments(Corpus.load(home / "real")), out,
    tokenizer=Tokenizer.load(home / "tokenizer.json"), num_workers=1)
"""


def test_a_kill_changes_nothing(given: Given, tmp_path: Path) -> None:
    """SIGKILL in the middle of a shard, in a process of its own; the next call goes on."""
    run(given, tmp_path / "whole")
    killed = tmp_path / "killed"
    command = [sys.executable, "-c", PROGRAM, str(given.model_dir.parent), str(killed)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 60
        while len(list(killed.glob("shards/*.npz"))) < 2:
            assert process.poll() is None, process.stderr and process.stderr.read().decode()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert not (killed / "manifest.json").exists()
    before = {path: path.stat().st_mtime_ns for path in killed.glob("shards/*.npz")}
    run(given, killed)
    assert content(killed) == content(tmp_path / "whole")
    assert all(path.stat().st_mtime_ns == then for path, then in before.items())


def test_the_manifest_accounts_for_every_sample(given: Given, tmp_path: Path) -> None:
    manifest = synthesize(
        CONFIG,
        given.model_dir,
        SeedDocuments(given.corpus),
        tmp_path,
        tokenizer=given.tokenizer,
        num_workers=1,
    )
    counts, synthetic = manifest.counts, Corpus.load(tmp_path / CORPUS)
    dropped = sum(counts[reason] for reason in ("empty", "repetitive", "copy_of_seed", "duplicate"))
    assert counts["samples"] == counts["kept"] + dropped == synthetic.metadata[-1]["sample"] + 1
    assert counts["kept"] == len(synthetic)
    assert counts["tokens"] == synthetic.num_tokens
    assert counts["empty"] > 0  # this model likes EOS
    shards = -(-counts["samples"] // CONFIG.shard_size) * CONFIG.shard_size
    seeds = [seed_document(CONFIG.seed, j, len(given.corpus)) for j in range(shards)]
    assert counts["prompt_tokens"] == sum(min(given.corpus.lengths[s], 12) + 2 for s in seeds)
    parameters = load_model(given.model_dir).config.num_parameters
    assert manifest.flops == pytest.approx(
        2 * parameters * (counts["prompt_tokens"] + counts["sampled_tokens"])
    )


def test_mistakes_are_named(given: Given, tmp_path: Path) -> None:
    run(given, tmp_path)
    with pytest.raises(StoreError, match=r"differs in config\.seed"):
        run(given, tmp_path, seed=6)
    with pytest.raises(CorpusError, match="no documents"):
        run(dataclasses.replace(given, corpus=given.corpus.select([])), tmp_path / "b")
    with pytest.raises(ConfigError, match="num_workers"):
        run(given, tmp_path / "w", num_workers=0)
    with pytest.raises(ConfigError, match=r"tokenizer\.vocab_size = 290 .* at most the model's 280"):
        run(dataclasses.replace(given, tokenizer=train_tokenizer(OTHER, 290)), tmp_path / "t")
    foreign = dataclasses.replace(given.corpus, tokens=given.corpus.tokens + 100)
    with pytest.raises(ConfigError, match=r"the corpus has token 3\d\d, but vocab_size = 280"):
        run(dataclasses.replace(given, corpus=foreign), tmp_path / "f")
    with pytest.raises(CheckpointError, match="none"):
        run(dataclasses.replace(given, model_dir=tmp_path / "none"), tmp_path / "c")


@pytest.mark.parametrize(
    "change",
    [{"num_tokens": 0}, {"max_document_tokens": 0}, {"slots": 0}, {"temperature": 0.0}, {"top_p": 1.5}],
)
def test_settings_out_of_range(change: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(change))):
        dataclasses.replace(CONFIG, **change)
