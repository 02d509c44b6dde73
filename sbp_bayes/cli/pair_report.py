"""`sbp pair report`: a finished pairing in figures, bars and examples."""

import argparse
import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from sbp_bayes.base.config import decode
from sbp_bayes.base.errors import ConfigError, PairingError
from sbp_bayes.base.stage import Manifest, read_manifest
from sbp_bayes.cli import inputs
from sbp_bayes.cli.tables import section
from sbp_bayes.corpus import Corpus
from sbp_bayes.pairing import PairConfig, PairReport, PairSet, pair_report, sampled_pairs
from sbp_bayes.pairing.labels import LabelPrecision
from sbp_bayes.pairing.report import SampledPair

BAR = 28
COLUMN, TEXT_LINES = 46, 9
MOST_ROWS = 10


def show_pair_report(arguments: argparse.Namespace) -> str:
    """Return what there is to know of the pairs in a folder, for a person.

    Raises:
        PairingError: no pairs in this folder, none of this split, or not of this corpus.
        CorpusError, StoreError: the corpus or the pairs are damaged or missing.
    """
    manifest = paired(arguments.pairs)
    pairs = PairSet.load(manifest.directory / arguments.split)
    if not len(pairs):
        why = manifest.counts[arguments.split]["why_none"]
        raise PairingError(f"{manifest.directory}: no pairs of {arguments.split} documents ({why})")
    corpus = _corpus_of(manifest, pairs, arguments)
    report = pair_report(pairs, corpus)
    config = config_of(manifest)
    lines = [
        f"{arguments.split} pairs in {manifest.directory}",
        *section("pairing", _summary(report, config)),
        *section("neighbours, each under the first rule that drops it", _rules(report.counts)),
        *section(
            "similarity: neighbours, and pairs of documents drawn at random",
            _similarities(report, config.rules.alpha),
        ),
        *section("documents by their number of pairs", _bars(_by_pairs(report.documents_by_pairs))),
    ]
    if corpus is None:
        return "\n".join([*lines, "", "labels and sampled pairs need the corpus: give --corpus CORPUS"])
    shown = sampled_pairs(pairs, corpus, arguments.samples, arguments.seed)
    lines += [
        *section("do paired documents have one label?", _labels(report.labels)),
        *section("share of pairs with one label, by similarity", _bands(report)),
        "",
        "pairs drawn at random (more with --samples N, others with --seed N)",
        *(line for number, pair in enumerate(shown, start=1) for line in _side_by_side(number, pair)),
    ]
    return "\n".join(lines)


def paired(path: str) -> Manifest:
    """Open the pairs at `path`.

    Raises:
        PairingError: there are none.
        StoreError: the pairing is unfinished.
    """
    if not inputs.is_stage(path):
        state = "no pairs in this folder" if Path(path).exists() else "no such folder"
        raise PairingError(f"{path}: {state} (`sbp pair CORPUS --out DIR` makes some)")
    manifest = read_manifest(Path(path))
    if manifest.stage != "pair":
        raise PairingError(f"{path} is the output of {manifest.stage!r}, not of 'pair'")
    return manifest


def _corpus_of(manifest: Manifest, pairs: PairSet, arguments: argparse.Namespace) -> Corpus | None:
    """Return the documents that were paired; None where nobody says where they are."""
    known = inputs.remembered(manifest, arguments)
    if known is None:
        return None
    prepared, num_unique = known
    corpus = prepared.split("validation") if arguments.split == "validation" else prepared.unique(num_unique)
    refuse_other_documents(pairs, corpus, prepared)
    return corpus


def refuse_other_documents(pairs: PairSet, corpus: Corpus, prepared: inputs.PreparedCorpus) -> None:
    """Raise a `PairingError` unless `corpus`, of the prepared one, is what was paired."""
    if corpus.fingerprint != pairs.corpus_fingerprint:
        raise PairingError(
            f"{prepared.manifest.directory}: not the documents that were paired "
            "(another corpus, or other --unique-tokens)"
        )


def config_of(manifest: Manifest) -> PairConfig:
    """Return the settings of a finished pairing."""
    try:
        return decode(PairConfig, manifest.config)
    except ConfigError as error:
        raise PairingError(f"{manifest.directory}: its settings are another version's ({error})") from error


def _summary(report: PairReport, config: PairConfig) -> Iterator[tuple[str, ...]]:
    search, counts = report.search, report.counts
    yield "embedder, alpha, k", f"{config.embedder.kind}, {config.rules.alpha}, {config.k}"
    yield (
        "documents in a pair",
        f"{counts['documents_with_pair']:,} of {counts['documents']:,} ({report.covered:.1%})",
    )
    without = counts["documents_without_vector"]
    if without:
        bad = counts["documents_with_bad_vector"]
        yield "documents without a vector", f"{without:,}, of which {bad:,} not finite"
    mean = counts["pairs"] / max(1, counts["documents_with_pair"])
    yield "ordered pairs (d1, d2)", f"{counts['pairs']:,}, {mean:.1f} for each d1"
    yield "among each other's neighbours", f"{report.mutual:.1%} of the pairs"
    yield "search", f"{search['backend']}, {_recall(search)}"
    if search.get("shards", 1) != 1:
        share, unsalted = float(search["largest_share"]), float(search["largest_share_unsalted"])
        yield "shards", f"{search['shards']}"
        yield "fullest reducer", f"{share:.1%} of the pairs, {unsalted:.1%} without salted keys"
    yield "bytes searched per vector", f"{float(search['bytes_per_vector']):,.0f}"


def _recall(search: Mapping[str, str | float]) -> str:
    if search["backend"] == "exact":
        return "which finds every neighbour"
    return f"recall {float(search['recall']):.2%} on audited documents"


_RULES = {
    "neighbours_self": "the document itself",
    "neighbours_below_alpha": "not above alpha",
    "neighbours_mutual": "the pair is counted already, from its other end",
    "exact_copies": "the same text",
    "near_duplicates_by_containment": "near-duplicate by containment of shingles",
    "near_duplicates_by_jaccard": "near-duplicate by Jaccard similarity",
}


def _rules(counts: Mapping[str, int]) -> Iterator[tuple[str, ...]]:
    left = counts["neighbours"]
    yield "neighbours found", "", f"{left:,}"
    for name, reason in _RULES.items():
        left -= counts[name]
        yield reason, f"−{counts[name]:,}", f"{left:,}"
    yield (
        "pairs in both orders",
        f"×{counts['ordered_pairs'] // max(1, left)}",
        f"{counts['ordered_pairs']:,}",
    )
    yield "over the limit of one d1", f"−{counts['over_limit']:,}", f"{counts['pairs']:,}"


def _similarities(report: PairReport, alpha: float) -> Iterator[tuple[str, ...]]:
    edges = report.similarity_edges
    shares = [counts / max(1, counts.sum()) for counts in (report.neighbours, report.random)]
    longest = max(float(share.max()) for share in shares)
    yield "from", "neighbours", "", "random", ""
    for low, high, one, other in zip(edges[:-1], edges[1:], *shares, strict=True):
        name = f"{low:5.2f}" + (" alpha" if low <= alpha < high else "")
        yield name, f"{one:10.1%}", _bar(one, longest), f"{other:6.1%}", _bar(other, longest)


def _by_pairs(documents: np.ndarray) -> dict[str, int]:
    """Documents by number of pairs; by powers of two where there are many numbers."""
    if len(documents) <= MOST_ROWS:
        return {str(n): int(count) for n, count in enumerate(documents)}
    rows, low = {"0": int(documents[0])}, 1
    while low < len(documents):
        high = min(2 * low, len(documents)) - 1
        name = f"{low:,}–{high:,}" if high > low else f"{low:,}"
        rows[name] = int(documents[low : high + 1].sum())
        low *= 2
    return rows


def _bars(counts: Mapping[str, int]) -> Iterator[tuple[str, ...]]:
    width, longest, total = max(map(len, counts)), max(counts.values()), sum(counts.values())
    for name, count in counts.items():
        yield name.rjust(width), f"{count:,}", f"{count / max(1, total):6.1%}", _bar(count, longest)


def _bar(value: float, longest: float) -> str:
    return "█" * math.ceil(BAR * value / longest) if longest else ""


def _labels(labels: Sequence[LabelPrecision]) -> Iterator[tuple[str, ...]]:
    if not labels:
        yield ("no two paired documents have labels",)
        return
    yield "label", "values", "pairs with both", "one label", "at random", "times"
    for label in labels:
        times = f"{label.precision / label.random:,.1f}" if label.random else "–"
        yield (
            label.name,
            f"{label.values:,}",
            f"{label.pairs:,}",
            f"{label.precision:.1%}",
            f"{label.random:.1%}",
            times,
        )


def _bands(report: PairReport) -> Iterator[tuple[str, ...]]:
    yield "similarity", "pairs", *(label.name for label in report.labels)
    for band, (low, high) in enumerate(zip(report.band_edges[:-1], report.band_edges[1:], strict=True)):
        cells = (
            f"{label.band_precision[band]:.1%}" if label.band_pairs[band] else "–" for label in report.labels
        )
        yield f"{low:.1f}–{high:.1f}", f"{report.band_pairs[band]:,}", *cells


def _side_by_side(number: int, pair: SampledPair) -> Iterator[str]:
    """Yield a sampled pair: its documents' beginnings in two columns."""
    yield ""
    yield (
        f"pair {number}: similarity {pair.similarity:.3f}, "
        f"d2 is {_neighbour(pair.rank_of_second)} of d1, d1 is {_neighbour(pair.rank_of_first)} of d2"
    )
    columns = [
        [textwrap.shorten(f"{name} {id}", COLUMN, placeholder="…"), "", *_beginning(text)]
        for name, id, text in zip(("d1", "d2"), pair.ids, pair.texts, strict=True)
    ]
    height = max(map(len, columns))
    for row in range(height):
        left, right = (column[row] if row < len(column) else "" for column in columns)
        yield f"  {left:<{COLUMN}} │ {right}".rstrip()


def _neighbour(rank: int) -> str:
    return f"neighbour {rank}" if rank > 0 else "no neighbour"


def _beginning(text: str) -> list[str]:
    """Return a text's first lines, wrapped; a longer one ends with an ellipsis."""
    part = text[: 3 * COLUMN * TEXT_LINES]
    lines = [line for paragraph in part.split("\n") for line in textwrap.wrap(paragraph, COLUMN)]
    if len(lines) > TEXT_LINES or len(part) < len(text):
        lines = lines[:TEXT_LINES]
        lines[-1] = lines[-1][: COLUMN - 1] + "…"
    return lines
