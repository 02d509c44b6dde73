"""The comparison as a table, a line for each arm, and the sentences that say what it shows.

Differences are an arm's loss less the reference's, so below zero is better.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from paper_figures.numbers import count, percent, plain, signed
from paper_figures.text_results import (
    CHECKPOINTS,
    Against,
    Comparison,
    ReportedInterval,
    TextResults,
    from_report,
)
from sbp_bayes.arms import ARMS
from sbp_bayes.evaluation import gauge_line

if TYPE_CHECKING:
    from rich.console import Console

COLUMNS = ("", "nats/token", "Δ", "share of\ngain", "tokens", "FLOPs")
TITLES = {
    "best": "At best checkpoints on validation; Δ to {reference} (headline)",
    "last": "At last checkpoints, as in the paper; Δ to {reference}",
}


@dataclasses.dataclass(frozen=True)
class Cell:
    """A number and its 95% interval, as text; either may be empty."""

    value: str
    interval: str = ""


@dataclasses.dataclass(frozen=True)
class Group:
    """The comparison at one kind of checkpoint: a row of `COLUMNS` for each arm, and what it shows."""

    against: Against
    title: str
    rows: Mapping[str, tuple[Cell, ...]]
    verdicts: tuple[str, ...]


def comparison_table(report: Mapping[str, Any]) -> tuple[Group, Group]:
    """Return the headline comparison (best checkpoints on validation) and the paper's (last ones)."""
    results = from_report(report)
    best, last = (_group(results, results.comparison(against)) for against in CHECKPOINTS)
    return best, last


def headline(report: Mapping[str, Any]) -> str:
    """Say what SBP did against repetition at its best on validation, and against its best control."""
    results = from_report(report)
    comparison, interval = results.comparison("best"), f"95% interval over {results.intervals_over}"
    if "sbp" not in comparison.deltas:
        return f"Loss of {len(comparison.losses)} arms; SBP was not compared with repetition ({interval})."
    delta = comparison.deltas["sbp"]
    where = f"that of {ARMS[comparison.reference].label} at its best on validation"
    if delta.includes_zero:
        sentence = (
            f"SBP's test loss is not distinguishable from {where}: "
            f"{signed(delta.value)} nats per token ({interval}: {_between(delta, signed)})"
        )
    else:
        way, size = ("lower", -delta) if delta.value < 0 else ("higher", delta)
        sentence = (
            f"SBP's test loss is {plain(size.value)} nats per token {way} than {where} "
            f"({interval}: {_between(size, plain)})"
        )
        share = comparison.shares.get("sbp")
        if share is not None and delta.value < 0:
            sentence += f": {percent(share.value)} of the oracle's gain ({_between(share, percent)})"
    return f"{sentence}. {_against_control(results, comparison.reference)}".strip()


def _against_control(results: TextResults, reference: str) -> str:
    """Say how SBP compares with its best control; empty where that is the reference itself."""
    control = results.best_control
    if control is None or control["arm"] == reference:
        return ""
    delta, label = ReportedInterval(**control["delta"]), ARMS[control["arm"]].label
    found = f"{signed(delta.value)}, {_between(delta, signed)}"
    if delta.includes_zero:
        return f"Against its best control, {label}, it is not distinguishable ({found})."
    return f"Against its best control, {label}, it is {'better' if delta.value < 0 else 'worse'} ({found})."


def gauge_sentences(report: Mapping[str, Any]) -> list[str]:
    """Say of each synthesizer what it learns of d2 from d1; arms that share one share a sentence."""
    by_words: dict[str, list[str]] = {}
    for record in report["gauges"]:
        by_words.setdefault(gauge_line(record), []).append(ARMS[record["arm"]].label)
    return [f"{', '.join(labels)}: {words}" for words, labels in by_words.items()]


def what_intervals_hold(report: Mapping[str, Any]) -> str:
    """Say what the intervals generalise over, and what they therefore leave out."""
    over, seeds = from_report(report).intervals_over, len(report["seeds"])
    if seeds == 1:
        left_out = ": the spread between training runs is not in them"
    else:
        left_out = "; few seeds make them wide" if seeds < 5 else ""
    return f"Intervals: 95%, over {over}{left_out}."


def print_table(report: Mapping[str, Any], console: "Console | None" = None) -> None:
    """Print the comparison and its verdicts; reads well at 80 columns and in a pipe."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = console or Console(highlight=False)
    for group in comparison_table(report):
        table = Table(
            title=group.title,
            title_justify="left",
            title_style="bold",
            box=box.SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
            pad_edge=False,
        )
        for number, name in enumerate(COLUMNS):
            table.add_column(name, justify="right" if number else "left", no_wrap=number > 0, overflow="fold")
        for arm, row in group.rows.items():
            cells = (f"{cell.value}\n[dim]{_escaped(cell.interval)}[/dim]" for cell in row)
            table.add_row(ARMS[arm].label, *cells)
        console.print(table)
        for verdict in group.verdicts:
            console.print(_escaped(verdict))
        console.print()
    for sentence in gauge_sentences(report):
        console.print(_escaped(sentence))
    console.print(what_intervals_hold(report))
    console.print(f"[bold]{_escaped(headline(report))}[/bold]")


def _group(results: TextResults, comparison: Comparison) -> Group:
    title = TITLES[comparison.against].format(reference=ARMS[comparison.reference].label)
    return Group(
        against=comparison.against,
        title=title,
        rows={arm: _row(results, comparison, arm) for arm in comparison.losses},
        verdicts=_verdicts(comparison),
    )


def _row(results: TextResults, comparison: Comparison, arm: str) -> tuple[Cell, ...]:
    record = comparison.records[arm]
    delta, share = comparison.deltas.get(arm), comparison.shares.get(arm)
    base = max(row["total_flops"] for row in results.arms if row["arm"] == "baseline")
    undefined = Cell("undefined" if "oracle" in comparison.losses and delta is not None else "")
    return (
        _cell(comparison.losses[arm], plain),
        Cell("–") if delta is None else _cell(delta, signed),
        undefined if share is None else Cell("100%") if arm == "oracle" else _cell(share, percent),
        Cell(count(record["tokens_seen"])),
        Cell(f"{record['total_flops'] / base:.1f}×"),
    )


def _cell(interval: ReportedInterval, write: Callable[[float], str]) -> Cell:
    return Cell(write(interval.value), f"[{write(interval.low)}, {write(interval.high)}]")


def _verdicts(comparison: Comparison) -> tuple[str, ...]:
    reference = ARMS[comparison.reference].label
    said = [
        _verdict(ARMS[arm].label, comparison.deltas[arm], reference)
        for arm in ("sbp", "oracle")
        if arm in comparison.deltas
    ]
    if "oracle" in comparison.deltas and comparison.shares["oracle"] is None:
        said.append(
            "The share of the oracle's gain is undefined: the interval of the oracle's own gain reaches "
            "zero or below, so there is nothing certain to recover."
        )
    elif (share := comparison.shares.get("sbp")) is not None and share.includes_zero:
        said.append("SBP's share of the oracle's gain is not distinguishable from zero.")
    took = (f"{ARMS[arm].label}: {text}" for arm in comparison.records if (text := _took(comparison, arm)))
    chosen = "; ".join(took)
    return (*said, f"Chosen on validation: {chosen}.") if chosen else tuple(said)


def _took(comparison: Comparison, arm: str) -> str:
    """Say which hyper-parameters validation chose for an arm; empty where none were tried."""
    record = comparison.records[arm]
    if record["tries"] == 1:
        return ""
    name = "dropout" if ARMS[arm].tried == "dropout" else "weight_decay"
    values = ", ".join(dict.fromkeys(f"{value:g}" for value in record[name]))
    return f"{name.replace('_', ' ')} {values}, of {record['tries']} tried"


def _verdict(name: str, delta: ReportedInterval, reference: str) -> str:
    name = name[0].upper() + name[1:]
    if delta.includes_zero:
        return f"{name} is not distinguishable from {reference}: the interval of its Δ includes zero."
    return f"{name} is {'better' if delta.value < 0 else 'worse'} than {reference}."


def _between(interval: ReportedInterval, write: Callable[[float], str]) -> str:
    return f"{write(interval.low)} to {write(interval.high)}"


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)
