"""Biographies as a file: what `sbp corpus` reads of it, by the library and by the command."""

import collections
import itertools
import json
from pathlib import Path

import pytest

from sbp_bayes.base.errors import ConfigError
from sbp_bayes.corpus import read_documents
from toy_worlds import make_world
from toy_worlds.knowledge.biography_corpus import main, write_biographies

WORLD = make_world("biographies", num_concepts=5, num_names=3, num_stated=4, noise=0.0)


def test_every_person_has_its_documents(tmp_path: Path) -> None:
    """Read by the corpus's own reader; without noise every statement is true of the person in the label."""
    path = tmp_path / "b.jsonl"
    assert write_biographies(WORLD, path, 4, seed=1) == 20
    documents = list(read_documents(path))
    labels = [document.label for document in documents]
    assert collections.Counter(labels) == dict.fromkeys(["Ada", "Alan", "Albert", "Ada 2", "Alan 2"], 4)
    assert sum(one != other for one, other in itertools.pairwise(labels)) > 4  # shuffled
    person = {"Ada": 0, "Alan": 1, "Albert": 2, "Ada 2": 3, "Alan 2": 4}
    for document in documents:
        said = WORLD.parse(document.text)
        assert len(said) == 4
        for statement in said:
            assert statement.subject == document.label.split()[0]
            assert statement.value == WORLD.fact(person[document.label], statement.attribute)


def test_the_seed_decides_the_file(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_biographies(WORLD, tmp_path / name, 3, seed)
    first, same, other = ((tmp_path / name).read_bytes() for name in "abc")
    assert first == same != other


def test_the_command_writes_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "b.jsonl"
    options = ["--num-concepts", "7", "--num-stated", "2", "--documents-per-concept", "3", "--noise", "0"]
    assert main([str(path), *options, "--seed", "5"]) == 0
    assert "21 biographies of 7 persons" in capsys.readouterr().out
    write_biographies(
        make_world("biographies", num_concepts=7, num_stated=2, noise=0.0, seed=5), tmp_path / "again", 3, 5
    )
    assert path.read_bytes() == (tmp_path / "again").read_bytes()
    assert all(len(json.loads(line)["text"].split()) == 8 for line in path.read_text().splitlines())


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="documents_per_concept = 0"):
        write_biographies(WORLD, tmp_path / "x", 0, 0)
    for options, message in (
        ([str(tmp_path / "x"), "--num-stated", "9"], "num_stated = 9 is out of range"),
        ([str(tmp_path / "file" / "x")], "file"),
    ):
        assert main(options) == 2
        said = capsys.readouterr().err
        assert message in said
        assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]
