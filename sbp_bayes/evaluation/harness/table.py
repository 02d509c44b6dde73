"""The talk's table: perplexities and accuracies, with what a reader needs to judge them; plain lines."""

from collections.abc import Iterator, Mapping
from typing import Any

from sbp_bayes.evaluation.harness.benchmarks import BENCHMARKS
from sbp_bayes.evaluation.harness.scores import verdict

HEAD = ("Benchmark", "value", "± s.e.", "beside it", "items")


def talk_table(record: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return the rows of the talk's table for the record of `evaluate_benchmarks`, cells as texts.

    An accuracy that a test does not tell from chance (see `scores.verdict`) is named so, not printed. A
    benchmark that was asked for but has no items has a row that says so.
    """
    rows: Mapping[str, Mapping[str, Any]] = record["benchmarks"]
    absent = set(record["without_data"])
    shown = [benchmark for name, benchmark in BENCHMARKS.items() if name in rows or name in absent]
    perplexities = [one.name for one in shown if one.unit != "accuracy"]
    accuracies = [one.name for one in shown if one.unit == "accuracy"]
    lines: list[tuple[str, ...]] = [HEAD]
    for title, names in (("Perplexity on held-out data ↓", perplexities), ("QA accuracy ↑", accuracies)):
        if names:
            lines.append((title,))
        for name in names:
            label = f"  {BENCHMARKS[name].label}"
            lines.append(
                (label, *_cells(rows[name], len(accuracies))) if name in rows else (label, "no data")
            )
    if accuracies:
        lines.extend(_average([rows[name] for name in accuracies if name in rows], len(accuracies)))
    return lines


def _cells(row: Mapping[str, Any], num_accuracies: int) -> tuple[str, ...]:
    items = f"{row['items']:,}"
    notes = [f"{row['cut_from_the_left']:,} cut"] if row["cut_from_the_left"] else []
    notes += [f"{count['items']:,} in {name}" for name, count in row["overlap"].items()]
    items += f" ({', '.join(notes)})" if notes else ""
    if "perplexity" in row:
        beside = f"{row['bits_per_byte']:.3f} bits per byte"
        return f"{row['perplexity']:.2f}", f"{row['standard_error']:.2f}", beside, items
    chance = f"chance {100 * row['chance']:.2f}"
    value, error = f"{100 * row['accuracy']:.2f}", f"{100 * row['standard_error']:.2f}"
    words = verdict(dict(row), num_accuracies)
    return (words, "", f"{chance} ({value} ± {error})", items) if words else (value, error, chance, items)


def _average(rows: list[Mapping[str, Any]], num_accuracies: int) -> Iterator[tuple[str, ...]]:
    """Yield the average of all accuracies, where all are there and at least one is above chance."""
    label = "  Average QA accuracy"
    if len(rows) < num_accuracies:
        yield label, "not all benchmarks have data"
        return
    at_chance = sum(bool(verdict(dict(row), num_accuracies)) for row in rows)
    if at_chance == num_accuracies:
        yield label, "at chance"
        return
    mean = sum(row["accuracy"] for row in rows) / len(rows)
    error = sum(row["standard_error"] ** 2 for row in rows) ** 0.5 / len(rows)
    chance = sum(row["chance"] for row in rows) / len(rows)
    note = f"chance {100 * chance:.2f}; {at_chance} of {num_accuracies} are not above it"
    yield label, f"{100 * mean:.2f}", f"{100 * error:.2f}", note
