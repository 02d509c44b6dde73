"""Our adapter answers as the harness's own model does on an exported checkpoint, item by item."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from benchmark_items import SUBJECTS, small_model, small_tokenizer, write_items

from sbp_bayes.base.errors import ConfigError, CorpusError
from sbp_bayes.base.records import EOS
from sbp_bayes.corpus import Tokenizer
from sbp_bayes.evaluation.harness import benchmarks_named
from sbp_bayes.evaluation.harness.answers import Answers
from sbp_bayes.evaluation.harness.items import read_items
from sbp_bayes.lm import Transformer, export_hf
from sbp_bayes.lm.continuations import score_continuations

NEEDS = "lm-evaluation-harness is not installed (the extra [eval])"
pytest.importorskip("lm_eval", reason=NEEDS)
for name in ("accelerate", "peft"):
    pytest.importorskip(name, reason="the harness's hf model needs it")

TOLERANCE = {"abs": 1e-4, "rel": 1e-6}
"""Nats: 1e-4, and float32's rounding of the harness's own sums where they reach hundreds."""


@pytest.fixture(scope="module")
def harness() -> ModuleType:
    from sbp_bayes.evaluation.harness import adapter

    return adapter


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return small_tokenizer()


@pytest.fixture(scope="module")
def model(tokenizer: Tokenizer) -> Transformer:
    return small_model(tokenizer)


@pytest.fixture(scope="module")
def exported(
    model: Transformer, tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    directory = tmp_path_factory.mktemp("exported") / "hf"
    export_hf(model, directory, tokenizer)
    return directory


def their_model(exported: Path, **settings: Any) -> Any:
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=str(exported), device="cpu", dtype="float32", batch_size=4, **settings)


@pytest.fixture(scope="module")
def theirs(exported: Path) -> Any:
    return their_model(exported)


@pytest.fixture
def ours(harness: ModuleType, model: Transformer, tokenizer: Tokenizer, tmp_path: Path) -> Any:
    return harness.CheckpointLM(model, tokenizer, Answers(tmp_path / "answers.jsonl"))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_items(tmp_path_factory.mktemp("items"))


def samples(lm: Any, name: str, root: Path) -> list[dict[str, Any]]:
    from lm_eval.evaluator import evaluate

    from sbp_bayes.evaluation.harness.tasks import load_tasks

    (benchmark,) = benchmarks_named([name])
    tasks = load_tasks({name: benchmark}, {name: read_items(benchmark, root)})
    return list(evaluate(lm, {"tasks": tasks}, bootstrap_iters=0)["samples"][name])


@pytest.mark.parametrize(
    "name",
    "lambada mmlu_letter mmlu_text arc_challenge arc_easy sciq winogrande triviaqa webqs".split(),  # noqa: SIM905
)
def test_every_item_has_the_harness_models_answer(ours: Any, theirs: Any, root: Path, name: str) -> None:
    """Log-likelihoods within 1e-4 nats, everything else equal: what is greedy, texts, every metric."""
    found, expected = samples(ours, name, root), samples(theirs, name, root)
    assert len(found) == len(expected) == 8
    for mine, other in zip(found, expected, strict=True):
        assert mine["arguments"] == other["arguments"]
        for metric in mine["metrics"]:
            assert mine[metric] == pytest.approx(other[metric], **TOLERANCE)
        for (answer,), (wanted,) in zip(mine["resps"], other["resps"], strict=True):
            if isinstance(answer, str):
                assert answer == wanted
            else:
                assert answer[0] == pytest.approx(wanted[0], **TOLERANCE)
                assert answer[1] == wanted[1]


def test_documents_are_those_of_the_harness_model_without_a_second_eos(
    ours: Any, exported: Path, root: Path
) -> None:
    found = samples(ours, "openwebtext2", root)
    expected = samples(their_model(exported, add_bos_token=False), "openwebtext2", root)
    for mine, other in zip(found, expected, strict=True):
        assert mine["resps"][0][0] == pytest.approx(other["resps"][0][0], **TOLERANCE)
    assert len(found[0]["arguments"][0][0]) > 1000  # several windows


def test_the_harness_default_scores_documents_after_two_eos(
    ours: Any, theirs: Any, model: Transformer, tokenizer: Tokenizer, root: Path
) -> None:
    """The difference is exactly that: log P(EOS | EOS) + log P(document | EOS, EOS) on a document."""
    found, expected = samples(ours, "openwebtext2", root)[1], samples(theirs, "openwebtext2", root)[1]
    (tokens,) = tokenizer.encode([found["arguments"][0][0]])
    twice = (np.array([EOS]), np.append(EOS, tokens))
    ((_, answer),) = next(score_continuations(model, [twice]))
    assert expected["resps"][0][0] == pytest.approx(answer.log_prob_nats, **TOLERANCE)
    assert abs(found["resps"][0][0] - answer.log_prob_nats) > 1


def test_mmlu_has_the_prompts_of_the_harness_own_tasks(root: Path) -> None:
    """Ours are one task over all subjects, with each item's own shots; there each subject is one."""
    import datasets
    import lm_eval.tasks
    from lm_eval.tasks import TaskManager

    from sbp_bayes.evaluation.harness.tasks import load_tasks

    (letter, text) = benchmarks_named(["mmlu"])
    items = read_items(letter, root)
    assert items.examples is not None
    folder = Path(lm_eval.tasks.__file__).parent / "mmlu"
    for benchmark, kind in ((letter, "default"), (text, "continuation")):
        mine = load_tasks({benchmark.name: benchmark}, {benchmark.name: items})[benchmark.name]
        mine.build_all_requests()
        prompts = {request.arguments for request in mine.instances}
        for subject in SUBJECTS:
            of_subject = [
                [item for item in part if item["subject"] == subject]
                for part in (items.evaluated, items.examples)
            ]
            splits = dict(zip(("test", "dev"), map(datasets.Dataset.from_list, of_subject), strict=True))
            own = f"mmlu_{subject}" if kind == "default" else f"mmlu_{subject}_continuation"
            settings = {"task": own, "num_fewshot": 5, "custom_dataset": lambda splits=splits, **_: splits}
            manager = TaskManager(include_path=folder / kind, include_defaults=False)
            (task,) = manager.load([{"group": "one", "task": [settings]}])["tasks"].values()
            task.set_fewshot_seed(1234)
            task.build_all_requests()
            right = {request.arguments for request in task.instances if request.idx == request.doc["answer"]}
            assert right <= prompts
            assert len(right) == 4


def test_what_was_answered_is_not_asked_again(
    ours: Any, harness: ModuleType, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = samples(ours, "webqs", root)
    again = harness.CheckpointLM(ours.model, ours.tokenizer, Answers(ours.answers.path))
    monkeypatch.setattr(harness, "score_continuations", lambda model, rows: iter([[]] if not rows else 1 / 0))
    assert samples(again, "webqs", root) == first


def requests_of(kind: str, *arguments: Any) -> list[Any]:
    from lm_eval.api.instance import Instance

    return [
        Instance(request_type=kind, doc={}, arguments=a, idx=0, metadata=("a_task", 7, 1)) for a in arguments
    ]


def test_what_does_not_fit_is_cut_from_the_left_and_counted(ours: Any, theirs: Any) -> None:
    long = ("river stone " * 300, " cloud"), ("river", " stone")
    found, expected = (lm.loglikelihood(requests_of("loglikelihood", *long)) for lm in (ours, theirs))
    assert found[0][0] == pytest.approx(expected[0][0], **TOLERANCE)
    lines = [json.loads(line) for line in ours.answers.path.read_text().splitlines()]
    cut = sorted(answer["num_cut"] for line in lines for answer in line.values())
    assert cut[0] == 0
    assert cut[1] > 100


def test_a_continuation_beyond_the_context_is_scored_in_windows(
    ours: Any, model: Transformer, tokenizer: Tokenizer
) -> None:
    """The harness's model stops there. Every token counts once: the sum is that of a document's windows."""
    text = " stone river" * 300
    ((nats, _),) = ours.loglikelihood(requests_of("loglikelihood", ("", text)))
    assert nats == pytest.approx(ours.loglikelihood_rolling(requests_of("loglikelihood_rolling", (text,)))[0])


def test_tokens_across_the_border_are_counted_and_split_as_in_the_harness(ours: Any, theirs: Any) -> None:
    pair = ("the riv", "er stone cloud sugar copper tiger violin planet")
    found, expected = (lm.loglikelihood(requests_of("loglikelihood", pair)) for lm in (ours, theirs))
    assert found[0][0] == pytest.approx(expected[0][0], **TOLERANCE)
    (line,) = [json.loads(line) for line in ours.answers.path.read_text().splitlines()]
    assert [answer["splits_otherwise"] for answer in line.values()] == [True]


def test_a_continuation_that_vanishes_in_the_whole_is_scored_by_its_own_tokens(ours: Any) -> None:
    """Letter after letter the context has more tokens than the whole; the harness's model stops there."""
    pair = ("the riv", "er")
    ((nats, _),) = ours.loglikelihood(requests_of("loglikelihood", pair))
    context, own = (tokens.tolist() for tokens in ours.tokenizer.encode(pair))
    ((_, expected),) = next(score_continuations(ours.model, [(np.array([EOS, *context]), np.array(own))]))
    assert nats == pytest.approx(expected.log_prob_nats)


def test_a_space_at_the_end_of_the_context_belongs_to_the_continuation(ours: Any, theirs: Any) -> None:
    pairs = ("river ", "stone"), ("", "stone"), ("river\n\n", "Answer")
    found, expected = (lm.loglikelihood(requests_of("loglikelihood", *pairs)) for lm in (ours, theirs))
    for mine, other in zip(found, expected, strict=True):
        assert mine[0] == pytest.approx(other[0], **TOLERANCE)


def test_an_item_without_a_token_to_score_is_named(ours: Any) -> None:
    with pytest.raises(CorpusError, match="a_task: item 7 has no token to score"):
        ours.loglikelihood(requests_of("loglikelihood", ("river", "")))


def test_a_task_that_samples_is_refused(ours: Any) -> None:
    with pytest.raises(ConfigError, match="do_sample"):
        ours.generate_until(requests_of("generate_until", ("river", {"do_sample": True})))
