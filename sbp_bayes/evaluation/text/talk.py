"""The talk's table of the quality of synthetic text: five rates, of which two are a judge's."""

import dataclasses
from collections.abc import Mapping
from typing import Any

NO_JUDGE, NO_PAIRS, NO_SEEDS, NOT_KEPT = "no judge", "no pairs", "no d1", "not kept"

RESULTS_OF_THE_TALK = {
    "talk, 200B tokens": (0.043, 0.008, 0.151, 0.256, 0.001),
    "talk, 1T tokens": (0.039, 0.008, 0.087, 0.078, 0.009),
    "talk, real": (0.018, 0.007, 0.018, None, None),
}
"""The same rates of the paper's runs with 3B parameters, where duplicates are among 1M documents."""


@dataclasses.dataclass(frozen=True)
class Cell:
    """One rate.

    Attributes:
        rate: share of documents or pairs; None where it is not known.
        note: why it is not known, or of what it is; "" where nothing needs to be said.
    """

    rate: float | None
    note: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TalkTable:
    """The table.

    Attributes:
        columns: names of the rates.
        rows: cells by the name of the text.
    """

    columns: tuple[str, ...]
    rows: Mapping[str, tuple[Cell, ...]]


def talk_table(
    measures: Mapping[str, Any],
    judged: Mapping[str, Any] | None = None,
    screened: Mapping[str, int] | None = None,
) -> TalkTable:
    """Arrange measures as the talk does.

    Repetition is what `RepetitionRule` flags. Duplicates are exact and near ones among the largest number of
    documents that both texts have. A pair is copied where d2 is for the most part verbatim from d1 (see
    `PairQuality.mostly_from_first`). The paper's own definitions are not known to us.

    Args:
        measures: of `measure_quality`.
        judged: of `judge_stage`; None without a judge.
        screened: counts of a synthesis's samples by what its screen did with them. They say what share was
            repetitive, an exact duplicate or a copy of d1's beginning before such samples were dropped.
    """
    kinds = ("synthetic", "real")
    by_size = [measures[kind]["duplicates"] for kind in kinds]
    size = max((int(n) for n in by_size[0] if n in by_size[1]), default=None)
    if size is None:
        size = measures["real"]["documents"]["num_documents"]
    rows = {kind: _row(kind, measures[kind], size, judged) for kind in kinds}
    if screened and screened.get("samples"):
        rows["synthetic, before screening"] = (
            _dropped(screened, "repetitive"),
            _dropped(screened, "duplicate", "exact alone"),
            Cell(None, NOT_KEPT),
            Cell(None, NOT_KEPT),
            _dropped(screened, "copy_of_seed", "copies of d1 alone"),
        )
    columns = ("Repetition", f"Duplicate@{_short(size)}", "Non-factual", "Pair-irrelevance", "Pair-copying")
    return TalkTable(columns=columns, rows=rows)


def _dropped(screened: Mapping[str, int], reason: str, note: str = "") -> Cell:
    if reason not in screened:
        return Cell(None, NOT_KEPT)
    return Cell(screened[reason] / screened["samples"], note)


def _row(kind: str, own: Mapping[str, Any], size: int, judged: Mapping[str, Any] | None) -> tuple[Cell, ...]:
    documents, copying = own["documents"], own["copying"]
    duplicates = own["duplicates"].get(str(size))
    if duplicates is None:
        duplicates = {"exact": documents["exact_duplicates"], "near": documents["near_duplicates"]}
    no_pairs = Cell(None, NO_SEEDS if kind == "synthetic" else NO_PAIRS)
    return (
        Cell(documents["repetition"]),
        Cell(duplicates["exact"] + duplicates["near"]),
        _judged(kind, "non_factual", judged),
        no_pairs if copying is None else _judged(kind, "irrelevant", judged),
        no_pairs if copying is None else Cell(copying["mostly_from_first"]),
    )


def _judged(kind: str, question: str, judged: Mapping[str, Any] | None) -> Cell:
    if judged is None or question not in judged[kind]:
        return Cell(None, NO_JUDGE)
    said = judged[kind][question]
    if said["rate"] is None:
        return Cell(None, f"{said['verdicts']} verdicts in {said['answered']} replies")
    note = f"{said['low']:.1%} to {said['high']:.1%} of {said['verdicts']}"
    return Cell(said["rate"], f"{note}, {said['unparsable']:.0%} unparsable" if said["unparsable"] else note)


def _short(number: int) -> str:
    for unit, name in ((1_000_000, "M"), (1000, "k")):
        if number % unit == 0 and number:
            return f"{number // unit}{name}"
    return f"{number:,}"
