"""`sbp evaluate --tasks`: what does not go together is named in one line, and so is a missing extra."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sbp_bayes.cli import main
from sbp_bayes.corpus import train_tokenizer
from sbp_bayes.lm import LMConfig, Transformer, save_model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    tokenizer = train_tokenizer(["the cat sat on the mat. " * 9], 270)
    shape = {
        "width": 16,
        "num_layers": 1,
        "num_heads": 1,
        "num_kv_heads": 1,
        "head_width": 16,
        "hidden_width": 16,
    }
    config = LMConfig(vocab_size=tokenizer.vocab_size, context_length=64, **shape)
    save_model(Transformer(config), tmp_path / "model")
    tokenizer.save(tmp_path / "model" / "tokenizer.json")
    return tmp_path / "model"


def test_a_missing_harness_is_one_line_with_the_command(
    model: Path, mistake: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "lm_eval"]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("adapter", "tasks"):
        monkeypatch.delitem(sys.modules, f"sbp_bayes.evaluation.harness.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    line = mistake("evaluate", model, "--tasks", "talk", "--out", tmp_path / "out")
    assert line.startswith("benchmarks need lm-eval")
    assert line.endswith("run `pip install 'sbp_bayes[eval]'`")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--tasks", "talk", "--model", "m"),
            "--model m is not for --tasks: sbp evaluate MODEL --tasks NAMES",
        ),
        (("--tasks", "talk", "--split", "test"), "--split test is not for --tasks"),
        (("--model", "m", "--limit", "5"), "--limit 5 needs --tasks"),
        (("--model", "m", "--tasks-dir", "d"), "--tasks-dir d needs --tasks"),
        ((), "--model DIR is missing (or, for benchmarks, --tasks NAMES)"),
        (("--tasks", "talk", "--limit", "0"), "limit = 0 is out of range: expected a positive number"),
    ],
)
def test_what_does_not_go_together_is_named(
    model: Path, mistake: Callable[..., str], tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    assert message in mistake("evaluate", model, *arguments, "--out", tmp_path / "out")


def test_a_folder_without_a_model_is_named(mistake: Callable[..., str], tmp_path: Path) -> None:
    assert "no such model" in mistake(
        "evaluate", tmp_path / "none", "--tasks", "talk", "--out", tmp_path / "o"
    )


def test_help_names_the_benchmarks(capsys: pytest.CaptureFixture[str]) -> None:
    from sbp_bayes.evaluation.harness import BENCHMARKS

    with pytest.raises(SystemExit):
        main(["evaluate", "--help"])
    shown = "".join(capsys.readouterr().out.split())
    assert ",".join(dict.fromkeys(one.data for one in BENCHMARKS.values())) in shown
