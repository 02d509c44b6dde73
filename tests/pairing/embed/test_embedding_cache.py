"""Embeddings on disk: the embedder's own to the bit, computed once, whole again after damage or a kill."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from sbp_bayes.base.errors import StoreError
from sbp_bayes.base.stage import Workspace, read_manifest
from sbp_bayes.corpus import Corpus, Document, train_tokenizer
from sbp_bayes.lm import LMConfig, Transformer
from sbp_bayes.pairing import CachedEmbedder, EmbedderConfig, PairConfig, PairRules, SelfEmbedder, build_pairs
from sbp_bayes.pairing.embed import batches
from sbp_bayes.pairing.embed import cache as embedding_cache

WORDS = "river lake water fish boat shore proof theorem lemma number algebra field".split()  # noqa: SIM905
WINDOW = 8


def paired_above(alpha, **embedder):
    rules = PairRules(alpha=alpha, near_duplicate_containment=1.0)
    return PairConfig(embedder=EmbedderConfig(**embedder), rules=rules)


def corpus_of_words(num_documents=20, seed=0):
    generator = np.random.default_rng(seed)
    topics = [WORDS[4 * (i % 3) : 4 * (i % 3) + 4] for i in range(num_documents)]
    texts = [" ".join(generator.choice(topic, 3 + i % 20)) for i, topic in enumerate(topics)]
    return Corpus.build(texts, train_tokenizer(WORDS, 300))


@pytest.fixture(autouse=True)
def small_windows(monkeypatch):
    monkeypatch.setattr(batches, "WINDOW", WINDOW)
    monkeypatch.setattr(batches, "POSITIONS_TOGETHER", 64)


def fitted_embedder():
    """A real one: its vectors depend on the batch by rounding."""
    shape = {"width": 16, "num_layers": 1, "num_heads": 2, "num_kv_heads": 1, "head_width": 8}
    model = Transformer(LMConfig(vocab_size=300, context_length=12, hidden_width=32, **shape))
    return SelfEmbedder(model).fit(corpus_of_words())


@pytest.fixture
def embedder(small_windows):
    return fitted_embedder()


class Counting:
    """An embedder that notes the documents that it is asked for."""

    def __init__(self, embedder):
        self.embedder, self.fingerprint, self.asked = embedder, embedder.fingerprint, []
        self.fit_flops = embedder.fit_flops

    def embed(self, corpus):
        self.asked.append(list(corpus.ids))
        return self.embedder.embed(corpus)

    def flops(self, corpus):
        return self.embedder.flops(corpus)

    def num_truncated(self, corpus):
        return self.embedder.num_truncated(corpus)


def test_vectors_are_the_embedders_own_and_computed_once(embedder, tmp_path):
    corpus, counting = corpus_of_words(), Counting(embedder)
    cached = CachedEmbedder(counting, tmp_path)
    vectors = cached.embed(corpus)
    assert isinstance(vectors, np.memmap)
    np.testing.assert_array_equal(vectors, embedder.embed(corpus))
    assert [len(ids) for ids in counting.asked] == [8, 8, 4]
    assert cached.fingerprint == embedder.fingerprint
    assert cached.num_truncated(corpus) == embedder.num_truncated(corpus) > 0
    assert cached.flops(corpus) == pytest.approx(embedder.flops(corpus), rel=1e-12)

    again = CachedEmbedder(counting, tmp_path)
    np.testing.assert_array_equal(again.embed(corpus), vectors)
    assert (again.flops(corpus), again.num_truncated(corpus)) == (
        cached.flops(corpus),
        cached.num_truncated(corpus),
    )
    assert len(counting.asked) == 3


def test_other_texts_or_another_embedder_are_not_mistaken_for_these(embedder, tmp_path):
    corpus, counting = corpus_of_words(4), Counting(embedder)
    cached = CachedEmbedder(counting, tmp_path)
    cached.embed(corpus)
    # The same ids and tokens, and so the same fingerprint of the corpus, with another text.
    documents = [
        Document(id=id, text=f"{text} ", source="x")
        for id, text in zip(corpus.ids, corpus.texts, strict=True)
    ]
    tokens = [corpus.document(i) for i in range(4)]
    other = Corpus.from_tokens(documents, tokens, vocab_size=300)
    assert other.fingerprint == corpus.fingerprint
    cached.embed(other)
    assert len(counting.asked) == 2
    counting.fingerprint = "another"
    CachedEmbedder(counting, tmp_path).embed(corpus)
    assert len(counting.asked) == 3
    assert len(list(tmp_path.iterdir())) == 3


def test_no_documents_have_no_vectors(embedder, tmp_path):
    cached = CachedEmbedder(embedder, tmp_path)
    nothing = corpus_of_words().select([])
    assert cached.embed(nothing).shape == (0, 16)
    assert (cached.flops(nothing), cached.num_truncated(nothing)) == (0, 0)
    assert list(tmp_path.iterdir()) == []


def damage_rows(folder):
    """Change one number of the second window."""
    with open(folder / "vectors.npy", "r+b") as file:
        file.seek(-4 * 16 * 5, os.SEEK_END)
        file.write(b"\x00\x00\xc0\x7f")  # NaN


def damage_line(folder):
    lines = (folder / "windows.jsonl").read_text().splitlines()
    (folder / "windows.jsonl").write_text("\n".join([lines[0], "{", lines[2]]) + "\n")


def damage_fields(folder):
    lines = [json.loads(line) for line in (folder / "windows.jsonl").read_text().splitlines()]
    lines[1]["flops"] = "many"
    lines[2]["start"] = 17
    (folder / "windows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def tear_line(folder):
    path = folder / "windows.jsonl"
    path.write_bytes(path.read_bytes()[:-9])


def cut_vectors(folder):
    path = folder / "vectors.npy"
    path.write_bytes(path.read_bytes()[:-100])


def other_vectors(folder):
    np.save(folder / "vectors.npy", np.zeros((20, 16)))


def empty_vectors(folder):
    (folder / "vectors.npy").write_bytes(b"")


@pytest.mark.parametrize(
    ("damage", "windows", "warning"),
    [
        (damage_rows, [8], "1 of 3 windows are damaged"),
        (damage_line, [8], "1 of 3 windows are damaged"),
        (damage_fields, [8, 4], "2 of 3 windows are damaged"),
        (tear_line, [4], None),
        (cut_vectors, [8, 8, 4], "3 of 3 windows are damaged"),
        (other_vectors, [8, 8, 4], "3 of 3 windows are damaged"),
        (empty_vectors, [8, 8, 4], "3 of 3 windows are damaged"),
        (lambda folder: (folder / "vectors.npy").unlink(), [8, 8, 4], "3 of 3 windows are damaged"),
        (lambda folder: (folder / "windows.jsonl").unlink(), [8, 8, 4], None),
    ],
)
def test_what_is_damaged_is_computed_again(embedder, tmp_path, caplog, damage, windows, warning):
    corpus, counting = corpus_of_words(), Counting(embedder)
    whole = np.array(CachedEmbedder(counting, tmp_path).embed(corpus))
    (folder,) = tmp_path.iterdir()
    counting.asked.clear()
    damage(folder)
    cached = CachedEmbedder(counting, tmp_path)
    np.testing.assert_array_equal(cached.embed(corpus), whole)
    assert [len(ids) for ids in counting.asked] == windows
    assert cached.flops(corpus) == pytest.approx(embedder.flops(corpus), rel=1e-12)
    assert (f"{folder}: {warning}: computed again" in caplog.text) if warning else caplog.text == ""
    counting.asked.clear()
    np.testing.assert_array_equal(CachedEmbedder(counting, tmp_path).embed(corpus), whole)
    assert counting.asked == []


def test_a_folder_that_cannot_be_written_is_named(embedder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write"):
        CachedEmbedder(embedder, tmp_path / "file").embed(corpus_of_words(3))


class Killed(Counting):
    """An embedder that kills its process in the third window, after two are kept."""

    def embed(self, corpus):
        if len(self.asked) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().embed(corpus)


def embed_and_die(directory):
    batches.WINDOW, batches.POSITIONS_TOGETHER = WINDOW, 64
    CachedEmbedder(Killed(fitted_embedder()), directory).embed(corpus_of_words(40))


def test_a_kill_loses_the_window_that_it_meets_alone(embedder, tmp_path):
    process = multiprocessing.get_context("spawn").Process(target=embed_and_die, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    corpus, counting = corpus_of_words(40), Counting(embedder)
    vectors = CachedEmbedder(counting, tmp_path).embed(corpus)
    assert counting.asked == [list(corpus.ids[start : start + 8]) for start in (16, 24, 32)]
    np.testing.assert_array_equal(vectors, embedder.embed(corpus))


WAITING = """
import sys, time
from pathlib import Path
from sbp_bayes.base.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_waits_for_the_first(embedder, tmp_path):
    corpus = corpus_of_words()
    cached = CachedEmbedder(embedder, tmp_path)
    holder = subprocess.Popen(
        [sys.executable, "-c", WAITING, str(cached.folder(corpus))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holder:
        assert holder.stdout.readline() == b"held\n"
        started = time.monotonic()
        threading.Timer(0.5, holder.stdin.close).start()
        cached.embed(corpus)
        assert time.monotonic() - started > 0.4


def paired(config, corpus, directory, **settings):
    manifest = build_pairs(config, corpus, directory, **settings)
    return manifest.counts["train"]["pairs"]


def test_the_stage_keeps_embeddings_where_it_is_told(tmp_path, monkeypatch):
    windows = []
    write = embedding_cache._write_rows
    monkeypatch.setattr(
        embedding_cache, "_write_rows", lambda path, *rest: (windows.append(path), write(path, *rest))
    )
    corpus, config = (
        corpus_of_words(40),
        paired_above(0.9, dimension=4),
    )
    more = paired_above(0.8, dimension=4)
    alone = paired(config, corpus, tmp_path / "alone")
    assert len(windows) == 5
    assert windows[0].is_relative_to(tmp_path / "alone")
    assert not (tmp_path / "alone" / "embeddings").exists()  # the stage is finished

    assert paired(config, corpus, tmp_path / "one", cache=tmp_path / "cache") == alone
    assert len(windows) == 10
    paired(more, corpus, tmp_path / "two", cache=tmp_path / "cache")
    assert len(windows) == 10
    assert read_manifest(tmp_path / "one").flops == read_manifest(tmp_path / "two").flops > 0

    assert paired(config, corpus, Workspace(tmp_path / "work")) == alone
    paired(more, corpus, Workspace(tmp_path / "work"))
    assert len(windows) == 15
    assert windows[-1].is_relative_to(tmp_path / "work" / "embeddings")


def test_the_stage_counts_and_tells_truncated_documents(embedder, tmp_path, caplog):
    corpus = corpus_of_words(40)
    config = paired_above(-0.9, kind="self")
    manifest = build_pairs(config, corpus, tmp_path, model=embedder.model)
    number = embedder.num_truncated(corpus)
    assert manifest.counts["train"]["documents_truncated"] == number > 0
    assert f"train documents: {number} of 40 are read in part, as too long" in caplog.text
