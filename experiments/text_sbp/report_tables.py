"""Tables of the report: quality of the synthetic text, data, ledger, settings."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from experiments.text_sbp import page
from experiments.text_sbp.page import MISSING
from paper_figures.numbers import count, percent, plain, scientific
from paper_figures.text_results import from_report
from sbp_bayes.arms import ARMS, in_order
from sbp_bayes.evaluation import RESULTS_OF_THE_TALK, Cell, drift_line, talk_table

Writer = Callable[[Any], str]


def _share(value: float) -> str:
    return percent(value, 1)


def _whole(value: float) -> str:
    return f"{value:,.0f}"


def _two(value: float) -> str:
    return plain(value, 2)


def _several(values: Sequence[float]) -> str:
    return " · ".join(map(_whole, values))


QUALITY: Mapping[str, Sequence[tuple[str, str, Writer]]] = {
    "documents": (
        ("num_documents", "documents measured", _whole),
        ("repetition", "repetitive (after screening, where synthetic)", _share),
        ("exact_duplicates", "equal to an earlier document", _share),
        ("near_duplicates", "near-duplicates of an earlier document", _share),
        ("cut", "cut at the length limit", _share),
        ("mean_tokens", "mean length, tokens", _whole),
        ("token_quantiles", "length at 5, 25, 50, 75, 95%", _several),
    ),
    "copying": (
        ("num_pairs", "pairs (d1, d2) measured", _whole),
        ("coverage", "d2’s tokens within fragments shared with d1 (coverage)", _share),
        ("density", "density of those fragments, tokens", _two),
        ("mostly_from_first", "d2 copied from d1 for the most part", _share),
        ("copied_from_first", "d2 with 13 tokens in a row from d1", _share),
        ("copied_from_any", "d2 with 13 tokens in a row from any document", _share),
        ("contained_in_first", "13-grams of d2 that are in d1", _share),
        ("contained_in_any", "13-grams of d2 that are in any document", _share),
        ("longest_from_first", "longest match with d1 at 50, 95, 100%, tokens", _several),
    ),
    "similarity": (
        ("pairs_mean", "mean similarity of d2 to its d1", plain),
        ("random_mean", "mean similarity of d2 to another d1", plain),
        ("nearer_share", "d2 nearer to its d1 than to another", _share),
    ),
}
"""Measures by group, with what readers call them; novel n-grams have a plot of their own."""

GROUPS = {"documents": "Documents", "copying": "Copying", "similarity": "Relatedness"}


def talk_part(quality: Mapping[str, Any], screened: Mapping[str, int]) -> str:
    """Return the talk's table, with what each cell that has no number lacks."""
    talk = talk_table(quality, None, screened)
    rows = [page.html_row(page.escaped(name), map(_talk_cell, cells)) for name, cells in talk.rows.items()]
    rows += [
        page.row(name, (_written(rate, _share) for rate in rates))
        for name, rates in RESULTS_OF_THE_TALK.items()
    ]
    return page.table(("", *talk.columns), rows, name="Quality of synthetic text, as in the talk")


def _talk_cell(cell: Cell) -> str:
    note = f"<small>{page.escaped(cell.note)}</small>" if cell.note else ""
    return f"<td>{page.escaped(_written(cell.rate, _share))}{note}</td>"


def quality_table(quality: Mapping[str, Any]) -> str:
    """Return the measures of synthetic text beside those of real text."""
    rows = []
    for group, measures in QUALITY.items():
        rows.append(page.group_row(GROUPS[group], 3))
        rows += [
            page.row(name, (_measured(quality[kind][group], key, write) for kind in ("synthetic", "real")))
            for key, name, write in measures
        ]
    return page.table(("", "Synthetic", "Real"), rows, name="Quality of the synthetic text")


def _measured(measures: Mapping[str, Any] | None, key: str, write: Writer) -> str:
    return MISSING if measures is None else _written(measures[key], write)


def drift_parts(drift: Mapping[str, Any] | None) -> list[str]:
    """Return what is said of the drift of the marginal, with the shares of the largest sources."""
    said = drift_line(drift)
    parts = [page.paragraph(said[0].upper() + said[1:] + ".")]
    if drift and len(drift["sources"]) > 1:
        keys = ("real", "synthetic", "real_tokens", "synthetic_tokens")
        rows = (
            page.row(name, (_share(shares[key]) for key in keys)) for name, shares in drift["sources"].items()
        )
        columns = ("Source", "Real documents", "Synthetic documents", "Real tokens", "Synthetic tokens")
        parts.append(page.table(columns, rows, name="Shares of the largest sources"))
    return parts


def data_tables(report: Mapping[str, Any]) -> str:
    """Return the sizes of all splits beside what became of the documents read, and the model's shape."""
    corpus, model = report["corpus"], report["model"]
    sizes = {
        **corpus["splits"],
        "D_unique (all arms but the oracle)": corpus["unique"],
        "oracle’s documents": corpus["oracle"],
    }
    splits = page.table(
        ("", "Documents", "Tokens", "Bytes"),
        (
            page.row(name, (_written(size.get(key), _whole) for key in ("documents", "tokens", "bytes")))
            for name, size in sizes.items()
        ),
        name="Sizes of the splits",
    )
    synthesis = ""
    if report["synthesizer"] is not None:
        counts = report["synthesizer"]["synthesis"]
        rows = [page.row(_spaced(name), [_whole(number)]) for name, number in counts.items()]
        synthesis = page.table(("Synthesis", ""), rows, name="Samples of the synthesizer")
    facts = [
        ("documents read", _whole(corpus["documents_read"])),
        ("exact duplicates", f"{corpus['exact_duplicates']:,} ({percent(corpus['exact_rate'], 2)})"),
        ("near duplicates", f"{corpus['near_duplicates']:,} ({percent(corpus['near_rate'], 2)})"),
        ("vocabulary", _whole(corpus["vocab_size"])),
        ("parameters", _whole(model["num_parameters"])),
        ("parameters for each unique token", _two(model["parameters_per_unique_token"])),
        *((_spaced(name), _whole(model[name])) for name in ("width", "num_layers", "context_length")),
    ]
    facts_table = page.table(
        ("Corpus and model", ""), (page.row(name, [value]) for name, value in facts), name="Corpus and model"
    )
    return f'<div class="halves"><div>{splits}{synthesis}</div><div>{facts_table}</div></div>'


def ledger_table(report: Mapping[str, Any]) -> str:
    """Return every stage's tokens, operations and seconds, then each arm's sums and what it needs in all."""
    ledger, results = report["ledger"], from_report(report)
    columns = ("Stage", "Arm", "Tokens", "FLOPs", "Seconds")
    rows = [_ledger_row(line["stage"], line["arm"], line) for line in ledger]
    rows.append(page.group_row("Sums of the stages above", len(columns)))
    for arm in dict.fromkeys(line["arm"] for line in ledger):
        lines = [line for line in ledger if line["arm"] == arm]
        sums = {key: _sum(line[key] for line in lines) for key in ("tokens", "flops", "seconds")}
        rows.append(_ledger_row("sum", arm, sums, "total"))
    rows.append(page.group_row("What an arm needs in all, its forerunners included", len(columns)))
    for arm in in_order(row["arm"] for row in results.arms):
        dearest = max((row for row in results.arms if row["arm"] == arm), key=lambda row: row["total_flops"])
        needs = {"tokens": dearest["tokens_seen"], "flops": dearest["total_flops"], "seconds": None}
        rows.append(_ledger_row("needs in all", arm, needs, "total"))
    return page.table(columns, rows, name="Compute ledger", kind="ledger")


def _ledger_row(stage: str, arm: str, line: Mapping[str, Any], kind: str = "") -> str:
    cells = (
        page.arm_mark(arm, ARMS[arm].label if arm in ARMS else arm),
        page.escaped(_written(line["tokens"], count)),
        page.escaped(_written(line["flops"], scientific)),
        page.escaped(_written(line["seconds"], lambda seconds: plain(seconds, 1))),
    )
    return page.html_row(page.escaped(stage), (f"<td>{cell}</td>" for cell in cells), kind)


def settings(report: Mapping[str, Any]) -> str:
    """Return what identifies the run, and every setting of its configuration."""
    run = {
        key: report[key]
        for key in ("run_id", "config_name", "config_fingerprint", "code_version")
        if key in report
    }
    seconds = {"seconds of this call": plain(report["seconds"], 1)}
    facts = [*_flat(run), *_flat(report["machine"], "machine"), *seconds.items()]
    rows = (page.row(name, [str(value)]) for name, value in facts)
    config = (page.row(name, [str(value)]) for name, value in _flat(report["config"]))
    return (
        page.table(("", ""), rows, name="The run", kind="config")
        + "<details><summary>All settings</summary>"
        + page.table(("Setting", "Value"), config, name="All settings", kind="config")
        + "</details>"
    )


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(value, Mapping):
            yield from _flat(value, name)
        else:
            yield name, ", ".join(map(str, value)) if isinstance(value, list | tuple) else value


def _spaced(name: str) -> str:
    return name.replace("_", " ")


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _written(value: Any, write: Writer) -> str:
    return MISSING if value is None else write(value)
