"""Requests for another engine, and its samples through the screen: as if our own sampler had drawn them."""

import dataclasses
import gzip
import json
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_synthesizer import Given, make_synthesizer

from sbp_bayes.base.errors import ConfigError, CorpusError, StoreError
from sbp_bayes.base.stage import read_manifest
from sbp_bayes.corpus import TOKENIZER, Corpus, Tokenizer
from sbp_bayes.corpus.json_lines import read_json_lines_of, write_json_lines
from sbp_bayes.lm import Transformer, generate, load_model, model_fingerprint, save_model
from sbp_bayes.synthesis import (
    CORPUS,
    ImportConfig,
    NoDocuments,
    RequestConfig,
    RequestFolder,
    ScreenConfig,
    SeedDocuments,
    Source,
    SynthesisConfig,
    import_samples,
    read_requests,
    samples,
    seed_document,
    stream_seed,
    synthesize,
    write_requests,
)
from sbp_bayes.synthesizer import prompt_tokens

CONFIG = RequestConfig(num_samples=120, max_document_tokens=12, shard_size=16, seed=5)
WANTED = ImportConfig(num_tokens=300)
Record = dict[str, Any]


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Given:
    return make_synthesizer(tmp_path_factory.mktemp("exchange"), context_length=26)


@pytest.fixture(scope="module")
def requests(given: Given) -> Path:
    """Requests for 120 samples."""
    folder = given.model_dir.parent / "requests"
    ask(given, folder)
    return folder


@pytest.fixture(scope="module")
def answers(given: Given, requests: Path) -> list[list[Record]]:
    """The samples of an engine that keeps to the requests, by shard."""
    return answer(given, requests)


def ask(given: Given, folder: Path, source: Source | None = None, **changes: Any) -> None:
    config = dataclasses.replace(CONFIG, **changes)
    write_requests(
        config, given.model_dir, source or SeedDocuments(given.corpus), folder, tokenizer=given.tokenizer
    )


def answer(given: Given, requests: Path) -> list[list[Record]]:
    """Sample what the lines ask for, and nothing that they do not say."""
    model, shards = load_model(given.model_dir), []
    for path in sorted((requests / "requests").iterdir()):
        asked = [record for _, record in read_json_lines_of(path)]
        drawn = generate(
            model,
            [np.array(record["prompt_token_ids"]) for record in asked],
            max_new_tokens=[record["max_tokens"] for record in asked],
            stream_seeds=[record["seed"] for record in asked],
            temperature=asked[0]["temperature"],
            top_p=asked[0]["top_p"],
        )
        shards.append(
            [answered(record, g.tokens, g.finished) for record, g in zip(asked, drawn, strict=True)]
        )
    return shards


def answered(request: Record, tokens: Sequence[int], finished: bool) -> Record:
    """The line of a sample; every other one shows the EOS that ended it, as vLLM's do."""
    shown = [0] if finished and request["sample"] % 2 else []
    return {
        **{key: request[key] for key in ("sample", "model", "seed")},
        "token_ids": [int(token) for token in tokens] + shown,
        "finish_reason": "stop" if finished else "length",
    }


def write(path: Path, records: Sequence[Record]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name.endswith(".zst"):
        write_json_lines(path, records)
        return path
    content = "".join(json.dumps(record) + "\n" for record in records).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def content(directory: Path) -> dict[str, bytes]:
    files = [path for part in (CORPUS, "shards") for path in sorted((directory / part).iterdir())]
    return {f"{path.parent.name}/{path.name}": path.read_bytes() for path in files}


def own(given: Given, directory: Path, source: Source, **changes: Any) -> dict[str, bytes]:
    config = SynthesisConfig(
        num_tokens=WANTED.num_tokens, max_document_tokens=12, shard_size=16, seed=5, **changes
    )
    synthesize(config, given.model_dir, source, directory, tokenizer=given.tokenizer, num_workers=1)
    return content(directory)


def test_requests_are_what_our_own_sampler_starts_from(given: Given, requests: Path) -> None:
    shards = list(RequestFolder.open(requests).shards())
    assert [first for first, _ in shards] == list(range(0, 120, 16))
    asked = [request for _, path in shards for request in read_requests(path)]
    assert [request.sample for request in asked] == list(range(120))
    for request in asked[::7]:
        index = seed_document(5, request.sample, len(given.corpus))
        assert request.prompt_token_ids == prompt_tokens(given.corpus.document(index), 12).tolist()
        assert request.seed == stream_seed(5, given.corpus.ids[index], request.sample)
        assert request.metadata == {"seed_document": given.corpus.ids[index], "seed_index": index}
        assert request.model == model_fingerprint(given.model_dir)
        assert (request.max_tokens, request.temperature, request.top_p) == (13, 1.0, 1.0)
        assert (request.stop_token_ids, request.banned_token_ids) == ([0], [1])
    assert len({request.seed for request in asked}) == 120
    assert Tokenizer.load(requests / TOKENIZER).fingerprint == given.tokenizer.fingerprint
    counts = read_manifest(requests).counts
    assert counts == {
        "samples": 120,
        "shards": 8,
        "prompt_tokens": sum(len(request.prompt_token_ids) for request in asked),
    }


def test_more_requests_begin_with_the_same_ones(given: Given, requests: Path, tmp_path: Path) -> None:
    ask(given, tmp_path, num_samples=40)
    few = [path.read_bytes() for path in sorted((tmp_path / "requests").iterdir())]
    many = [path.read_bytes() for path in sorted((requests / "requests").iterdir())]
    assert few[:2] == many[:2]
    assert len(few) == 3


@pytest.mark.parametrize("num_workers", [1, 2])
def test_imported_samples_make_the_corpus_of_our_own_sampler(
    given: Given, requests: Path, answers: list[list[Record]], tmp_path: Path, num_workers: int
) -> None:
    """To the byte, whatever the order of lines and files, and in any compression."""
    everything = [record for shard in answers for record in shard]
    shuffled = [everything[i] for i in np.random.default_rng(1).permutation(len(everything))]
    write(tmp_path / "in" / "b.jsonl.zst", shuffled[:50])
    write(tmp_path / "in" / "a.jsonl", shuffled[50:90])
    last = write(tmp_path / "c.jsonl.gz", shuffled[90:])
    manifest = import_samples(
        WANTED, requests, [last, tmp_path / "in"], tmp_path / "out", num_workers=num_workers
    )
    source = SeedDocuments(given.corpus)
    assert own(given, tmp_path / "own", source) == content(tmp_path / "out")
    ours = read_manifest(tmp_path / "own")
    assert manifest.stage == ours.stage == "synthesize"
    assert manifest.counts == ours.counts
    assert manifest.flops == ours.flops
    assert {key: value for key, value in manifest.inputs.items() if key != "samples"} == ours.inputs
    assert {**manifest.config, "slots": None} == {**ours.config, "slots": None}
    assert not (tmp_path / "out" / samples.PARTS).exists()


def test_without_documents_and_at_another_temperature(given: Given, tmp_path: Path) -> None:
    settings = {"temperature": 1.7, "top_p": 0.9}
    save_model(Transformer(load_model(given.model_dir).config, seed=3), tmp_path / "model")
    given = dataclasses.replace(given, model_dir=tmp_path / "model")  # of which not every sample is empty
    ask(given, tmp_path / "asked", NoDocuments(), num_samples=200, **settings)
    files = [
        write(tmp_path / f"{i}.jsonl", shard) for i, shard in enumerate(answer(given, tmp_path / "asked"))
    ]
    screen = ScreenConfig(min_kept_share=0.0)
    import_samples(dataclasses.replace(WANTED, screen=screen), tmp_path / "asked", files, tmp_path / "out")
    assert own(given, tmp_path / "own", NoDocuments(), screen=screen, **settings) == content(tmp_path / "out")


def test_samples_after_the_last_one_needed_may_be_missing(
    given: Given, requests: Path, answers: list[list[Record]], tmp_path: Path
) -> None:
    needed = own(given, tmp_path / "own", SeedDocuments(given.corpus))
    number = read_manifest(tmp_path / "own").counts["samples"]
    everything = [record for shard in answers for record in shard]
    file = write(tmp_path / "a.jsonl", everything[:number] + everything[number + 1 :])
    import_samples(WANTED, requests, [file], tmp_path / "out")
    corpora = [
        {k: v for k, v in found.items() if k.startswith(CORPUS)}
        for found in (needed, content(tmp_path / "out"))
    ]
    assert corpora[0] == corpora[1]


def changed(
    change: Callable[[Record], Record | None], number: int = 21
) -> Callable[[list[Record]], list[Record]]:
    """A way to change one line, or to leave it out."""

    def apply(records: list[Record]) -> list[Record]:
        lines = [change(record) if record["sample"] == number else record for record in records]
        return [line for line in lines if line is not None]

    return apply


MISTAKES: dict[str, tuple[Callable[[list[Record]], list[Record]], str]] = {
    "another model": (
        changed(lambda r: r | {"model": "0" * 16}),
        r"b.jsonl:6: sample 21 is of model '0000000000000000'",
    ),
    "another seed": (
        changed(lambda r: r | {"seed": 3}),
        r"b.jsonl:6: sample 21 was drawn with seed 3, and not \d+",
    ),
    "no seed": (
        changed(lambda r: r | {"seed": "3"}),
        r"b.jsonl:6: sample 21 has the seed '3': expected a whole",
    ),
    "missing": (changed(lambda r: None), r"0000000016.jsonl.zst: sample 21 is missing in the files given"),
    "outside": (
        changed(lambda r: r | {"token_ids": [5, 280]}),
        r"b.jsonl:6: sample 21 holds token 280, but the vocabulary has 280",
    ),
    "negative": (changed(lambda r: r | {"token_ids": [-1]}), r"b.jsonl:6: sample 21 holds token -1, but"),
    "banned": (
        changed(lambda r: r | {"token_ids": [5, 1, 6]}),
        r"b.jsonl:6: sample 21 holds SEP within the document",
    ),
    "early end": (
        changed(lambda r: r | {"token_ids": [5, 0, 6]}),
        r"b.jsonl:6: sample 21 holds EOS within the document",
    ),
    "text": (
        changed(lambda r: r | {"token_ids": "a b"}),
        r"b.jsonl:6: sample 21 has token_ids that are no list",
    ),
    "float": (
        changed(lambda r: r | {"token_ids": [5.0]}),
        r"b.jsonl:6: sample 21 has token_ids that are no list",
    ),
    "truth": (
        changed(lambda r: r | {"token_ids": [True]}),
        r"b.jsonl:6: sample 21 has token_ids that are no list",
    ),
    "too long": (
        changed(lambda r: r | {"token_ids": [5] * 14, "finish_reason": "length"}),
        r"b.jsonl:6: sample 21 has 14 tokens: expected 12",
    ),
    "long end": (
        changed(lambda r: r | {"token_ids": [5] * 13, "finish_reason": "stop"}),
        r"b.jsonl:6: sample 21 has 13 tokens: expected 12",
    ),
    "cut early": (
        changed(lambda r: r | {"token_ids": [5] * 11, "finish_reason": "length"}),
        r"b.jsonl:6: sample 21 was cut after 11 tokens: the limit is 12",
    ),
    "abort": (
        changed(lambda r: r | {"finish_reason": "abort"}),
        r"b.jsonl:6: sample 21 has finish_reason = 'abort': expected 'stop'",
    ),
    "contradiction": (
        changed(lambda r: r | {"token_ids": [5, 0], "finish_reason": "length"}),
        r"b.jsonl:6: sample 21 has finish_reason = 'length': expected 'stop', since it ends with EOS",
    ),
    "not asked for": (
        changed(lambda r: r | {"sample": 120}),
        r"b.jsonl:6: sample 120 was not asked for: there are 120 requests",
    ),
    "a number in words": (
        changed(lambda r: r | {"sample": "21"}),
        r"b.jsonl:6: sample '21' was not asked for",
    ),
    "no tokens": (
        changed(lambda r: {k: v for k, v in r.items() if k != "token_ids"}),
        r"b.jsonl:6: token_ids is missing: a sample has sample, model, seed, token_ids, finish_reason",
    ),
    "a list": (
        lambda records: [*records[:5], [1], *records[5:]] if records[0]["sample"] == 16 else records,
        r"b.jsonl:6: sample is missing",
    ),
    "repeated": (
        lambda records: [*records, records[-1]] if records[0]["sample"] == 16 else records,
        r"b.jsonl:17: sample 31 is repeated, it is in \S+b.jsonl:16 already",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_bad_sample_is_named_with_its_file(
    requests: Path, answers: list[list[Record]], tmp_path: Path, name: str
) -> None:
    change, message = MISTAKES[name]
    files = [write(tmp_path / f"{'abcdefgh'[i]}.jsonl", change(shard)) for i, shard in enumerate(answers)]
    with pytest.raises(CorpusError, match=message) as error:
        import_samples(WANTED, requests, files, tmp_path / "out", num_workers=1)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_a_sample_in_two_files_is_named_with_both(
    requests: Path, answers: list[list[Record]], tmp_path: Path
) -> None:
    files = [write(tmp_path / f"{i}.jsonl", shard) for i, shard in enumerate(answers)]
    files.append(write(tmp_path / "again.jsonl", answers[1][:1]))
    with pytest.raises(
        CorpusError, match=r"jsonl:1: sample 16 is repeated, it is in \S+jsonl:1 already"
    ) as error:
        import_samples(WANTED, requests, files, tmp_path / "out", num_workers=1)
    assert "again.jsonl" in str(error.value)
    assert "1.jsonl" in str(error.value)


def test_too_few_samples(requests: Path, answers: list[list[Record]], tmp_path: Path) -> None:
    files = [write(tmp_path / "a.jsonl", answers[0]), write(tmp_path / "b.jsonl", answers[1][:3])]
    with pytest.raises(
        CorpusError, match=r"the first 19 samples hold \d+ tokens that pass .* 300 are wanted"
    ):
        import_samples(WANTED, requests, files, tmp_path / "out", num_workers=1)
    files = [write(tmp_path / f"{i}.jsonl", shard) for i, shard in enumerate(answers)]
    with pytest.raises(CorpusError, match=r"the first 120 samples hold .* 40,000 are wanted"):
        import_samples(ImportConfig(num_tokens=40_000), requests, files, tmp_path / "more", num_workers=1)


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("a.jsonl", lambda data: data[:-20], r"a\.jsonl:16: not JSON"),
        ("a.jsonl.zst", lambda data: data[:-20], r"a\.jsonl\.zst:\d+: unreadable from here \(truncated\)"),
        ("a.txt", lambda data: data, r"a\.txt: unknown kind of file"),
        ("a.json", lambda data: data, r"a\.json: expected JSON lines"),
    ],
)
def test_a_damaged_file_is_named(
    requests: Path,
    answers: list[list[Record]],
    tmp_path: Path,
    name: str,
    damage: Callable[[bytes], bytes],
    message: str,
) -> None:
    path = write(tmp_path / name, answers[0])
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CorpusError, match=message):
        import_samples(WANTED, requests, [path], tmp_path / "out", num_workers=1)


def test_requests_and_folders_that_do_not_fit(
    given: Given, requests: Path, answers: list[list[Record]], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="max_document_tokens = 13 is out of range: expected at most 12"):
        ask(given, tmp_path / "a", max_document_tokens=13)
    with pytest.raises(ConfigError, match="num_samples = 0"):
        ask(given, tmp_path / "a", num_samples=0)
    with pytest.raises(ConfigError, match="num_tokens = 0"):
        ImportConfig(num_tokens=0)
    for folder, message in (
        (tmp_path / "none", "no such folder"),
        (tmp_path, "holds no requests"),
    ):
        with pytest.raises(CorpusError, match=re.escape(f"{folder}: {message}")):
            import_samples(WANTED, folder, [], tmp_path / "out")
    with pytest.raises(StoreError, match="holds the output of another plan"):
        ask(given, requests, seed=6)
    copy = tmp_path / "copy"
    shutil.copytree(requests, copy)
    shard = copy / "requests" / "0000000016.jsonl.zst"
    shard.write_bytes(shard.read_bytes()[:-30])
    files = [write(tmp_path / f"{i}.jsonl", one) for i, one in enumerate(answers)]
    with pytest.raises(CorpusError, match=r"0000000016\.jsonl\.zst:\d+: unreadable"):
        import_samples(WANTED, copy, files, tmp_path / "out", num_workers=1)


def test_a_kill_between_files_costs_one_file(
    given: Given,
    requests: Path,
    answers: list[list[Record]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files = [write(tmp_path / f"{i}.jsonl", shard) for i, shard in enumerate(answers)]
    read, opened = samples.read_json_lines_of, []

    def broken(path: Path) -> Any:
        opened.append(path)
        if len(opened) == 4:
            raise KeyboardInterrupt
        return read(path)

    monkeypatch.setattr(samples, "read_json_lines_of", broken)
    with pytest.raises(KeyboardInterrupt):
        import_samples(WANTED, requests, files, tmp_path / "out", num_workers=1)
    import_samples(WANTED, requests, files, tmp_path / "out", num_workers=1)
    assert len(opened) == len(files) + 1  # the file that was broken off is read twice
    assert content(tmp_path / "out") == own(given, tmp_path / "own", SeedDocuments(given.corpus))
    assert len(Corpus.load(tmp_path / "out" / CORPUS, verify=True)) > 0
