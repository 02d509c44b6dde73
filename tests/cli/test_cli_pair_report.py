"""`sbp pair report` on pairs that `sbp pair` made."""

import json
import shutil

import pytest

from sbp_bayes.base.stage import read_manifest
from sbp_bayes.corpus import Corpus
from sbp_bayes.pairing import PairSet


@pytest.fixture
def folders(tmp_path, texts, sbp):
    sbp("corpus", texts, "--vocab-size", 300, "--out", tmp_path / "corpus")
    arguments = ("--unique-tokens", 8000, "--alpha", 0.1, "-k", 4, "--set", "embedder.dimension=8")
    sbp("pair", tmp_path / "corpus", *arguments, "--out", tmp_path / "pairs")
    return tmp_path


def test_report_of_pairs(folders, sbp, mistake):
    printed = sbp("pair", "report", folders / "pairs", "--samples", 2)
    lines = [line.split() for line in printed.splitlines()]
    counts = read_manifest(folders / "pairs").counts["train"]
    assert max(map(len, printed.splitlines())) <= 100
    assert ["neighbours", "found", f"{counts['neighbours']:,}"] in lines
    assert ["not", "above", "alpha", f"−{counts['neighbours_below_alpha']:,}"] in [line[:4] for line in lines]
    assert ["over", "the", "limit", "of", "one", "d1", "−0", f"{counts['pairs']:,}"] in lines
    assert ["bytes", "searched", "per", "vector", "12"] in lines
    assert ["0.10", "alpha"] in [line[:2] for line in lines]
    assert printed.count("is neighbour ") >= 2
    pairs = PairSet.load(folders / "pairs" / "train")
    shown = [line for line in printed.splitlines() if line.startswith("  d1 ")]
    ids = [line.split("│")[i].split()[1] for line in shown for i in (0, 1)]
    assert len(ids) == 4
    assert len(Corpus.load(folders / "corpus" / "pool")) > len(set(pairs.first))
    other = sbp("pair", "report", folders / "pairs", "--split", "validation", "--seed", 3)
    assert other.startswith("validation pairs in ")
    assert "samples = -1 is out of range" in mistake("pair", "report", folders / "pairs", "--samples", -1)


def test_report_finds_the_corpus_or_says_what_is_missing(folders, sbp, mistake):
    pairs, corpus, moved = folders / "pairs", folders / "corpus", folders / "moved"
    shutil.move(corpus, moved)
    printed = sbp("pair", "report", pairs)
    assert printed.rstrip().endswith("need the corpus: give --corpus CORPUS")
    assert "pair 1:" in sbp("pair", "report", pairs, "--corpus", moved)
    line = mistake("pair", "report", pairs, "--corpus", moved, "--unique-tokens", 2000)
    assert line == f"{moved}: not the documents that were paired (another corpus, or other --unique-tokens)"
    assert mistake("pair", "report", moved) == f"{moved} is the output of 'corpus', not of 'pair'"
    line = mistake("pair", "report", folders / "nothing")
    assert line == f"{folders / 'nothing'}: no such folder (`sbp pair CORPUS --out DIR` makes some)"
    assert mistake("pair", "report", folders).startswith(f"{folders}: no pairs in this folder")


def test_pairs_of_another_version_s_settings_are_named(folders, mistake, tmp_path):
    shutil.copytree(folders / "pairs", tmp_path / "old")
    path = tmp_path / "old" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["config"]["alpha"] = manifest["config"].pop("rules")["alpha"]
    path.write_text(json.dumps(manifest))
    assert mistake("pair", "report", tmp_path / "old") == (
        f"{tmp_path / 'old'}: its settings are another version's (unknown setting 'alpha' (did you mean "
        "'rules.alpha'?))"
    )
