"""`sbp corpus stats`: a prepared corpus in figures and bars, or as JSON."""

import argparse
import dataclasses
import functools
import json
import operator
from collections.abc import Iterator, Mapping
from typing import Any

from sbp_bayes.cli import inputs
from sbp_bayes.cli.tables import section
from sbp_bayes.corpus.statistics import SplitStatistics, corpus_statistics

BAR = 40
MOST_ROWS = 12


def show_statistics(arguments: argparse.Namespace) -> str:
    """Return what there is to know of a prepared corpus, for a person, or with `--json` for a program.

    Raises:
        CorpusError, StoreError: no prepared corpus, or a damaged one.
    """
    manifest = inputs.prepared_corpus(arguments.corpus).manifest
    splits = corpus_statistics(manifest)
    whole = functools.reduce(operator.add, splits.values())
    if arguments.json:
        sizes = {name: dataclasses.asdict(split) for name, split in splits.items()}
        return json.dumps({"counts": manifest.counts, "splits": sizes}, indent=2, ensure_ascii=False)
    lines = [
        f"corpus in {manifest.directory}",
        *section("documents after each rule", _rules(manifest.counts)),
        *section("splits", _splits(splits | {"all": whole})),
        *section("tokens of a document", _bars({_range(n): count for n, count in whole.lengths.items()})),
        *section("documents by source", _bars(_most(whole.sources))),
        *section("documents by language", _bars(_most(whole.languages))),
        *section("budget", _budget(splits["pool"].tokens, arguments.repetitions)),
    ]
    return "\n".join(lines)


def _rules(counts: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    left = counts["read"]
    yield "read", "", f"{left:,}"
    removed = {f"rejected: {reason}": n for reason, n in counts["rejected"].items()}
    removed |= {f"cleaned away: {reason}": n for reason, n in counts["cleaned_away"].items()}
    removed["exact duplicates"] = counts["exact_duplicates"]
    removed["near duplicates"] = counts["near_duplicates"]
    for reason, number in removed.items():
        left -= number
        yield reason, f"−{number:,}", f"{left:,}"
    clusters, largest = counts["duplicate_clusters"], counts["largest_cluster"]
    yield "clusters of duplicates", f"{clusters:,}", f"the largest of {largest:,}"
    yield "empty shards, bad files", f"{counts['empty_shards']:,}", f"{counts['bad_files']:,}"
    for ending, entry in counts.get("files_left_out", {}).items():
        yield f"files not read: {ending}", f"{entry['files']:,}", ", ".join(entry["first"])
    for field, number in counts.get("lost_values", {}).items():
        yield f"values not kept: {field}", f"{number:,}"


def _splits(splits: Mapping[str, SplitStatistics]) -> Iterator[tuple[str, ...]]:
    yield (
        "split",
        "documents",
        "tokens",
        "bytes",
        "tokens per byte",
        "repeated tokens",
        "repetitive documents",
    )
    for name, s in splits.items():
        yield (
            name,
            f"{s.documents:,}",
            f"{s.tokens:,}",
            f"{s.bytes:,}",
            f"{s.tokens_per_byte:.4f}",
            f"{s.repeated_share:.2%}",
            f"{s.repetitive / max(1, s.documents):.2%}",
        )


def _bars(counts: Mapping[str, int]) -> Iterator[tuple[str, ...]]:
    longest = max(counts.values(), default=0)
    for name, count in counts.items():
        yield name, f"{count:,}", "█" * -(-BAR * count // max(1, longest))


def _range(power: int) -> str:
    return f"{power:,}–{2 * power - 1:,}" if power > 1 else str(power)


def _most(counts: Mapping[str, int]) -> dict[str, int]:
    """The largest counts, and the rest in one."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    rest = ordered[MOST_ROWS:]
    others = {f"{len(rest):,} others": sum(n for _, n in rest)} if rest else {}
    return dict(ordered[:MOST_ROWS]) | others


def _budget(pool_tokens: int, repetitions: int) -> Iterator[tuple[str, ...]]:
    yield "unique tokens (the pool, EOS included)", f"{pool_tokens:,}"
    yield f"a budget of {repetitions} repetitions", f"{repetitions * pool_tokens:,}"
    yield "an oracle of as many unique tokens needs", f"{repetitions} times this text"
