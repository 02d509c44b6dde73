"""The report of a run as one HTML file: what was found, how it came about, and what it cost."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.text_sbp import page, plots
from experiments.text_sbp.report_tables import (
    data_tables,
    drift_parts,
    ledger_table,
    quality_table,
    settings,
    talk_part,
)
from experiments.text_sbp.table import (
    COLUMNS,
    Cell,
    comparison_table,
    gauge_sentences,
    headline,
    what_intervals_hold,
)
from paper_figures.numbers import count, percent, plain, signed
from paper_figures.text_results import ReportedInterval, from_report
from sbp_bayes.arms import ARMS, in_order
from sbp_bayes.base.store import write_text
from sbp_bayes.evaluation import PASSAGE_TOKENS

PAGE_COLUMNS = ("", "nats/token", "perplexity", "bits/byte", *COLUMNS[2:])

WHAT_GAUGES_SAY = (
    "Net information is what a synthesizer learns of d2 from d1 over the better of two models that know "
    "nothing of the pairs, the starting model without d1 and a synthesizer tuned on random pairs "
    "(where that arm was run); use of d1 is what another document's d1 would cost it. Both are of held-out "
    "pairs, with 95% intervals."
)

MAX_CHARACTERS = 3000
"""Shown of one document; the page says how much more there is."""


def write_report(report: Mapping[str, Any], path: Path) -> None:
    """Write the report as one self-contained page, atomically; equal reports give equal bytes.

    Args:
        report: as `experiments.text_sbp.content.report_content` returns it.
        path: of the HTML file.

    Raises:
        ResultError: a part of the comparison is missing.
        StoreError: `path` cannot be written.
    """
    write_text(path, render(report))


def render(report: Mapping[str, Any]) -> str:
    """Return the report's HTML; what is told of a synthesizer is left out where no arm has one."""
    parts = [_summary(report), _comparison(report), _dynamics(report)]
    if (synthesizer := report["synthesizer"]) is not None:
        parts.append(_similarity(synthesizer, gauge_sentences(report)))
        parts += [part(synthesizer) for part in (_syntheses, _pairs, _quality)]
    parts += [_data(report), _ledger(report), _how(report)]
    return page.page(f"SBP on text: {report['config_name']}", "\n".join(parts))


def _summary(report: Mapping[str, Any]) -> str:
    comparison, glance = from_report(report).comparison("best"), []
    for arm in ("sbp", "oracle"):
        if arm in comparison.deltas:
            glance.append((f"{ARMS[arm].label} Δ, nats per token", _delta(comparison.deltas[arm])))
    if "sbp" in comparison.deltas:
        glance.append(("Share of the oracle’s gain", _share(comparison.shares["sbp"])))
        ratio = (f"{_cost_ratio(report):.2f}×", "the baseline run included")
        glance.append(("SBP’s operations over the baseline’s", ratio))
    items = "".join(
        f"<div><dt>{page.escaped(name)}</dt>"
        f"<dd>{page.escaped(value)}<small>{page.escaped(detail)}</small></dd></div>"
        for name, (value, detail) in glance
    )
    title = f"Synthetic Bootstrapped Pretraining on real text · {report['config_name']}"
    sentences = page.paragraph(headline(report), "headline") + page.paragraph(_setting(report), "note")
    return f'<header><h1>{page.escaped(title)}</h1>{sentences}<dl class="glance">{items}</dl></header>'


def _setting(report: Mapping[str, Any]) -> str:
    budget, model = report["budget"], report["model"]
    return (
        f"Every arm sees {count(budget['tokens'])} tokens with a model of {count(model['num_parameters'])} "
        f"parameters ({model['parameters_per_unique_token']:.2f} for each of "
        f"{count(report['corpus']['unique']['tokens'])} unique tokens). The baseline repeats its documents "
        f"{budget['repetitions']:.3g} times; in SBP {percent(budget['synthetic_share'], 1)} of the tokens "
        f"are synthetic; the oracle has {count(report['corpus']['oracle']['tokens'])} unique tokens. "
        f"{what_intervals_hold(report)}"
    )


def _comparison(report: Mapping[str, Any]) -> str:
    results, groups = from_report(report), comparison_table(report)
    rows = []
    for group in groups:
        rows.append(page.group_row(group.title, len(PAGE_COLUMNS)))
        comparison = results.comparison(group.against)
        for arm, cells in group.rows.items():
            record = comparison.records[arm]
            further = Cell(plain(record["perplexity"], 2)), Cell(plain(record["bits_per_byte"]))
            labelled = zip(PAGE_COLUMNS[1:], (cells[0], *further, *cells[1:]), strict=True)
            name = page.arm_mark(arm, ARMS[arm].label)
            rows.append(page.html_row(name, (_td(label, cell) for label, cell in labelled)))
    verdicts = (page.paragraph(f"{_where(g.against)}: {' '.join(g.verdicts)}", "note") for g in groups)
    questions = (
        f"{ARMS[arm].label}: {ARMS[arm].question}" for arm in in_order(row["arm"] for row in results.arms)
    )
    return page.section(
        "Comparison at equal tokens seen",
        page.paragraph(
            "Loss on the test documents, on which no choice was made. Δ is an arm's loss less the "
            "reference's, so below zero is better; brackets are 95% intervals over "
            f"{results.intervals_over}, paired between arms. FLOPs count all that an arm needs, over the "
            "baseline's."
        ),
        page.table(PAGE_COLUMNS, rows, name="Comparison of the arms", kind="comparison"),
        *verdicts,
        page.figure(
            plots.comparison_plot(report), "The same differences in nats per token, with their intervals."
        ),
        page.paragraph(f"What each arm settles: {'; '.join(questions)}.", "note"),
    )


def _dynamics(report: Mapping[str, Any]) -> str:
    seeds = len(report["seeds"])
    means = "One seed." if seeds == 1 else f"Bold: mean of {seeds} seeds; thin: each seed."
    return page.section(
        "Training dynamics",
        page.figure(
            plots.dynamics_plot(report),
            f"Validation loss against tokens seen, the arms on one axis. {means} "
            f"{percent(report['budget']['synthetic_share'], 1)} of SBP's tokens are synthetic, spread "
            "evenly over its run. The ring marks repetition's best point, at its best weight decay. A "
            "steep start may lie above the frame. Arms without a colour of their own are left out.",
        ),
        page.figure(
            plots.cost_plot(report),
            "The same curves against all operations that an arm needs, a seed. SBP starts where the "
            "baseline's pretraining, pairing, tuning and synthesis end: at equal operations the comparison "
            "is another one.",
            "beside",
        ),
    )


def _similarity(report: Mapping[str, Any], gauges: Sequence[str]) -> str:
    pairs = report["pairs"]
    rejected = "; ".join(
        f"{reason.replace('_', ' ')} {number:,}" for reason, number in pairs["rejected"].items()
    )
    return page.section(
        "Which documents are paired",
        page.figure(
            plots.similarity_plot(report["similarity"]),
            f"Similarity of each document's {pairs['k']} nearest neighbours and of random pairs "
            f"(embedder: {pairs['embedder']}). Pairs above α = {report['similarity']['alpha']:g} are kept.",
            "beside",
        ),
        page.paragraph(
            f"{pairs['count']:,} ordered pairs cover {pairs['documents_covered']:,} documents; their mean "
            f"similarity is {pairs['mean_similarity']:.3f}. Dropped: {rejected}.{_labels(pairs)}"
        ),
        page.paragraph(_tuning(report["tuning"])),
        page.paragraph(WHAT_GAUGES_SAY, "note"),
        *map(page.paragraph, gauges),
    )


def _labels(pairs: Mapping[str, Any]) -> str:
    """What the corpus's own labels, which pairing doesn't see, say of the pairs; empty without labels."""
    if pairs["label_agreement"] is None:
        return ""
    random = percent(pairs["label_agreement_of_random_pairs"], 1)
    agreement = percent(pairs["label_agreement"], 1)
    return f" Both documents have the same label in {agreement} of pairs ({random} of random ones)."


def _tuning(tuning: Mapping[str, Any]) -> str:
    before, after = tuning["validation_nats_before_tuning"], tuning["validation_nats_d2_given_d1"]
    return (
        "On pairs of held-out documents, tuning takes the synthesizer's loss on d2 given d1 from "
        f"{plain(before)} to {plain(after)} nats per token (step {tuning['best_step']:,})."
    )


def _syntheses(report: Mapping[str, Any]) -> str:
    examples = report["examples"]
    boxes = [_document("Real document", examples["document"])]
    for numeral, synthesis in zip(("I", "II", "III", "IV"), examples["syntheses"], strict=False):
        ending = "ended by itself" if synthesis["finished"] else "cut at the length limit"
        marks = [
            (passage["start"], passage["end"], passage["source"])
            for passage in synthesis["overlaps"]
            if passage["end"] <= MAX_CHARACTERS
        ]
        text = _shortened(synthesis["text"])
        boxes.append(page.text_box(f"Synthesis {numeral}", ending, text, "synthetic", marks))
    own, others = (
        page.marked("first", "from this real document"),
        page.marked("unique", "from another one of D_unique"),
    )
    legend = f"Verbatim passages of {PASSAGE_TOKENS} tokens or more: {own}, {others}."
    return page.section(
        "One document and what the synthesizer wrote from it",
        page.paragraph(
            "Drawn at random among the real documents, not chosen; sampled at temperature 1.", "note"
        ),
        f'<p class="note">{legend}</p>',
        f'<div class="texts two">{"".join(boxes)}</div>',
        *_neighbours(examples["neighbours"]),
    )


def _neighbours(neighbours: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the documents that are paired with the one shown, each under its similarity."""
    if not neighbours:
        return [page.paragraph("No document is near enough to this one to be paired with it.", "note")]
    boxes = (_document(f"Similarity {neighbour['similarity']:.2f}", neighbour) for neighbour in neighbours)
    return [
        "<h3>Its nearest neighbours among the pairs</h3>",
        f'<div class="texts two">{"".join(boxes)}</div>',
    ]


def _pairs(report: Mapping[str, Any]) -> str:
    shown = []
    for number, pair in enumerate(report["sampled_pairs"], start=1):
        boxes = _document("d1", pair["first"]) + _document("d2", pair["second"])
        title = page.escaped(f"Pair {number}: similarity {pair['similarity']:.2f}")
        shown.append(f'<h3>{title}</h3><div class="texts two">{boxes}</div>')
    note = "Drawn at random from the pairs that the synthesizer was tuned on, not chosen."
    return page.section("Pairs of related documents", page.paragraph(note, "note"), *shown)


def _quality(report: Mapping[str, Any]) -> str:
    return page.section(
        "The synthetic text",
        page.paragraph(
            "Each measure is taken of real documents too, since real text repeats and quotes as well. "
            "Copying is counted in tokens, from the seed document and from all of the unique real text."
        ),
        talk_part(report["quality"], report["synthesis"]),
        quality_table(report["quality"]),
        *drift_parts(report["quality"]["drift"]),
        page.figure(
            plots.novelty_plot(report["quality"]),
            "Share of n-grams that occur nowhere in the unique real text. Real documents are compared with "
            "all others.",
            "beside",
        ),
    )


def _data(report: Mapping[str, Any]) -> str:
    return page.section("Data and model", data_tables(report))


def _ledger(report: Mapping[str, Any]) -> str:
    seeds, ratio = len(report["seeds"]), _cost_ratio(report)
    summed = (
        ""
        if seeds == 1
        else f" Stages are summed over the {seeds} seeds; “needs in all” is the mean of a seed."
    )
    sbp = (
        ""
        if math.isnan(ratio)
        else f" SBP needs {ratio:.2f} times the baseline's operations: it needs the baseline itself, pairs, "
        "tuning and synthesis before its own pretraining."
    )
    return page.section(
        "Compute ledger",
        page.paragraph(
            f"Equal tokens are not equal cost.{sbp} A stage that several arms need stands at the first of "
            f"them.{summed}"
        ),
        ledger_table(report),
        page.paragraph(
            "FLOPs: 6·N·T for training, 2·N·T for validating, reading and sampling, N the parameters with "
            "the output head, T the tokens; for pairs, those of fitting the embedder, embedding and the "
            "search. An arm that was tuned needs all values that were tried. "
            "Seconds of a stage found finished are those of the run that did the work.",
            "note",
        ),
    )


def _how(report: Mapping[str, Any]) -> str:
    return page.section("How this was run", settings(report))


def _document(title: str, document: Mapping[str, Any]) -> str:
    return page.text_box(title, document["id"], _shortened(document["text"]), "real")


def _shortened(text: str) -> str:
    if len(text) <= MAX_CHARACTERS:
        return text
    return f"{text[:MAX_CHARACTERS]} … [{len(text) - MAX_CHARACTERS:,} more characters]"


def _td(label: str, cell: Cell) -> str:
    if not cell.value:
        return "<td></td>"
    interval = f"<small>{page.escaped(cell.interval)}</small>" if cell.interval else ""
    return f'<td data-label="{page.escaped(label)}">{page.escaped(cell.value)}{interval}</td>'


def _where(against: str) -> str:
    return {"best": "Headline", "last": "As in the paper"}[against]


def _delta(interval: ReportedInterval) -> tuple[str, str]:
    detail = f"{signed(interval.low)} to {signed(interval.high)}"
    if interval.includes_zero:
        detail += ", not distinguishable from 0"
    return signed(interval.value), detail


def _share(share: ReportedInterval | None) -> tuple[str, str]:
    if share is None:
        return "undefined", "the oracle's own gain may be zero"
    return percent(share.value), f"{percent(share.low)} to {percent(share.high)}"


def _cost_ratio(report: Mapping[str, Any]) -> float:
    """Return SBP's operations over the baseline's; NaN where one of them was not run."""
    flops = {row["arm"]: row["total_flops"] for row in report["arms"] if row["checkpoint"] == "last"}
    return flops.get("sbp", math.nan) / flops.get("baseline", math.nan)
