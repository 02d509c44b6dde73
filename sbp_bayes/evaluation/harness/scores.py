"""From answered items to the talk's numbers: perplexities and accuracies, with their errors."""

import collections
import dataclasses
import math
import string
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64
from scipy import stats

from sbp_bayes.base.units import bits_per_byte, perplexity
from sbp_bayes.evaluation.harness.answers import Answered
from sbp_bayes.evaluation.harness.benchmarks import Benchmark

LEVEL = 0.05
"""Probability of printing any of a table's accuracies as a result where all are at chance."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scored:
    """One item and the model's answers to its requests.

    Attributes:
        number: the item's number in its data set.
        arguments: of the harness's requests: (context, continuation), (document,) or (context, settings).
        answers: to them.
        target: what the task says is right.
        metrics: the harness's values for the item.
        query: what of the item would give it away in a training text.
    """

    number: int
    arguments: Sequence[Sequence[Any]]
    answers: Sequence[Answered]
    target: Any
    metrics: dict[str, Any]
    query: str


def score_benchmark(benchmark: Benchmark, items: Sequence[Scored]) -> dict[str, Any]:
    """Return the numbers of one benchmark over its items, as its record has them."""
    answers = [answer for item in items for answer in item.answers]
    counts = {
        "items": len(items),
        "requests": len(answers),
        "cut_from_the_left": sum(any(answer.num_cut for answer in item.answers) for item in items),
        "tokens_cut": sum(answer.num_cut for answer in answers),
        "split_otherwise": sum(answer.splits_otherwise for answer in answers),
    }
    numbers = _accuracy(benchmark, items) if benchmark.unit == "accuracy" else _perplexity(benchmark, items)
    return {"label": benchmark.label, "shots": benchmark.shots, **counts, **numbers}


def _perplexity(benchmark: Benchmark, items: Sequence[Scored]) -> dict[str, Any]:
    nats = np.array([-item.answers[0].log_prob_nats for item in items])
    tokens = np.array([item.answers[0].num_tokens for item in items], float)
    texts = [item.arguments[0][-1] for item in items]
    num_bytes = sum(len(text.encode()) for text in texts)
    units = tokens if benchmark.unit == "token" else np.ones(len(items))
    mean = float(nats.sum() / units.sum())
    return {
        "perplexity": perplexity(mean),
        "standard_error": perplexity(mean) * ratio_error(nats, units),
        "perplexity_per": "token" if benchmark.unit == "token" else "item",
        "nats": float(nats.sum()),
        "tokens": int(tokens.sum()),
        "bytes": num_bytes,
        "nats_per_token": float(nats.sum() / tokens.sum()),
        "bits_per_byte": bits_per_byte(float(nats.sum()), num_bytes),
        "perplexity_per_word": perplexity(
            min(float(nats.sum()) / sum(len(text.split()) for text in texts), 700.0)
        ),
        "share_greedy": float(np.mean([item.answers[0].is_greedy for item in items])),
    }


def ratio_error(totals: Float64[np.ndarray, " N"], units: Float64[np.ndarray, " N"]) -> float:
    """Return the standard error of Σ totals / Σ units over N independent items; 0 for one item."""
    size = len(totals)
    if size < 2:
        return 0.0
    residuals = totals - totals.sum() / units.sum() * units
    return float(math.sqrt(size / (size - 1) * (residuals**2).sum()) / units.sum())


def _accuracy(benchmark: Benchmark, items: Sequence[Scored]) -> dict[str, Any]:
    right = np.array([float(item.metrics[benchmark.metric]) for item in items])
    chances = _chances(benchmark, items)
    above, below = chance_p_values(int(right.sum()), chances)
    others = sorted(set(items[0].metrics) - {benchmark.metric})
    return {
        "metric": benchmark.metric,
        "accuracy": float(right.mean()),
        "standard_error": float(right.std(ddof=1) / math.sqrt(len(right))) if len(right) > 1 else 0.0,
        "chance": float(chances.mean()),
        "p_value_above_chance": above,
        "p_value_below_chance": below,
        "other_metrics": {name: float(np.mean([item.metrics[name] for item in items])) for name in others},
    }


def chance_p_values(num_right: int, chances: Float64[np.ndarray, " N"]) -> tuple[float, float]:
    """Return P(as many right or more) and P(as many or fewer) where item i is right with chance i.

    Exact: the number of right items has the Poisson-binomial distribution.
    """
    law = stats.poisson_binom(np.asarray(chances))
    return tuple(float(np.clip(p, 0.0, 1.0)) for p in (law.sf(num_right - 1), law.cdf(num_right)))  # type: ignore[return-value]


def verdict(row: dict[str, Any], num_accuracies: int) -> str:
    """Return "", "at chance" or "below chance" for a record of an accuracy.

    Where all of a table's `num_accuracies` are at chance, it says so of all of them with probability
    1 − `LEVEL` at least.
    """
    level = LEVEL / num_accuracies / 2
    if row["p_value_above_chance"] < level:
        return ""
    return "below chance" if row["p_value_below_chance"] < level else "at chance"


def _chances(benchmark: Benchmark, items: Sequence[Scored]) -> Float64[np.ndarray, " N"]:
    """Return how probable a right answer is without knowledge, for each item.

    Of a choice, one over the number of answers. Of an open question, the share of all questions to which
    the one best constant answer is right.
    """
    if not benchmark.is_open:
        return np.array([1 / len(item.arguments) for item in items])
    counts = collections.Counter(answer for item in items for answer in set(_right_answers(item)))
    return np.full(len(items), max(counts.values(), default=0) / len(items))


def _right_answers(item: Scored) -> Iterable[str]:
    """Yield the answers that are right, as the harness compares them: without case and punctuation."""
    is_generated = isinstance(item.arguments[0][1], dict)
    answers = item.target if is_generated else [continuation for _, continuation in item.arguments]
    for answer in [answers] if isinstance(answers, str) else answers:
        yield answer.lower().translate(str.maketrans("", "", string.punctuation)).strip()
