"""`sbp plan pairing`: what a pairing takes, line by line with its formula, beside the talk's figures."""

import argparse
import math
from collections.abc import Iterator

import numpy as np

from sbp_bayes.cli import inputs
from sbp_bayes.cli.tables import section
from sbp_bayes.corpus import Corpus
from sbp_bayes.pairing import LsaEmbedder
from sbp_bayes.plan.calibrate import (
    LISTS_MEASURED,
    MEASURED,
    SECONDS_MEASURED,
    measure_constants,
    measure_lists,
)
from sbp_bayes.plan.pairing import Constants, PairingPlan, Workload

PASSAGE_WORDS = 20
HOUR, DAY = 3600.0, 86_400.0
UNITS = ("B", "kB", "MB", "GB", "TB", "PB")

KNOWN = (
    ("documents", "582M, the de-duplicated DCLM", "paper"),
    ("vectors", "Qwen3-Embedding-0.6B, 1,024 dimensions", "talk; dimensions: paper"),
    ("system", "asymmetric key-value sharing, 8-bit quantisation, salted keys", "talk"),
    ("pairing", "155M CPU hours; what is counted in them isn't said", "talk"),
    ("whole runs", "11K, 59K and 265K TPU-hours (200B-3B, 1T-3B, 1T-6B)", "paper"),
)
"""Of the authors' own pairing, and whose word it is."""


def show_pairing_plan(arguments: argparse.Namespace) -> str:
    """Return the plan of a pairing, for a person.

    Raises:
        ConfigError: a number out of range.
        CorpusError, StoreError: no prepared corpus to measure lists on, or a damaged one.
    """
    work = Workload(
        documents=arguments.documents,
        dimension=arguments.dimension,
        k=arguments.k,
        cores=arguments.cores,
        memory_per_worker=arguments.memory_per_worker,
    )
    plan = PairingPlan(work=work, constants=_constants(arguments))
    lines = [
        f"pairing N = {work.documents:,} documents of D = {work.dimension:,} dimensions, k = {work.k:,}, on "
        f"{work.cores:,} cores",
        "by the sharded join: keys stay, queries go to every shard; embedding not counted",
        *section("memory", _memory(plan)),
        *section("CPU time, exact search", _exact(plan)),
        *section("CPU time, an inverted file in each shard", _inverted(plan)),
        *section("network", _network(plan)),
        *section("what is known of the authors' pairing", iter(KNOWN)),
        *section("constants", _measured(plan.constants, arguments)),
    ]
    return "\n".join(lines)


def _constants(arguments: argparse.Namespace) -> Constants:
    constants = MEASURED
    if arguments.corpus is not None:
        constants = measure_lists(_passages(arguments.corpus), arguments.k, constants)
    return measure_constants(arguments.k, constants) if arguments.measure else constants


def _passages(path: str) -> np.ndarray:
    """Return LSA vectors of a prepared corpus's passages of 20 words: more vectors than documents."""
    prepared = inputs.prepared_corpus(path)
    words = [text.split() for text in prepared.split("pool").texts]
    parts = [w[i : i + PASSAGE_WORDS] for w in words for i in range(0, len(w), PASSAGE_WORDS)]
    corpus = Corpus.build([" ".join(part) for part in parts], prepared.tokenizer)
    vectors = LsaEmbedder().fit(corpus).embed(corpus)
    return vectors[np.any(vectors != 0, axis=1)]


def _memory(plan: PairingPlan) -> Iterator[tuple[str, ...]]:
    yield "codes, which are searched", _bytes(plan.code_bytes), "N · (D + 4)"
    yield "keys: codes, and float32 to rank again", _bytes(plan.key_bytes), "N · (5·D + 4)"
    yield "shards, a core each", f"{plan.shards:,}", "S = max(cores, ⌈N·(5·D + 4) / (memory − blocks)⌉)"
    yield "keys of a shard", f"{plan.keys_per_shard:,}", "n = ⌈N / S⌉"
    yield "their memory", _bytes(plan.keys_per_shard * plan.bytes_per_key), "n · (5·D + 4)"
    yield "blocks of queries, in each shard", _bytes(plan.block_bytes), "2 · 32,768 · (4·D + 8 + 8·k)"
    yield "offers, with an inverted file", _bytes(plan.offer_bytes), "2 · 32,768 · 12 · 3·k"
    yield "all vectors and lists", _bytes(plan.driver_bytes), "N · (4·D + 8·k), in one process"


def _exact(plan: PairingPlan) -> Iterator[tuple[str, ...]]:
    yield "scoring in 8 bits", _hours(plan.exact_scoring), "N² · (a + b·D)"
    yield "ranking again in float32", _hours(plan.exact_reranking), "N · S · min(4·k + 24, n) · c·D"
    yield from _common(plan)
    yield from _total(plan, plan.exact)


def _inverted(plan: PairingPlan) -> Iterator[tuple[str, ...]]:
    yield "lists of a shard", f"{plan.lists:,}", "L = the power of 2 nearest to 2·√n"
    yield "making them", _hours(plan.making_lists), "S · (n·L + 200·L²) · (a + b·D)"
    yield "choosing lists to ask", _hours(plan.choosing_lists), "N · S · L · (a + b·D)"
    yield "scoring their keys in 8 bits", _hours(plan.scoring_lists), "N · S · p·n/L · (a' + b·D)"
    yield "ranking again in float32", _hours(plan.inverted_reranking), "N · S · min(1.5·k + 4, n) · c·D"
    yield from _common(plan)
    yield from _total(plan, plan.inverted)


def _common(plan: PairingPlan) -> Iterator[tuple[str, ...]]:
    yield "merging shards' lists", _hours(plan.merging), "N · S · k · d"
    yield "pairs in both orders, by document", _hours(plan.reducing), "2 · N · k · e"


def _total(plan: PairingPlan, seconds: float) -> Iterator[tuple[str, ...]]:
    yield (
        "all",
        _hours(seconds),
        f"{_rounded(seconds / DAY / plan.work.cores)} days of {plan.work.cores:,} cores",
    )


def _network(plan: PairingPlan) -> Iterator[tuple[str, ...]]:
    yield "keys to their shards, once", _bytes(plan.key_traffic), "N · 4·D"
    yield "queries to every shard", _bytes(plan.query_traffic), "N · S · (4·D + 8)"
    yield "partial lists back", _bytes(plan.list_traffic), "N · S · min(k, n) · 8"
    yield "pairs to reducers, at most", _bytes(plan.pair_traffic), "2 · N · k · 20"
    yield "all", _bytes(plan.traffic)


def _measured(constants: Constants, arguments: argparse.Namespace) -> Iterator[tuple[str, ...]]:
    seconds = "now, on one core of this machine" if arguments.measure else SECONDS_MEASURED
    lists = f"on passages of {arguments.corpus}" if arguments.corpus is not None else LISTS_MEASURED
    for symbol, name, meaning in (
        ("a", "selected", "a key scored in 8 bits, the best ones kept"),
        ("a'", "compared", "a key scored in 8 bits, compared with a threshold"),
        ("b", "multiplied", "a component of an 8-bit product"),
        ("c", "reranked", "a component of a float32 product"),
        ("d", "merged", "an entry of a shard's list"),
        ("e", "reduced", "a pair in a reducer"),
    ):
        yield symbol, f"{getattr(constants, name) * 1e9:.3g} ns", meaning
    yield "", "", f"measured {seconds}"
    yield "p", f"{constants.probes}", "lists asked for 95% of the neighbours"
    yield "", "", f"measured {lists}"


def _bytes(number: float) -> str:
    power = min(len(UNITS) - 1, int(math.log10(max(number, 1)) / 3))
    return f"{_rounded(number / 1000**power)} {UNITS[power]}"


def _hours(seconds: float) -> str:
    hours = seconds / HOUR
    return f"{_rounded(hours / 1e6)}M h" if hours >= 1e6 else f"{_rounded(hours)} h"


def _rounded(number: float) -> str:
    return f"{float(f'{number:.3g}'):,g}"
