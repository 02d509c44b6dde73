"""Few documents, or none in a split: the commands go on where they can, and else say what is missing."""

import pytest

from sbp_bayes.base.stage import read_manifest

PRETRAIN = ("--preset", "smoke", "--budget-tokens", 2048, "--rows-per-batch", 8, "--set", "num_validations=1")


@pytest.fixture(scope="module")
def prepared(texts, tmp_path_factory):
    """A corpus without test documents, and one without validation documents, of one tokenizer."""
    from sbp_bayes.cli import main

    folder = tmp_path_factory.mktemp("prepared")
    for name, settings in (
        ("no_test", ["validation_share=0.1", "test_share=0"]),
        ("no_validation", ["validation_share=0", "test_share=0.1"]),
    ):
        shares = [part for setting in settings for part in ("--set", setting)]
        out = str(folder / name)
        assert main(["corpus", str(texts), "--vocab-size", "300", "--out", out, *shares]) == 0
    return folder


def test_a_command_that_finds_its_split_empty_names_the_folder(tmp_path, prepared, sbp, mistake):
    corpus, model = prepared / "no_test", tmp_path / "model"
    sbp("pretrain", corpus, *PRETRAIN, "--out", model)
    evaluate = ("evaluate", corpus, "--model", model, "--out", tmp_path / "scores")
    assert mistake(*evaluate) == f"{corpus}: the test split holds no documents"
    assert not (tmp_path / "scores").exists()
    sbp(*evaluate, "--split", "validation")
    line = mistake("pretrain", prepared / "no_validation", *PRETRAIN, "--out", tmp_path / "other")
    assert line == f"{prepared / 'no_validation'}: the validation split holds no documents"
    for corpus in prepared.iterdir():
        assert "an oracle of as many unique tokens" in sbp("corpus", "stats", corpus)


def test_tuning_holds_out_training_pairs_where_validation_documents_have_none(
    tmp_path, prepared, sbp, mistake, caplog
):
    corpus, pairs = prepared / "no_validation", tmp_path / "pairs"
    printed = sbp("pair", corpus, "--alpha", 0.1, "--set", "embedder.dimension=8", "--out", pairs)
    assert "validation why none" in printed
    assert "tuning will hold out training pairs instead" in caplog.text
    line = mistake("pair", "report", pairs, "--split", "validation")
    assert line == f"{pairs}: no pairs of validation documents (there are no documents)"
    assert "train pairs in" in sbp("pair", "report", pairs)
    sbp("pretrain", prepared / "no_test", *PRETRAIN, "--out", tmp_path / "model")
    (tmp_path / "model" / "tokenizer.json").unlink()  # of almost the same pool
    tune = ("tune", corpus, "--pairs", pairs, "--model", tmp_path / "model", "--max-document-tokens", 20)
    printed = sbp(*tune, "--epochs", 0.02, "--set", "num_validations=1", "--out", tmp_path / "tuned")
    assert "validated by                      training pairs" in printed
    counts, total = read_manifest(tmp_path / "tuned").counts, read_manifest(pairs).counts["train"]["pairs"]
    assert 0.9 * total > counts["pairs"] > 0.8 * total
