"""Numbers from answered items: errors by simulation, exact chance levels, and what the table says."""

import math
import random
from typing import Any

import numpy as np
import pytest
from scipy import stats

from sbp_bayes.evaluation.harness import BENCHMARKS, talk_table
from sbp_bayes.evaluation.harness.answers import Answered
from sbp_bayes.evaluation.harness.scores import (
    Scored,
    chance_p_values,
    ratio_error,
    score_benchmark,
    verdict,
)
from sbp_bayes.evaluation.text.contents import Benchmark


def choice(right: float, num_choices: int = 4) -> Scored:
    return Scored(
        number=0,
        arguments=[["a question", f" {i}"] for i in range(num_choices)],
        answers=[Answered(log_prob_nats=-1.0, num_tokens=1)] * num_choices,
        target=0,
        metrics={"acc": right, "acc_norm": 0.0},
        query="a question",
    )


def document(nats: float, num_tokens: int, text: str = "a text") -> Scored:
    answer = Answered(log_prob_nats=-nats, num_tokens=num_tokens)
    return Scored(number=0, arguments=[[text]], answers=[answer], target=text, metrics={}, query=text)


def test_the_number_right_by_chance_has_the_binomial_law_where_all_chances_are_equal() -> None:
    above, below = chance_p_values(31, np.full(100, 0.25))
    assert above == pytest.approx(stats.binom.sf(30, 100, 0.25), rel=1e-9)
    assert below == pytest.approx(stats.binom.cdf(31, 100, 0.25), rel=1e-9)


def test_unequal_chances_are_enumerated() -> None:
    chances, total = [0.2, 0.25, 1 / 3, 0.5], 0.0
    for outcome in np.ndindex(2, 2, 2, 2):
        mass = math.prod(p if right else 1 - p for p, right in zip(chances, outcome, strict=True))
        total += mass * (sum(outcome) >= 3)
    assert chance_p_values(3, np.array(chances))[0] == pytest.approx(total, rel=1e-10)


def test_guesses_are_named_so_and_knowledge_is_not() -> None:
    """Of 60 tables of six accuracies at chance, at most LEVEL's share may print one: z-bound of 4."""
    draw = random.Random(0)
    printed = 0
    for _ in range(60):
        rows = [
            score_benchmark(BENCHMARKS["arc_easy"], [choice(draw.random() < 0.25) for _ in range(50)])
            for _ in range(6)
        ]
        printed += any(verdict(row, 6) != "at chance" for row in rows)
    assert printed <= 60 * 0.05 + 4 * math.sqrt(60 * 0.05 * 0.95)
    known = score_benchmark(BENCHMARKS["arc_easy"], [choice(i % 2) for i in range(100)])
    assert verdict(known, 6) == ""
    wrong = score_benchmark(BENCHMARKS["arc_easy"], [choice(i % 20 == 0) for i in range(100)])
    assert verdict(wrong, 6) == "below chance"


def test_an_item_with_five_answers_has_a_lower_chance() -> None:
    row = score_benchmark(BENCHMARKS["arc_challenge"], [choice(1), choice(0, 5)])
    assert row["chance"] == pytest.approx((1 / 4 + 1 / 5) / 2)
    assert row["accuracy"] == 0.5
    assert row["standard_error"] == pytest.approx(0.5)
    assert row["other_metrics"] == {"acc_norm": 0.0}


def test_chance_of_open_questions_is_that_of_the_best_constant_answer() -> None:
    def open_item(*targets: str) -> Scored:
        return Scored(
            number=0,
            arguments=[["q", {"until": ["."]}]],
            answers=[Answered(text="x")],
            target=list(targets),
            metrics={"exact_match": 0.0},
            query="q",
        )

    items = [open_item("Paris", "PARIS!"), open_item("Rome", "paris"), open_item("Oslo"), open_item("Bonn")]
    assert score_benchmark(BENCHMARKS["triviaqa"], items)["chance"] == 0.5


def test_perplexities_are_per_token_or_per_item_with_bits_per_byte() -> None:
    items = [document(6.0, 3, "é"), document(2.0, 1, "ab c")]
    row = score_benchmark(BENCHMARKS["openwebtext2"], items)
    assert row["perplexity"] == pytest.approx(math.exp(8 / 4))
    assert row["bits_per_byte"] == pytest.approx(8 / math.log(2) / 6)
    assert score_benchmark(BENCHMARKS["lambada"], items)["perplexity"] == pytest.approx(math.exp(8 / 2))


def test_the_error_of_a_ratio_is_its_spread_over_samples() -> None:
    draw = np.random.default_rng(0)
    ratios, errors = [], []
    for _ in range(400):
        units = draw.integers(1, 50, 200).astype(float)
        totals = 2 * units + draw.normal(0, units)
        ratios.append(totals.sum() / units.sum())
        errors.append(ratio_error(totals, units))
    # The spread of 400 ratios is known within 1/√800 = 3.5 percent of itself: 4 of those.
    assert np.mean(errors) == pytest.approx(np.std(ratios, ddof=1), rel=0.15)


def test_only_thirteen_words_in_a_row_are_an_overlap() -> None:
    words = [f"w{i}" for i in range(20)]
    queries = [" ".join(words[:13]), " ".join(words[:12]), "Other " + " ".join(words[:13]).upper() + "!"]
    text = "before, " + ", ".join(words[:13]) + " after"
    benchmark = Benchmark(queries)

    def items_in(texts: list[str]) -> set[int]:
        return set(np.flatnonzero(benchmark.search(texts)[0]).tolist())

    assert items_in(["nothing", text]) == {0, 2}
    assert items_in([" ".join(words[:12])]) == set()
    assert benchmark.is_too_short.tolist() == [False, True, False]


def record(**rows: dict[str, Any]) -> dict[str, Any]:
    return {"benchmarks": rows, "without_data": ["openwebtext2"]}


def test_the_table_has_the_talks_rows_and_prints_no_noise() -> None:
    rows = {
        "lambada": score_benchmark(BENCHMARKS["lambada"], [document(2.0, 1), document(3.0, 2)]),
        "arc_easy": score_benchmark(BENCHMARKS["arc_easy"], [choice(i % 2) for i in range(100)]),
        "sciq": score_benchmark(BENCHMARKS["sciq"], [choice(i % 4 == 0) for i in range(100)]),
    }
    found = {
        row[0].strip(): row[1:]
        for row in talk_table(record(**{k: v | {"overlap": {}} for k, v in rows.items()}))
    }
    assert found["OpenWebText2"] == ("no data",)
    assert found["LAMBADA"][0] == f"{math.exp(2.5):.2f}"
    assert found["ARC-Easy (0-shot)"][:3] == ("50.00", "5.03", "chance 25.00")
    assert found["SciQ (0-shot)"][0] == "at chance"
    assert found["Average QA accuracy"][0] == "37.50"
