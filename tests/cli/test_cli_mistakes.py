"""A user's mistake is one line on stderr and exit code 2; what is finished stays."""

import errno
import gzip
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sbp_bayes.cli import evaluate, main

PRETRAIN = ("--preset", "smoke", "--budget-tokens", 2048, "--rows-per-batch", 8, "--set", "num_validations=1")


@pytest.fixture(scope="module")
def prepared(texts, tmp_path_factory) -> Path:
    """A prepared corpus, corpus/, and a model pretrained on it for 4 steps, model/."""
    root = tmp_path_factory.mktemp("prepared")
    assert main(["corpus", str(texts), "--vocab-size", "400", "--out", str(root / "corpus")]) == 0
    command = ["pretrain", root / "corpus", "--out", root / "model", *PRETRAIN]
    assert main([str(argument) for argument in command]) == 0
    return root


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND (see sbp --help)"),
        (["pretend"], "argument COMMAND: invalid choice: 'pretend'"),
        (["corpus", "x"], "the following arguments are required: --out (see sbp corpus --help)"),
        (
            ["corpus", "x", "--out", "o", "--vocab-size", "big"],
            "argument --vocab-size: invalid int value: 'big'",
        ),
        (["pair", "x", "--out", "o", "--aplha", "1"], "unrecognized arguments: --aplha 1"),
        (["pair", "x", "--out", "o", "--alpha", "1.5"], "alpha = 1.5 is out of range"),
        (
            ["pair", "x", "--out", "o", "--embedder", "lsi"],
            "embedder = 'lsi': expected one of lsa, bm25, minilm, self, qwen3, qwen3:FOLDER_OR_NAME, ",
        ),
        (["pair", "x", "--out", "o", "--embedder", "sentence:"], "embedder = 'sentence:': expected one of"),
        (["pair", "x", "--out", "o", "--embedder", "lsa:x"], "embedder = 'lsa:x': expected one of"),
        (
            ["pair", "x", "--out", "o", "--set", "embedder.max_tokens=9"],
            "max_tokens = 9 is out of range: expected none, as embedder = 'lsa' has its own",
        ),
        (
            ["pair", "x", "--out", "o", "--set", "aplha=1"],
            "unknown setting 'aplha' (did you mean 'rules.alpha'?)",
        ),
        (
            ["pair", "x", "--out", "o", "--set", "embedder=minilm"],
            "embedder: expected settings by name (dimension, kind, max_tokens), got 'minilm'",
        ),
        (
            ["pretrain", "x", "--out", "o", "--preset", "hug"],
            "--preset = 'hug': expected one of smoke, demo, 6m",
        ),
        (["pretrain", "gone", "--out", "o"], "gone: no such file or folder"),
        (["tune", "gone", "--pairs", "p", "--model", "m", "--out", "o"], "gone: no such file or folder"),
        (["evaluate", "x", "--model", "gone", "--out", "o"], "gone: no such model"),
    ],
)
def test_wrong_arguments(tmp_path, monkeypatch, mistake, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert mistake(*arguments).startswith(message)


def _bad_text(kind: str, folder: Path) -> Path:
    line = json.dumps({"text": "some words " * 40}) + "\n"
    folder.mkdir()
    if kind == "truncated":
        content = gzip.compress(line.encode() * 50)
        (folder / "x.jsonl.gz").write_bytes(content[: len(content) // 2])
    elif kind == "unknown":
        (folder / "x.docx").write_text(line)
        return folder / "x.docx"
    elif kind != "empty folder":
        (folder / "x.jsonl").write_bytes(
            {"json": b"{'text'", "no text": b'{"txt": "x"}', "utf8": b'{"text": "\xff"}'}[kind] + b"\n"
        )
    return folder


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("empty folder", "no files of known kinds"),
        ("unknown", "x.docx: unknown kind of file"),
        ("truncated", "x.jsonl.gz: unreadable after"),
        ("json", "1 of 1 records rejected"),
        ("no text", "1 of 1 records rejected"),
        ("utf8", "1 of 1 records rejected"),
    ],
)
@pytest.mark.parametrize("command", ["corpus", "pretrain", "pair"])
def test_bad_text(tmp_path, mistake, command, kind, message):
    path = _bad_text(kind, tmp_path / "bad")
    line = mistake(command, path, "--out", tmp_path / "out")
    assert message in line
    assert str(path) in line or "x.jsonl" in line


def test_stages_that_do_not_fit_together(tmp_path, texts, prepared, mistake, sbp):
    corpus, model, out = prepared / "corpus", prepared / "model", tmp_path / "out"
    raw = mistake("tune", texts, "--pairs", "p", "--model", model, "--out", out)
    assert raw == f"{texts}: is not a prepared corpus (`sbp corpus TEXT --out DIR` makes one)"
    assert (
        mistake("pair", model, "--out", out) == f"{model} is the output of 'pretrain', not a prepared corpus"
    )
    assert (
        mistake("evaluate", corpus, "--model", tmp_path, "--out", out)
        == f"{tmp_path}: no model in this folder"
    )
    assert "no model" in mistake("evaluate", corpus, "--model", corpus, "--out", out)
    line = mistake("pretrain", corpus, "--synthetic", model, "--out", out, *PRETRAIN)
    assert line == f"{model} is the output of 'pretrain', not of 'synthesize'"
    line = mistake("pretrain", corpus, "--synthetic-share", 0.5, "--out", out, *PRETRAIN)
    assert line == "synthetic_share = 0.5 needs a synthetic corpus"
    sbp("corpus", texts, "--vocab-size", 300, "--out", tmp_path / "other")
    line = mistake("evaluate", tmp_path / "other", "--model", model, "--out", out)
    assert line == f"the corpus was made with another tokenizer than the model's, {model / 'tokenizer.json'}"
    assert not out.exists()


def test_too_little_text_and_no_pairs(tmp_path, prepared, mistake):
    corpus = prepared / "corpus"
    line = mistake("pretrain", corpus, "--unique-tokens", 10**9, "--out", tmp_path / "a", *PRETRAIN)
    assert "fewer than the 1,000,000,000 needed" in line
    line = mistake("pretrain", corpus, "--out", tmp_path / "a", *PRETRAIN, "--set", "budget_tokens=10")
    assert line.startswith("budget_tokens = 10 is less than one step of 8 rows")
    line = mistake("pair", corpus, "--out", tmp_path / "b", "--alpha", 0.999)
    assert "no two documents are more similar than alpha = 0.999" in line


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("engine.device=cuda:99", "device = 'cuda:99' is not there: cuda:99 of "),
        (
            "attention=xformers",
            "attention = 'xformers' cannot run: its kernels need CUDA, and the tensors are",
        ),
        ("attention=flash", "attention = 'flash': expected one of auto, xformers, sdpa, "),
        ("model.vocab_size=300", "model.vocab_size = 300 is not the tokenizer's 400"),
        ("optimiser.peak_lr=1e30", "step 2, batch 1 (tokens 512 to 1,023 of real): the loss is "),
    ],
)
def test_what_a_training_cannot_do_is_said(tmp_path, prepared, mistake, setting, message):
    command = ("pretrain", prepared / "corpus", *PRETRAIN, "--set", "engine.device=cpu", "--set", setting)
    assert mistake(*command, "--out", tmp_path / "out").startswith(message)


def test_an_unfinished_or_other_stage_is_refused_and_stays(tmp_path, prepared, mistake):
    corpus, model = prepared / "corpus", tmp_path / "model"
    shutil.copytree(prepared / "model", model)
    line = mistake("pretrain", corpus, "--out", model, *PRETRAIN, "--seed", 1)
    assert line.startswith(
        f"{model} holds the output of another plan (differs in config.seed = 1 here, 0 in the plan)"
    )
    (model / "manifest.json").unlink()
    line = mistake("evaluate", corpus, "--model", model, "--out", tmp_path / "out")
    assert line == f"{model} is unfinished: no manifest.json"
    (model / "best" / "model.safetensors").write_bytes(b"x")
    line = mistake("evaluate", corpus, "--model", model / "best", "--out", tmp_path / "out")
    assert line.startswith(f"{model}/best/model.safetensors: damaged")


def _raises(error: BaseException):
    def command(arguments):
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (KeyboardInterrupt(), 130, "interrupted; the same command goes on where it stopped"),
        (MemoryError(), 2, "out of memory: fewer rows a batch, a smaller model or fewer documents need less"),
        (FileNotFoundError(errno.ENOENT, "", "a/b"), 2, "a/b: No such file or directory"),
        (PermissionError(errno.EACCES, "", "a/b"), 2, "a/b: Permission denied"),
        (
            OSError(errno.ENOSPC, "", "a/b"),
            2,
            "a/b: No space left on device; what is finished stays, the same command goes on",
        ),
    ],
)
def test_what_the_machine_refuses(monkeypatch, capsys, error, code, line):
    monkeypatch.setattr(evaluate, "run_evaluate", _raises(error))
    assert main(["evaluate", "x", "--model", "m", "--out", "o"]) == code
    assert capsys.readouterr() == ("", f"sbp: error: {line}\n")


def test_too_large_a_tensor_is_out_of_memory(monkeypatch, mistake):
    monkeypatch.setattr(evaluate, "run_evaluate", lambda arguments: torch.empty(10**15))
    assert mistake("evaluate", "x", "--model", "m", "--out", "o").startswith("out of memory")


@pytest.mark.parametrize("error", [AssertionError("ours"), RuntimeError("ours"), ValueError("ours")])
def test_a_fault_of_our_own_keeps_its_traceback(monkeypatch, error):
    monkeypatch.setattr(evaluate, "run_evaluate", _raises(error))
    with pytest.raises(type(error), match="ours"):
        main(["evaluate", "x", "--model", "m", "--out", "o"])


def test_a_reader_that_leaves_early_is_no_error():
    script = "import sys; from sbp_bayes.cli import main; sys.exit(main(['runs', '--runs', '.']))"
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-c", script], check=False, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")
