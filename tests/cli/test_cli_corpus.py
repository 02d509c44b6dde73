"""`sbp corpus`: fields chosen by flags, what is left out on stderr and in `stats`, and refused places."""

import json
import os
from pathlib import Path

import pytest

from sbp_bayes.base.stage import read_manifest
from sbp_bayes.cli import main
from sbp_bayes.corpus import Corpus


@pytest.fixture
def folder(tmp_path, texts) -> Path:
    """A folder of text with metadata, and of other things."""
    root = tmp_path / "in"
    root.mkdir()
    records = [
        json.loads(line) | {"a": i, "b": {"c": 1, "d": 2}}
        for i, line in enumerate(texts.read_text().splitlines())
    ]
    (root / "x.NDJSON").write_text("".join(json.dumps(x) + "\n" for x in [*records, {"text": ""}]))
    (root / "notes.txt").write_text("notes")
    return root


@pytest.mark.parametrize(
    ("flags", "metadata"),
    [
        ([], {"a", "b"}),
        (["--drop-fields", "a, b.c"], {"b"}),
        (["--keep-fields", "a"], {"a"}),
        (["--keep-fields", ""], set()),
        (["--set", 'keep_fields=["b.c","e"]'], {"b"}),
    ],
)
def test_fields_are_chosen_by_flags_and_stand_in_the_plan(folder, tmp_path, sbp, mistake, flags, metadata):
    sbp("corpus", folder, "--vocab-size", 300, "--out", tmp_path / "out", *flags)
    pool = Corpus.load(tmp_path / "out" / "pool")
    assert set(pool.metadata[0]) == metadata
    if flags:
        line = mistake("corpus", folder, "--vocab-size", 300, "--out", tmp_path / "out")
        assert "another plan (differs in config." in line
    if "a, b.c" in flags:
        assert pool.metadata[0] == {"b": {"d": 2}}
        assert read_manifest(tmp_path / "out").config["drop_fields"] == ["a", "b.c"]


def test_what_is_left_out_is_said_and_shown(folder, tmp_path, sbp, capsys):
    assert main(["corpus", str(folder), "--vocab-size", "300", "--out", str(tmp_path / "out")]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert any(line.startswith("left out: empty text, 1 of ") for line in lines)
    assert "not read: 1 .txt (notes.txt)" in lines
    shown = [line.split() for line in sbp("corpus", "stats", tmp_path / "out").splitlines()]
    assert ["files", "not", "read:", ".txt", "1", "notes.txt"] in shown


def test_refused_places_are_one_line(folder, tmp_path, mistake):
    line = mistake("corpus", folder, "--out", folder / "out")
    assert line == f"{folder}: the output folder {folder / 'out'} lies inside it: choose another one"
    out = tmp_path / os.fsdecode(b"caf\xe9")
    line = mistake("corpus", folder, "--out", out)
    assert line == f"{tmp_path}/caf\\xe9: the output folder's name is not UTF-8: choose another one"
    assert not out.exists()
    assert not (folder / "out").exists()
