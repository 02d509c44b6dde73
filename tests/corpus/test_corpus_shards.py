"""The corpus stage over many shards: the same for any workers and after any stop, and nothing is lost."""

import dataclasses
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sbp_bayes.base.errors import CorpusError, StoreError
from sbp_bayes.base.stage import Manifest
from sbp_bayes.base.store import read_json_lines
from sbp_bayes.corpus import Corpus, CorpusConfig, Tokenizer, prepare, prepare_corpus, shards
from sbp_bayes.corpus.reading import read_source
from sbp_bayes.corpus.shards import list_shards, read_shard

DATA = Path(__file__).parents[3] / "shared" / "data"
WORDS = [f"word{i}" for i in range(300)]
SHARDS = [f"global-shard_0{g}_of_10/local-shard_{k}_of_10/shard_0000000{s}_processed.jsonl.zst"
          for g, k, s in itertools.product((1, 2), (0, 1), (0, 1))]  # fmt: skip


def text(i: int, edits: int = 0) -> str:
    words = [WORDS[k] for k in np.random.default_rng(i).integers(300, size=60)]
    return " ".join([*words, *("new",) * edits])


def record(i: int, edits: int = 0, language: str = "en") -> dict[str, object]:
    """A record of DCLM-baseline's schema."""
    return {
        "bff_contained_ngram_count_before_dedupe": i,
        "language_id_whole_page_fasttext": {language: 0.9},
        "metadata": {"WARC-Type": "response", "WARC-Date": "2014-03-13T14:49:13Z", "WARC-Truncated": None},
        "previous_word_count": 60,
        "text": text(i, edits),
        "url": f"http://example.org/{i}",
        "warcinfo": "robots: classic\r\n",
        "fasttext_openhermes_reddit_eli5_vs_rw_v2_bigram_200k_train_prob": 0.08,
    }


def write(path: Path, records: list[dict[str, object]], tail: bytes = b"") -> None:
    lines = b"".join(json.dumps(r).encode() + b"\n" for r in records) + tail
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(zstandard.compress(lines) if path.suffix == ".zst" else lines)


@pytest.fixture(scope="module")
def dclm(tmp_path_factory) -> Path:
    """Eight shards of 40 documents; shard k repeats 2 documents of shard 0 and edits 2 of shard k − 1."""
    root = tmp_path_factory.mktemp("dclm")
    for k, name in enumerate(SHARDS):
        records = [record(100 * k + i) for i in range(40)]
        records += [record(0), record(1), *(record(100 * (k - 1) + i, edits=1 + k) for i in (2, 3) if k)]
        write(root / name, records, tail=b"not JSON\n" if k == 3 else b"")
    return root


def settings_for(path: Path) -> CorpusConfig:
    shares = {"validation_share": 0.1, "test_share": 0.1, "max_bad_share": 0.1}
    return CorpusConfig(paths=(str(path),), vocab_size=300, **shares)


@pytest.fixture
def config(dclm) -> CorpusConfig:
    return settings_for(dclm)


def prints(manifest: Manifest) -> list[object]:
    """All that must not depend on how the work was done."""
    folder = manifest.directory
    corpora = [Corpus.load(folder / name) for name in ("pool", "validation", "test")]
    files = [(folder / name).read_bytes() for name in ("rejects.jsonl", "tokenizer.json")]
    table = pq.read_table(folder / "duplicates.parquet").to_pylist()
    contents = [(corpus.fingerprint, list(corpus.metadata)) for corpus in corpora]
    return [manifest.counts, contents, files, table]


@pytest.fixture(scope="module")
def serial(dclm, tmp_path_factory) -> Manifest:
    return prepare_corpus(settings_for(dclm), tmp_path_factory.mktemp("serial"), num_workers=1)


def test_the_smallest_shard_and_position_survives(serial):
    table = pq.read_table(serial.directory / "duplicates.parquet").to_pylist()
    expected = [
        (f"{SHARDS[0]}:41", f"{SHARDS[0]}:1", "exact"),
        (f"{SHARDS[0]}:42", f"{SHARDS[0]}:2", "exact"),
    ]
    for k in range(1, 8):
        expected += [(f"{SHARDS[k]}:{41 + i}", f"{SHARDS[0]}:{1 + i}", "exact") for i in (0, 1)]
        expected += [(f"{SHARDS[k]}:{43 + i}", f"{SHARDS[k - 1]}:{3 + i}", "near") for i in (0, 1) if k]
    assert [(row["document"], row["survivor"], row["kind"]) for row in table] == expected
    for row in table:
        if row["kind"] == "exact":
            assert row["jaccard"] == 1
        else:
            assert 56 / (56 + 8) <= row["jaccard"] < 1  # 56 shared 5-grams, and at most 8 new ones
    counts = serial.counts
    assert (counts["read"], counts["rejected"]) == (351, {"not JSON": 1})
    assert (counts["exact_duplicates"], counts["near_duplicates"], counts["unique"]) == (16, 14, 320)
    rejects = read_json_lines(serial.directory / "rejects.jsonl")
    assert rejects == [{"file": SHARDS[3], "line": 45, "reason": "not JSON"}]


def test_url_language_and_other_fields_stay_with_the_document(serial):
    pool = Corpus.load(serial.directory / "pool")
    number = int(pool.metadata[0]["url"].rsplit("/", 1)[1])
    assert pool.texts[0] == text(number)
    expected = record(number)
    del expected["text"]
    assert pool.metadata[0] == expected


def test_workers_change_nothing(serial, config, tmp_path):
    assert prints(prepare_corpus(config, tmp_path, num_workers=2)) == prints(serial)


@pytest.mark.parametrize("phase", ["read_shard", "tokenise_shard", "write_split"])
def test_a_stopped_stage_goes_on_by_shard(serial, config, tmp_path, monkeypatch, phase):
    work, done = getattr(prepare, phase), itertools.count(1)

    def stop_at_the_third(*arguments):
        if next(done) == 3:
            raise KeyboardInterrupt
        return work(*arguments)

    monkeypatch.setattr(prepare, phase, stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        prepare_corpus(config, tmp_path, num_workers=1)
    monkeypatch.undo()
    read = []
    monkeypatch.setattr(shards, "read_source", lambda *a, **k: read.append(a) or read_source(*a, **k))
    assert prints(prepare_corpus(config, tmp_path, num_workers=1)) == prints(serial)
    assert len(read) == (6 if phase == "read_shard" else 0)
    assert not (tmp_path / "shards").exists()


def test_a_damaged_shard_is_counted_and_too_many_stop(config, dclm, serial, tmp_path):
    root = tmp_path / "damaged"
    shutil.copytree(dclm, root)
    broken = root / SHARDS[1]
    broken.write_bytes(broken.read_bytes()[:-20])
    write(root / "empty.jsonl", [])
    here = dataclasses.replace(config, paths=(str(root),))
    with pytest.raises(CorpusError, match=r"shard_00000001_.*unreadable.*1 of 9 files are bad"):
        prepare_corpus(here, tmp_path / "strict")
    counts = prepare_corpus(dataclasses.replace(here, max_bad_files=0.2), tmp_path / "out").counts
    assert counts["rejected"] == {"not JSON": 1, "unreadable from here": 1}
    assert (counts["bad_files"], counts["empty_shards"]) == (1, 1)
    rejects = read_json_lines(tmp_path / "out" / "rejects.jsonl")
    assert {(r["file"], r["reason"]) for r in rejects} == {
        (SHARDS[1], "unreadable from here"),
        (SHARDS[3], "not JSON"),
    }
    assert counts["read"] == serial.counts["read"] - 44 + rejects[0]["line"]


def test_changed_shards_are_named(config, dclm, tmp_path):
    root = tmp_path / "changing"
    shutil.copytree(dclm, root)
    here = dataclasses.replace(config, paths=(str(root),))
    prepare_corpus(here, tmp_path / "out")
    write(root / SHARDS[2], [record(9)])
    with pytest.raises(StoreError, match=f"another plan.*changed since then: {SHARDS[2]}$"):
        prepare_corpus(here, tmp_path / "out")
    (tmp_path / "out" / "manifest.json").unlink()  # as if it had been stopped half-way
    with pytest.raises(StoreError, match=f"another plan.*changed since then: {SHARDS[2]}$"):
        prepare_corpus(here, tmp_path / "out")


def test_files_of_one_name_are_refused_before_they_are_read(config, dclm, tmp_path):
    twice = tuple(str(dclm / f"global-shard_0{g}_of_10") for g in (1, 2))
    name = SHARDS[0].partition("/")[2]
    with pytest.raises(CorpusError, match=f"02_of_10/{name}: documents of both would have the ids {name}:1"):
        prepare_corpus(dataclasses.replace(config, paths=twice), tmp_path / "out")
    # A folder that holds both does it, and links make one.
    (tmp_path / "both").mkdir()
    for path in twice:
        (tmp_path / "both" / Path(path).name).symlink_to(path)
    linked = dataclasses.replace(config, paths=(str(tmp_path / "both"),))
    assert prepare_corpus(linked, tmp_path / "out").counts["read"] == 351


def test_the_field_of_the_text_can_have_another_name(config, tmp_path):
    records = [{"body": text(i), "text": "not this"} for i in range(80)]
    write(tmp_path / "x.jsonl", records)
    paths = (str(tmp_path / "x.jsonl"),)
    manifest = prepare_corpus(dataclasses.replace(config, paths=paths, text_field="body"), tmp_path / "out")
    pool = Corpus.load(manifest.directory / "pool")
    assert set(pool.texts) <= {text(i) for i in range(80)}
    assert pool.metadata[0] == {"text": "not this"}


def test_kill_9_of_all_processes_and_a_rerun(serial, dclm, tmp_path):
    """The command line is killed when a shard is read, when a part is searched, and when one is tokenised."""
    settings = [f"--set={key}=0.1" for key in ("validation_share", "test_share", "max_bad_share")]
    command = [sys.executable, "-m", "sbp_bayes.cli", "corpus", dclm, "--vocab-size", "300", *settings]
    command += ["--workers", "2", "--out", tmp_path / "out"]
    for sign in ("000000.json", "near.000000.npy", "000000.tokens.json"):
        process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
        while not (tmp_path / "out" / "shards" / sign).exists():
            assert process.poll() is None
            time.sleep(0.001)
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert not (tmp_path / "out" / "manifest.json").exists()
    assert prints(prepare_corpus(settings_for(dclm), tmp_path / "out", num_workers=1)) == prints(serial)


def test_a_shard_that_changes_while_it_is_read(config, dclm, tmp_path):
    root = tmp_path / "changing"
    shutil.copytree(dclm, root)
    (tmp_path / "scratch").mkdir()
    shard, *_ = list_shards(dataclasses.replace(config, paths=(str(root),)), tmp_path / "scratch")
    write(root / SHARDS[0], [record(9)])
    with pytest.raises(CorpusError, match=f"{SHARDS[0]}: changed while it was read"):
        read_shard(shard, config)
    assert shard.marker is None


def test_other_languages_are_left_out_where_the_record_says_it(config, tmp_path):
    records = [record(i, language="de" if i % 4 == 0 else "en") for i in range(80)]
    records[1] = {"text": text(1)}  # says nothing
    write(tmp_path / "x.jsonl", records)
    english = dataclasses.replace(config, paths=(str(tmp_path / "x.jsonl"),), languages=("en",))
    counts = prepare_corpus(english, tmp_path / "out").counts
    assert counts["cleaned_away"] == {"in another language": 20}
    assert counts["unique"] == 60


def test_the_tokenizer_can_learn_from_a_part_that_hashes_choose(config, serial, tmp_path):
    small = dataclasses.replace(config, tokenizer_bytes=20_000)
    first = prepare_corpus(small, tmp_path / "a")
    tokenizer = Tokenizer.load(first.directory / "tokenizer.json")
    assert tokenizer.fingerprint != Tokenizer.load(serial.directory / "tokenizer.json").fingerprint
    again = prepare_corpus(small, tmp_path / "b", num_workers=2)
    assert Tokenizer.load(again.directory / "tokenizer.json").fingerprint == tokenizer.fingerprint


def test_the_same_document_falls_on_the_same_side_in_any_company(serial, config, dclm, tmp_path):
    alone = dataclasses.replace(config, paths=(str(dclm / SHARDS[5]),))
    part = prepare_corpus(alone, tmp_path)
    for name in ("pool", "validation", "test"):
        here = set(Corpus.load(part.directory / name).texts)
        assert here
        elsewhere = [
            set(Corpus.load(serial.directory / n).texts) for n in ("pool", "validation", "test") if n != name
        ]
        assert not here & set.union(*elsewhere)  # fmt: skip


@given(st.lists(st.binary(max_size=60) | st.just(json.dumps(record(1)).encode()), max_size=6).map(b"\n".join),
       st.sampled_from([".jsonl", ".jsonl.zst", ".jsonl.gz", ".parquet"]), st.booleans())  # fmt: skip
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_in_a_shard_give_documents_or_counted_rejects(tmp_path, config, content, ending, wrap):
    root = tmp_path / "fuzz"
    shutil.rmtree(root, ignore_errors=True)
    (root / "scratch").mkdir(parents=True)
    (root / f"x{ending}").write_bytes(zstandard.compress(content) if wrap and "zst" in ending else content)
    here = dataclasses.replace(config, paths=(str(root / f"x{ending}"),), max_bad_share=0.9)
    (shard,) = list_shards(here, root / "scratch")
    marker = read_shard(shard, here)
    rejected, cleaned_away = (sum(marker[name].values()) for name in ("rejected", "cleaned_away"))
    assert marker["read"] == marker["documents"] + rejected + cleaned_away
    assert len(read_json_lines(shard.file("rejects.jsonl"))) == rejected
    assert len(shard.index) == marker["documents"] == sum(b.num_rows for _, b in shard.batches())


@pytest.mark.skipif(not DATA.exists(), reason="the web samples in ../shared/data are not on this machine")
def test_real_web_documents(tmp_path):
    paths = (str(DATA / "dclm"), str(DATA / "web"))
    manifest = prepare_corpus(CorpusConfig(paths=paths, vocab_size=400), tmp_path)
    assert manifest.counts["unique"] > 500
    assert manifest.counts["rejected"] == {}
