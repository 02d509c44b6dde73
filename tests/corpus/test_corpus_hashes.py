"""Input files are hashed once while they stay as they are, and never taken for what they were."""

import json
import os
import time

import pytest

from sbp_bayes.base.errors import CorpusError
from sbp_bayes.base.stage import Workspace
from sbp_bayes.base.store import read_json
from sbp_bayes.corpus import CorpusConfig, hashes, prepare_corpus
from sbp_bayes.corpus.hashes import hash_files


@pytest.fixture
def read(monkeypatch):
    """Names of the files that are hashed, as they are."""
    names = []
    real = hashes._hash

    def hashed(file, advance):
        names.append(file.name)
        return real(file, advance)

    monkeypatch.setattr(hashes, "_hash", hashed)
    return names


@pytest.fixture
def files(tmp_path):
    """Two files, changed longer ago than a tick of any clock here."""
    found = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    for file in found:
        file.write_text(f"content of {file.name}")
    while any(time.time_ns() - file.stat().st_ctime_ns <= 0.15e9 for file in found):
        time.sleep(0.05)
    return found


def test_files_that_stay_are_read_once(files, tmp_path, read, capsys):
    memory = tmp_path / "memory" / "hashes.json"
    first = hash_files(files, memory)
    assert (read, [content.num_bytes for content in first]) == (["a.jsonl", "b.jsonl"], [18, 18])
    assert "hashing the input: 36 bytes" in capsys.readouterr().err
    assert hash_files(files, memory) == first
    assert (len(read), capsys.readouterr().err) == (2, "")


def rewrite(file):
    file.write_text("another of the same")


def rewrite_with_old_times(file):
    status = file.stat()
    file.write_text(file.read_text().swapcase())
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def replace(file):
    status = file.stat()
    other = file.with_name("other")
    other.write_text(file.read_text().swapcase())
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    os.replace(other, file)


@pytest.mark.parametrize("change", [rewrite, rewrite_with_old_times, replace])
def test_a_changed_file_is_read_again(files, tmp_path, read, change):
    memory = tmp_path / "hashes.json"
    before = hash_files(files, memory)
    change(files[1])
    after = hash_files(files, memory)
    assert read == ["a.jsonl", "b.jsonl", "b.jsonl"]
    assert (after[0], after[1].sha256 == before[1].sha256) == (before[0], False)
    assert after[1].sha256 == hash_files(files)[1].sha256


def test_a_file_that_has_just_changed_is_not_remembered(files, tmp_path, read):
    memory = tmp_path / "hashes.json"
    files[0].touch()
    hash_files(files, memory)
    assert [name.rpartition("/")[2] for name in read_json(memory)] == ["b.jsonl"]
    hash_files(files, memory)
    assert read == ["a.jsonl", "b.jsonl", "a.jsonl"]


def test_times_in_whole_seconds_need_two_of_them():
    settled = {"num_bytes": 1, "modified": 0, "inode": 1, "sha256": ""}
    second = 10**9

    def is_settled(changed, later):
        return hashes.FileHash(**settled, changed=changed, read=changed + int(later * second)).is_settled

    assert is_settled(5 * second + 123_456_789, 0.2)
    assert not is_settled(5 * second + 123_456_789, 0.05)
    assert not is_settled(5 * second, 1.5)
    assert is_settled(5 * second, 2.5)


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"x": {"sha256": 3}}'])
def test_a_damaged_memory_is_done_without(files, tmp_path, read, content):
    memory = tmp_path / "hashes.json"
    memory.write_text(content)
    assert hash_files(files, memory) == hash_files(files, memory)
    assert len(read) == 2


def test_a_memory_that_cannot_be_written_is_done_without(files, read):
    memory = files[0] / "hashes.json"
    assert hash_files(files, memory)[0].sha256 == hash_files(files, memory)[0].sha256
    assert len(read) == 4


def test_what_is_known_is_kept_while_others_are_read(files, tmp_path, read, monkeypatch):
    memory = tmp_path / "hashes.json"
    monkeypatch.setattr(hashes, "SECONDS_BETWEEN_SAVES", 0.0)
    with pytest.raises(CorpusError, match=r"missing\.jsonl: cannot be read \(No such file"):
        hash_files([*files, tmp_path / "missing.jsonl"], memory)
    real = hashes._hash

    def killed(file, advance):
        if file.name == "b.jsonl":
            raise KeyboardInterrupt
        return real(file, advance)

    with monkeypatch.context() as patch:
        patch.setattr(hashes, "_hash", killed)
        with pytest.raises(KeyboardInterrupt):
            hash_files(files, memory)
    read.clear()
    hash_files(files, memory)
    assert read == ["b.jsonl"]


@pytest.mark.parametrize("in_workspace", [True, False])
def test_the_finished_stage_reads_nothing(tmp_path, read, in_workspace):
    texts = tmp_path / "texts"
    texts.mkdir()
    for name in "ab":
        lines = [json.dumps({"text": f"{name} document {i} says {i * i} things"}) for i in range(60)]
        (texts / f"{name}.jsonl").write_text("\n".join(lines))
    time.sleep(0.2)
    config = CorpusConfig(
        paths=(str(texts),),
        vocab_size=280,
        min_chars=5,
        validation_share=0.2,
        test_share=0.2,
        dedup_threshold=1.0,
    )
    place = Workspace(tmp_path / "out") if in_workspace else tmp_path / "out"
    manifest = prepare_corpus(config, place)
    assert read == ["a.jsonl", "b.jsonl"]
    assert prepare_corpus(config, place) == manifest
    assert read == ["a.jsonl", "b.jsonl"]
