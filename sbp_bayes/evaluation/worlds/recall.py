"""Closed-book recall of facts: a document is read up to the value of a fact, and the value is asked for.

The talk asks question-answering benchmarks; in a world of facts the question is the beginning of one of its
own documents, "Ada hails from", and the best that anybody can answer is known: argmax_v P(v | prompt).

Shapes: N items, T time, V candidates of an item, K concepts.
"""

import dataclasses
from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from sbp_bayes.base.arrays import ArrayRecord
from sbp_bayes.base.config import require
from sbp_bayes.base.records import EOS
from sbp_bayes.base.seeds import torch_generator
from sbp_bayes.lm import Transformer
from sbp_bayes.synthesizer.vocabulary import NUM_SPECIAL

ITEMS_TOGETHER = 256
"""Number of prompts that are scored at once."""

NextToken = Callable[[Tensor], Tensor]
"""Function of world tokens (N, T) to log P(next token | them), (N, vocab_size), as every world has it."""


class FactWorld(Protocol):
    """A world with finitely many concepts whose documents state `num_stated` facts, one after the other."""

    num_stated: int

    def sample_concept(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw n concepts."""
        ...

    def sample(self, c: Tensor, generator: torch.Generator) -> Tensor:
        """Draw one document for each concept."""
        ...

    def posterior(self, d: Tensor) -> Tensor:
        """Return log P(c | d), (N, K)."""
        ...

    def next_token_log_probs(self, prefix: Tensor, given: Tensor | None = None) -> Tensor:
        """Return log P(next token | prefix), (N, vocab_size)."""
        ...

    def fact_question(self, d: Tensor, statement: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return documents up to a value, candidate tokens (N, V), and which are the concepts' own, (N, K).

        The last are places among the candidates.
        """
        ...


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class RecallScores(ArrayRecord):
    """How one model answers each item.

    Attributes:
        correct: 1 where the candidate of the highest probability is the true value, else 0; float64 (N,).
        probability: of the true value among the candidates, p(true) / Σ_v p(v), float64 (N,).
    """

    correct: np.ndarray
    probability: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class RecallItems(ArrayRecord):
    """Questions about facts, and the Bayes-optimal answers to them.

    Attributes:
        prompts: world tokens, int64 (N, T).
        candidates: the tokens that may follow, int64 (N, V).
        answers: place of the true value among the candidates, int64 (N,).
        bayes: scores of P(next token | prompt) itself, which a model of the perfect P(d) would have.
        bayes_rate: probability that the Bayes-optimal answer is right, max_v P(fact = v | prompt), float64
            (N,): the mean of `bayes.correct` over all that the prompt leaves open. No model's `correct` has a
            higher mean.
    """

    prompts: Tensor
    candidates: Tensor
    answers: Tensor
    bayes: RecallScores
    bayes_rate: np.ndarray


def recall_items(world: FactWorld, seed: int, number: int, *, stated: int | None = None) -> RecallItems:
    """Draw c ~ P(c) and d ~ P(d | c), and ask for one of d's facts; equal arguments give equal items.

    The right answer is what c's table holds, also where d itself says something else by noise.

    Args:
        world: for instance biographies or fact_views.
        seed: of the draws.
        number: items, at least 1.
        stated: statements of the document in front of the question, from 0. None is all but one, so that the
            prompt says who or what is meant as far as a document can.

    Raises:
        ConfigError: a number out of its range.
    """
    stated = world.num_stated - 1 if stated is None else stated
    require(number >= 1, "number", number, "at least 1")
    require(0 <= stated < world.num_stated, "stated", stated, f"from 0 to {world.num_stated - 1}")
    generator = torch_generator(seed, "recall")
    c = world.sample_concept(number, generator)
    prompts, candidates_NV, facts_NK = world.fact_question(world.sample(c, generator), stated)
    answers_N = facts_NK.gather(1, c[:, None])[:, 0]
    log_probs_NV = _candidate_log_probs(world.next_token_log_probs, prompts, candidates_NV)
    chosen_N1 = log_probs_NV.argmax(dim=1, keepdim=True)
    rates = [
        (world.posterior(prompt).exp() * (facts == chosen)).sum(dim=1)
        for prompt, facts, chosen in zip(
            *(whole.split(ITEMS_TOGETHER) for whole in (prompts, facts_NK, chosen_N1)), strict=True
        )
    ]
    return RecallItems(
        prompts=prompts,
        candidates=candidates_NV,
        answers=answers_N,
        bayes=_scores(log_probs_NV, answers_N),
        bayes_rate=torch.cat(rates).numpy(),
    )


def score_recall(model: Transformer | NextToken, items: RecallItems) -> RecallScores:
    """Return how a model answers each item.

    Rates have intervals by `mean_interval(scores.correct)`, or over seeds and items that all seeds share by
    `loss_interval` and `difference_interval` with `np.ones(N)` for tokens; where every seed has a world of
    its own, by `mean_over_seeds` of the rates.

    Args:
        model: a transformer that reads EOS and then token t as id t + 2, or a function of world tokens: a
            world's own `next_token_log_probs` has the Bayes-optimal scores, and that of what is known from
            D_unique alone those of a perfect learner.
        items: of the world whose documents the model was trained on.
    """
    predict = next_world_token(model) if isinstance(model, Transformer) else model
    return _scores(_candidate_log_probs(predict, items.prompts, items.candidates), items.answers)


def next_world_token(model: Transformer) -> NextToken:
    """Return the function of world tokens (N, T) to a transformer's log p(next token), (N, vocab_size).

    The mass that the model gives to EOS and SEP is left out and not dealt to the others.
    """
    device = model.embedding.weight.device

    @torch.no_grad()
    def predict(prefix: Tensor) -> Tensor:
        inputs = torch.nn.functional.pad(prefix + NUM_SPECIAL, (1, 0), value=EOS).to(device)
        logits = model.logits(model.hidden(inputs)[:, -1])
        return logits.double().log_softmax(dim=1)[:, NUM_SPECIAL:].cpu()

    return predict


def _candidate_log_probs(predict: NextToken, prompts: Tensor, candidates_NV: Tensor) -> Tensor:
    blocks = zip(prompts.split(ITEMS_TOGETHER), candidates_NV.split(ITEMS_TOGETHER), strict=True)
    return torch.cat([predict(prompt).gather(1, candidates) for prompt, candidates in blocks])


def _scores(log_probs_NV: Tensor, answers_N: Tensor) -> RecallScores:
    right_N = log_probs_NV.argmax(dim=1) == answers_N
    among_NV = log_probs_NV.double().softmax(dim=1)
    return RecallScores(
        correct=right_N.double().numpy(), probability=among_NV.gather(1, answers_N[:, None])[:, 0].numpy()
    )
