"""Speed of sampling and scoring beside transformers on the exported weights, on 2 threads.

Bars are reported, not enforced; SBP_BENCH=small tries the files on little work.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from side_by_side import IS_SMALL, Report, SideBySide, torch_threads

from sbp_bayes.base.records import EOS, SEP
from sbp_bayes.base.seeds import numpy_generator
from sbp_bayes.lm import PRESETS, Transformer, export_hf, generate
from sbp_bayes.synthesizer import NeuralSynthesizer

MODEL_6M = PRESETS["6m"]
NUM_DOCUMENTS, NUM_PAIRS, NEW_TOKENS = (4, 8, 8) if IS_SMALL else (256, 1000, 256)
ROUNDS = 1 if IS_SMALL else 3
THEIR_ROWS = 64
"""Rows of a batch of theirs."""


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    with torch_threads(2):
        yield


@pytest.fixture(scope="module")
def model() -> Transformer:
    """Random weights; a long embedding of EOS makes documents end, at lengths that differ."""
    model = Transformer(MODEL_6M, seed=0).eval()
    with torch.no_grad():
        model.embedding.weight[EOS] *= 3.5
    return model


@pytest.fixture(scope="module")
def theirs(model: Transformer, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The same weights in transformers, from an export."""
    transformers = pytest.importorskip("transformers")
    transformers.utils.logging.disable_progress_bar()
    directory = tmp_path_factory.mktemp("exported")
    export_hf(model, directory)
    return transformers.AutoModelForCausalLM.from_pretrained(directory).eval()


def documents(number: int, name: str) -> list[np.ndarray]:
    """Random documents of 16 to 254 tokens: two, EOS and SEP fill a row of the context at most."""
    rng = numpy_generator(0, name)
    return [rng.integers(2, MODEL_6M.vocab_size, rng.integers(16, 255)) for _ in range(number)]


@pytest.mark.benchmark(group=f"synthesis: {NUM_DOCUMENTS} documents of at most {NEW_TOKENS} tokens")
def test_synthesis(
    benchmark: BenchmarkFixture, capsys: pytest.CaptureFixture[str], model: Transformer, theirs: Any
) -> None:
    report = Report(benchmark, capsys)
    prompts = [np.concatenate([[EOS], d, [SEP]]) for d in documents(NUM_DOCUMENTS, "d1")]
    lengths: dict[str, list[int]] = {}

    def here() -> float:
        streams = range(len(prompts))
        drawn = generate(model, prompts, max_new_tokens=NEW_TOKENS, stream_seeds=streams)
        lengths["sbp_bayes"] = [len(sample.tokens) + sample.finished for sample in drawn]
        return sum(lengths["sbp_bayes"])

    def there() -> float:
        torch.manual_seed(0)
        lengths["transformers"] = their_lengths(theirs, prompts)
        return sum(lengths["transformers"])

    roads = SideBySide({"sbp_bayes": here, "transformers": there})
    roads.run(benchmark, ROUNDS)
    for name, counts in lengths.items():
        report.say(f"  {name}: documents of {np.mean(counts):.0f} tokens on average, EOS included")
    report.speeds(roads, "tokens/s")
    report.bar("times transformers' generate", roads.ratio("sbp_bayes", "transformers"), 5)


@torch.no_grad()
def their_lengths(theirs: Any, prompts: list[np.ndarray]) -> list[int]:
    """Sample as `generate` does, batch by batch with padding on the left; return the samples' lengths."""
    lengths: list[int] = []
    for start in range(0, len(prompts), THEIR_ROWS):
        group = prompts[start : start + THEIR_ROWS]
        longest = max(map(len, group))
        inputs, mask = torch.full((len(group), longest), EOS), torch.zeros(len(group), longest).long()
        for row, prompt in enumerate(group):
            inputs[row, longest - len(prompt) :] = torch.from_numpy(prompt)
            mask[row, longest - len(prompt) :] = 1
        drawn = theirs.generate(
            input_ids=inputs,
            attention_mask=mask,
            max_new_tokens=NEW_TOKENS,
            do_sample=True,
            top_k=0,
            pad_token_id=EOS,
            eos_token_id=EOS,
            suppress_tokens=[SEP],
        )[:, longest:]
        ended = (drawn == EOS).long()
        lengths += torch.where(ended.any(1), ended.argmax(1) + 1, drawn.shape[1]).tolist()
    return lengths


@pytest.mark.benchmark(group=f"log p(d2 | d1) of {NUM_PAIRS} pairs")
def test_scoring(
    benchmark: BenchmarkFixture, capsys: pytest.CaptureFixture[str], model: Transformer, theirs: Any
) -> None:
    report = Report(benchmark, capsys)
    d1, d2 = documents(NUM_PAIRS, "d1"), documents(NUM_PAIRS, "d2")
    synthesizer, rows = NeuralSynthesizer(model), 8 if IS_SMALL else 32
    scores: dict[str, torch.Tensor] = {}
    num_targets = sum(len(document) + 1 for document in d2)

    def road(name: str, log_prob: Callable[[], torch.Tensor]) -> Callable[[], float]:
        def scored() -> float:
            scores[name] = log_prob()
            return num_targets

        return scored

    roads = SideBySide(
        {
            "sbp_bayes": road("sbp_bayes", lambda: synthesizer.log_prob(d2, d1)),
            "transformers": road("transformers", lambda: their_log_prob(theirs, d1, d2, rows)),
        }
    )
    roads.run(benchmark, ROUNDS)
    torch.testing.assert_close(scores["sbp_bayes"], scores["transformers"], rtol=1e-5, atol=1e-3)
    report.speeds(roads, "tokens/s of d2")
    report.bar("times transformers' forward", roads.ratio("sbp_bayes", "transformers"), 2)


@torch.no_grad()
def their_log_prob(theirs: Any, d1: list[np.ndarray], d2: list[np.ndarray], rows: int) -> torch.Tensor:
    """log p(d2 | d1) in nats by whole forward passes, batch by batch with padding on the right."""
    totals = []
    for start in range(0, len(d1), rows):
        firsts, seconds = d1[start : start + rows], d2[start : start + rows]
        whole = [np.concatenate([[EOS], a, [SEP], b, [EOS]]) for a, b in zip(firsts, seconds, strict=True)]
        tokens = torch.full((len(whole), max(map(len, whole))), EOS)
        is_target = torch.zeros(tokens.shape, dtype=torch.bool)
        for row, values in enumerate(whole):
            tokens[row, : len(values)] = torch.from_numpy(values)
            is_target[row, len(firsts[row]) + 2 : len(values)] = True
        mask = (torch.arange(tokens.shape[1]) < torch.tensor([len(v) for v in whole])[:, None]).long()
        logits = theirs(input_ids=tokens[:, :-1], attention_mask=mask[:, :-1], use_cache=False).logits
        log_probs = logits.log_softmax(-1).gather(2, tokens[:, 1:, None])[..., 0].double()
        totals.append((log_probs * is_target[:, 1:]).sum(1))
    return torch.cat(totals)
