"""`sbp quality`: the talk's table of a synthetic corpus, and what else is measured of it."""

import argparse
import dataclasses
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sbp_bayes.base.config import fingerprint
from sbp_bayes.base.errors import ConfigError
from sbp_bayes.base.stage import Manifest, Outcome, StageFolder, plan_stage, run_stage
from sbp_bayes.cli import inputs
from sbp_bayes.cli.pair_report import paired
from sbp_bayes.cli.settings import configure
from sbp_bayes.cli.tables import section, table
from sbp_bayes.corpus import Corpus, Tokenizer
from sbp_bayes.evaluation import (
    RESULTS_OF_THE_TALK,
    Cell,
    EndpointConfig,
    EndpointJudge,
    Judge,
    JudgedConfig,
    Limits,
    LocalConfig,
    LocalJudge,
    QualityConfig,
    drift_line,
    judge_items,
    judge_stage,
    measure_quality,
    talk_table,
)
from sbp_bayes.evaluation.text.contents import PERSONAL, read_benchmark
from sbp_bayes.evaluation.text.quality import LENGTH_QUANTILES
from sbp_bayes.pairing import EmbedderConfig, PairSet, embedder_device, fit_embedder

NGRAMS_SHOWN = (1, 2, 3, 5, 8, 13)
KINDS = ("synthetic", "real")


@dataclasses.dataclass(frozen=True)
class _Texts:
    """What is compared."""

    synthetic: Corpus
    unique: Corpus
    tokenizer: Tokenizer
    pairs: PairSet | None

    @property
    def fingerprints(self) -> dict[str, str]:
        of_pairs = {} if self.pairs is None else {"pairs": self.pairs.fingerprint}
        return {"synthetic": self.synthetic.fingerprint, "real": self.unique.fingerprint} | of_pairs


def run_quality(arguments: argparse.Namespace) -> str:
    """Measure a synthetic corpus beside the real text, into OUT, and ask a judge, into OUT/judge.

    Raises:
        CorpusError: a corpus that is empty, of another tokenizer, or not made from these documents.
        JudgeError: the judge cannot be reached; what is measured and answered stays.
    """
    judge = None if arguments.judge is None else _judge(arguments)
    prepared = inputs.prepared_corpus(arguments.against)
    synthetic, made = inputs.synthetic_or_text(arguments.synthetic, prepared.tokenizer)
    pairs = None if arguments.pairs is None else PairSet.load(paired(arguments.pairs).directory / "train")
    texts = _Texts(synthetic, prepared.unique(arguments.unique_tokens), prepared.tokenizer, pairs)
    limit = made.config["max_document_tokens"] if made else max(1, int(synthetic.lengths.max(initial=0)))
    flags = {"seed": arguments.seed, "max_document_tokens": arguments.max_document_tokens}
    config = configure(QualityConfig, flags, arguments.assignments, max_document_tokens=limit)
    measured = _measured(texts, config, arguments)
    judged = None if judge is None else _judged(texts, config, judge, arguments)
    return quality_text(measured.counts, judged, None if made is None else made.counts)


def _measured(texts: _Texts, config: QualityConfig, arguments: argparse.Namespace) -> Manifest:
    embedding = configure(EmbedderConfig, {"kind": arguments.embedder}, ())
    benchmarks = {path: read_benchmark(Path(path)) for path in arguments.benchmark}
    searched = {f"benchmark {path}": fingerprint(items) for path, items in benchmarks.items()}
    plan = plan_stage(
        "quality",
        {"quality": config, "embedder": embedding},
        texts.fingerprints | searched,
        __name__,
        device=embedder_device(embedding),
    )

    def measure(folder: StageFolder) -> Outcome:
        embedder = fit_embedder(embedding, texts.unique, seed=config.seed)
        counts = measure_quality(
            config,
            texts.synthetic,
            texts.unique,
            tokenizer=texts.tokenizer,
            embed=embedder.embed,
            pairs=texts.pairs,
            benchmarks=benchmarks,
        )
        return Outcome(counts=counts)

    return run_stage(plan, inputs.place(arguments), measure)


def _judged(
    texts: _Texts, config: QualityConfig, judge: Judge, arguments: argparse.Namespace
) -> dict[str, Any]:
    asked = JudgedConfig(
        max_document_tokens=config.max_document_tokens,
        documents=arguments.judge_documents,
        seed=config.seed,
    )
    return judge_stage(
        asked,
        judge,
        judge_items(asked, texts.synthetic, texts.unique, texts.tokenizer, texts.pairs),
        texts.fingerprints,
        inputs.place(arguments, "judge"),
        limits=Limits(max_requests=arguments.max_requests, max_tokens=arguments.max_tokens),
        together=arguments.judge_together,
    )


def _judge(arguments: argparse.Namespace) -> Judge:
    """Return the judge behind the URL, or in the folder, that is named."""
    if re.match(r"https?://", arguments.judge):
        if arguments.judge_model is None:
            raise ConfigError("--judge URL needs --judge-model NAME, as the server calls its model")
        flags = {"url": arguments.judge, "model": arguments.judge_model}
        return EndpointJudge(configure(EndpointConfig, flags, arguments.judge_assignments))
    if not os.path.isdir(arguments.judge):
        raise ConfigError(f"--judge {arguments.judge}: neither http://… nor a folder of a transformers model")
    return LocalJudge(configure(LocalConfig, {"folder": arguments.judge}, arguments.judge_assignments))


def quality_text(
    measures: Mapping[str, Any], judged: Mapping[str, Any] | None, screened: Mapping[str, int] | None
) -> str:
    """Return all that is known of a synthetic corpus, the talk's table first."""
    talk = talk_table(measures, judged, screened)
    rows = {name: [_cell(cell) for cell in cells] for name, cells in talk.rows.items()}
    rows |= {
        name: ["n.a." if rate is None else f"{rate:.1%}" for rate in rates]
        for name, rates in RESULTS_OF_THE_TALK.items()
    }
    lines = [
        "quality of the synthetic text",
        *(
            f"  {line}"
            for line in table([("", *talk.columns), *((name, *cells) for name, cells in rows.items())])
        ),
        *_about_judge(judged),
        *section("duplicates among N documents: exact, near", _duplicates(measures)),
        *section("documents", _documents(measures)),
        *section("copying, of tokens", _copying(measures)),
        *section("relatedness: cosine of the embedding", _similarity(measures)),
        *section("coverage", _coverage(measures["coverage"])),
        *section("documents that hold personal data", _personal(measures)),
    ]
    if measures["benchmarks"]:
        lines += section("13-grams of words that benchmarks and texts share", _benchmarks(measures))
    return "\n".join([*lines, "", drift_line(measures["drift"])])


def _cell(cell: Cell) -> str:
    if cell.rate is None:
        return f"– ({cell.note})"
    return f"{cell.rate:.1%} ({cell.note})" if cell.note else f"{cell.rate:.1%}"


def _about_judge(judged: Mapping[str, Any] | None) -> Iterator[str]:
    if judged is None:
        yield "  no judge was asked (--judge): relatedness below is the proxy of pair-irrelevance"
        return
    judge, said = judged["judge"], [own for kind in KINDS for own in judged[kind].values()]
    names = ", ".join(judge["models"]) or judge["model"]
    answered, questions = sum(own["answered"] for own in said), sum(own["questions"] for own in said)
    verdicts, refused = sum(own["verdicts"] for own in said), sum(own["refused"] for own in said)
    yield (
        f"  judge: {names} at {judge['source']}, {answered:,} of {questions:,} questions answered in "
        f"{judge['requests']:,} requests and {judge['tokens']:,} tokens; {refused:,} refused, "
        f"{answered - refused - verdicts:,} replies without a verdict"
    )
    if judged["stopped"]:
        yield f"  stopped: {judged['stopped']}; the same command with a higher limit goes on"


def _of_kinds(
    measures: Mapping[str, Any], group: str, rows: Sequence[tuple[str, str, str]]
) -> Iterator[tuple[str, ...]]:
    """Yield rows of a group of measures: its key, its words and its format, for both kinds of text."""
    yield ("", *KINDS)
    for key, words, form in rows:
        own = [measures[kind][group] for kind in KINDS]
        yield (words, *("–" if one is None else format(one[key], form) for one in own))


def _duplicates(measures: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    yield ("N", *KINDS)
    by_kind = [measures[kind]["duplicates"] for kind in KINDS]
    for size in sorted({int(size) for own in by_kind for size in own}):
        found = [own.get(str(size)) for own in by_kind]
        cells = ["–" if own is None else f"{own['exact']:.2%}, {own['near']:.2%}" for own in found]
        yield (f"{size:,}", *cells)


def _documents(measures: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    yield from _of_kinds(
        measures,
        "documents",
        [
            ("num_documents", "documents measured", ",d"),
            ("repetition", "repetitive", ".1%"),
            ("mean_tokens", "mean length, tokens", ",.1f"),
            ("cut", "cut at the length limit", ".1%"),
        ],
    )
    shares = ", ".join(f"{quantile:.0%}" for quantile in LENGTH_QUANTILES)
    quantiles = [measures[kind]["documents"]["token_quantiles"] for kind in KINDS]
    yield (f"length at {shares}", *(" · ".join(f"{value:,.0f}" for value in own) for own in quantiles))


def _copying(measures: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    yield from _of_kinds(
        measures,
        "copying",
        [
            ("num_pairs", "pairs (d1, d2) measured", ",d"),
            ("mostly_from_first", "d2 mostly copied from d1", ".1%"),
            ("copied_from_first", "d2 with 13 tokens in a row from d1", ".1%"),
            ("copied_from_any", "d2 with 13 tokens in a row from any document of D_unique", ".1%"),
            ("contained_in_first", "13-grams of d2 that are in d1", ".2%"),
            ("contained_in_any", "13-grams of d2 that are in D_unique", ".2%"),
            ("coverage", "tokens of d2 within fragments shared with d1", ".1%"),
            ("density", "density of those fragments, tokens", ".2f"),
        ],
    )
    novel = [measures[kind]["copying"] for kind in KINDS]
    for n in NGRAMS_SHOWN:
        shares = ["–" if own is None else f"{own['novel_ngrams'][n - 1]:.1%}" for own in novel]
        yield (f"novel {n}-grams, in no document of D_unique", *shares)


def _similarity(measures: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    yield from _of_kinds(
        measures,
        "similarity",
        [
            ("pairs_mean", "d2 and its d1, mean", ".3f"),
            ("random_mean", "control: d2 and the d1 of another pair, mean", ".3f"),
            ("nearer_share", "d2 nearer to its d1 than to the other (unrelated: 50%)", ".1%"),
        ],
    )


def _coverage(coverage: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    seeds, clusters = coverage["seeds"], coverage["clusters"]
    if seeds is None:
        yield "documents that are the d1 of a sample", "– (no d1)"
    else:
        yield (
            "documents that are the d1 of a sample",
            f"{seeds['share']:.1%} (uniform draws: {seeds['expected']:.1%})",
        )
        yield "most samples of one d1", f"{seeds['most_samples_of_one']:,}"
    if clusters is None:
        yield "clusters of the embedding", "– (too few documents)"
    else:
        yield (
            f"of {clusters['clusters']} clusters, reached by {clusters['documents']:,} documents",
            f"{clusters['synthetic']:.1%} (as many real ones: {clusters['real']:.1%})",
        )


def _personal(measures: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    yield ("", *KINDS)
    own = [measures[kind]["personal"] for kind in KINDS]
    for kind in [*PERSONAL, "any"]:
        yield (kind, *(f"{one['found'][kind]:,} of {one['documents']:,}" for one in own))


def _benchmarks(measures: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    yield (
        "benchmark",
        "items",
        "too short",
        "in synthetic",
        "in real",
        "synthetic documents",
        "real documents",
    )
    for name, found in measures["benchmarks"].items():
        synthetic, real = (found[kind] for kind in KINDS)
        counts = (
            real["items"],
            real["too_short"],
            *(one["items_found"] for one in (synthetic, real)),
            *(one["texts_found"] for one in (synthetic, real)),
        )
        yield (name, *(f"{count:,}" for count in counts))
