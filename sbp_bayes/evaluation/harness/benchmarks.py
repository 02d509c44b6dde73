"""The talk's nine benchmarks, in one table; standard library only."""

import dataclasses
from collections.abc import Iterable
from typing import Literal

from sbp_bayes.base.config import require_one_of

Unit = Literal["accuracy", "word", "token"]
"""What is reported: a share of items, or a perplexity for each item's target or for each token."""

TALK = "talk"
"""Name of all benchmarks together."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Benchmark:
    """One row of the talk's table.

    Attributes:
        name: its name, and the task's in the record.
        label: its name in tables.
        data: the folder of its items under `--tasks-dir`; also a name for all benchmarks that share it.
        definition: the harness's own task that defines its prompts and answers, with the folder in which the
            harness keeps it; None where `tasks` defines it.
        shots: solved examples in the prompt.
        unit: what is reported.
        metric: the harness's name of an accuracy.
        split: of the data set, where its items are.
        shots_split: of the data set, where its examples are.
        is_open: whether an accuracy is of answers in the model's own words, not of a choice.
    """

    name: str
    label: str
    data: str
    definition: tuple[str, str] | None
    shots: int = 0
    unit: Unit = "accuracy"
    metric: str = "acc"
    split: str = "test"
    shots_split: str | None = None
    is_open: bool = False


_ROWS = (
    Benchmark(
        name="openwebtext2",
        label="OpenWebText2",
        data="openwebtext2",
        definition=("pile", "pile_openwebtext2"),
        unit="token",
        split="train",
    ),
    Benchmark(
        name="lambada", label="LAMBADA", data="lambada", definition=("lambada", "lambada_openai"), unit="word"
    ),
    Benchmark(
        name="mmlu_letter",
        label="Five-shot MMLU, the letter",
        data="mmlu",
        definition=None,
        shots=5,
        unit="word",
        shots_split="dev",
    ),
    Benchmark(
        name="mmlu_text",
        label="Five-shot MMLU, the answer's text",
        data="mmlu",
        definition=None,
        shots=5,
        unit="token",
        shots_split="dev",
    ),
    Benchmark(
        name="arc_challenge",
        label="ARC-Challenge (0-shot)",
        data="arc_challenge",
        definition=("arc", "arc_challenge"),
    ),
    Benchmark(name="arc_easy", label="ARC-Easy (0-shot)", data="arc_easy", definition=("arc", "arc_easy")),
    Benchmark(name="sciq", label="SciQ (0-shot)", data="sciq", definition=("sciq", "sciq")),
    Benchmark(
        name="winogrande",
        label="Winogrande (0-shot)",
        data="winogrande",
        definition=("winogrande", "winogrande"),
        split="validation",
    ),
    Benchmark(
        name="triviaqa",
        label="TriviaQA (1-shot)",
        data="triviaqa",
        definition=("triviaqa", "triviaqa"),
        shots=1,
        metric="exact_match",
        split="validation",
        shots_split="train",
        is_open=True,
    ),
    Benchmark(
        name="webqs",
        label="WebQS (1-shot)",
        data="webqs",
        definition=("webqs", "webqs"),
        shots=1,
        metric="exact_match",
        shots_split="train",
        is_open=True,
    ),
)

BENCHMARKS = {row.name: row for row in _ROWS}
"""The table's rows by name, in the talk's order. The talk does not say how it read MMLU's perplexity."""


def benchmarks_named(names: Iterable[str]) -> list[Benchmark]:
    """Return the benchmarks that are called so, each once, in the table's order.

    Args:
        names: of benchmarks, of their data ("mmlu" for both readings), or "talk" for all.

    Raises:
        ConfigError: an unknown name.
    """
    wanted = set(names)
    known = [TALK, *dict.fromkeys([row.data for row in _ROWS] + [row.name for row in _ROWS])]
    for name in sorted(wanted):
        require_one_of("--tasks", name, known)
    return [row for row in _ROWS if wanted & {TALK, row.name, row.data}]
