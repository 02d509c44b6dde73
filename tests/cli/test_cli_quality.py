"""`sbp quality` on text of known faults: the talk's table, with a judge over a real socket and without."""

import json
import random
import re
from pathlib import Path

import pytest
from chat_server import chat_server

from sbp_bayes.base.stage import read_manifest
from sbp_bayes.base.store import read_json, read_json_lines
from sbp_bayes.corpus import Corpus, Tokenizer

SAMPLES = 40
COPIES, TWICE, ODD = range(4), range(4, 7), range(10, 20)
"""Samples that copy d1 whole, that are equal to the sample before, and that say something odd."""


@pytest.fixture(scope="module")
def work(texts, tmp_path_factory) -> Path:
    """A prepared corpus, corpus/; pairs/; and synthetic text of another origin, synthetic.jsonl."""
    from sbp_bayes.cli import main

    root = tmp_path_factory.mktemp("quality")
    for command in (
        ["corpus", texts, "--vocab-size", 400, "--out", root / "corpus"],
        ["pair", root / "corpus", "--alpha", 0.1, "--set", "embedder.dimension=8", "--out", root / "pairs"],
    ):
        assert main([str(word) for word in command]) == 0
    pool = Corpus.load(root / "corpus" / "pool")
    generator, lines = random.Random(0), []
    for i in range(SAMPLES):
        d1 = pool.texts[i]
        words = d1.split()
        generator.shuffle(words)
        text = d1 if i in COPIES else " ".join(words)
        text += " odd" if i in ODD else ""
        if i in TWICE:
            text = lines[-1]["text"]
        lines.append({"text": text, "seed_document": pool.ids[i]})
    lines[30]["text"] += " Write to ada@example.org."
    (root / "synthetic.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (root / "bench.jsonl").write_text(
        json.dumps({"question": pool.texts[1], "choices": ["a", "b"]})
        + "\n"
        + json.dumps({"question": "one of fewer words"})
        + "\n"
    )
    return root


def arguments(work: Path, out: Path, *more: object) -> tuple[object, ...]:
    against = ("--against", work / "corpus", "--set", "repetition.max_share=0.9")
    return ("quality", work / "synthetic.jsonl", *against, "--out", out, *more)


def row(printed: str, name: str) -> list[str]:
    (line,) = [line for line in printed.splitlines() if re.match(rf"  {re.escape(name)}  ", line)]
    return re.split(r"\s{2,}", line.strip())


def test_without_a_judge_the_cells_say_so_and_the_proxy_stands_beside(work, tmp_path, sbp):
    printed = sbp(*arguments(work, tmp_path / "q", "--benchmark", work / "bench.jsonl"))
    assert row(printed, "synthetic") == [
        "synthetic",
        "0.0%",
        f"{3 / SAMPLES:.1%}",
        "– (no judge)",
        "– (no judge)",
        f"{4 / SAMPLES:.1%}",
    ]
    assert row(printed, "real")[3:] == ["– (no judge)", "– (no pairs)", "– (no pairs)"]
    assert "relatedness below is the proxy of pair-irrelevance" in printed
    counts = read_manifest(tmp_path / "q").counts
    assert counts["synthetic"]["similarity"]["nearer_share"] > 0.9  # the same words in another order
    assert counts["real"]["similarity"] is None
    assert counts["synthetic"]["personal"]["found"]["e-mail address"] == 1
    assert counts["real"]["personal"]["found"]["any"] == 0
    assert counts["coverage"]["seeds"]["most_samples_of_one"] == 1
    (found,) = counts["benchmarks"].values()
    assert found["synthetic"] == {"items": 2, "too_short": 1, "items_found": 1, "texts_found": 1}
    assert found["real"]["items_found"] == 1
    assert sbp(*arguments(work, tmp_path / "q", "--benchmark", work / "bench.jsonl")) == printed


def answer(shown: str, code: str) -> str:
    """Say that odd documents are false; of pairs, that they are related if they share their first letters."""
    texts = [part.split("\n</document")[0] for part in shown.split(f"<document {code}>\n")[1:]]
    if len(texts) == 1:
        return f"Hm.\nVERDICT {code}: {'YES' if ' odd' in texts[0] else 'NO'}"
    shared = len(set(texts[0].split()) & set(texts[1].split()))
    return f"VERDICT {code}: {'NO' if shared > 15 else 'YES'}"


def test_with_a_judge_every_column_is_filled(work, tmp_path, sbp, mistake):
    with chat_server(answer, ["503", '{"choices"']) as server:
        judge = ("--judge", server.url, "--judge-model", "m", "--judge-set", "first_wait_seconds=0.01")
        command = arguments(work, tmp_path / "q", "--pairs", work / "pairs", *judge, "--judge-documents", 40)
        stopped = sbp(*command, "--max-requests", 12)
        assert len(server.requests) == 12
        assert "stopped: the limit of 12 requests is reached; the same command with a higher limit" in stopped
        printed = sbp(*command)
        assert len(server.requests) == 4 * 40 + 2
        assert sbp(*command) == printed
        assert len(server.requests) == 4 * 40 + 2
    cells = row(printed, "synthetic")
    assert cells[3].startswith(f"{len(ODD) / SAMPLES:.1%} (")
    assert cells[4].startswith(f"{len(TWICE) / SAMPLES:.1%} (0.0% to ")  # from another one's d1
    assert row(printed, "real")[3].startswith("0.0% (")
    assert row(printed, "real")[5].startswith("0.0%")
    assert "judge: m-0125 at http://127.0.0.1" in printed
    assert "160 of 160 questions answered in 162 requests and 16,000 tokens" in printed
    said = read_json(tmp_path / "q" / "judge" / "verdicts.json")
    assert said["synthetic"]["non_factual"]["verdicts"] == 40
    assert said["judge"]["model"] == "m"
    assert "Answer YES if it states" in said["judge"]["questions"]["non_factual"]
    assert (
        len([line for line in read_json_lines(tmp_path / "q" / "judge" / "answers.jsonl") if line["key"]])
        == 160
    )


def test_an_unreachable_judge_is_one_line_and_the_rest_stays(work, tmp_path, mistake, sbp):
    with chat_server(answer) as server:
        url = server.url
    command = arguments(work, tmp_path / "q", "--judge", url, "--judge-model", "m", "--judge-set", "tries=1")
    assert re.match(rf"judge at {url}/chat/completions: no reply after 1 tries \(", mistake(*command))
    assert read_manifest(tmp_path / "q").stage == "quality"


def test_a_judge_that_answers_rubbish_is_said_in_its_cells(work, tmp_path, sbp):
    with chat_server(lambda shown, code: "I am a teapot.") as server:
        judge = ("--judge", server.url, "--judge-model", "m", "--judge-documents", 3)
        printed = sbp(*arguments(work, tmp_path / "q", *judge))
    assert row(printed, "synthetic")[3:5] == ["– (0 verdicts in 3 replies)"] * 2
    assert "9 replies without a verdict" in printed


def test_mistakes(work, tmp_path, mistake, sbp, texts):
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    against = ("--against", work / "corpus", "--out", tmp_path / "q")
    assert mistake("quality", empty, *against).startswith(f"{empty}: no documents in 1 files")
    assert mistake("quality", work / "corpus", *against).endswith("'corpus', not of 'synthesize'")
    assert "is not a prepared corpus" in mistake(
        "quality", texts, "--against", texts, "--out", tmp_path / "q"
    )
    unknown = tmp_path / "unknown.jsonl"
    unknown.write_text(json.dumps({"text": "some words " * 30, "seed_document": "nobody:1"}) + "\n")
    assert "sampled from other documents than the unique ones given: 'nobody:1'" in mistake(
        "quality", unknown, *against
    )
    fine = arguments(work, tmp_path / "q")
    assert "needs --judge-model NAME" in mistake(*fine, "--judge", "http://127.0.0.1:1/v1")
    assert "neither http://… nor a folder" in mistake(*fine, "--judge", "nowhere")
    assert mistake(*fine, "--judge", tmp_path).startswith(f"{tmp_path}: no transformers model in this folder")
    assert mistake(*fine, "--benchmark", tmp_path / "none.jsonl").endswith("no such file or folder")
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"question": "x"}\n{"question": \n')
    assert mistake(*fine, "--benchmark", bad).startswith(f"{bad}:2: ")


def test_a_synthesis_of_another_vocabulary_is_refused_and_one_without_d1_is_measured(
    work, tmp_path, sbp, mistake
):
    stage, own = tmp_path / "synthetic", Tokenizer.load(work / "corpus" / "tokenizer.json").fingerprint
    Corpus.load(work / "corpus" / "pool").select([0, 1]).save(stage / "corpus")

    def write(tokenizer: str) -> None:
        counts = {"samples": 8, "kept": 2, "repetitive": 2, "duplicate": 1, "copy_of_seed": 3, "empty": 0}
        record = {"stage": "synthesize", "fingerprint": "0", "inputs": {"tokenizer": tokenizer}} | {
            "config": {"max_document_tokens": 9},
            "code_version": "0",
            "seconds": 0.0,
            "flops": 0.0,
        }
        (stage / "plan.json").write_text(json.dumps(record))
        (stage / "manifest.json").write_text(json.dumps(record | {"counts": counts}))

    command = ("quality", stage, "--against", work / "corpus", "--out", tmp_path / "q")
    write(own[::-1])
    assert mistake(*command).endswith("was sampled with another tokenizer than the real text's")
    write(own)
    printed = sbp(*command)
    assert row(printed, "synthetic")[4:] == ["– (no d1)", "– (no d1)"]
    assert row(printed, "synthetic, before screening")[1:3] == ["25.0%", "12.5% (exact alone)"]
    assert row(printed, "synthetic, before screening")[5] == "37.5% (copies of d1 alone)"
