"""Files are old or new, never half; a full disk is an error that names the file."""

import contextlib
import json
import os
import random
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sbp_bayes.base.errors import StoreError
from sbp_bayes.base.store import (
    append_json_line,
    atomic_directory,
    atomic_path,
    read_json,
    read_json_lines,
    write_json,
    write_text,
)

FULL = Path("/dev/full")
needs_full_disk = pytest.mark.skipif(
    not FULL.exists(), reason="needs Linux's /dev/full, a disk without space"
)

WRITER = """
import itertools, sys
from pathlib import Path
from sbp_bayes.base.store import write_json
for number in itertools.count():
    write_json(Path(sys.argv[1]), [number] * 50_000)
"""


def test_a_killed_writer_leaves_a_whole_file(tmp_path):
    path, generator = tmp_path / "numbers.json", random.Random(0)
    for _ in range(4):
        path.unlink(missing_ok=True)
        with subprocess.Popen([sys.executable, "-c", WRITER, str(path)]) as writer:
            while not path.exists():
                assert writer.poll() is None
                time.sleep(0.001)
            time.sleep(generator.uniform(0.0, 0.05))
            writer.kill()
            assert writer.wait() == -signal.SIGKILL
        numbers = read_json(path)
        assert len(numbers) == 50_000
        assert len(set(numbers)) == 1


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o002, 0o664)])
def test_files_follow_the_umask_whatever_their_writer_sets(tmp_path, umask, mode):
    former = os.umask(umask)
    try:
        with atomic_path(tmp_path / "file") as temporary:
            temporary.unlink(
                missing_ok=True
            )  # a library that writes beside the path and renames, for its owner alone
            temporary.touch(0o600)
        with atomic_directory(tmp_path / "folder", known=["inner"]) as temporary:
            (temporary / "inner").touch(0o600)
    finally:
        os.umask(former)
    modes = [stat.S_IMODE(os.stat(tmp_path / name).st_mode) for name in ("file", "folder/inner")]
    assert modes == [mode, mode]


def test_an_error_while_writing_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    write_text(path, "old")
    with contextlib.suppress(ZeroDivisionError), atomic_path(path) as temporary:
        temporary.write_text("new, but not wh")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_old_file_is_there_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "deep" / "file"
    write_text(path, "old")
    with open(path) as reader:
        with atomic_path(path) as temporary:
            temporary.write_text("new")
            assert path.read_text() == "old"
        assert reader.read() == "old"  # who opened it before reads it to its end
    assert path.read_text() == "new"


FOLDER_WRITER = """
import itertools, sys
from pathlib import Path
from sbp_bayes.base.store import atomic_directory
for number in itertools.count():
    with atomic_directory(Path(sys.argv[1]), known="ab") as folder:
        for name in "ab":
            (folder / name).write_text(str(number) * 10_000)
"""


def test_a_killed_writer_leaves_a_folder_of_one_time_or_none(tmp_path):
    path, generator = tmp_path / "folder", random.Random(0)
    for _ in range(4):
        with subprocess.Popen([sys.executable, "-c", FOLDER_WRITER, str(path)]) as writer:
            while not path.exists():
                assert writer.poll() is None
                time.sleep(0.001)
            time.sleep(generator.uniform(0.0, 0.05))
            writer.kill()
            assert writer.wait() == -signal.SIGKILL
        if path.exists():
            assert (path / "a").read_text() == (path / "b").read_text() != ""


def test_a_folder_is_replaced_whole_or_stays(tmp_path):
    path = tmp_path / "new" / "folder"
    for text in ("old", "newer"):
        with atomic_directory(path, known=("a", "b")) as folder:
            (folder / ("a" if text == "old" else "b")).write_text(text)
    assert [(entry.name, entry.read_text()) for entry in path.iterdir()] == [("b", "newer")]
    with contextlib.suppress(ZeroDivisionError), atomic_directory(path, known="ab") as folder:
        (folder / "a").write_text("new, but not wh")
        raise ZeroDivisionError
    with pytest.raises(StoreError, match=r"holds other files already, b for one"):
        atomic_directory(path, known="a").__enter__()
    assert [(entry.name, entry.read_text()) for entry in path.iterdir()] == [("b", "newer")]
    assert [entry.name for entry in path.parent.iterdir()] == ["folder"]


@needs_full_disk
def test_a_full_disk_is_named_and_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.json"
    write_json(path, {"old": 1})
    with (
        pytest.raises(StoreError, match=rf"^cannot write {path}: No space left on device$"),
        atomic_path(path),
    ):
        FULL.write_text("too much")
    assert read_json(path) == {"old": 1}
    assert list(tmp_path.iterdir()) == [path]


@needs_full_disk
def test_appending_to_a_full_disk_is_an_error():
    with pytest.raises(StoreError, match="No space left on device"):
        append_json_line(FULL, {"step": 1})


def test_a_file_where_a_folder_should_be_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    for place in ("file/x", "file/inner/x"):
        with pytest.raises(StoreError, match=f"^cannot write {tmp_path / place}: "):
            write_text(tmp_path / place, "")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreError, match=r"folder: Is a directory$"):
        write_text(tmp_path / "folder", "")


def test_appended_lines_are_read_back_without_a_torn_tail(tmp_path):
    path = tmp_path / "lines.jsonl"
    assert read_json_lines(path) == []
    values = [{"text": "line\nbreak, naïve"}, [1, None], "x"]
    for value in values:
        append_json_line(path, value)
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        assert read_json_lines(path) == values[: whole[:cut].count(b"\n")]


@pytest.mark.parametrize("last", ["x", "y" * 200_000])
def test_a_line_after_a_torn_tail_is_whole(tmp_path, last):
    """Wherever a kill cut the last line, the next one is read back, and every line before the cut."""
    path = tmp_path / "lines.jsonl"
    values = [{"text": "naïve"}, last]
    for value in values:
        append_json_line(path, value)
    whole = path.read_bytes()
    cuts = range(len(whole)) if len(whole) < 100 else (len(whole) - 1, len(whole) - 150_000, 20)
    for cut in cuts:
        path.write_bytes(whole[:cut])
        kept = values[: whole[:cut].count(b"\n")]
        append_json_line(path, {"step": 3})
        append_json_line(path, {"step": 4})
        assert read_json_lines(path) == [*kept, {"step": 3}, {"step": 4}]


def test_a_damaged_line_is_named(tmp_path):
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b'{"a": 1}\n{"torn{"b": 2}\n{"c": 3}\n')
    with pytest.raises(StoreError, match=r"lines\.jsonl:2: damaged"):
        read_json_lines(path)


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"\xff\xfe"])
def test_damaged_json_names_the_file(tmp_path, content):
    path = tmp_path / "file.json"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=rf"^{path}: damaged, not JSON"):
        read_json(path)


def test_missing_json_names_the_file(tmp_path):
    with pytest.raises(StoreError, match=r"gone\.json: no such file"):
        read_json(tmp_path / "gone.json")


def test_json_keeps_every_character(tmp_path):
    value = {"text": "α − × \u2028 \ud83d\ude00 \x00".encode("utf-16", "surrogatepass").decode("utf-16")}
    write_json(tmp_path / "x.json", value)
    assert read_json(tmp_path / "x.json") == value
    assert json.loads((tmp_path / "x.json").read_text(encoding="utf-8")) == value
