"""What the report shows, as plain JSON types: numbers of every stage, curves, and sampled texts."""

import platform
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from experiments.text_sbp.bench import TextBench
from experiments.text_sbp.comparison import compare
from experiments.text_sbp.run import RunOutput
from sbp_bayes.base.code import code_version
from sbp_bayes.base.config import encode, fingerprint
from sbp_bayes.base.seeds import numpy_generator
from sbp_bayes.base.stage import Manifest
from sbp_bayes.base.store import read_json_lines
from sbp_bayes.base.workers import usable_cores
from sbp_bayes.comparison import ArmRun, CompanionStages, gauges_of
from sbp_bayes.corpus import Corpus
from sbp_bayes.evaluation import overlapping_passages
from sbp_bayes.pairing import PairSet
from sbp_bayes.synthesis import CORPUS

SCHEMA_VERSION = 2
SYNTHESES_SHOWN, NEIGHBOURS_SHOWN, PAIRS_SHOWN = 3, 4, 3
VALIDATION_LOSS = "validation_nats_per_token"
TOKENS = {
    "pretrain": ("num_tokens",),
    "tune": ("tokens",),
    "synthesize": ("prompt_tokens", "sampled_tokens"),
    "evaluate": ("tokens",),
}
"""Stage → its counts that are tokens which the model reads or writes."""


def report_content(output: RunOutput, config_name: str, run_id: str) -> dict[str, Any]:
    """Return the whole report; documents and pairs shown are drawn at random, not chosen.

    What is shown of pairs, tuning, synthesis and quality is of the first seed's SBP, or where it was not run
    of the first arm that has a synthesizer; None where no arm has.
    """
    bench = output.bench(output.config.seeds[0])
    shown = _shown(output)
    return {
        "schema_version": SCHEMA_VERSION,
        "config_name": config_name,
        "run_id": run_id,
        "config": encode(output.config),
        "config_fingerprint": fingerprint(output.config),
        "code_version": code_version("experiments.text_sbp.run"),
        "seeds": list(output.config.seeds),
        "machine": machine(),
        "seconds": output.seconds,
        "corpus": _corpus(output, bench),
        "model": encode(output.config.model)
        | {
            "num_parameters": output.config.model.num_parameters,
            "parameters_per_unique_token": output.config.model.num_parameters / bench.unique.num_tokens,
        },
        "budget": _budget(output),
        **compare(output),
        "dynamics": [_dynamics(run) for run in output.runs],
        "ledger": ledger(output),
        "gauges": gauges_of(output.runs),
        "synthesizer": None if shown is None else _synthesizer(output, shown, bench),
    }


def _shown(output: RunOutput) -> CompanionStages | None:
    tuned = {run.arm: run.companion for run in reversed(output.runs) if run.companion and run.companion.tuned}
    return tuned.get("sbp", next(iter(reversed(tuned.values())), None))


def _synthesizer(output: RunOutput, shown: CompanionStages, bench: TextBench) -> dict[str, Any]:
    (paired,) = shown.pairs
    assert shown.tuned is not None
    assert shown.measures is not None
    pairs = PairSet.load(paired.directory / "train")
    return {
        "similarity": _similarity(output, pairs),
        "pairs": _pairs(output, pairs, paired.counts["train"]),
        "tuning": _tuning(shown.tuned),
        "synthesis": dict(shown.samples.counts),
        "quality": shown.measures.counts,
        "examples": _examples(shown.samples, pairs, bench),
        "sampled_pairs": _sampled_pairs(pairs, bench),
    }


def machine() -> dict[str, Any]:
    """Return what the run ran on."""
    return {
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "processor": platform.machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def ledger(output: RunOutput) -> list[dict[str, Any]]:
    """Return the tokens, FLOPs and seconds of every stage, summed over seeds, with the arm that needs it.

    A stage that several arms need stands at the first of them. Seconds of a stage found finished are those of
    the run that did the work.
    """
    lines: dict[tuple[str, str], list[Manifest]] = {("corpus", "shared"): [output.data.manifest]}
    seen = set()
    for run in sorted(output.runs, key=lambda run: run.arm != "baseline"):
        measures = (run.companion.gauge, run.companion.measures) if run.companion else ()
        stages = [*run.needed, *(m for one in run.tries for m in one), *run.evaluations.values(), *measures]
        for stage in stages:
            if stage is not None and stage.fingerprint not in seen:
                seen.add(stage.fingerprint)
                lines.setdefault((stage.stage, run.arm), []).append(stage)
    return [_line(stage, arm, manifests, *TOKENS.get(stage, ())) for (stage, arm), manifests in lines.items()]


def _line(stage: str, arm: str, distinct: list[Manifest], *token_counts: str) -> dict[str, Any]:
    counted = [sum(m.counts[name] for m in distinct) for name in token_counts]
    return {
        "stage": stage,
        "arm": arm,
        "tokens": sum(counted) if counted else None,
        "flops": sum(m.flops for m in distinct),
        "seconds": sum(m.seconds for m in distinct),
    }


def _corpus(output: RunOutput, bench: TextBench) -> dict[str, Any]:
    counts = output.data.manifest.counts
    return {
        "paths": list(output.config.corpus.paths),
        "documents_read": counts["read"],
        "rejected": counts["rejected"],
        "cleaned_away": counts["cleaned_away"],
        "exact_duplicates": counts["exact_duplicates"],
        "near_duplicates": counts["near_duplicates"],
        "exact_rate": counts["exact_duplicate_rate"],
        "near_rate": counts["near_duplicate_rate"],
        "vocab_size": counts["vocab_size"],
        "splits": counts["splits"],
        "unique": _size(bench.unique),
        "oracle": _size(bench.oracle),
    }


def _size(corpus: Corpus) -> dict[str, int]:
    return {"documents": len(corpus), "tokens": corpus.num_tokens}


def _budget(output: RunOutput) -> dict[str, Any]:
    first = {run.arm: run.trained.counts for run in reversed(output.runs)}
    synthetic = [counts["tokens_by_source"]["synthetic"] for counts in first.values()]
    baseline = first.get("baseline", next(iter(first.values())))
    return {
        "tokens": baseline["num_tokens"],
        "repetitions": baseline["epochs_by_source"]["real"],
        "synthetic_tokens": max(synthetic),
        "synthetic_share": output.config.synthetic_share,
    }


def _dynamics(run: ArmRun) -> dict[str, Any]:
    history = read_json_lines(run.trained.directory / "metrics.jsonl")
    validations = [record for record in history if VALIDATION_LOSS in record]
    return {
        "arm": run.arm,
        "seed": run.seed,
        "tokens": [record["tokens"] for record in validations],
        VALIDATION_LOSS: [record[VALIDATION_LOSS] for record in validations],
    }


def _similarity(output: RunOutput, pairs: PairSet) -> dict[str, Any]:
    edges = np.linspace(-0.2, 1.0, 61)

    def density(values: np.ndarray) -> list[float]:
        return np.histogram(np.clip(values, edges[0], edges[-1]), edges, density=True)[0].tolist()

    return {
        "alpha": output.config.pairs.rules.alpha,
        "bin_edges": edges.tolist(),
        "neighbours": density(pairs.neighbour_similarities),
        "random": density(pairs.random_similarities),
    }


def _pairs(output: RunOutput, pairs: PairSet, counts: Mapping[str, Any]) -> dict[str, Any]:
    duplicates = ("exact_copies", "near_duplicates_by_containment", "near_duplicates_by_jaccard")
    return {
        "count": len(pairs),
        "documents": counts["documents"],
        "documents_covered": counts["documents_with_pair"],
        "rejected": {
            "neighbours_below_alpha": counts["neighbours_below_alpha"],
            "near_duplicates": sum(counts[name] for name in duplicates),
            "over_limit": counts["over_limit"],
        },
        "mean_similarity": float(pairs.similarity.mean()),
        "label_agreement": counts.get("label_agreement"),
        "label_agreement_of_random_pairs": counts.get("label_agreement_of_random_pairs"),
        "embedder": output.config.pairs.embedder.kind,
        "k": output.config.pairs.k,
    }


def _tuning(stage: Manifest) -> dict[str, Any]:
    history = read_json_lines(stage.directory / "metrics.jsonl")
    return {
        "best_step": stage.counts["best_step"],
        "validation_nats_d2_given_d1": stage.counts["validation_nats_per_token"],
        "validation_nats_before_tuning": stage.counts["validation_nats_per_token_before"],
        "history": [
            {"step": r["step"], VALIDATION_LOSS: r[VALIDATION_LOSS]} for r in history if VALIDATION_LOSS in r
        ],
    }


def _examples(samples: Manifest, pairs: PairSet, bench: TextBench) -> dict[str, Any]:
    """A real document that has enough syntheses, drawn at random; its neighbours; its first syntheses."""
    synthetic = Corpus.load(samples.directory / CORPUS)
    seeds = np.array([metadata["seed_index"] for metadata in synthetic.metadata], np.int64)
    enough = np.flatnonzero(np.bincount(seeds, minlength=len(bench.unique)) >= SYNTHESES_SHOWN)
    if len(enough) == 0:
        enough = np.unique(seeds)
    document = int(numpy_generator(bench.seed, "example").choice(enough))
    chosen = np.flatnonzero(seeds == document)[:SYNTHESES_SHOWN]
    shown = synthetic.select(chosen)
    overlaps = overlapping_passages(shown, seeds[chosen], bench.unique, bench.tokenizer)
    own = np.flatnonzero(pairs.first == document)
    nearest = own[np.argsort(-pairs.similarity[own], kind="stable")][:NEIGHBOURS_SHOWN]
    return {
        "document": _document(bench.unique, document),
        "neighbours": [
            {"similarity": float(pairs.similarity[i]), **_document(bench.unique, int(pairs.second[i]))}
            for i in nearest
        ],
        "syntheses": [
            {"text": shown.texts[i], "finished": bool(shown.complete[i]), "overlaps": encode(overlaps[i])}
            for i in range(len(shown))
        ],
    }


def _sampled_pairs(pairs: PairSet, bench: TextBench) -> list[dict[str, Any]]:
    count = min(PAIRS_SHOWN, len(pairs))
    chosen = numpy_generator(bench.seed, "sampled pairs").choice(len(pairs), count, replace=False)
    return [
        {
            "similarity": float(pairs.similarity[i]),
            "first": _document(bench.unique, int(pairs.first[i])),
            "second": _document(bench.unique, int(pairs.second[i])),
        }
        for i in chosen
    ]


def _document(corpus: Corpus, index: int) -> dict[str, str]:
    return {"id": corpus.ids[index], "source": corpus.sources[index], "text": corpus.texts[index]}
