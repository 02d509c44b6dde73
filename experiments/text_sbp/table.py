"""The comparison table in the talk's form, and the sentences that say what it shows.

Differences are arm − baseline, so below zero is better. Perplexity and bits per byte are the loss in
other units: their intervals are those of the loss, with the baseline held at its estimate.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from paper_figures.numbers import percent, plain, signed
from paper_figures.text_results import Against, Comparison, Interval, from_report

if TYPE_CHECKING:
    from rich.console import Console

COLUMNS = ("", "Baseline", "SBP Δ", "Oracle Δ", "Share of\ngain")
TITLES = {
    "best": "Against the baseline at its best weight decay and checkpoint on validation (headline)",
    "last": "Against the baseline with every arm's weight decay, at the last checkpoint (as in the paper)",
}
CHECKPOINTS = {"last": "last", "best_validation": "best validation"}


@dataclasses.dataclass(frozen=True)
class Cell:
    """A number and its 95% interval, as text; either may be empty."""

    value: str
    interval: str = ""


@dataclasses.dataclass(frozen=True)
class Group:
    """The comparison with one checkpoint of the baseline: rows of `COLUMNS`, one for each metric."""

    against: Against
    title: str
    rows: tuple[tuple[Cell, ...], ...]
    verdicts: tuple[str, ...]


def comparison_table(report: Mapping[str, Any]) -> tuple[Group, Group]:
    """Return the headline comparison (baseline at its best) and the paper's (baseline at its last)."""
    results = from_report(report)
    return _group(results.comparison("best")), _group(results.comparison("last"))


def headline(report: Mapping[str, Any]) -> str:
    """Say in one sentence what SBP did against the baseline at its best on validation."""
    results = from_report(report)
    comparison, interval = results.comparison("best"), f"95% interval over {results.intervals_over}"
    delta = comparison.deltas["sbp"]
    where = "than the baseline's at its best on validation"
    if delta.includes_zero:
        return (
            "SBP's test loss is not distinguishable from the baseline's at its best on validation: "
            f"{signed(delta.value)} nats per token ({interval}: {_between(delta, signed)})."
        )
    way, size = ("lower", -delta) if delta.value < 0 else ("higher", delta)
    sentence = (
        f"SBP's test loss is {plain(size.value)} nats per token {way} {where} "
        f"({interval}: {_between(size, plain)})"
    )
    if comparison.share is None or delta.value > 0:
        return sentence + "."
    share = percent(comparison.share.value)
    return f"{sentence}: {share} of the oracle's gain ({_between(comparison.share, percent)})."


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
    groups = comparison_table(report)
    for group in groups:
        table = Table(
            title=group.title,
            title_justify="left",
            title_style="bold",
            box=box.SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
            pad_edge=False,
        )
        for number, name in enumerate(COLUMNS):
            table.add_column(name, justify="right" if number else "left", no_wrap=number < 4)
        for row in group.rows:
            table.add_row(*(f"{cell.value}\n[dim]{_escaped(cell.interval)}[/dim]" for cell in row))
        console.print(table)
        for verdict in group.verdicts:
            console.print(_escaped(verdict))
        console.print()
    console.print(what_intervals_hold(report))
    console.print(f"[bold]{_escaped(headline(report))}[/bold]")


def _group(comparison: Comparison) -> Group:
    return Group(
        against=comparison.against,
        title=TITLES[comparison.against],
        rows=(_nats_row(comparison), _perplexity_row(comparison), _bits_row(comparison)),
        verdicts=_verdicts(comparison),
    )


def _nats_row(comparison: Comparison) -> tuple[Cell, ...]:
    deltas = (_cell(delta, signed) for delta in comparison.deltas.values())
    return Cell("nats/token"), _cell(comparison.baseline, plain), *deltas, _share_cell(comparison)


def _perplexity_row(comparison: Comparison) -> tuple[Cell, ...]:
    base = comparison.baseline.value
    digits = 2 if base < math.log(50) else 1

    def difference(delta: float) -> float:
        return math.exp(base + delta) - math.exp(base)

    deltas = (
        _cell(_mapped(delta, difference), lambda value: signed(value, digits))
        for delta in comparison.deltas.values()
    )
    baseline = _cell(_mapped(comparison.baseline, math.exp), lambda value: plain(value, digits))
    return Cell("perplexity"), baseline, *deltas, Cell("")


def _bits_row(comparison: Comparison) -> tuple[Cell, ...]:
    def bits(nats: float) -> float:
        return nats * comparison.bits_per_byte_per_nat

    deltas = (_cell(_mapped(delta, bits), signed) for delta in comparison.deltas.values())
    return (
        Cell("bits/byte"),
        _cell(_mapped(comparison.baseline, bits), plain),
        *deltas,
        _share_cell(comparison),
    )


def _share_cell(comparison: Comparison) -> Cell:
    return Cell("undefined") if comparison.share is None else _cell(comparison.share, percent)


def _cell(interval: Interval, write: Callable[[float], str]) -> Cell:
    return Cell(write(interval.value), f"[{write(interval.low)}, {write(interval.high)}]")


def _mapped(interval: Interval, change: Callable[[float], float]) -> Interval:
    return Interval(change(interval.value), change(interval.low), change(interval.high))


def _verdicts(comparison: Comparison) -> tuple[str, ...]:
    lines = [
        _verdict(name, comparison.deltas[arm]) for arm, name in (("sbp", "SBP"), ("oracle", "The oracle"))
    ]
    if comparison.share is None:
        lines.append(
            "The share of the oracle's gain is undefined: the interval of the oracle's own gain reaches "
            "zero or below, so there is nothing certain to recover."
        )
    elif comparison.share.includes_zero:
        lines.append("The share of the oracle's gain is not distinguishable from zero.")
    scored = (
        f"{name} {CHECKPOINTS[comparison.checkpoints[arm]]} (weight decay {_written(comparison, arm)})"
        for arm, name in (("baseline", "Baseline"), ("sbp", "SBP"), ("oracle", "Oracle"))
    )
    lines.append(f"Checkpoints scored: {', '.join(scored)}.")
    return tuple(lines)


def _written(comparison: Comparison, arm: str) -> str:
    return ", ".join(dict.fromkeys(f"{decay:g}" for decay in comparison.weight_decays[arm]))


def _verdict(name: str, delta: Interval) -> str:
    if delta.includes_zero:
        return f"{name} is not distinguishable from the baseline: the interval of its Δ includes zero."
    return f"{name} is {'better' if delta.value < 0 else 'worse'} than the baseline."


def _between(interval: Interval, write: Callable[[float], str]) -> str:
    return f"{write(interval.low)} to {write(interval.high)}"


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)
