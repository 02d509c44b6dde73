"""Continuations: trees and cached prefixes give what one row after the other gives, in any batches."""

import numpy as np
import pytest
import torch
from hf_models import SMALL, random_model

from sbp_bayes.base.errors import ConfigError
from sbp_bayes.base.records import EOS, SEP
from sbp_bayes.lm import Transformer, continuations
from sbp_bayes.lm.continuations import score_continuations
from sbp_bayes.lm.greedy import generate_greedy

Request = tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def model() -> Transformer:
    return random_model()


def some_requests() -> list[Request]:
    """Questions after common shots, with answers that begin alike; cut ones; one twice; one-token answers."""
    r = np.random.default_rng(0)
    draw = lambda size: r.integers(2, SMALL.vocab_size, size)  # noqa: E731
    shots, requests = draw(30), []
    for number in range(30):
        question, head = draw(r.integers(1, 12)), draw(3)
        context = np.concatenate(([EOS], shots, question) if number < 20 else ([EOS], question, head))
        answers = [np.concatenate((head[: k % 3], draw(r.integers(1, 5)))) for k in range(4)]
        requests += [(context, answer) for answer in answers]
        requests += [(context, letter) for letter in draw((4, 1))]
    requests += [(draw(100), draw(50)), (np.array([EOS]), draw(SMALL.context_length)), requests[0]]
    return requests


@torch.no_grad()
def one_row(model: Transformer, context: np.ndarray, continuation: np.ndarray) -> tuple[float, bool]:
    whole = np.concatenate((context, continuation))[-(SMALL.context_length + 1) :]
    log_probs = model(torch.from_numpy(whole[:-1])[None])[0].double().log_softmax(-1)[-len(continuation) :]
    targets = torch.from_numpy(continuation)
    best = log_probs.argmax(dim=1) == targets
    return float(log_probs.gather(1, targets[:, None]).sum()), bool(best.all())


@pytest.mark.parametrize("tree_tokens", [8, 64, 256])
@pytest.mark.parametrize("tokens_per_batch", [1, 300])
def test_every_answer_is_that_of_one_row(
    model: Transformer, monkeypatch: pytest.MonkeyPatch, tree_tokens: int, tokens_per_batch: int
) -> None:
    monkeypatch.setattr(continuations, "TREE_TOKENS", tree_tokens)
    requests = some_requests()
    batches = score_continuations(model, requests, tokens_per_batch=tokens_per_batch)
    answers = [pair for batch in batches for pair in batch]
    assert sorted(index for index, _ in answers) == list(range(len(requests)))
    for index, (log_prob, is_greedy) in answers:
        expected, is_best = one_row(model, *requests[index])
        assert log_prob == pytest.approx(expected, rel=1e-5, abs=1e-4)
        assert is_greedy == is_best


def test_the_most_probable_continuation_is_greedy_and_another_is_not(model: Transformer) -> None:
    context, best = np.array([EOS, 7, 9]), []
    for _ in range(3):
        with torch.no_grad():
            best.append(int(model(torch.tensor([[*context.tolist(), *best]]))[0, -1].argmax()))
    other = [*best[:2], (best[2] + 1) % SMALL.vocab_size]
    (batch,) = score_continuations(model, [(context, np.array(best)), (context, np.array(other))])
    assert {index: answer.is_greedy for index, answer in batch} == {0: True, 1: False}


def test_what_requests_share_is_read_once(model: Transformer, monkeypatch: pytest.MonkeyPatch) -> None:
    positions = 0
    read = continuations.read_trees

    def counting(
        model: Transformer, layout: continuations.Layout, *caches: continuations.Cached
    ) -> torch.Tensor:
        nonlocal positions
        positions += layout.tokens_BT.numel()
        return read(model, layout, *caches)

    monkeypatch.setattr(continuations, "read_trees", counting)
    monkeypatch.setattr(continuations, "TREE_TOKENS", 16)
    r = np.random.default_rng(0)
    shots = np.concatenate(([EOS], r.integers(2, 300, 40)))
    requests = [(np.append(shots, r.integers(2, 300, 3)), r.integers(2, 300, 2)) for _ in range(20)]
    assert len(list(score_continuations(model, requests))) > 0
    once, own = len(shots), 20 * 4  # a continuation's last token is not read
    assert positions <= 1.1 * (once + own)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ((np.array([]), np.array([5])), "request 0: a context of 0"),
        ((np.array([EOS]), np.array([])), "a continuation of 0 tokens"),
        ((np.array([EOS]), np.full(81, 5)), "a continuation of 81 tokens: .* context_length = 80"),
        ((np.array([EOS]), np.array([300])), "request 0 has token 300"),
    ],
)
def test_a_request_without_a_place_to_score_is_named(
    model: Transformer, request_: Request, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        list(score_continuations(model, [request_]))


@torch.no_grad()
def greedy_by_hand(model: Transformer, prompt: np.ndarray, most: int, stop: int) -> list[int]:
    tokens: list[int] = []
    while len(tokens) < most:
        logits = model(torch.tensor([[*prompt.tolist(), *tokens]]))[0, -1]
        logits[SEP] = -torch.inf
        token = int(logits.argmax())
        if token == EOS:
            break
        tokens.append(token)
        if token % stop == 0:
            break
    return tokens


@pytest.mark.parametrize("tokens_per_batch", [1, 60, 10_000])
def test_greedy_continuations_are_those_of_whole_rows(model: Transformer, tokens_per_batch: int) -> None:
    r = np.random.default_rng(1)
    prompts = [np.append(EOS, r.integers(2, 300, size)) for size in (0, 3, 9, 9, 25, 60)]
    found = dict(
        pair
        for batch in generate_greedy(
            model,
            prompts,
            max_new_tokens=12,
            is_finished=lambda tokens: tokens[-1] % 5 == 0,
            tokens_per_batch=tokens_per_batch,
        )
        for pair in batch
    )
    assert [found[i] for i in range(len(prompts))] == [greedy_by_hand(model, p, 12, 5) for p in prompts]
    assert len({len(tokens) for tokens in found.values()}) > 1  # rows end at different times


def test_a_prompt_without_room_is_named(model: Transformer) -> None:
    with pytest.raises(ConfigError, match="prompt 1 of 75 tokens with 6 new ones"):
        list(
            generate_greedy(model, [np.zeros(1), np.zeros(75)], max_new_tokens=6, is_finished=lambda _: False)
        )
